-- Undoes an acquisition whose caller has gone: leaves the queue, gives up a grant.
--
-- KEYS: see prelude.
-- ARGV: token; inbox, "<channel> <secret>", '' = never queued; grant ttl in ms; tag
-- Returns:
--   {DONE, tag, 1 if the lock was ours and is given up, else 0}
-- Twice: nothing to do.
local token, inbox, grant_ttl = ARGV[1], ARGV[2], ARGV[3]

local broken = mend_fence()
if broken then return broken end

if inbox ~= '' then leave_queue(grant_ttl .. ' ' .. inbox .. ' ' .. token) end
local holder = redis.call('GET', KEYS[1])
if is_group(holder) then
  local now, readers = now_us(), group()
  if readers.leave(now, holder, token) then return {DONE, tag, 1} end
  readers.settle(now, holder) -- whoever waited behind us may come in
  return {DONE, tag, 0}
end
if not fence_of(holder, token) then return {DONE, tag, 0} end
give_up(now_us(), 0)
return {DONE, tag, 1}
