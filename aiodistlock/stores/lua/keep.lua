-- Keeps our vote on this node of a quorum, with a fresh ttl and fencing token.
--
-- KEYS: see prelude.
-- ARGV: token; ttl in ms; proposed fencing token; highest fencing token used; fence
--       retention in ms; tag
-- Returns:
--   {DONE, tag, fence, number of waiters}
--   {GONE, tag}    the key does not exist
--   {OTHER, tag}   somebody else has the vote; untouched
-- Twice: the ttl and the fencing token are fresh again.
local token, ttl, proposed = ARGV[1], ARGV[2], tonumber(ARGV[3])
local highest, retention, tag = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if holder ~= token then return {OTHER, tag} end
local fence = issue_fence(proposed, highest, 0, retention)
redis.call('PEXPIRE', KEYS[1], ttl)
return {DONE, tag, fence, redis.call('ZCARD', KEYS[3])}
