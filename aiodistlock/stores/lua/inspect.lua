-- Tells who holds the lock and who waits.  Read only.
--
-- KEYS: see prelude.
-- ARGV: tag
-- Returns:
--   {DONE, tag, holder ('' = free), remaining ms (-1: no ttl, -2: free), fence (0 =
--    none kept), the queue's records in order}
local tag = tonumber(ARGV[1])
return {
  DONE,
  tag,
  redis.call('GET', KEYS[1]) or '',
  redis.call('PTTL', KEYS[1]),
  tonumber(redis.call('GET', KEYS[2])) or 0,
  redis.call('ZRANGE', KEYS[3], 0, -1),
}
