-- Renews a lease whose slot is on its way from one node of a cluster to another.
--
-- Where not all keys of a request are at one node it is refused (TRYAGAIN), and one that is
-- nowhere counts as missing, as the queue of a lock that nobody waits for.  So this declares
-- the key only: of that Redis makes sure that it is where the script runs.  The companions
-- may be elsewhere, and must not be made: they are on their way here.  So what is void is
-- looked up where that can be read here, and noted by the requests that follow.
--
-- Where it cannot, an older connection's word may come behind a newer one's.  So the end is
-- only ever put off: nothing that comes late shortens what was prolonged, and a lease that was
-- to end sooner than it did is let go of here when the slot has arrived, or by its release.
--
-- KEYS[1]  the key
-- ARGV: the next two keys of the prelude; value; ttl in ms; tag, which declares nothing void
-- Returns: as renew.lua; no waiters where the queue is elsewhere
KEYS[2], KEYS[3] = ARGV[1], ARGV[2]

-- prelude

local value, ttl = ARGV[3], ARGV[4]

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
if holder ~= value then
  local reader = string.match(value, '^(.+%l) %d+$')
  if not reader then return {OTHER, tag} end
  local here, renewed = pcall(group().renew, now_us(), holder, reader, ttl)
  if not here then return redis.error_reply('TRYAGAIN the readers are at another node') end
  return renewed and {DONE, tag, waiters()} or {OTHER, tag}
end
if redis.call('PTTL', KEYS[1]) < tonumber(ttl) then redis.call('PEXPIRE', KEYS[1], ttl) end
return {DONE, tag, waiters()}
