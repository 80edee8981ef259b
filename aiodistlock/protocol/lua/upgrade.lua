-- Makes the reader that may upgrade the writer, as soon as it is the only reader; until then it is
-- first in the queue, so nobody comes in.
--
-- KEYS: see prelude.
-- ARGV: token of the reader; token to be; ttl in ms; inbox, "<channel> <secret>", '' = do not queue;
--       grant ttl in ms; queue ttl in ms; tag
-- Returns:
--   {GRANTED, tag, fence, server time in us}   the only holder for ttl from now
--   {QUEUED, tag, remaining ms, holder, server time in us, position}   others read
--   {HELD, tag, remaining ms, holder}   others read, and we do not wait
--   {GONE, tag} / {OTHER, tag}   it reads no more; untouched
-- Twice: the same grant and fence; in the queue the same place.  The lease lasts for the ttl, or for
-- as long as the reader's does if that is more.
local reader, token, ttl = ARGV[1], ARGV[2], ARGV[3]
local inbox, grant_ttl, queue_ttl = ARGV[4], ARGV[5], ARGV[6]

local broken = mend_fence()
if broken then return broken end

local readers = group()
local holder = redis.call('GET', KEYS[1])
local now = now_us()

local fence = fence_of(holder, token)
if fence then
  readers.prolong(ttl)
  return {GRANTED, tag, fence, began(now)}
end
if not holder then return {GONE, tag} end
local record = grant_ttl .. ' ' .. inbox .. ' ' .. token
if not is_group(holder) or not readers.has(now, reader) then
  if fence_of(holder, reader) then
    -- By a process that knows nothing of readers it was made the only holder.
    fence = issue_fence(now, 0)
    readers.write(token, fence, ttl)
    return {GRANTED, tag, fence, now}
  end
  return {OTHER, tag}
end
if readers.size() == 1 then
  fence = issue_fence(now, 0)
  leave_queue(record)
  readers.write(token, fence, ttl)
  return {GRANTED, tag, fence, now}
end

local remaining = redis.call('PTTL', KEYS[1])
if inbox == '' then return {HELD, tag, remaining, told(holder)} end
if not redis.call('ZSCORE', KEYS[2], record) then
  local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
  local arrival = first and math.min(tonumber(first) - 1, now) or now
  redis.call('ZADD', KEYS[2], string.format('%.0f', arrival), record)
end
redis.call('PEXPIRE', KEYS[2], queue_ttl)
return {QUEUED, tag, remaining, told(holder), now, redis.call('ZRANK', KEYS[2], record)}
