-- Gives the lock up while its slot is on its way from one node of a cluster to another.
--
-- See renew_alone.lua.  Only where the companions are here, too (the slot has arrived, or not
-- left yet), can a waiter get the lock; else the key goes and waiters poll.  What cannot be
-- reported to the fence counter the clock covers.
--
-- KEYS[1]  the key
-- ARGV: fence counter; queue; token; highest fencing token used; fence retention in ms; tag
-- Returns: as release.lua
KEYS[2], KEYS[3] = ARGV[1], ARGV[2]
local token, highest, retention, tag = ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if holder ~= token then return {OTHER, tag} end
if redis.pcall('EXISTS', KEYS[2]) == 1 then
  local now = now_us()
  pcall(report_fence, now, highest, retention)
  if redis.pcall('EXISTS', KEYS[3]) == 1 then
    return {DONE, tag, give_up(now, highest, retention)}
  end
end
redis.call('DEL', KEYS[1])
return {DONE, tag, 0}
