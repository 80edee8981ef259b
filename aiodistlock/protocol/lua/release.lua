-- Gives the lock up, if it is ours: to the next waiter, else the key goes.  A reader leaves its
-- group; the last one gives the lock up.
--
-- KEYS: see prelude.
-- ARGV: value; highest fencing token used, 0 = the counter is up to date; tag
-- Returns:
--   {DONE, tag, 1 if a waiter got it, else 0}
--   {GONE, tag}    the key does not exist
--   {OTHER, tag}   somebody else holds it; untouched
-- Twice: GONE or OTHER.

-- The usual case: nothing to report, nobody waits, nothing void.
local number = tonumber(ARGV[3])
local others = number and ARGV[2] == '0' and redis.call('EXISTS', KEYS[2], KEYS[3])
-- Perhaps it is only noted what is void, and this is not.
if others == 1 and number > (tonumber(redis.pcall('GET', KEYS[3])) or number) then others = 0 end
if others == 0 and redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  return {4, number, 0} -- DONE
end

-- prelude

local value, highest = ARGV[1], tonumber(ARGV[2])

local broken = mend_fence()
if broken then return broken end

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if is_group(holder) then
  local granted = group().leave(now_us(), holder, string.match(value, '^(.+) %d+$') or value)
  if not granted then return {OTHER, tag} end
  return {DONE, tag, granted}
end
if not is_of_same_lease(holder, value) then return {OTHER, tag} end
-- pcall: without memory the report is lost, and the clock covers it; the lock must go.
pcall(report_fence, highest)
-- A letter before the space and the 16 digits: of a read/write lock, perhaps.
if highest > 0 and (string.byte(value, -18) or 0) > 96 then
  pcall(ends, string.sub(value, 1, -18), highest, holder)
end
return {DONE, tag, give_up(now_us(), highest)}
