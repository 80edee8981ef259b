-- Takes the lock if it is free and nobody is before us; else joins the queue if asked.
--
-- KEYS: see prelude.
-- ARGV: token; ttl in ms; inbox, "<channel> <secret>", '' = do not queue; grant ttl in ms (for
--       the queue); queue ttl in ms; tag
-- Returns:
--   {GRANTED, tag, fence, server time in us}   ours for ttl from now
--   {GRANTED_BEFORE_OTHERS, the same}   and others wait
--   {QUEUED, tag, remaining ms (-1: no ttl), holder, server time in us, position}
--   {HELD, tag, remaining ms (-1: no ttl), holder}   not free, and we do not wait
-- Twice: as holder the same grant and fence (server time 0: see `began`), the ttl anew; in
-- the queue the same place.  Whoever queues has the holder recall its lease if that lingers.
-- Whoever finds the key free while others wait drives the queue: the holder died, or
-- could not hand over.

-- The usual case in four commands: free, nobody queued, nothing void, the clock ahead of the
-- counter (in five, if behind by no more than the gap of 1000; see `issue_fence`).
local number = tonumber(ARGV[6])
local others = number and redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3])
-- Perhaps it is only noted what is void, and this is not.
if others == 1 and number > (tonumber(redis.pcall('GET', KEYS[3])) or number) then others = 0 end
if others == 0 then
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local fence, shown = now, string.format('%s%06d', time[1], time[2])
  local last = redis.call('SET', KEYS[4], shown, 'GET')
  local was = tonumber(last or now - 1) or 0
  -- What is not above 10^15 (µs, in 2001) may be broken: see mend_fence.
  if was > 1e15 and was <= now + 1000 then
    if was >= now then
      fence = was + 1
      shown = string.format('%.0f', fence)
      redis.call('SET', KEYS[4], shown)
    end
    redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. shown, 'PX', ARGV[2])
    return {1, number, fence, now} -- GRANTED
  end
  redis.call('SET', KEYS[4], last) -- as it was: the gap may be due
end

-- prelude

local token, ttl, inbox = ARGV[1], ARGV[2], ARGV[3]
local grant_ttl, queue_ttl = ARGV[4], ARGV[5]

-- A lease that others wait for does not linger.
local function granted() return waiters() > 0 and GRANTED_BEFORE_OTHERS or GRANTED end

local broken = mend_fence()
if broken then return broken end

local holder = redis.call('GET', KEYS[1])
local now = now_us()

local fence = fence_of(holder, token)
if fence then
  redis.call('PEXPIRE', KEYS[1], ttl)
  return {granted(), tag, fence, began(now)}
end

if not holder then
  if redis.call('EXISTS', KEYS[2]) == 1 then
    if inbox ~= '' then join_queue(now, token, inbox, grant_ttl, queue_ttl) end
    holder, fence = grant_next(now, 0, token, ttl)
    if holder == token then return {granted(), tag, fence, now} end
  end
  if not holder then
    fence = fence or issue_fence(now, 0)
    begins(token)
    redis.call('SET', KEYS[1], value_of(token, fence), 'PX', ttl)
    return {GRANTED, tag, fence, now}
  end
end

local remaining = redis.call('PTTL', KEYS[1])
if inbox == '' then return {HELD, tag, remaining, told(holder)} end
local position = join_queue(now, token, inbox, grant_ttl, queue_ttl)
recall(holder, slot_in(inbox))
return {QUEUED, tag, remaining, told(holder), now, position}
