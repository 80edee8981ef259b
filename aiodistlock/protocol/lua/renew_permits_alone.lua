-- Renews a lease of permits whose slot is on its way from one node of a cluster to another.
--
-- See renew_alone.lua: the end is only ever put off.
--
-- KEYS[1]  the key
-- ARGV: the next two keys of the prelude; our lease; ttl in ms; tag, which declares nothing void
-- Returns: as renew_permits.lua; no waiters where the queue is elsewhere
KEYS[2], KEYS[3] = ARGV[1], ARGV[2]

-- prelude

local lease, ttl = ARGV[3], tonumber(ARGV[4])

local now = now_us()
local ends_at = tonumber(redis.call('ZSCORE', KEYS[1], lease) or 0)
if ends_at <= now then return {GONE, tag} end
if ends_at < now + ttl * 1000 then
  -- First: after a write that needs no memory Redis lets a script write without any.
  redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), ttl))
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ttl * 1000), lease)
end
return {DONE, tag, waiters()}
