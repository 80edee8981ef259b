-- Sets the remaining time of our lease to ttl.
--
-- KEYS: see prelude.
-- ARGV: token; ttl in ms; fence retention in ms; tag
-- Returns:
--   {DONE, tag, number of waiters}
--   {GONE, tag}    the key does not exist
--   {OTHER, tag}   somebody else holds it; untouched
-- Twice: harmless, the ttl is absolute.
local token, ttl, retention, tag = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if holder ~= token then return {OTHER, tag} end
redis.call('PEXPIRE', KEYS[1], ttl)
-- The counter must outlive every lease, also one that is renewed for days.
redis.call('PEXPIRE', KEYS[2], retention)
return {DONE, tag, redis.call('ZCARD', KEYS[3])}
