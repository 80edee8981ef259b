-- Renews a lease whose slot is on its way from one node of a cluster to another.
--
-- Where not all keys of a request are at one node it is refused (TRYAGAIN), and one that is
-- nowhere counts as missing, as the queue of a lock that nobody waits for.  So this declares
-- the key only: of that Redis makes sure that it is where the script runs.  The companions
-- may be elsewhere, and must not be made: they are on their way here.
--
-- KEYS[1]  the key
-- ARGV: fence counter; queue; token; ttl in ms; fence retention in ms; tag
-- Returns: as renew.lua; no waiters where the queue is elsewhere
local token, ttl, retention, tag = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if holder ~= token then return {OTHER, tag} end
redis.call('PEXPIRE', KEYS[1], ttl)
redis.pcall('PEXPIRE', ARGV[1], retention)
local waiters = redis.pcall('ZCARD', ARGV[2])
return {DONE, tag, type(waiters) == 'number' and waiters or 0}
