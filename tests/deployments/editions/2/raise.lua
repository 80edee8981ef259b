-- Raises the fence counter on this node of a quorum to what the majority agreed on.
--
-- KEYS: see prelude.
-- ARGV: fencing token; tag
-- Returns:
--   {DONE, tag}   the counter is there, or above
-- Twice: nothing to do.
local broken = mend_fence()
if broken then return broken end

report_fence(tonumber(ARGV[1]))
return {DONE, tag}
