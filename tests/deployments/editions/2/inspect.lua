-- Tells who holds the lock and who waits.  Read only.
--
-- KEYS: see prelude, but for the third: it is not there as a rule, and a cluster refuses what
--       names a missing key of a slot that is on its way (see renew_alone.lua)
-- ARGV: the third key; tag
-- Returns:
--   {DONE, tag, value ('' = free), remaining ms (-1: no ttl, -2: free), the queue's records in
--    order}
KEYS[3] = ARGV[1]

-- prelude

local records = redis.call('ZRANGE', KEYS[2], 0, -1)
for place, record in ipairs(records) do
  -- Of a record only its last word is read, the token.
  if #record > 1000 then
    local token = string.match(string.sub(record, -1000), '.* (.*)$')
    records[place] = token or string.sub(record, 1, 960) .. '…'
  end
end
return {
  DONE,
  tag,
  told(redis.call('GET', KEYS[1]) or ''),
  redis.call('PTTL', KEYS[1]),
  records,
}
