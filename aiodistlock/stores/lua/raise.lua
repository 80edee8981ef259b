-- Raises the fence counter on this node of a quorum to what the majority agreed on.
--
-- KEYS: see prelude.
-- ARGV: fencing token; fence retention in ms; tag
-- Returns:
--   {DONE, tag}   the counter is there, or above
-- Twice: nothing to do.
local fence, retention, tag = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local counter = redis.call('GET', KEYS[2])
if not counter then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', retention)
elseif fence > (tonumber(counter) or 0) then
  -- Its age is that of the vote: see `issue` in vote.lua.
  redis.call('SET', KEYS[2], ARGV[1], 'KEEPTTL')
end
return {DONE, tag}
