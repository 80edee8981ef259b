-- Tells who holds permits of a semaphore and who waits.  Read only.
--
-- KEYS: see inspect.
-- ARGV: the third key; tag
-- Returns:
--   {DONE, tag, leases in the order of their ends, each behind it the remaining ms, the queue's
--    records in order}
-- Twice: the same.
KEYS[3] = ARGV[1]

-- prelude

local now, found, shown = now_us(), redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), {}
for i = 1, #found, 2 do
  local ends_at = tonumber(found[i + 1])
  if ends_at > now then
    shown[#shown + 1] = told(found[i])
    shown[#shown + 1] = math.ceil((ends_at - now) / 1000)
  end
end
return {DONE, tag, shown, redis.call('ZRANGE', KEYS[2], 0, -1)}
