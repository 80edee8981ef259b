-- Trusts a node of a brand-new quorum: there is no lease that it can have forgotten.
--
-- KEYS: see prelude; KEYS[4] the node's marker
-- ARGV: the marker as it was found; tag
-- Returns:
--   {DONE, tag, 1 if the node is trusted now, 0 if it came up anew since}
-- Twice: nothing to do.
local found = ARGV[1]

local marker = redis.call('GET', KEYS[4])
if marker == found then redis.call('SET', KEYS[4], '0') end
return {DONE, tag, (marker == found or marker == '0') and 1 or 0}
