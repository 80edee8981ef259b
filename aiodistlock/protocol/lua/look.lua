-- Tells the server's time, who holds the name, and which of its windows was done last.  Read only.
--
-- KEYS: see prelude, but for the fourth, the mark
-- ARGV: tag
-- Returns:
--   {DONE, tag, server time in us, value ('' = free), mark ('' = none)}
-- Twice: the same.
local mark = redis.pcall('GET', KEYS[4])
return {
  DONE,
  tag,
  now_us(),
  told(redis.call('GET', KEYS[1]) or ''),
  type(mark) == 'string' and told(mark) or '',
}
