-- What the scripts share.  The loader puts this file in front of each of them, or in
-- place of the line "-- prelude": Redis makes these functions anew on every run, so a
-- script's usual case stands before them.
--
-- Every script takes these keys, the fourth only if it issues fencing tokens or learns of them:
--   KEYS[1]  the key: holds the value, "<token> <fencing token>" of the holder, with a ttl; a
--            token that its user chose stands there alone
--   KEYS[2]  the queue: a sorted set of waiters by arrival
--   KEYS[3]  what is void of its sender: a number, there only after a lost connection
--   KEYS[4]  the fence counter, of all names: the last fencing token issued; behind it perhaps
--            BEHIND, or on a quorum a time (see `issue_proposed`)
-- Every script takes a tag as its last argument: "<number>", which rises with each request
-- of the sender, over all its connections.  It answers an array that begins with a code and
-- that number: the client matches each reply to its request by it.
--
-- Void: a connection that was given up may still bring requests, long after what was sent
-- again over the next one.  Until it knows that this is noted here, a sender's tag is
-- "<number> <highest number that is void>" then: the script notes that before all else, and
-- never lowers it.  A request at or below it touches nothing and is an error (STALE).  Every
-- script does so, for there is none that is harmless at any later time: with a token that its
-- user chose even a release gives up another lease.
--
-- A waiter's record in the queue is "<grant ttl in ms> <inbox channel> <secret> <token>".
-- A grant is the message "<proof> <edition of the wire> <fence> <server time in us> <ttl in ms>
-- <token> <key>".
-- The proof is the SHA-1 of the rest and of the secret, which nobody knows but its owner and
-- those who may read the queue: anybody may publish.

-- The codes.
local GRANTED, QUEUED, HELD, DONE, GONE, OTHER, UNTRUSTED, BATCH = 1, 2, 3, 4, 5, 6, 7, 8

-- The edition of what is said in messages (WIRE in grant_message.py, docs/wire.md).
local WIRE = '2'

-- How long it is noted what is void, ms: an hour.  TCP sends again for a quarter of that.
local VOID_FOR = 3600000

