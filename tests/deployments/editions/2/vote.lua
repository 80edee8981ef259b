-- Votes for a lease on this node of a quorum, if nobody else has this node's vote.
--
-- KEYS: see prelude; KEYS[5] the node's marker: '0' = trusted, else the server time in us
--       from which on it is, being without data that it may have lost
-- ARGV: token, "<waiter>.<round>"; ttl in ms; proposed fencing token; inbox, "<channel> <secret>",
--       '' = do not wait; queue ttl in ms; quarantine in us; tag
-- Each round votes under a token of its own; the place among those who wait is the waiter's.
-- Returns:
--   {GRANTED, tag, fence}   ours on this node, for ttl from now
--   {HELD, tag, remaining ms (-1: no ttl), holder, how many get a hint before us}   not free;
--       a hint will follow, if asked
--   {UNTRUSTED, tag, marker, age in us, remaining us}   came up without data; counts for
--       nothing until it cannot have forgotten any lease
-- Twice: the same fence, the ttl anew; waiting already: the same place.
-- There is no order between waiters on a quorum: whoever gets a majority has the lock.

-- The usual case: trusted, free, nobody waits, nothing void, and the proposal is above all
-- that the last holder can have used (see `issue_proposed`; 1000 is GAP).
local number = tonumber(ARGV[7])
local others = number and redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3])
-- Perhaps it is only noted what is void, and this is not.
if others == 1 and number > (tonumber(redis.pcall('GET', KEYS[3])) or number) then others = 0 end
if others == 0 and redis.call('GET', KEYS[5]) == '0' then
  local proposed, last = tonumber(ARGV[3]), redis.call('SET', KEYS[4], ARGV[3], 'GET')
  local was = tonumber(last or 0) or 0
  if not last or (was > 1e15 and proposed > was + 1000) then -- see acquire.lua
    redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[3], 'PX', ARGV[2])
    return {1, number, proposed} -- GRANTED
  end
  redis.call('SET', KEYS[4], last)
end

-- prelude

local token, ttl, proposed = ARGV[1], ARGV[2], tonumber(ARGV[3])
local inbox, queue_ttl, quarantine = ARGV[4], ARGV[5], tonumber(ARGV[6])
local waiter = string.match(token, '^(.+)%.%d+$') or token

local broken = mend_fence()
if broken then return broken end

local now = now_us()
local marker = redis.call('GET', KEYS[5])
if marker ~= '0' then
  if not marker then
    marker = string.format('%.0f', now + quarantine)
    redis.call('SET', KEYS[5], marker)
  end
  local remaining = (tonumber(marker) or 0) - now
  if remaining > 0 then return {UNTRUSTED, tag, marker, quarantine - remaining, remaining} end
  redis.call('SET', KEYS[5], '0')
end

local holder = redis.call('GET', KEYS[1])
local fence = fence_of(holder, token)
if fence then
  redis.call('PEXPIRE', KEYS[1], ttl)
  return {GRANTED, tag, fence}
end

if holder then
  local place = inbox == '' and 0 or join_queue(now, waiter, inbox, 0, queue_ttl)
  return {HELD, tag, redis.call('PTTL', KEYS[1]), told(holder), place}
end

fence = issue_proposed(proposed, 0)
if inbox ~= '' then redis.call('ZREM', KEYS[2], '0 ' .. inbox .. ' ' .. waiter) end
redis.call('SET', KEYS[1], value_of(token, fence), 'PX', ttl)
return {GRANTED, tag, fence}
