-- Makes our lease what its holder wants: under another token, for another time, for ever.
--
-- KEYS: see prelude.
-- ARGV: token; token to be; ttl in ms, 0 = none; fence retention in ms; tag
-- Returns:
--   {DONE, tag}      as wanted, for ttl from now
--   {GRANTED, tag}   the token to be, which is another, was there before us; untouched
--   {GONE, tag}      the key does not exist
--   {OTHER, tag}     somebody else holds it; untouched
-- Twice: GRANTED, or with the same token DONE and the ttl anew.
local token, wanted, ttl = ARGV[1], ARGV[2], ARGV[3]
local retention, tag = ARGV[4], tonumber(ARGV[5])

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if holder ~= token then return {holder == wanted and GRANTED or OTHER, tag} end
-- First: after a write that needs no memory Redis lets a script write without any.
redis.call('PEXPIRE', KEYS[2], retention)
if ttl == '0' then
  redis.call('SET', KEYS[1], wanted)
else
  redis.call('SET', KEYS[1], wanted, 'PX', ttl)
end
return {DONE, tag}
