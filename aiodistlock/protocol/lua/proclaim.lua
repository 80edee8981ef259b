-- Sets what the leader proclaims, beside its lock, and announces it; or takes it back.
--
-- KEYS: see prelude, but the fourth is the proclamation: "<value> <text>" of whoever proclaimed
--       last; it is the holder's while that value is at the key
-- ARGV: value; text; ttl of the proclamation in ms, 0 = take it back: the lease has ended; tag
-- An announcement is the message "leader <edition of the wire> <key>", to the channel that is
-- named as the fourth key: who leads, or what is proclaimed, is another; ask.
-- Returns:
--   {DONE, tag}    proclaimed, or not there any more
--   {GONE, tag}    the key does not exist; untouched
--   {OTHER, tag}   somebody else holds it; untouched
-- Twice: announced once, but what was taken back again until there is a successor.
local value, text, ttl = ARGV[1], ARGV[2], ARGV[3]

-- pcall: it may be anything, and is replaced then.
local found = redis.pcall('GET', KEYS[4])
if type(found) ~= 'string' then found = '' end
local holder = redis.call('GET', KEYS[1])

local function is_of(whose) return string.sub(found, 1, #whose + 1) == whose .. ' ' end
local function announce() publish(KEYS[4], 'leader ' .. WIRE .. ' ' .. KEYS[1]) end

if ttl == '0' then
  if is_of(value) then redis.call('DEL', KEYS[4]) end
  -- A successor who has proclaimed has announced that.
  if holder ~= value and not (holder and is_of(holder)) then announce() end
  return {DONE, tag}
end
if not holder then return {GONE, tag} end
if holder ~= value then return {OTHER, tag} end
if found == value .. ' ' .. text then
  redis.call('PEXPIRE', KEYS[4], ttl)
else
  redis.call('SET', KEYS[4], value .. ' ' .. text, 'PX', ttl)
  announce()
end
return {DONE, tag}
