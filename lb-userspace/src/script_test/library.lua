-- What test files have beside Lua's own: tests, balancers and expectations. Runs once in each
-- state, before the test file.

local host = ...
local type, select, pairs, tostring, error = type, select, pairs, tostring, error
local find, match, gsub, format = string.find, string.match, string.gsub, string.format
local raw_pcall, raw_xpcall = pcall, xpcall

-- Lua 5.1 keeps numbers and text apart; so do expectations.
local function equal(a, b)
  if a == b then
    return true
  elseif type(a) ~= "table" or type(b) ~= "table" then
    return false
  end
  for key, value in pairs(a) do
    if not equal(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

local function quoted(text)
  return '"' .. gsub(host.printable(text), '"', '\\"') .. '"'
end

local DEEPEST, LONGEST = 4, 20 -- of tables, as they are shown

local show

local function show_key(key)
  if type(key) == "string" and match(key, "^[%a_][%w_]*$") then
    return key
  end
  return "[" .. show(key) .. "]"
end

local function show_table(value, depth)
  local entries, keys = {}, {}
  for key in pairs(value) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then
      return a < b
    end
    return type(a) < type(b)
  end)
  for index, key in ipairs(keys) do
    if index > LONGEST then
      entries[index] = "…"
      break
    end
    local shown = show(value[key], depth + 1)
    entries[index] = key == index and shown or show_key(key) .. " = " .. shown
  end
  return #entries == 0 and "{}" or "{ " .. table.concat(entries, ", ") .. " }"
end

function show(value, depth)
  depth = depth or 0
  if type(value) == "string" then
    return quoted(value)
  elseif type(value) == "table" then
    return depth < DEEPEST and show_table(value, depth) or "{…}"
  end
  return tostring(value)
end

-- Text in text, or a value in a list.
local function contains(got, part)
  if type(got) == "string" and type(part) == "string" then
    return find(got, part, 1, true) ~= nil
  elseif type(got) ~= "table" then
    return false
  end
  for _, value in pairs(got) do
    if equal(value, part) then
      return true
    end
  end
  return false
end

-- Each says whether it holds, how many arguments it takes, and what it wants in words.
local matchers = {
  is = { 1, equal, "" },
  is_not = {
    1,
    function(got, unwanted)
      return not equal(got, unwanted)
    end,
    "anything but ",
  },
  is_nil = {
    0,
    function(got)
      return got == nil
    end,
    "nil",
  },
  is_one_of = {
    1,
    function(got, list)
      return type(list) == "table" and contains(list, got)
    end,
    "one of ",
  },
  contains = { 1, contains, "something that contains " },
  matches = {
    1,
    function(got, pattern)
      return type(got) == "string" and match(got, pattern) ~= nil
    end,
    "text that matches ",
  },
}

local function check(number, got, name, count, ...)
  local arguments, holds, wanted = unpack(matchers[name])
  host.asked(number)
  if count ~= arguments then
    local plural = arguments == 1 and "" or "s"
    host.fail(format("%s takes %d argument%s, not %d", name, arguments, plural, count))
  end
  if not holds(got, ...) then
    local shown = arguments == 1 and show((...)) or ""
    host.disappoint(number, "expected  " .. wanted .. shown .. "\n     got  " .. show(got))
  end
end

-- Written with a dot; a colon, which passes the expectation itself, is as good.
local function bind(expectation, number, got, name)
  return function(...)
    if rawequal((...), expectation) then
      return check(number, got, name, select("#", ...) - 1, select(2, ...))
    end
    return check(number, got, name, select("#", ...), ...)
  end
end

local function unknown(_, name)
  local names = {}
  for known in pairs(matchers) do
    names[#names + 1] = known
  end
  table.sort(names)
  local all = table.concat(names, ", ")
  host.fail(format("nothing can be expected by %q; there are %s", tostring(name), all))
end

function expect(...)
  if select("#", ...) ~= 1 then
    host.fail("expect takes 1 argument, not " .. select("#", ...))
  end
  local got, expectation, number = (...), {}, host.expect()
  for name in pairs(matchers) do
    expectation[name] = bind(expectation, number, got, name)
  end
  return setmetatable(expectation, { __index = unknown })
end

-- Errors of ours come as objects; who catches one wants its text.
local function settled(ok, ...)
  local caught = ...
  if not ok and type(caught) == "userdata" then
    return false, tostring(caught)
  end
  return ok, ...
end

function pcall(...)
  return settled(raw_pcall(...))
end

function xpcall(...)
  return settled(raw_xpcall(...))
end

function print(...)
  local parts = {}
  for index = 1, select("#", ...) do
    parts[index] = tostring((select(index, ...)))
  end
  host.print(table.concat(parts, "\t"))
end

test, balancer, file, dofile = host.test, host.balancer, host.file, host.dofile
os = { clock = os.clock, date = os.date, difftime = os.difftime, time = os.time }
load, loadfile, loadstring, newproxy = nil, nil, nil, nil
math.random, math.randomseed = nil, nil
