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
-- Of a read/write lock a letter ends the token: r, a reader; u, one that may upgrade; w, a writer;
-- x, a reader that is to become one.  While readers hold, the value at the key is a group's (see
-- `group`).
-- A grant is the message "<proof> <edition of the wire> <fence> <server time in us> <ttl in ms>
-- <token> <key>".
-- A recall is the message "recall <edition of the wire> <token> <key>", to the inbox of a holder
-- whose lease may linger.
-- The proof is the SHA-1 of the rest and of the secret, which nobody knows but its owner and
-- those who may read the queue: anybody may publish.

-- The codes.
local GRANTED, QUEUED, HELD, DONE, GONE, OTHER, UNTRUSTED, BATCH = 1, 2, 3, 4, 5, 6, 7, 8
local GRANTED_BEFORE_OTHERS = 9

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

-- Publishes a message; returns how many heard it, or an error: pcall.
-- Not replicated: a replica would tell it to whoever is still connected there, and whom nobody
-- heard of here has been dropped.
-- (Servers that only speak as Redis does may have no say in what is replicated.)
local function publish(channel, message)
  local repl = redis.REPL_NONE and redis.set_repl
  if repl then repl(redis.REPL_NONE) end
  local heard = redis.pcall('PUBLISH', channel, message)
  if repl then repl(redis.REPL_ALL) end
  return heard
end

-- Asks the holder of a value to give its lease up, if that may linger: then the count of its
-- token begins with 0.  Its inbox is named after its client; `of_slot` ends the names of sharded
-- channels.  Nobody may hear it: whoever waits asks again.
local function recall(value, of_slot)
  if #value > 1000 then return end
  local client, count = string.match(value, '^(.+:%d+:%x%x%x%x%x%x%x%x):(0%d+) %d+$')
  if not client then return end
  local message = 'recall ' .. WIRE .. ' ' .. client .. ':' .. count .. ' ' .. KEYS[1]
  publish('aiodistlock:inbox:' .. client .. of_slot, message)
end

-- What ends the name of a sharded channel, of an inbox, "<channel> <secret>"; '' of any other.
local function slot_in(inbox) return string.match(inbox, '(:{[^{} ]*}) ') or '' end

-- The letter that ends a token of a read/write lock; nil: it is of another lock.
local function letter_of(token)
  if (string.byte(token, -1) or 0) < 97 then return nil end -- most end with a digit
  return string.match(token, ':%d+:%x%x%x%x%x%x%x%x:%d+([ruwx])$')
end

-- Whether readers hold: then this is the value at the key.
local function is_group(value)
  if not value or string.sub(value, 1, 8) ~= 'readers:' then return false end
  return string.find(value, ':%d+:%x%x%x%x%x%x%x%x:%d+[ru] %d+$') ~= nil
end

-- What is about readers, made when it is needed: below.
local group

-- Has the version of a read/write lock be unknown while somebody may write.
local function begins(token)
  local letter = letter_of(token)
  if letter == 'w' or letter == 'x' then group().forget() end
end

-- Has what a writer of a read/write lock used last be the version that the readers behind it read:
-- `used`, or that with which the lease of this value began.
local function ends(token, used, value)
  local letter = letter_of(token)
  if letter == 'w' or letter == 'x' then
    group().remember(math.max(used, fence_of(value, token) or 0))
  end
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

-- Takes a record out of the queue.  In a queue that is none nobody waits.  What else is refused
-- (by a server that is read-only, or lacks replicas) is refused as a whole: who is not out of the
-- queue must ask again, or it is granted what it does not want any more.
local function leave_queue(record)
  local left = redis.pcall('ZREM', KEYS[2], record)
  if type(left) == 'table' and not string.find(left.err, 'WRONGTYPE', 1, true) then
    redis.call('ZREM', KEYS[2], record)
  end
end

-- How many wait.  pcall: in no queue of ours nobody does, and the lease must go on.
local function waiters()
  local count = redis.pcall('ZCARD', KEYS[2])
  return type(count) == 'number' and count or 0
end

local RECORD = '^([1-9]%d*) (%S+) (%S+) (%S+)$'

