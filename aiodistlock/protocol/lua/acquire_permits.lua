-- Takes permits of a semaphore for several local waiters, as far as they are free and nobody is
-- before them; the others join the queue if asked.
--
-- KEYS: see prelude and permits.
-- ARGV: what our tokens begin with; wants in order, "<count><how><permits> ...", each for a lease of
--       its own: the count ends its token, how is '*', to queue, or '?', only to try; our limit; ttl
--       in ms; inbox, "<channel> <secret>", '' = do not queue; grant ttl in ms (for the queue);
--       queue ttl in ms; tag
-- Returns:
--   {GRANTED, tag, server time in us, leases}   all of them
--   {QUEUED, tag, server time in us, leases, remaining ms until the first in the queue may fit,
--    token of who holds until then, position of our first}
--   {HELD, tag, the same but the position}   some are not free, and we do not wait
--       leases: of what we have, "<count> <fence> <slots>"; server time 0: see `began`
-- Twice: the same leases, fences and slots, the ttl anew; in the queue the same places.
-- Whoever asks drives the queue: what is over goes to the first in it, and a dead one out of it.
local prefix, limit, ttl, inbox = ARGV[1], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local grant_ttl, queue_ttl = ARGV[6], ARGV[7]

local broken = mend_fence()
if broken then return broken end

local now = now_us()
broken = read_permits(now)
if broken then return broken end

local wants, mine = {}, {}
for count, how, permits in string.gmatch(ARGV[2], '(%d+)([*?])(%d+)') do
  local want = {count = count, token = prefix .. count, queues = how == '*', permits = tonumber(permits)}
  wants[#wants + 1] = want
  mine[want.token] = true
end

local first = serve(now, mine, ttl, true)
local blocked, ours, got, refused = first ~= nil, nil, {}, false
for _, want in ipairs(wants) do
  local lease = leases[want.token]
  if not lease and not blocked and held + want.permits <= limit then
    give(now, issue_fence(now, 0), want.token, want.permits, ttl)
    lease = leases[want.token]
  elseif lease then
    -- First: after a write that needs no memory Redis lets a script write without any.
    redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), tonumber(ttl)))
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + ttl * 1000), lease.member)
  end
  if lease then
    got[#got + 1] = want.count .. ' ' .. lease.fence .. ' ' .. lease.slots
  else
    refused = true
    if want.queues then
      blocked = true
      if inbox ~= '' then
        local said = want.token .. ' ' .. want.permits .. ' ' .. limit
        local position = join_queue(now, said, inbox, grant_ttl, queue_ttl)
        ours = ours or position
      end
    end
    first = first or {permits = want.permits, limit = limit}
  end
end
if not refused then return {GRANTED, tag, began(now), got} end

-- When so many leases have ended, if none is renewed, that the first fits.
table.sort(ends, function(a, b) return a.at < b.at end)
local missing, last = held + first.permits - first.limit, nil
for _, each in ipairs(ends) do
  if missing <= 0 then break end
  if leases[each.token] then
    missing = missing - each.permits
    last = each
  end
end
local remaining = last and math.ceil((last.at - now) / 1000) or 0
local code = ours and QUEUED or HELD
return {code, tag, began(now), got, remaining, last and told(last.token) or '', ours}