local tag, void = tonumber(ARGV[#ARGV]), nil
if not tag then
  tag, void = string.match(ARGV[#ARGV], '^(%d+) (%d+)$')
  tag = tonumber(tag)
end
-- pcall: see renew_alone.lua.
local noted = redis.pcall('GET', KEYS[3])
noted = type(noted) == 'string' and #noted <= 16 and tonumber(string.match(noted, '^%d+$')) or 0
-- No client sends so many requests in that hour: somebody else wrote it.
if noted > tag + 1e10 then noted = 0 end
if void and tonumber(void) > noted then
  noted = tonumber(void)
  -- First: after a write that needs no memory Redis lets a script write without any.
  redis.call('PEXPIRE', KEYS[3], VOID_FOR)
  redis.call('SET', KEYS[3], void, 'PX', VOID_FOR)
end
if tag <= noted then
  -- With the number: whom no later connection follows goes on above it, somebody else wrote it.
  local void_up_to = string.format('%.0f', noted)
  return redis.error_reply('STALE ' .. void_up_to .. ' and what is below is void')
end

-- Of what stands at a key, or in a queue, as much as is told of it: it may be anybody's, and
-- megabytes.  (1000 is MOST_OF_ERROR in core/escaping.py.)
local function told(value)
  if #value <= 1000 then return value end
  return string.sub(value, 1, 960) .. '… (' .. #value .. ' bytes)'
end

-- functions

-- So many fencing tokens may be used in hand-offs that nobody has reported
-- (MAX_LOCAL_HANDOFFS in core/fencing.py).
local GAP = 1000

-- What marks the counter while the clock is behind it by more than that: it was set back.  No
-- lease is handed on locally then, and nothing runs ahead of the counter.
local BEHIND = ' behind'

-- Fencing tokens are below 2^53, so that all languages hold them exactly; this leaves room
-- for gaps and hand-offs.
local MOST_FENCE = 9007199254730992

-- Reads a fence counter; nil if it holds no fencing token.
local function fence_in(counter)
  local digits, mark = string.match(counter, '^(%d+)(.*)$')
  local fence = digits and #digits <= 16 and tonumber(digits)
  if not fence or fence > MOST_FENCE then return nil end
  if mark == '' or mark == BEHIND or string.match(mark, '^ %d+$') then return fence end
end

-- Drops a counter that somebody else wrote something into; returns the error that tells.
-- Nothing has been done but that, and the client runs the script again.  The next fencing
-- token is the server's time, as after FLUSHALL.
local function mend_fence()
  local counter = redis.pcall('GET', KEYS[4])
  if type(counter) ~= 'string' or fence_in(counter) then return nil end
  redis.call('DEL', KEYS[4])
  local shown = string.gsub(string.sub(counter, 1, 40), '[^%w%p ]', '?')
  return redis.error_reply('BADFENCE ' .. KEYS[4] .. " held '" .. shown .. "'")
end

-- Server time in microseconds.
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function is_marked(counter) return string.sub(counter, -#BEHIND) == BEHIND end

-- Issues the next fencing token: server time, or above the last one of whatever name.  `floor`
-- is the highest that is known to be used besides the counter.  Several in one tick of a coarse
-- clock follow each other; but where the clock is behind by more than the gap it was set back.
-- Then, once, the gap is added, for what was used before and not reported, and the counter
-- marked.  Once, or it would outrun the clock, and FLUSHALL would turn it back.
local function issue_fence(now, floor)
  local counter = redis.call('GET', KEYS[4]) or '0'
  local last = math.max(fence_in(counter) or 0, floor)
  local fence, mark = now, ''
  if now <= last then
    fence = last + 1
    if now < last - GAP then
      mark = BEHIND
      if not is_marked(counter) then fence = fence + GAP end
    end
  end
  redis.call('SET', KEYS[4], string.format('%.0f', fence) .. mark)
  return fence
end

-- The same on a node of a quorum, where clients propose what their clocks show.  Where a proposal
-- is not above the last token by more than the gap, the gap is added once in SHORT, and behind
-- the counter stands when.  So whoever comes after the expiry of a lease is above all that its
-- holder may have used and reported to nobody: since it was granted, the gap has been added, or
-- exceeded.  What does not say when counts as long ago.
local SHORT = 40 -- ms, in which no lease can have ended by itself: the shortest ttl is 50
local function issue_proposed(proposed, floor)
  local counter = redis.call('GET', KEYS[4]) or '0'
  local last = math.max(fence_in(counter) or 0, floor)
  local fence, since = proposed, ''
  if proposed <= last + GAP then
    local now = math.floor(now_us() / 1000)
    since = tonumber(string.match(counter, ' (%d+)$')) or 0
    if now < since or now >= since + SHORT then
      fence, since = last + 1 + GAP, now
    elseif fence <= last then
      fence = last + 1
    end
    since = string.format(' %.0f', since)
  end
  redis.call('SET', KEYS[4], string.format('%.0f', fence) .. since)
  return fence
end

-- Lifts the counter to the highest token that was used; 0: it is up to date.
local function report_fence(highest)
  if highest == 0 then return end
  local last = fence_in(redis.call('GET', KEYS[4]) or '0') or 0
  if highest > last then redis.call('SET', KEYS[4], string.format('%.0f', highest)) end
end

local function value_of(token, fence) return token .. string.format(' %.0f', fence) end

-- The fencing token of a value, if that is of this token; else nil.
local function fence_of(value, token)
  if not value or string.sub(value, 1, #token + 1) ~= token .. ' ' then return nil end
  return fence_in(string.sub(value, #token + 2))
end

-- Whether a value is of the lease that another one is of.  Of a lease that was to be passed on
-- and was kept, which nobody heard, the fencing token at the key is another one; one of our
-- tokens is of one lease only.
local function is_of_same_lease(holder, value)
  if holder == value then return true end
  local token = string.match(value, '^(.*:%d+:%x%x%x%x%x%x%x%x:%d+) %d+$')
  return token ~= nil and fence_of(holder, token) ~= nil
end

-- The server's time when a lease began that has gone on since, for the client to judge by what
-- the clock covers: 0, which is long ago, while the counter is marked.
local function began(now)
  return is_marked(redis.call('GET', KEYS[4]) or '') and 0 or now
end

-- Puts its proof, and the edition of the wire, before a message; the secret itself where nothing
-- else can be made of it
-- (fakeredis).
local function prove(message, secret)
  message = WIRE .. ' ' .. message
  if not redis.sha1hex then return secret .. ' ' .. message end
  return redis.sha1hex(message .. ' ' .. secret) .. ' ' .. message
end

-- Joins the queue at its tail, or keeps the place; returns the position from 0.
-- The queue outlives its last visitor by `queue_ttl`, so that no crash leaves it.
local function join_queue(now, token, inbox, grant_ttl, queue_ttl)
  local record = grant_ttl .. ' ' .. inbox .. ' ' .. token
  if not redis.call('ZSCORE', KEYS[2], record) then
    -- Above the last arrival, also where the clock was set back or two came in the
    -- same microsecond: first come, first served.
    local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
    local arrival = now
    if last and tonumber(last) >= now then arrival = tonumber(last) + 1 end
    redis.call('ZADD', KEYS[2], string.format('%.0f', arrival), record)
  end
  redis.call('PEXPIRE', KEYS[2], queue_ttl)
  return redis.call('ZRANK', KEYS[2], record)
end

-- How many wait.  pcall: in no queue of ours nobody does, and the lease must go on.
local function waiters()
  local count = redis.pcall('ZCARD', KEYS[2])
  return type(count) == 'number' and count or 0
end

-- Makes the first waiter that still listens the holder, and tells it.  A waiter whose
-- inbox nobody hears is gone and dropped.  `me` needs no message: the reply tells.
-- Returns the new holder's token (nil if there is none) and the fencing token (nil if
-- none was issued).
local function grant_next(now, floor, me, my_ttl)
  local fence
  while true do
    local record = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
    if not record then return nil, fence end
    local ttl, inbox, secret, token = string.match(record, '^([1-9]%d*) (%S+) (%S+) (%S+)$')
    -- The one write of a hand-off that can fail (out of memory) comes first.  Each gets
    -- a token of its own: who is dropped may have heard it after all, by another way.
    if token then fence = issue_fence(now, floor) end
    redis.call('ZREM', KEYS[2], record)
    if token and token == me then
      redis.call('SET', KEYS[1], value_of(token, fence), 'PX', my_ttl)
      return token, fence
    elseif token then -- else it is no record of ours, and goes
      redis.call('SET', KEYS[1], value_of(token, fence), 'PX', ttl)
      local grant = string.format('%.0f %.0f %s %s %s', fence, now, ttl, token, KEYS[1])
      -- pcall: where an ACL forbids the channel the waiter counts as gone, it polls.
      -- Not replicated: a replica would tell it to whoever is still connected there, and
      -- whom nobody heard of here has been dropped.
      -- (Servers that only speak as Redis does may have no say in what is replicated.)
      local repl = redis.REPL_NONE and redis.set_repl
      if repl then repl(redis.REPL_NONE) end
      local heard = redis.pcall('PUBLISH', inbox, prove(grant, secret))
      if repl then repl(redis.REPL_ALL) end
      if type(heard) == 'number' and heard > 0 then return token, fence end
    end
  end
end

-- Gives up a key that is ours: to the next waiter, else deletes it.  Returns 1 if a
-- waiter got it.  Never fails for want of memory: then it deletes, and waiters poll.
local function give_up(now, floor)
  if redis.call('EXISTS', KEYS[2]) == 1 then
    local ok, token = pcall(grant_next, now, floor)
    if ok and token then return 1 end
  end
  redis.call('DEL', KEYS[1])
  return 0
end
