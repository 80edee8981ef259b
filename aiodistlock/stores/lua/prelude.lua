-- What the scripts share.  The loader puts this file in front of each of them, or in
-- place of the line "-- prelude": Redis makes these functions anew on every run, so a
-- script's usual case stands before them.
--
-- Every script takes the same keys:
--   KEYS[1]  the key: holds the holder's token as a plain string, with a ttl
--   KEYS[2]  the fence counter of the name
--   KEYS[3]  the queue: a sorted set of waiters by arrival
-- Every script takes a tag as its last argument and answers an array that begins
-- with a code and that tag: the client matches each reply to its request by it.
--
-- A waiter's record in the queue is "<grant ttl in ms> <inbox channel> <token>".
-- A grant is the message "<fence> <server time in us> <ttl in ms> <token> <key>".

-- The codes.
local GRANTED, QUEUED, HELD, DONE, GONE, OTHER, UNTRUSTED = 1, 2, 3, 4, 5, 6, 7

-- A holder that died may have used so many fencing tokens without reporting them
-- (MAX_LOCAL_HANDOFFS in core/fencing.py).
local GAP = 1000

-- Server time in microseconds.
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Issues the next fencing token of the name: server time, or above the last one if
-- the clock is behind it.  `floor` is the highest token known to be used besides the
-- counter.  `gap` is added only where the clock is behind and the last holder did not
-- report: otherwise the counter would outrun the clock on a hot name, and FLUSHALL
-- would turn it back.
local function issue_fence(now, floor, gap, retention)
  local counter = redis.call('GET', KEYS[2]) or '0'
  local last = tonumber(counter) or 0
  if floor > last then last = floor end
  local fence = now
  if now <= last then
    if string.sub(counter, -1) == ' ' then gap = 0 end
    fence = last + 1 + gap
  end
  redis.call('SET', KEYS[2], string.format('%.0f', fence), 'PX', retention)
  return fence
end

-- Lifts the counter to the highest token that was used; 0: it is up to date.  Where
-- the clock is behind, a trailing space (which numbers ignore) marks it as reported.
local function report_fence(now, highest, retention)
  if highest == 0 then return end
  local last = tonumber(redis.call('GET', KEYS[2])) or 0
  if highest < last then highest = last end
  local counter = string.format('%.0f', highest)
  if highest >= now then counter = counter .. ' ' end
  redis.call('SET', KEYS[2], counter, 'PX', retention)
end

-- Joins the queue at its tail, or keeps the place; returns the position from 0.
-- The queue outlives its last visitor by `queue_ttl`, so that no crash leaves it.
local function join_queue(now, token, inbox, grant_ttl, queue_ttl)
  local record = grant_ttl .. ' ' .. inbox .. ' ' .. token
  if not redis.call('ZSCORE', KEYS[3], record) then
    -- Above the last arrival, also where the clock was set back or two came in the
    -- same microsecond: first come, first served.
    local last = redis.call('ZREVRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
    local arrival = now
    if last and tonumber(last) >= now then arrival = tonumber(last) + 1 end
    redis.call('ZADD', KEYS[3], string.format('%.0f', arrival), record)
  end
  redis.call('PEXPIRE', KEYS[3], queue_ttl)
  return redis.call('ZRANK', KEYS[3], record)
end

-- Makes the first waiter that still listens the holder, and tells it.  A waiter whose
-- inbox nobody hears is gone and dropped.  `me` needs no message: the reply tells.
-- Returns the new holder's token (nil if there is none) and the fencing token (nil if
-- none was issued).
local function grant_next(now, floor, gap, retention, me, my_ttl)
  local fence
  while true do
    local record = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
    if not record then return nil, fence end
    -- The one write of a hand-off that can fail (out of memory) comes first.  Each gets
    -- a token of its own: who is dropped may have heard it after all, by another way.
    fence = issue_fence(now, fence or floor, fence and 0 or gap, retention)
    redis.call('ZREM', KEYS[3], record)
    local ttl, inbox, token = string.match(record, '^(%d+) (%S+) (%S+)$')
    if token == me then
      redis.call('SET', KEYS[1], token, 'PX', my_ttl)
      return token, fence
    end
    redis.call('SET', KEYS[1], token, 'PX', ttl)
    local grant = string.format('%.0f %.0f %s %s %s', fence, now, ttl, token, KEYS[1])
    -- pcall: where an ACL forbids the channel the waiter counts as gone, it polls.
    -- Not replicated: a replica would tell it to whoever is still connected there, and
    -- whom nobody heard of here has been dropped.
    redis.set_repl(redis.REPL_NONE)
    local heard = redis.pcall('PUBLISH', inbox, grant)
    redis.set_repl(redis.REPL_ALL)
    if type(heard) == 'number' and heard > 0 then return token, fence end
  end
end

-- Gives up a key that is ours: to the next waiter, else deletes it.  Returns 1 if a
-- waiter got it.  Never fails for want of memory: then it deletes, and waiters poll.
local function give_up(now, floor, retention)
  if redis.call('EXISTS', KEYS[3]) == 1 then
    local ok, token = pcall(grant_next, now, floor, 0, retention)
    if ok and token then return 1 end
  end
  redis.call('DEL', KEYS[1])
  return 0
end
