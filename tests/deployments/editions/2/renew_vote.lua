-- Sets the remaining time of our vote on this node of a quorum to ttl: as renew.lua, whatever
-- fencing token this node issued for it.
--
-- KEYS: see prelude.
-- ARGV: token; ttl in ms; tag
-- Returns: as renew.lua
-- Twice: harmless, the ttl is absolute.
local token, ttl = ARGV[1], ARGV[2]

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if not fence_of(holder, token) then return {OTHER, tag} end
redis.call('PEXPIRE', KEYS[1], ttl)
return {DONE, tag, waiters()}
