-- Runs once in each Lua state, with Lua's own globals, before there is any script. Returns the
-- metatable of each run's globals, and the function that runs parsers of ours.

local api = ...

local byte, sub, find = string.byte, string.sub, api.string.find
local scan, charge, traverse = api.host.scan, api.host.charge, api.host.traverse
local settle, stopped = api.host.settle, api.host.stopped
local error, select, type, tostring, tonumber = error, select, type, tostring, tonumber
local raw_pcall, raw_xpcall, abs = pcall, xpcall, math.abs

-- A library that nothing can change: `rawset`, `table.insert` and `setmetatable` take tables only.
local function seal(name, library)
  local proxy = newproxy(true)
  local meta = getmetatable(proxy)
  meta.__index = library
  meta.__newindex = function()
    error("'" .. name .. "' cannot be changed", 2)
  end
  meta.__metatable = false
  return proxy
end

-- The named fields of a library of Lua's, and over them ours.
local function pick(library, names, ours)
  local picked = {}
  for _, name in ipairs(names) do
    picked[name] = library[name]
  end
  for name, func in pairs(ours or {}) do
    picked[name] = func
  end
  return picked
end

local function settled(ok, ...)
  if ok then
    return true, ...
  end
  return false, settle((...))
end

local function pcall(...)
  return settled(raw_pcall(...))
end

local function xpcall(func, handler)
  return settled(raw_xpcall(func, function(caught)
    if stopped() then
      return caught
    end
    return handler(settle(caught))
  end))
end

-- An argument that may be a string or a number, as a string.
local function text(name, index, value)
  if type(value) == "number" then
    return tostring(value)
  elseif type(value) ~= "string" then
    local message = "bad argument #%d to '%s' (string expected, got %s)"
    error(message:format(index, name, type(value)), 3)
  end
  return value
end

local strings = pick(string, { "byte", "char", "format", "len", "sub" }, api.string)

function strings.gmatch(source, pattern)
  source, pattern = text("gmatch", 1, source), text("gmatch", 2, pattern)
  if byte(pattern) == byte("^") then
    pattern = "%" .. pattern -- no anchor here: it would never match twice
  end
  local position = 1
  local function step(from, to, ...)
    if not from then
      position = #source + 2
      return nil
    end
    position = to >= from and to + 1 or from + 1
    return ...
  end
  return function()
    return step(scan(source, pattern, position))
  end
end
strings.gfind = strings.gmatch

-- The replacement text of `gsub`, with %0 to %9 filled in.
local function expand(template, whole, ...)
  local parts, count, position = {}, 0, 1
  while true do
    local at = find(template, "%", position, true)
    if not at then
      break
    end
    local letter = sub(template, at + 1, at + 1)
    local index = tonumber(letter)
    local value = letter
    if index == 0 then
      value = whole
    elseif index then
      value = select(index, ...)
      if index > select("#", ...) then
        error("invalid capture index", 4)
      end
    end
    parts[count + 1], parts[count + 2] = sub(template, position, at - 1), value
    count, position = count + 2, at + 2
  end
  parts[count + 1] = sub(template, position)
  return table.concat(parts)
end

local function replacement(source, kind, with, from, to, ...)
  if not from then
    return nil
  end
  local value
  if kind == "string" then
    value = expand(with, sub(source, from, to), ...)
  elseif kind == "table" then
    value = with[(...)]
  else
    value = with(...)
  end
  if not value then
    value = sub(source, from, to)
  elseif type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 3)
  end
  return value, from, to
end

