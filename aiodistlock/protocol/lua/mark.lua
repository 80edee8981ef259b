-- Marks a window of a name: that it is begun, under our lease, or that it is done, which gives the
-- lease up.
--
-- Whoever does a window holds the lease, and the mark is written under it only.  So of those that
-- want the same window one marks it, and the next one finds the mark.  A mark never goes down.
--
-- KEYS: see prelude, and KEYS[5], the mark: "<window in us> <done or begun> <server time in us>
--       <value>"
-- ARGV: value; window in us; 'begun' or 'done'; for how long to keep the mark, ms; server time in
--       us up to which to keep the name, 0 = not at all; tag
-- Returns:
--   {DONE, tag, 1 if a waiter got the lock, else 0}
--       marked; done: and given up, or marked by us before, or a later window is
--   {HELD, tag, mark}   begun: somebody did it, or a later one; nothing is written
--   {GONE, tag}         the key does not exist, and the window is not marked by us
--   {OTHER, tag}        somebody else holds it, and the same
-- Twice: DONE, and nothing to do.
local value, window, state = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local mark_ttl, kept_until = ARGV[4], tonumber(ARGV[5])

local broken = mend_fence()
if broken then return broken end

-- pcall: what is no mark counts as none, and is written over.
local mark = redis.pcall('GET', KEYS[5])
local last, last_state, by
if type(mark) == 'string' then last, last_state, by = string.match(mark, '^(%d+) (%l+) %d+ (.+)$') end
last = tonumber(last) or -1
local ours = last == window and by == value

-- A second copy of a request finds what the first one has done.  Who finds a later window was
-- slow: what it did is done, by its own first copy or by another.
if state == 'done' and (last > window or (ours and last_state == 'done')) then
  if redis.call('GET', KEYS[1]) == value then give_up(now_us(), 0) end
  return {DONE, tag, 0}
end
local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if holder ~= value then return {OTHER, tag} end
if state == 'begun' then
  if ours then return {DONE, tag, 0} end
  if last >= window then return {HELD, tag, told(mark)} end
end

local now = now_us()
-- First: without memory nothing has been done, and the holder asks again.
if ours or last < window then
  local at = string.format('%.0f', now)
  local said = table.concat({ARGV[2], state, at, value}, ' ')
  redis.call('SET', KEYS[5], said, 'PX', mark_ttl)
end
if state == 'begun' then return {DONE, tag, 0} end
if kept_until > now then
  -- Under a token that is nobody's, so nothing renews it, and nothing gives it up.
  local left = string.format('%.0f', math.ceil((kept_until - now) / 1000))
  redis.call('SET', KEYS[1], 'kept:' .. value, 'PX', left)
  return {DONE, tag, 0}
end
return {DONE, tag, give_up(now, 0)}
