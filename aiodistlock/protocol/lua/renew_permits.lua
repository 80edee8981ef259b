-- Sets the remaining time of our lease of permits to ttl.
--
-- KEYS: see prelude and permits.
-- ARGV: our lease, "<token> <fencing token> <slots>"; ttl in ms; tag
-- Returns:
--   {DONE, tag, number of waiters}
--   {GONE, tag}    it is over; untouched
-- Twice: harmless, the ttl is absolute.
local lease, ttl = ARGV[1], ARGV[2]

local now = now_us()
local ends_at = redis.call('ZSCORE', KEYS[1], lease)
if not ends_at or tonumber(ends_at) <= now then return {GONE, tag} end
-- First: after a write that needs no memory Redis lets a script write without any.
redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), tonumber(ttl)))
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ttl * 1000), lease)
return {DONE, tag, waiters()}
