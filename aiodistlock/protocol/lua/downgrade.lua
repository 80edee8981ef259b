-- Makes the writer a reader, and lets in the readers that are first in the queue; or takes back that
-- a reader wants to be the writer.
--
-- KEYS: see prelude.
-- ARGV: token of the writer; token of the reader to be; ttl in ms; highest fencing token used, 0 =
--       that with which it began; inbox, "<channel> <secret>", '' = it is in no queue; grant ttl in
--       ms; tag
-- Returns:
--   {DONE, tag, version}   it reads what it has written
--   {GONE, tag}    the key does not exist
--   {OTHER, tag}   somebody else holds it; untouched
-- Twice: the same version.  The lease lasts for the ttl, or for as long as it does if that is more.
local token, reader, ttl = ARGV[1], ARGV[2], ARGV[3]
local highest, inbox, grant_ttl = tonumber(ARGV[4]), ARGV[5], ARGV[6]

local broken = mend_fence()
if broken then return broken end

local readers = group()
local now = now_us()
if inbox ~= '' then leave_queue(grant_ttl .. ' ' .. inbox .. ' ' .. token) end

local holder = redis.call('GET', KEYS[1])
if not holder then return {GONE, tag} end
local fence = fence_of(holder, token)
if fence then
  local version = math.max(highest, fence)
  readers.remember(version)
  readers.read_on(now, reader, version, ttl)
  readers.settle(now, redis.call('GET', KEYS[1]))
  return {DONE, tag, version}
end
if not is_group(holder) then return {OTHER, tag} end
if not readers.has(now, reader) then
  readers.settle(now, holder) -- who stood behind its place in the queue
  return {OTHER, tag}
end
readers.renew(now, holder, reader, math.max(tonumber(ttl), readers.rest(now, reader)))
readers.settle(now, holder)
return {DONE, tag, fence_in(string.match(holder, '%d+$'))}
