-- Payloads, for test files: bytes, DNS queries and RADIUS requests.

local host = ...
local char, floor = string.char, math.floor

local function short(number)
  return char(floor(number / 256) % 256, number % 256)
end

local function long(number)
  return short(floor(number / 65536)) .. short(number)
end

-- The bytes that hexadecimal digits say; blanks are for people.
function bytes(text)
  local digits = type(text) == "string" and string.gsub(text, "%s+", "")
  if not digits or #digits % 2 ~= 0 or string.find(digits, "%X") then
    host.fail('bytes takes pairs of hexadecimal digits, such as "16 03 01"')
  end
  return (string.gsub(digits, "%x%x", function(pair)
    return char(tonumber(pair, 16))
  end))
end

dns = {}

-- RFC 1035 §3.2.2 and RFC 3596, 2782, 9460.
local TYPES = {
  A = 1, NS = 2, CNAME = 5, SOA = 6, PTR = 12, MX = 15, TXT = 16, AAAA = 28, SRV = 33, HTTPS = 65,
  ANY = 255,
}

-- A query as a resolver's client sends it: one question, recursion desired (RFC 1035 §4.1).
function dns.query(name, kind)
  local number = TYPES[kind or "A"] or tonumber(kind)
  if type(name) ~= "string" or not number then
    host.fail('dns.query takes a name and a type or none: dns.query("www.example.com", "AAAA")')
  end
  local labels = {}
  for label in string.gmatch(name, "[^.]+") do
    if #label > 63 then
      host.fail("dns.query: a label has at most 63 bytes: " .. label)
    end
    labels[#labels + 1] = char(#label) .. label
  end
  local header = short(4660) .. short(256) .. short(1) .. short(0) .. short(0) .. short(0)
  return header .. table.concat(labels) .. "\0" .. short(number) .. short(1)
end

radius = {}

local function attribute(number, value)
  if type(value) == "number" then
    value = long(value)
  end
  if type(value) ~= "string" or #value > 253 then
    local message = "radius.request: attribute %d is a number, or text of at most 253 bytes"
    host.fail(string.format(message, number))
  end
  return char(number, #value + 2) .. value
end

-- A packet of these attributes by their numbers, such as { [1] = "alice", [31] = "02-00-5e-…" };
-- an Access-Request, or what `code` says (RFC 2865 §3).
function radius.request(attributes)
  if type(attributes) ~= "table" then
    host.fail("radius.request takes attributes by their numbers, and `code`")
  end
  local numbers, parts = {}, {}
  for key in pairs(attributes) do
    if type(key) == "number" and key >= 1 and key <= 255 then
      numbers[#numbers + 1] = key
    elseif key ~= "code" then
      host.fail("radius.request takes attributes by their numbers, and `code`")
    end
  end
  table.sort(numbers)
  for _, number in ipairs(numbers) do
    parts[#parts + 1] = attribute(number, attributes[number])
  end
  local body = table.concat(parts)
  return char(attributes.code or 1, 1) .. short(20 + #body) .. string.rep("\0", 16) .. body
end
