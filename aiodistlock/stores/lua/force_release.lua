-- Takes the lock from its holder, on an operator's word: to the next waiter, else the key
-- goes.  The fence rises above every token that the holder may have used, so that whoever
-- checks tokens refuses it from now on.  The holder hears of it at its next renewal.
--
-- KEYS: see prelude.
-- ARGV: token of the holder to take it from; fence retention in ms; tag
-- Returns:
--   {DONE, tag, fence, token of the waiter that got it ('' = nobody waits)}
--       with a waiter the fence is its lease's; without, the next lease's is above it
--   {GONE, tag}            the key does not exist
--   {OTHER, tag, holder}   somebody else holds it by now; untouched
-- Twice: GONE or OTHER.
local token, retention, tag = ARGV[1], ARGV[2], tonumber(ARGV[3])

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if holder ~= token then return {OTHER, tag, holder} end
local now = now_us()
-- The holder lives, perhaps: always the gap, also where the clock is ahead.
local highest = (tonumber(redis.call('GET', KEYS[2])) or 0) + GAP
-- No pcall here: without a raised fence the lock stays where it is.
local next_holder, fence = grant_next(now, highest, 0, retention)
if not next_holder then
  fence = fence or issue_fence(now, highest, 0, retention)
  redis.call('DEL', KEYS[1])
end
return {DONE, tag, fence, next_holder or ''}
