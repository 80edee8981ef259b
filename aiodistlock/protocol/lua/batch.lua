-- Runs what leaves in one write as one call: each item as its own script would, in order.
--
-- KEYS: of each item the first two of prelude; then what is void of the sender, and the fence
--       counter
-- ARGV: of each item the letter of its operation, the fence counter's key again if its script has
--       that, and its arguments; then the tag of the first, whose successors are the others'
-- Returns:
--   {BATCH, tag, server time in us, what the script of each item returns, or its error}
--   For the usual answers, which as tables were a sixth of the time, a number stands: a fencing
--   token for {GRANTED, its tag, that, the time above}, 0 for {DONE, its tag, 0}.
-- Twice: as each of the items twice.
-- No two items are of one name, so none finds what another one left, and which comes first
-- makes no difference.  An error harms the item that it befalls: pcall.  The usual ways of the
-- scripts stand here; for the others their functions are made (see prelude).

-- void

-- takes

local first, count = tag, (#KEYS - 2) / 2
local answers = {BATCH, first, 0}

-- Where the item at work has its keys and arguments: KEYS[k + 1], ARGV[a + 1].
local k, a = 0, 0

-- What needs memory comes first: behind a write that needs none Redis would not ask for it.
-- And most often nothing is there that could be in the way of any item: asked in one go.
-- ROOM makes a table with room for all items: one that grows is made anew again and again.
local order, later, letters, starts, names = ROOM, ROOM, ROOM, ROOM, ROOM
local acquires = 0
for item = 1, count do
  local letter = ARGV[a + 1]
  letters[item], starts[item] = letter, a + 1 + SKIPS[letter]
  local needs = letter == 'a' or letter == 'p'
  local list = needs and order or later
  list[#list + 1] = item
  names[#names + 1] = KEYS[2 * item]
  if letter == 'a' then
    names[#names + 1] = KEYS[2 * item - 1]
    acquires = acquires + 1
  end
  a = a + 1 + TAKES[letter]
end
for _, item in ipairs(later) do order[#order + 1] = item end
local clear = redis.pcall('EXISTS', (unpack or table.unpack)(names)) == 0

-- The server's time, and the next of the fencing tokens that are issued to all that acquire at
-- once; 0: each its own way, for the counter is broken, or the clock behind it.
local now, next_fence

local function issue_for_all()
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
  answers[3] = now
  local last = redis.call('SET', KEYS[#KEYS], string.format('%.0f', now + acquires - 1), 'GET')
  local was = tonumber(last or now - 1) or 0
  if not (was > 1e15 and was <= now + 1000) then -- see acquire.lua; of nan neither is true
    next_fence = 0
    redis.call('SET', KEYS[#KEYS], last)
    return
  end
  if was >= now then redis.call('SET', KEYS[#KEYS], string.format('%.0f', was + acquires)) end
  next_fence = was < now and now or was + 1
end

local function nobody_waits() return clear or redis.call('EXISTS', KEYS[k + 2]) == 0 end

local usual = {}

usual.a = function()
  if not clear and redis.call('EXISTS', KEYS[k + 1], KEYS[k + 2]) ~= 0 then return nil end
  if not next_fence then issue_for_all() end
  if next_fence == 0 then return nil end
  local fence = next_fence
  next_fence = fence + 1
  -- ' %.0f', which takes five times as long, for what has 16 digits.
  local shown = string.format(' %d%07d', math.floor(fence / 1e7), fence % 1e7)
  redis.call('SET', KEYS[k + 1], ARGV[a + 1] .. shown, 'PX', ARGV[a + 2])
  return fence
end

usual.r = function()
  if ARGV[a + 2] ~= '0' or not nobody_waits() then return nil end
  if redis.call('GET', KEYS[k + 1]) ~= ARGV[a + 1] then return nil end
  redis.call('DEL', KEYS[k + 1])
  return 0
end

usual.n = function()
  if not nobody_waits() or redis.call('GET', KEYS[k + 1]) ~= ARGV[a + 1] then return nil end
  redis.call('PEXPIRE', KEYS[k + 1], ARGV[a + 2])
  return 0
end

local function make()
  local whole = {}
-- operations
  return whole
end

local done, whole = 0, nil
local function run()
  while done < count do
    done = done + 1
    local item = order[done]
    local letter = letters[item]
    k, a, tag = 2 * (item - 1), starts[item], first + item - 1
    local answer = usual[letter] and usual[letter]()
    if not answer then
      whole = whole or make()
      answer = whole[letter]()
    end
    answers[item + 3] = answer
  end
end

while done < count do
  local ok, problem = pcall(run)
  if not ok then
    -- A text that begins with the server's word; up to Redis 6.2 the place in the script and a
    -- hyphen are before that.
    local said = tostring(problem)
    said = string.match(said, '^%u%u+ .*') or string.match(said, '%-(%u%u+ .*)') or 'ERR ' .. said
    answers[order[done] + 3] = {err = said}
  end
end
return answers
