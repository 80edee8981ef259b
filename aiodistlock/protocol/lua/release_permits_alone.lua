-- Gives permits back while their slot is on its way from one node of a cluster to another.
--
-- See release_alone.lua.  Only where the companions are here, too, can waiters get them; else who
-- waits polls.
--
-- KEYS[1]  the key
-- ARGV: the other keys of the prelude; our lease; highest fencing token used; tag, which declares
--       nothing void
-- Returns: as release_permits.lua
KEYS[2], KEYS[3], KEYS[4] = ARGV[1], ARGV[2], ARGV[3]

-- prelude

local lease, highest = ARGV[4], tonumber(ARGV[5])

local now = now_us()
local ends_at = redis.call('ZSCORE', KEYS[1], lease)
if not ends_at then return {GONE, tag} end
redis.call('ZREM', KEYS[1], lease)
if redis.pcall('EXISTS', KEYS[4]) == 1 and not mend_fence() then
  pcall(report_fence, highest)
  if redis.pcall('EXISTS', KEYS[2]) == 1 and not read_permits(now) then serve_others(now) end
end
if tonumber(ends_at) <= now then return {GONE, tag} end
return {DONE, tag, 0}