-- Makes the first waiter that still listens the holder, and tells it.  A waiter whose
-- inbox nobody hears is gone and dropped.  `me` needs no message: the reply tells.
-- Returns the new holder's token (nil if there is none; a group's, if readers hold now) and the
-- fencing token (nil if none was issued).
local function grant_next(now, floor, me, my_ttl)
  local fence
  while true do
    local record = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
    if not record then return nil, fence end
    local ttl, inbox, secret, token = string.match(record, RECORD)
    local letter = token and letter_of(token)
    if letter == 'r' or letter == 'u' then
      local readers, version = group().open(now, floor, me, my_ttl)
      if readers then return readers, version end
      token = nil -- none of them lives
    end
    -- The one write of a hand-off that can fail (out of memory) comes first.  Each gets
    -- a token of its own: who is dropped may have heard it after all, by another way.
    if token then fence = issue_fence(now, floor) end
    redis.call('ZREM', KEYS[2], record)
    if letter == 'w' or letter == 'x' then begins(token) end
    if token and token == me then
      redis.call('SET', KEYS[1], value_of(token, fence), 'PX', my_ttl)
      return token, fence
    elseif token then -- else it is no record of ours, and goes
      redis.call('SET', KEYS[1], value_of(token, fence), 'PX', ttl)
      local grant = string.format('%.0f %.0f %s %s %s', fence, now, ttl, token, KEYS[1])
      -- pcall: where an ACL forbids the channel the waiter counts as gone, it polls.
      local heard = publish(inbox, prove(grant, secret))
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

-- How long the version of a name is remembered behind its last writer or group, ms: a day.
local VERSION_FOR = 86400000

