-- Gives the lock up while its slot is on its way from one node of a cluster to another.
--
-- See renew_alone.lua.  Only where the companions are here, too (the slot has arrived, or not
-- left yet), can a waiter get the lock; else the key goes and waiters poll.  What cannot be
-- reported to the fence counter the clock covers.
--
-- KEYS[1]  the key
-- ARGV: the other keys of the prelude; value; highest fencing token used; tag, which declares
--       nothing void
-- Returns: as release.lua
KEYS[2], KEYS[3], KEYS[4] = ARGV[1], ARGV[2], ARGV[3]

-- prelude

local value, highest = ARGV[4], tonumber(ARGV[5])

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if is_group(holder) then
  local reader = string.match(value, '^(.+) %d+$') or value
  local here, granted = pcall(group().leave, now_us(), holder, reader)
  if not here then return redis.error_reply('TRYAGAIN the readers are at another node') end
  if not granted then return {OTHER, tag} end
  return {DONE, tag, granted}
end
if not is_of_same_lease(holder, value) then return {OTHER, tag} end
if redis.pcall('EXISTS', KEYS[4]) == 1 then
  local broken = mend_fence()
  if broken then return broken end
  pcall(report_fence, highest)
  if highest > 0 then pcall(ends, string.sub(value, 1, -18), highest, holder) end
  if redis.pcall('EXISTS', KEYS[2]) == 1 then
    return {DONE, tag, give_up(now_us(), highest)}
  end
end
redis.call('DEL', KEYS[1])
return {DONE, tag, 0}
