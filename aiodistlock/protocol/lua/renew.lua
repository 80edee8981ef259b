-- Sets the remaining time of our lease to ttl, of a reader's too.
--
-- KEYS: see prelude.
-- ARGV: value; ttl in ms; tag
-- Returns:
--   {DONE, tag, number of waiters}
--   {GONE, tag}    the key does not exist
--   {OTHER, tag}   somebody else holds it; untouched
-- Twice: harmless, the ttl is absolute.
local value, ttl = ARGV[1], ARGV[2]

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
local reader = holder ~= value and string.match(value, '^(.+%l) %d+$')
if reader and group().renew(now_us(), holder, reader, ttl) then return {DONE, tag, waiters()} end
if holder ~= value then return {OTHER, tag} end
redis.call('PEXPIRE', KEYS[1], ttl)
return {DONE, tag, waiters()}
