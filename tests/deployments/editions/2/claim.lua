-- Makes our lease what its holder wants: under another token (alone: it is its user's), for
-- another time, for ever.
--
-- KEYS: see prelude.
-- ARGV: value; value to be; ttl in ms, 0 = none; tag
-- Returns:
--   {DONE, tag}      as wanted, for ttl from now
--   {GRANTED, tag}   the value to be, which is another, was there before us; untouched
--   {GONE, tag}      the key does not exist
--   {OTHER, tag}     somebody else holds it; untouched
-- Twice: GRANTED, or with the same value DONE and the ttl anew.
local value, wanted, ttl = ARGV[1], ARGV[2], ARGV[3]

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if holder ~= value then return {holder == wanted and GRANTED or OTHER, tag} end
-- First: after a write that needs no memory Redis lets a script write without any.
redis.call('PEXPIRE', KEYS[1], 60000)
if ttl == '0' then
  redis.call('SET', KEYS[1], wanted)
else
  redis.call('SET', KEYS[1], wanted, 'PX', ttl)
end
return {DONE, tag}
