-- Takes a vote back on this node of a quorum, and hints to a waiter that it may ask.
--
-- KEYS: see prelude.
-- ARGV: token, "<waiter>.<round>", or only the waiter: whichever of its rounds;
--       highest fencing token used, 0 = the counter is up to date; fence retention in ms;
--       inbox channel to leave the queue for, '' = keep the place, and give no hint; tag
-- Returns:
--   {DONE, tag, 1 if somebody got a hint, else 0}
--   {GONE, tag, the same}   the key does not exist
--   {OTHER, tag, 0}         somebody else has the vote; untouched
-- Twice: GONE or OTHER; another waiter may get a hint.

-- The usual case: nothing to report, nobody waits.
if ARGV[2] == '0' and redis.call('EXISTS', KEYS[3]) == 0
  and redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  return {4, tonumber(ARGV[5]), 0} -- DONE
end

-- prelude

-- Tells the first waiter that still listens that it may ask: on a quorum nobody is
-- granted the lock by message.  Returns 1 if there is one, else 0.
local function hint_next()
  while true do
    local record = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
    if not record then return 0 end
    redis.call('ZREM', KEYS[3], record)
    local inbox, token = string.match(record, '^%d+ (%S+) (%S+)$')
    local heard = inbox and redis.pcall('PUBLISH', inbox, '0 0 0 ' .. token .. ' ' .. KEYS[1])
    if type(heard) == 'number' and heard > 0 then return 1 end
  end
end

local token, highest, retention = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local inbox, tag = ARGV[4], tonumber(ARGV[5])

local function waiter_of(any) return string.match(any, '^(.+)%.%d+$') or any end

local holder = redis.call('GET', KEYS[1])
if inbox ~= '' then redis.call('ZREM', KEYS[3], '0 ' .. inbox .. ' ' .. waiter_of(token)) end
if holder and holder ~= token and waiter_of(holder) ~= token then return {OTHER, tag, 0} end
-- pcall: without memory the report is lost, and the clock covers it; the lock must go.
if holder then
  pcall(report_fence, 0, highest, retention)
  redis.call('DEL', KEYS[1])
end
local hinted = 0
if inbox ~= '' then hinted = hint_next() end
return {holder and DONE or GONE, tag, hinted}
