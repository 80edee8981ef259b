-- What the scripts of a semaphore share, behind the prelude.
--
-- KEYS[1] is no string here but a sorted set of permits, which no lock can be held beside (and
-- the other way round: WRONGTYPE):
--   member  "<token> <fencing token> <slot>[,<slot>...]", a lease of as many permits as slots
--   score   the server time in us at which the lease ends; what is over does not count
-- The key lives as long as the longest of them.
-- A record in the queue ends with two more words: how many permits, and the limit by which its
-- asker judges.  A hint (a grant with 0 for fence, time and ttl) tells a waiter that it holds
-- permits for its grant ttl: it asks, and learns which.

-- Of those that hold: the slots that are taken, how many, the leases by token, and when they end.
local taken, held, leases, ends, next_slot = {}, 0, {}, {}, 0

local function take_in(token, member, fence, slots, ends_at)
  local permits = 0
  for slot in string.gmatch(slots, '%d+') do
    taken[tonumber(slot)] = true
    permits = permits + 1
  end
  held = held + permits
  leases[token] = {member = member, fence = fence, slots = slots, permits = permits}
  ends[#ends + 1] = {at = ends_at, permits = permits, token = token}
end

-- Reads who holds permits, and drops who held them.  Returns an error if that is something else.
-- What is over goes by a write of its own only where there is any: behind one that needs no memory
-- Redis would not refuse what needs some.
local function read_permits(now)
  local found, over = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), {}
  for i = 1, #found, 2 do
    local token, fence, slots = string.match(found[i], '^(%S+) (%d+) ([%d,]+)$')
    if not token then
      return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' holds what is no permit')
    end
    local ends_at = tonumber(found[i + 1])
    if ends_at <= now then
      over[#over + 1] = found[i]
    else
      take_in(token, found[i], fence, slots, ends_at)
    end
  end
  for _, member in ipairs(over) do redis.call('ZREM', KEYS[1], member) end
end

-- Has the key live for ttl ms at least.
local function outlive(ttl)
  if redis.call('PTTL', KEYS[1]) < tonumber(ttl) then redis.call('PEXPIRE', KEYS[1], ttl) end
end

-- Gives permits to a token: the lowest free slots, until ttl ms from now.
local function give(now, fence, token, permits, ttl)
  local slots = {}
  while #slots < permits do
    if not taken[next_slot] then slots[#slots + 1] = next_slot end
    next_slot = next_slot + 1
  end
  local shown, slots_shown = string.format('%.0f', fence), table.concat(slots, ',')
  local member = token .. ' ' .. shown .. ' ' .. slots_shown
  local ends_at = now + ttl * 1000
  redis.call('ZADD', KEYS[1], string.format('%.0f', ends_at), member)
  outlive(ttl)
  take_in(token, member, shown, slots_shown, ends_at)
end

local function take_back(token)
  local lease = leases[token]
  redis.call('ZREM', KEYS[1], lease.member)
  for slot in string.gmatch(lease.slots, '%d+') do taken[tonumber(slot)] = nil end
  held = held - lease.permits
  leases[token] = nil
  next_slot = 0
end

local RECORD = '^([1-9]%d*) (%S+) (%S+) (%S+) ([1-9]%d*) ([1-9]%d*)$'

-- Gives permits to the first in the queue, one after the other, while they fit: each is judged by
-- its own limit, and one that does not fit has all behind it wait.  `mine` (tokens of whoever asks
-- now) need no message, and get their whole ttl.  Of others only what is heard counts; `asks`: also
-- of one that does not fit, for a dead one would have all wait until it did.
-- Returns the first that does not fit, as {permits, limit}; nil if nobody waits any more.
local function serve(now, mine, my_ttl, asks)
  while true do
    local record = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
    if not record then return nil end
    local ttl, inbox, secret, token, permits, limit = string.match(record, RECORD)
    permits, limit = tonumber(permits), tonumber(limit)
    if not token or permits > limit then
      redis.call('ZREM', KEYS[2], record) -- it is no record of ours, and goes
    elseif held + permits > limit then
      -- A recall of what nobody holds yet: whoever hears it does nothing.
      local asked = asks and not mine[token] and publish(inbox, 'recall ' .. WIRE .. ' ' .. token .. ' ' .. KEYS[1])
      if asked ~= 0 then return {permits = permits, limit = limit} end
      redis.call('ZREM', KEYS[2], record)
    else
      -- The one write that can fail (out of memory) comes first.
      local fence = issue_fence(now, 0)
      redis.call('ZREM', KEYS[2], record)
      give(now, fence, token, permits, mine[token] and my_ttl or ttl)
      if not mine[token] then
        local heard = publish(inbox, prove('0 0 0 ' .. token .. ' ' .. KEYS[1], secret))
        if type(heard) ~= 'number' or heard == 0 then take_back(token) end
      end
    end
  end
end

-- Serves the queue behind permits that were given up, which must go whatever befalls this.
local function serve_others(now)
  if redis.call('EXISTS', KEYS[2]) == 1 then pcall(serve, now, {}, 0, false) end
end
