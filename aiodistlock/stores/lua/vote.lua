-- Votes for a lease on this node of a quorum, if nobody else has this node's vote.
--
-- KEYS: see prelude; KEYS[4] the node's marker: '0' = trusted, else the server time in us
--       from which on it is, being without data that it may have lost
-- ARGV: token, "<waiter>.<round>"; ttl in ms; proposed fencing token; fence retention in ms;
--       inbox channel, '' = do not wait; queue ttl in ms; quarantine in us; tag
-- Each round votes under a token of its own; the place among those who wait is the waiter's.
-- Returns:
--   {GRANTED, tag, fence}   ours on this node, for ttl from now
--   {HELD, tag, remaining ms (-1: no ttl), holder}   not free; a hint will follow, if asked
--   {UNTRUSTED, tag, marker, age in us, remaining us}   came up without data; counts for
--       nothing until it cannot have forgotten any lease
-- Twice: the same fence, the ttl anew; waiting already: the same place.
-- There is no order between waiters on a quorum: whoever gets a majority has the lock.

-- The usual case: trusted, free, nobody waits, and the proposal is above all that the last
-- holder can have used (see `issue`; 1000 is GAP, 40 is SHORT).
if redis.call('GET', KEYS[4]) == '0' and redis.call('EXISTS', KEYS[1], KEYS[3]) == 0 then
  local proposed, last = tonumber(ARGV[3]), tonumber(redis.call('GET', KEYS[2]) or 0) or 0
  local above = proposed > last + 1000
  if not above and proposed > last then
    local age = ARGV[4] - redis.call('PTTL', KEYS[2])
    above = age >= 0 and age < 40
  end
  if above then
    redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return {1, tonumber(ARGV[8]), proposed} -- GRANTED
  end
end

-- prelude

local token, ttl, proposed, retention = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local inbox, queue_ttl, quarantine, tag = ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local waiter = string.match(token, '^(.+)%.%d+$') or token

-- Milliseconds in which no lease can have ended by itself: the shortest ttl is 50.
local SHORT = 40

-- Issues a fencing token.  A proposal just above a counter that has stood for longer comes
-- from a clock that is behind: the last holder, if it died, may have used that token in a
-- hand-off that it reported to nobody.
local function issue()
  local last = tonumber(redis.call('GET', KEYS[2]) or 0) or 0
  local age = retention - redis.call('PTTL', KEYS[2])
  if proposed <= last + GAP and (age < 0 or age >= SHORT) then proposed = last end
  return issue_fence(proposed, 0, GAP, retention)
end

local now = now_us()
local marker = redis.call('GET', KEYS[4])
if marker ~= '0' then
  if not marker then
    marker = string.format('%.0f', now + quarantine)
    redis.call('SET', KEYS[4], marker)
  end
  local remaining = (tonumber(marker) or 0) - now
  if remaining > 0 then return {UNTRUSTED, tag, marker, quarantine - remaining, remaining} end
  redis.call('SET', KEYS[4], '0')
end

local holder = redis.call('GET', KEYS[1])
if holder == token then
  local fence = tonumber(redis.call('GET', KEYS[2]))
  if not fence then fence = issue() end
  redis.call('PEXPIRE', KEYS[1], ttl)
  return {GRANTED, tag, fence}
end

if holder then
  if inbox ~= '' then join_queue(now, waiter, inbox, 0, queue_ttl) end
  return {HELD, tag, redis.call('PTTL', KEYS[1]), holder}
end

local fence = issue()
if inbox ~= '' then redis.call('ZREM', KEYS[3], '0 ' .. inbox .. ' ' .. waiter) end
redis.call('SET', KEYS[1], token, 'PX', ttl)
return {GRANTED, tag, fence}
