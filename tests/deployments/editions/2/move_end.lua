-- Moves the end of our lease by some time, or sets it anew; tells when it ends.
--
-- KEYS: see prelude.
-- ARGV: value; end to move it from, by the server's clock in ms, 0 = from now, whenever
--       it ends; ms to move it by, with 0 and 0 = only tell; tag
-- Returns:
--   {DONE, tag, end}      moved
--   {GRANTED, tag, end}   was there before us, moved by a former run or another request
--   {HELD, tag, end}      ours, but it ends then (-1: never): not moved
--   {GONE, tag}           the key does not exist
--   {OTHER, tag}          somebody else holds it; untouched
-- Twice: GRANTED; moves of up to 2 ms are not told apart, and done twice.  From now: moved
--   again, which is harmless.
local value, from, by = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

-- TIME and PTTL round, each for itself.
local function same(one, other) return math.abs(one - other) <= 2 end

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if holder ~= value then return {OTHER, tag} end
local remaining = redis.call('PTTL', KEYS[1])
if remaining < 0 then return {HELD, tag, -1} end
local now = math.floor(now_us() / 1000)
local at = now + remaining
if from == 0 and by ~= 0 then at, from = now, now end
local wanted = from + by
if not same(at, from) then return {same(at, wanted) and GRANTED or HELD, tag, at} end
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', wanted))
return {DONE, tag, wanted}
