-- Takes the lock from its holder, on an operator's word: to the next waiter, else the key
-- goes.  The fence rises above every token that the holder may have used, so that whoever
-- checks tokens refuses it from now on.  The holder hears of it at its next renewal, or of the
-- recall if its lease lingers.
--
-- KEYS: see prelude.
-- ARGV: token of the holder to take it from; what ends the name of its inbox, ':{<tag of the
--       slot>}' on a cluster; tag
-- Returns:
--   {DONE, tag, fence, token of the waiter that got it ('' = nobody waits)}
--       with a waiter the fence is its lease's; without, the next lease's is above it
--   {GONE, tag}            the key does not exist
--   {OTHER, tag, holder}   somebody else holds it by now; untouched
-- Twice: GONE or OTHER.
local token = ARGV[1]

local broken = mend_fence()
if broken then return broken end

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
local used = fence_of(holder, token)
if holder ~= token and not used then return {OTHER, tag, told(holder)} end
local now = now_us()
-- The holder lives, perhaps, and hands on: always the gap, also where the clock is ahead.
-- A token without a fencing token is not handed on.
local highest = used and used + GAP or 0
-- pcall: if the queue is none nobody waits in it.
if is_group(holder) then group().disband() end
local ok, next_holder, fence = pcall(grant_next, now, highest)
if not ok or not next_holder then
  -- No pcall here: without a raised fence the lock stays where it is.
  fence = ok and fence or issue_fence(now, highest)
  redis.call('DEL', KEYS[1])
end
recall(holder, ARGV[2])
return {DONE, tag, fence, told(ok and next_holder or '')}