-- Readers hold together.  The value at the key is "readers:<token of the first> <version>", and
-- each of them has its end, by the server's time, in a sorted set beside the queue: who dies ends
-- alone.  The key lasts as long as the last of them.  The version is the fencing token of the last
-- writer of a read/write lock, if that is known, else a new one, which is above that: what readers
-- with the same one have read is the same.
function group()
  local of_name = string.sub(KEYS[2], 18) -- behind 'aiodistlock:queue'
  local members, versions = 'aiodistlock:readers' .. of_name, 'aiodistlock:version' .. of_name
  local it = {}

  local function shown(number) return string.format('%.0f', number) end

  function it.remember(version) redis.call('SET', versions, shown(version), 'PX', VERSION_FOR) end

  function it.forget() redis.call('DEL', versions) end

  -- The version that is read from now on, and whether it was not known before.
  local function version_of(now, floor)
    local known = redis.pcall('GET', versions)
    local version = type(known) == 'string' and fence_in(known)
    local issued = not version
    if issued then version = issue_fence(now, floor) end
    it.remember(version)
    return version, issued
  end

  -- Whether a reader holds; drops those whose time is over.  Only if there are any: after a write
  -- that needs no memory Redis lets a script write without any.
  function it.has(now, token)
    while true do
      local first = redis.call('ZRANGE', members, 0, 0, 'WITHSCORES')
      if not first[1] or tonumber(first[2]) > now then break end
      redis.call('ZREM', members, first[1])
    end
    return redis.call('ZSCORE', members, token) ~= false
  end

  function it.size() return redis.call('ZCARD', members) end

  -- The token of the one that may upgrade, if there is one.
  function it.upgradeable()
    for _, token in ipairs(redis.call('ZRANGE', members, 0, -1)) do
      if string.byte(token, -1) == 117 then return token end
    end
  end

  -- Lets a reader hold up to `ttl` from now on.
  function it.add(now, token, ttl)
    redis.call('ZADD', members, shown(now + ttl * 1000), token)
  end

  local function from_now(now, ends_at)
    return math.max(1, math.ceil((tonumber(ends_at) - now) / 1000))
  end

  -- For how long the last of them has, ms.
  local function left(now)
    return from_now(now, redis.call('ZREVRANGE', members, 0, 0, 'WITHSCORES')[2])
  end

  -- For how long one of them has, ms.
  function it.rest(now, token) return from_now(now, redis.call('ZSCORE', members, token)) end

  -- Has the key last as long as the last of them.
  function it.lasts(now)
    local ttl = left(now)
    redis.call('PEXPIRE', members, ttl)
    redis.call('PEXPIRE', KEYS[1], ttl)
  end

  -- Has those hold that are members now.
  function it.hold(now, first, version)
    local ttl = left(now)
    redis.call('PEXPIRE', members, ttl)
    redis.call('SET', KEYS[1], 'readers:' .. value_of(first, version), 'PX', ttl)
    return 'readers:' .. first
  end

  local function client_of(token) return string.match(token, '^(.*):%d+%l$') end

  -- Has the only reader left be the writer that it wants to be; if nobody hears, it asks again.
  local function upgrade(now, record, ttl, inbox, secret, token)
    local fence = issue_fence(now, 0)
    local grant = string.format('%.0f %.0f %s %s %s', fence, now, ttl, token, KEYS[1])
    local heard = publish(inbox, prove(grant, secret))
    if type(heard) ~= 'number' or heard == 0 then return end
    redis.call('ZREM', KEYS[2], record)
    it.write(token, fence, ttl)
  end

  -- What is held lasts for `ttl` ms, or longer if it does: whoever changes sides relies on that
  -- until it has heard of the change.
  local function at_least(ttl) return math.max(tonumber(ttl), redis.call('PTTL', KEYS[1])) end

  function it.write(token, fence, ttl)
    ttl = at_least(ttl)
    it.forget()
    redis.call('DEL', members)
    redis.call('SET', KEYS[1], value_of(token, fence), 'PX', ttl)
  end

  -- The only reader is its writer, or was told so before.
  function it.prolong(ttl) redis.call('PEXPIRE', KEYS[1], at_least(ttl)) end

  -- The writer reads on.
  function it.read_on(now, token, version, ttl)
    ttl = at_least(ttl)
    redis.call('DEL', members)
    it.add(now, token, ttl)
    it.hold(now, token, version)
  end

  -- Lets in who is first in the queue, as long as these are readers; `me` needs no message.  With
  -- `asks` a writer before them that is gone is dropped: a recall finds it out, and does no harm (of
  -- a plain lock it may be of a version that knows none, and is left for whoever hands over).
  -- Returns the token of the first that came in.
  function it.admit(now, version, me, my_ttl, asks)
    local first
    while true do
      local head = redis.call('ZRANGE', KEYS[2], 0, 0)
      local record = head[1]
      if not record then return first end
      local ttl, inbox, secret, token = string.match(record, RECORD)
      local letter = token and letter_of(token)
      local waits = letter == 'u' or letter == 'x'
      local other = waits and it.upgradeable()
      if letter == 'r' or (letter == 'u' and not other) then
        redis.call('ZREM', KEYS[2], record)
        it.add(now, token, token == me and my_ttl or ttl)
        local grant = string.format('%.0f %.0f %s %s %s', version, now, ttl, token, KEYS[1])
        local heard = token == me and 1 or publish(inbox, prove(grant, secret))
        if type(heard) == 'number' and heard > 0 then
          first = first or token
        else
          redis.call('ZREM', members, token)
        end
      elseif letter == 'x' and other and client_of(other) == client_of(token) then
        if it.size() == 1 then upgrade(now, record, ttl, inbox, secret, token) end
        return first
      elseif token then
        local recalled = 'recall ' .. WIRE .. ' ' .. token .. ' ' .. KEYS[1]
        if not asks or not letter or publish(inbox, recalled) ~= 0 then return first end
        redis.call('ZREM', KEYS[2], record)
      else
        redis.call('ZREM', KEYS[2], record) -- no record of ours
      end
    end
  end

  -- Begins a group of the readers that are first in the queue; nil if none of them lives.
  function it.open(now, floor, me, my_ttl)
    local before = redis.call('GET', KEYS[1])
    -- Of another lock's writer it is not known what it wrote.
    if before and not is_group(before) and not string.find(before, '[ruwx] %d+$') then
      it.forget()
    end
    local version, issued = version_of(now, floor)
    redis.call('DEL', members)
    local first = it.admit(now, version, me, my_ttl)
    if first then return it.hold(now, first, version), version end
    -- Nobody reads it, and a writer that seemed to be gone may find out that it is the holder.
    if issued then it.forget() end
  end

  -- Begins a group of one reader, where nobody holds and nobody waits.
  function it.begin(now, token, ttl)
    local version = version_of(now, 0)
    redis.call('DEL', members)
    it.add(now, token, ttl)
    it.hold(now, token, version)
    return version
  end

  -- Goes on behind a change: ends the group if nobody is left, else lets in who may come.  Returns
  -- 1 if it ended, and a waiter got the lock.
  function it.settle(now, holder, me, my_ttl, asks)
    if it.size() == 0 then return give_up(now, 0) end
    it.admit(now, fence_in(string.match(holder, '%d+$')), me, my_ttl, asks)
    if redis.call('GET', KEYS[1]) == holder then it.lasts(now) end
    return 0
  end

  -- Ends one reader's lease; nil if it is over.
  function it.leave(now, holder, token)
    if not it.has(now, token) then return nil end
    redis.call('ZREM', members, token)
    return it.settle(now, holder)
  end

  -- Sets the remaining time of a reader's lease; false if it is over.
  function it.renew(now, holder, token, ttl)
    if not is_group(holder) then
      -- It is the writer that it wants to be, and has not heard of it yet.
      local writer = string.match(holder, '^(.*:%d+x) %d+$')
      if not writer or letter_of(token) ~= 'u' then return false end
      if client_of(writer) ~= client_of(token) then return false end
      it.prolong(ttl)
      return true
    end
    if not it.has(now, token) then return false end
    it.add(now, token, ttl)
    it.lasts(now)
    return true
  end

  function it.disband() redis.call('DEL', members) end

  return it
end
