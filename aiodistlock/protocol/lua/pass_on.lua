-- Passes our lock on to the next process and queues us again; where nobody waits, we
-- keep it with a fresh ttl and fresh fencing tokens.
--
-- KEYS: see prelude.
-- ARGV: token; our next token; ttl in ms; highest fencing token used, 0 = the counter
--       is up to date; inbox, "<channel> <secret>"; grant ttl in ms; queue ttl in ms; tag
-- Returns:
--   {DONE, tag, fence, server time in us}      kept, under the same token
--   {GRANTED, tag, fence, server time in us}   ours again, under the next token
--   {QUEUED, tag, remaining ms, holder, server time in us, position}   passed on
--   {GONE, tag} / {OTHER, tag}   was not ours any more; untouched
-- Twice: passed on, it keeps its place in the queue, or the grant it got meanwhile;
-- kept, the ttl and the fencing tokens are fresh again.
local token, next_token, ttl = ARGV[1], ARGV[2], ARGV[3]
local highest = tonumber(ARGV[4])
local inbox, grant_ttl, queue_ttl = ARGV[5], ARGV[6], ARGV[7]

local broken = mend_fence()
if broken then return broken end

local holder = redis.call('GET', KEYS[1])
local now = now_us()

local fence = fence_of(holder, next_token)
if fence then
  redis.call('PEXPIRE', KEYS[1], ttl)
  return {GRANTED, tag, fence, began(now)}
end

if fence_of(holder, token) then
  ends(token, highest, holder)
  holder, fence = grant_next(now, highest)
  if not holder then
    -- Nobody waits, or nobody of them is alive; the key may name a dead one by now.
    fence = fence or issue_fence(now, highest)
    begins(token)
    redis.call('SET', KEYS[1], value_of(token, fence), 'PX', ttl)
    return {DONE, tag, fence, now}
  end
elseif not redis.call('ZSCORE', KEYS[2], grant_ttl .. ' ' .. inbox .. ' ' .. next_token) then
  if not holder then return {GONE, tag} end
  return {OTHER, tag}
elseif not holder then
  -- Passed on before, and free again since: we are in the queue, and drive it.
  holder, fence = grant_next(now, 0, next_token, ttl)
  if holder == next_token then return {GRANTED, tag, fence, now} end
end

local remaining = redis.call('PTTL', KEYS[1])
local position = join_queue(now, next_token, inbox, grant_ttl, queue_ttl)
return {QUEUED, tag, remaining, told(holder), now, position}
