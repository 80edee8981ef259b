-- Gives the lock up, if it is ours: to the next waiter, else the key goes.
--
-- KEYS: see prelude.
-- ARGV: token; highest fencing token used, 0 = the counter is up to date; fence
--       retention in ms; tag
-- Returns:
--   {DONE, tag, 1 if a waiter got it, else 0}
--   {GONE, tag}    the key does not exist
--   {OTHER, tag}   somebody else holds it; untouched
-- Twice: GONE or OTHER.

-- The usual case: nothing to report, nobody waits.
if ARGV[2] == '0' and redis.call('EXISTS', KEYS[3]) == 0
  and redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  return {4, tonumber(ARGV[4]), 0} -- DONE
end

-- prelude

local token, highest, retention, tag = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if holder ~= token then return {OTHER, tag} end
-- pcall: without memory the report is lost, and the clock covers it; the lock must go.
local now = now_us()
pcall(report_fence, now, highest, retention)
return {DONE, tag, give_up(now, highest, retention)}
