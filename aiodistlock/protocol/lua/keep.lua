-- Keeps our vote on this node of a quorum, with a fresh ttl and fencing token.
--
-- KEYS: see prelude.
-- ARGV: token; ttl in ms; proposed fencing token; highest fencing token used; tag
-- Returns:
--   {DONE, tag, fence, number of waiters}
--   {GONE, tag}    the key does not exist
--   {OTHER, tag}   somebody else has the vote; untouched
-- Twice: the ttl and the fencing token are fresh again.
local token, ttl, proposed = ARGV[1], ARGV[2], tonumber(ARGV[3])
local highest = tonumber(ARGV[4])

local broken = mend_fence()
if broken then return broken end

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if not fence_of(holder, token) then return {OTHER, tag} end
local fence = issue_proposed(proposed, highest)
redis.call('SET', KEYS[1], value_of(token, fence), 'PX', ttl)
return {DONE, tag, fence, waiters()}
