-- Passes our lock on to the next process and queues us again; where nobody waits, we
-- keep it with a fresh ttl and fresh fencing tokens.
--
-- KEYS: see prelude.
-- ARGV: token; our next token; ttl in ms; highest fencing token used, 0 = the counter
--       is up to date; fence retention in ms; inbox channel; grant ttl in ms; queue
--       ttl in ms; tag
-- Returns:
--   {DONE, tag, fence, server time in us}      kept, under the same token
--   {GRANTED, tag, fence, server time in us}   ours again, under the next token
--   {QUEUED, tag, remaining ms, holder, server time in us, position}   passed on
--   {GONE, tag} / {OTHER, tag}   was not ours any more; untouched
-- Twice: passed on, it keeps its place in the queue, or the grant it got meanwhile;
-- kept, the ttl and the fencing tokens are fresh again.
local token, next_token, ttl = ARGV[1], ARGV[2], ARGV[3]
local highest, retention = tonumber(ARGV[4]), ARGV[5]
local inbox, grant_ttl, queue_ttl, tag = ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])

local holder = redis.call('GET', KEYS[1])
local now = now_us()

if holder == next_token then
  redis.call('PEXPIRE', KEYS[1], ttl)
  local fence = tonumber(redis.call('GET', KEYS[2])) or issue_fence(now, 0, GAP, retention)
  return {GRANTED, tag, fence, now}
end

if holder == token then
  local fence
  holder, fence = grant_next(now, highest, 0, retention)
  if not holder then
    -- Nobody waits, or nobody of them is alive; the key may name a dead one by now.
    fence = fence or issue_fence(now, highest, 0, retention)
    redis.call('SET', KEYS[1], token, 'PX', ttl)
    return {DONE, tag, fence, now}
  end
elseif not redis.call('ZSCORE', KEYS[3], grant_ttl .. ' ' .. inbox .. ' ' .. next_token) then
  if not holder then return {GONE, tag} end
  return {OTHER, tag}
elseif not holder then
  -- Passed on before, and free again since: we are in the queue, and drive it.
  local fence
  holder, fence = grant_next(now, 0, GAP, retention, next_token, ttl)
  if holder == next_token then return {GRANTED, tag, fence, now} end
end

local remaining = redis.call('PTTL', KEYS[1])
local position = join_queue(now, next_token, inbox, grant_ttl, queue_ttl)
return {QUEUED, tag, remaining, holder, now, position}
