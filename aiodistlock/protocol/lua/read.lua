-- Lets a reader hold: beside others, if nobody waits before it; else it joins the queue if asked.
--
-- KEYS: see prelude.
-- ARGV: as acquire.lua; the token is a reader's
-- Returns:
--   {GRANTED, tag, version, server time in us}   ours for ttl from now
--   {GRANTED_BEFORE_OTHERS, the same}   and others wait
--   {QUEUED, ...} and {HELD, ...} as acquire.lua
-- Twice: as holder the same version, the ttl anew; in the queue the same place.
-- Whoever asks again while readers hold finds out whether the writer before it is still there.
local token, ttl, inbox = ARGV[1], ARGV[2], ARGV[3]
local grant_ttl, queue_ttl = ARGV[4], ARGV[5]

local broken = mend_fence()
if broken then return broken end

local readers = group()
local holder = redis.call('GET', KEYS[1])
local now = now_us()

local function granted(version)
  return {waiters() > 0 and GRANTED_BEFORE_OTHERS or GRANTED, tag, version, now}
end

-- By a process that knows nothing of readers it was made the only holder.
local fence = fence_of(holder, token)
if fence then
  redis.call('PEXPIRE', KEYS[1], ttl)
  return granted(fence)
end

local function version_at(value) return fence_in(string.match(value, '%d+$')) end

if is_group(holder) and readers.has(now, token) then
  readers.renew(now, holder, token, ttl)
  return granted(version_at(holder))
end

local position
local function queue()
  if inbox ~= '' then position = join_queue(now, token, inbox, grant_ttl, queue_ttl) end
end

if not holder and waiters() > 0 then
  queue()
  grant_next(now, 0, token, ttl)
  holder = redis.call('GET', KEYS[1])
elseif is_group(holder) then
  local record = grant_ttl .. ' ' .. inbox .. ' ' .. token
  local again = inbox ~= '' and redis.call('ZSCORE', KEYS[2], record)
  if again or waiters() > 0 then
    queue()
    readers.settle(now, holder, token, ttl, again)
    holder = redis.call('GET', KEYS[1])
  end
end
if not holder then return granted(readers.begin(now, token, ttl)) end

if is_group(holder) then
  local version = version_at(holder)
  local second = letter_of(token) == 'u' and readers.upgradeable()
  local ours = readers.has(now, token)
  if ours or (waiters() == 0 and not second) then
    readers.add(now, token, ttl)
    readers.lasts(now)
    return granted(version)
  end
end

local remaining = redis.call('PTTL', KEYS[1])
if inbox == '' then return {HELD, tag, remaining, told(holder)} end
queue()
recall(holder, slot_in(inbox))
return {QUEUED, tag, remaining, told(holder), now, position}
