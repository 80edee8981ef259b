-- Gives permits of a semaphore back: to the first in the queue, while they fit.
--
-- KEYS: see prelude and permits.
-- ARGV: our lease, "<token> <fencing token> <slots>"; highest fencing token used, 0 = the counter is
--       up to date; tag
-- Returns:
--   {DONE, tag, 0}
--   {GONE, tag}      it is over
-- Twice: GONE.
local lease, highest = ARGV[1], tonumber(ARGV[2])

local broken = mend_fence()
if broken then return broken end

local now = now_us()
local ends_at = redis.call('ZSCORE', KEYS[1], lease)
if not ends_at then return {GONE, tag} end
redis.call('ZREM', KEYS[1], lease)
-- pcall: without memory the report is lost, and the clock covers it; the permits must go.
pcall(report_fence, highest)
if redis.call('EXISTS', KEYS[2]) == 1 then
  read_permits(now)
  serve_others(now)
end
if tonumber(ends_at) <= now then return {GONE, tag} end
return {DONE, tag, 0}
