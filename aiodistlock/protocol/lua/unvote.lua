-- Takes a vote back on this node of a quorum, and hints to a waiter that it may ask.
--
-- KEYS: see prelude.
-- ARGV: token, "<waiter>.<round>", or only the waiter: whichever of its rounds;
--       highest fencing token used, 0 = the counter is up to date; inbox, "<channel> <secret>",
--       to leave the queue for, '' = keep the place, and give no hint; tag
-- Returns:
--   {DONE, tag, 1 if somebody got a hint, else 0}
--   {GONE, tag, the same}   the key does not exist
--   {OTHER, tag, 0}         somebody else has the vote; untouched
-- Twice: GONE or OTHER; another waiter may get a hint.

-- The usual case: nothing to report, nobody waits, nothing void.
local number = tonumber(ARGV[4])
local others = number and ARGV[2] == '0' and redis.call('EXISTS', KEYS[2], KEYS[3])
-- Perhaps it is only noted what is void, and this is not.
if others == 1 and number > (tonumber(redis.pcall('GET', KEYS[3])) or number) then others = 0 end
local value = others == 0 and redis.call('GET', KEYS[1])
if value and string.sub(value, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' then
  redis.call('DEL', KEYS[1])
  return {4, number, 0} -- DONE
end

-- prelude

-- Tells the first waiter that still listens that it may ask: on a quorum nobody is
-- granted the lock by message.  Returns 1 if there is one, else 0.
local function hint_next()
  while true do
    local record = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
    if not record then return 0 end
    redis.call('ZREM', KEYS[2], record)
    local inbox, secret, token = string.match(record, '^%d+ (%S+) (%S+) (%S+)$')
    local hint = inbox and prove('0 0 0 ' .. token .. ' ' .. KEYS[1], secret)
    local heard = inbox and redis.pcall('PUBLISH', inbox, hint)
    if type(heard) == 'number' and heard > 0 then return 1 end
  end
end

local token, highest, inbox = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local function waiter_of(any) return string.match(any, '^(.+)%.%d+$') or any end

local broken = mend_fence()
if broken then return broken end

value = redis.call('GET', KEYS[1])
local holder = value and (string.match(value, '^(%S+) %d+$') or value)
if inbox ~= '' then leave_queue('0 ' .. inbox .. ' ' .. waiter_of(token)) end
if holder and holder ~= token and waiter_of(holder) ~= token then return {OTHER, tag, 0} end
-- pcall: without memory the report is lost, and the clock covers it; the lock must go.
if holder then
  pcall(report_fence, highest)
  redis.call('DEL', KEYS[1])
end
local hinted, ok = 0, true
if inbox ~= '' then ok, hinted = pcall(hint_next) end
return {holder and DONE or GONE, tag, ok and hinted or 0}
