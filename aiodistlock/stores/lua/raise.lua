-- Raises the fence counter on this node of a quorum to what the majority agreed on.
--
-- KEYS: see prelude.
-- ARGV: fencing token; fence retention in ms; tag
-- Returns:
--   {DONE, tag}   the counter is there, or above
-- Twice: nothing to do.
local fence, retention, tag = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

if fence > (tonumber(redis.call('GET', KEYS[2])) or 0) then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', retention)
end
return {DONE, tag}
