-- Tells who leads, and what it proclaims.  Read only.
--
-- KEYS: see prelude, but the fourth is the proclamation (see proclaim.lua)
-- ARGV: tag
-- Returns:
--   {DONE, tag, value ('' = nobody), remaining ms (-1: no ttl, -2: nobody), 1 if the holder has
--    proclaimed, else 0, the text that it proclaims}
local holder = redis.call('GET', KEYS[1]) or ''
local found = redis.pcall('GET', KEYS[4])
local head = holder .. ' '
local proclaims = type(found) == 'string' and string.sub(found, 1, #head) == head
return {
  DONE,
  tag,
  told(holder),
  redis.call('PTTL', KEYS[1]),
  proclaims and 1 or 0,
  proclaims and told(string.sub(found, #head + 1)) or '',
}
