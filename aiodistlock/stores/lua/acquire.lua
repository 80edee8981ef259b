-- Takes the lock if it is free and nobody is before us; else joins the queue if asked.
--
-- KEYS: see prelude.
-- ARGV: token; ttl in ms; fence retention in ms; inbox channel, '' = do not queue;
--       grant ttl in ms (for the queue); queue ttl in ms; tag
-- Returns:
--   {GRANTED, tag, fence, server time in us}   ours for ttl from now
--   {QUEUED, tag, remaining ms (-1: no ttl), holder, server time in us, position}
--   {HELD, tag, remaining ms (-1: no ttl), holder}   not free, and we do not wait
-- Twice: as holder the same grant and fence, the ttl anew; in the queue the same place.
-- Whoever finds the key free while others wait drives the queue: the holder died, or
-- could not hand over.

-- The usual case in four commands: free, nobody queued, the clock ahead of the counter.
if redis.call('EXISTS', KEYS[1], KEYS[3]) == 0 then
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local last = redis.call('SET', KEYS[2], string.format('%.0f', now), 'PX', ARGV[3], 'GET')
  if not last or now > (tonumber(last) or 0) then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return {1, tonumber(ARGV[7]), now, now} -- GRANTED
  end
  redis.call('SET', KEYS[2], last, 'PX', ARGV[3]) -- as it was: the gap may be due
end

-- prelude

local token, ttl, retention, inbox = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local grant_ttl, queue_ttl, tag = ARGV[5], ARGV[6], tonumber(ARGV[7])

local holder = redis.call('GET', KEYS[1])
local now = now_us()

if holder == token then
  local fence = tonumber(redis.call('GET', KEYS[2])) or issue_fence(now, 0, GAP, retention)
  redis.call('PEXPIRE', KEYS[1], ttl)
  return {GRANTED, tag, fence, now}
end

if not holder then
  local fence
  if redis.call('EXISTS', KEYS[3]) == 1 then
    if inbox ~= '' then join_queue(now, token, inbox, grant_ttl, queue_ttl) end
    holder, fence = grant_next(now, 0, GAP, retention, token, ttl)
    if holder == token then return {GRANTED, tag, fence, now} end
  end
  if not holder then
    fence = fence or issue_fence(now, 0, GAP, retention)
    redis.call('SET', KEYS[1], token, 'PX', ttl)
    return {GRANTED, tag, fence, now}
  end
end

local remaining = redis.call('PTTL', KEYS[1])
if inbox == '' then return {HELD, tag, remaining, holder} end
local position = join_queue(now, token, inbox, grant_ttl, queue_ttl)
return {QUEUED, tag, remaining, holder, now, position}