function strings.gsub(source, pattern, with, most)
  source, pattern = text("gsub", 1, source), text("gsub", 2, pattern)
  local kind = type(with)
  if kind == "number" then
    with, kind = tostring(with), "string"
  elseif kind ~= "string" and kind ~= "table" and kind ~= "function" then
    error("bad argument #3 to 'gsub' (string/function/table expected, got " .. kind .. ")", 2)
  end
  most = most == nil and #source + 1 or tonumber(most)
  if not most then
    error("bad argument #4 to 'gsub' (number expected)", 2)
  end
  local anchored = byte(pattern) == byte("^")
  local parts, length, position, count = {}, 0, 1, 0
  while count < most do
    local value, from, to = replacement(source, kind, with, scan(source, pattern, position))
    if not value then
      break
    end
    count = count + 1
    parts[length + 1], parts[length + 2] = sub(source, position, from - 1), value
    length = length + 2
    if to >= from then
      position = to + 1
    else -- matched nothing: the next character stays, and the search goes on behind it
      length = length + 1
      parts[length] = sub(source, from, from)
      position = from + 1
    end
    if anchored or position > #source + 1 then
      break
    end
  end
  parts[length + 1] = sub(source, position)
  return table.concat(parts), count
end

-- What Lua's own functions do in one call counts as what it costs.
local function size(list)
  return type(list) == "table" and #list or 0
end

local tables = pick(table, { "getn" })

function tables.foreach(list, func)
  traverse()
  charge(size(list))
  return table.foreach(list, func)
end

function tables.foreachi(list, func)
  charge(size(list))
  return table.foreachi(list, func)
end

function tables.concat(list, ...)
  charge(size(list))
  return table.concat(list, ...)
end

function tables.insert(list, ...)
  if select("#", ...) > 1 then
    local position = tonumber((...)) or 0
    charge((size(list) + abs(position)) / 4) -- negative ones move what is not there
  end
  return table.insert(list, ...)
end

function tables.remove(list, ...)
  if select("#", ...) > 0 then
    charge(size(list) / 4)
  end
  return table.remove(list, ...)
end

-- Compares in Lua, so that each comparison counts: some lists take a square of them.
local function ascending(a, b)
  return a < b
end

function tables.sort(list, less)
  return table.sort(list, less == nil and ascending or less)
end

function tables.maxn(list)
  traverse()
  local most = 0
  for key in pairs(list) do
    if type(key) == "number" and key > most then
      most = key
    end
  end
  return most
end

local maths = pick(math, {
  "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cosh", "deg", "exp", "floor", "fmod",
  "frexp", "huge", "ldexp", "log", "log10", "max", "min", "mod", "modf", "pi", "pow", "rad", "sin",
  "sinh", "sqrt", "tan", "tanh",
}, api.math)

-- The file of a user's protocol parser runs in here: no function of the host may call Lua.
local function require(...)
  local module, chunk = api.require(...)
  if chunk then
    module = chunk(...)
    api.host.keep(..., module)
  end
  return module
end

local base = pick(_G, {
  "_VERSION", "assert", "error", "getmetatable", "ipairs", "rawequal", "rawget",
  "rawset", "select", "setmetatable", "tonumber", "tostring", "type",
})
-- A table that was large is gone through to its end even if nothing is left in it.
function base.next(list, key)
  if key == nil then
    traverse()
  end
  return next(list, key)
end

function base.pairs(list)
  traverse()
  return pairs(list)
end

function base.unpack(list, from, to)
  charge(((tonumber(to) or size(list)) - (tonumber(from) or 1)) / 8)
  return unpack(list, from, to)
end

base.pcall, base.xpcall, base.require = pcall, xpcall, require
base.string, base.table = seal("string", strings), seal("table", tables)
base.math, base.os = seal("math", maths), seal("os", api.os)

local avi = {}
for name, library in pairs(api.avi) do
  avi[name] = seal("avi." .. name, library)
end
base.avi = seal("avi", avi)

local strings_meta = getmetatable("")
strings_meta.__index = base.string
strings_meta.__metatable = false

-- Runs the chunk of a protocol parser of ours. What is closed to it is an error also in its
-- functions: they have no globals in which anything could stay from one run to the next.
local function build_in(name, chunk)
  local closed = {
    __index = base,
    __newindex = function(_, key)
      error("parser assigns global '" .. tostring(key) .. "'", 2)
    end,
  }
  return seal(name, setfenv(chunk, setmetatable({}, closed))(name))
end

return { __index = base, __metatable = false }, build_in
