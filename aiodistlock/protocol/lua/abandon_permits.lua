-- Undoes acquisitions of permits whose callers have gone: leaves the queue, gives up what was had.
--
-- KEYS: see prelude and permits.
-- ARGV: what our tokens begin with; the wants, as in acquire_permits; our limit; inbox, "<channel>
--       <secret>"; grant ttl in ms; tag
-- Returns:
--   {DONE, tag, how many leases were ours and are given up}
-- Twice: nothing to do.
local prefix, limit, inbox, grant_ttl = ARGV[1], ARGV[3], ARGV[4], ARGV[5]

local broken = mend_fence()
if broken then return broken end

local now = now_us()
broken = read_permits(now)
if broken then return broken end

local given_up = 0
for count, permits in string.gmatch(ARGV[2], '(%d+)[*?](%d+)') do
  local token = prefix .. count
  leave_queue(grant_ttl .. ' ' .. inbox .. ' ' .. token .. ' ' .. permits .. ' ' .. limit)
  if leases[token] then
    take_back(token)
    given_up = given_up + 1
  end
end
-- Who left may have stood before those who fit, too.
serve_others(now)
return {DONE, tag, given_up}
