-- Gives the lock up while its slot is on its way from one node of a cluster to another.
--
-- See renew_alone.lua.  Without the fence counter nothing can be granted: waiters poll.  Nor
-- can anything be reported to it; the clock covers what is not.
--
-- KEYS[1]  the key
-- ARGV: fence counter; queue; token; highest fencing token used; fence retention in ms; tag
-- Returns: as release.lua
local token, tag = ARGV[3], tonumber(ARGV[6])

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if holder ~= token then return {OTHER, tag} end
redis.call('DEL', KEYS[1])
return {DONE, tag, 0}
