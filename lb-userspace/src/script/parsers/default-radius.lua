-- Default-Radius: RADIUS packets (RFC 2865) and the values of their attributes.
--
-- A packet that is malformed gives nil and never an error.

local byte, sub, format, concat = string.byte, string.sub, string.format, table.concat

local HEADER, MOST = 20, 4096 -- RFC 2865 §3

-- What a value is, by the attribute's number; any other is text or a string of bytes.
local KINDS = {}

local function kind(name, numbers)
  for _, number in ipairs(numbers) do
    KINDS[number] = name
  end
end

-- RFC 2865 §5: NAS-Port, Service-Type, Framed-Protocol, Framed-Routing, Framed-MTU,
-- Framed-Compression, Login-Service, Login-TCP-Port, Framed-IPX-Network, Session-Timeout,
-- Idle-Timeout, Termination-Action, Framed-AppleTalk-Link, Framed-AppleTalk-Network,
-- NAS-Port-Type, Port-Limit.
kind("integer", { 5, 6, 7, 10, 12, 13, 15, 16, 23, 27, 28, 29, 37, 38, 61, 62 })
-- RFC 2866 §5: Acct-Status-Type, Acct-Delay-Time, Acct-Input-Octets, Acct-Output-Octets,
-- Acct-Authentic, Acct-Session-Time, Acct-Input-Packets, Acct-Output-Packets,
-- Acct-Terminate-Cause, Acct-Link-Count.
kind("integer", { 40, 41, 42, 43, 45, 46, 47, 48, 49, 51 })
-- RFC 2869 §5: Acct-Input-Gigawords, Acct-Output-Gigawords, Event-Timestamp, ARAP-Zone-Access,
-- ARAP-Security, Password-Retry, Prompt, Acct-Interim-Interval.
kind("integer", { 52, 53, 55, 72, 73, 75, 76, 85 })
-- RFC 2865 §5: NAS-IP-Address, Framed-IP-Address, Framed-IP-Netmask, Login-IP-Host.
kind("ipv4", { 4, 8, 9, 14 })
-- RFC 3162 §2: NAS-IPv6-Address, Login-IPv6-Host; Framed-IPv6-Prefix.
kind("ipv6", { 95, 98 })
kind("ipv6_prefix", { 97 })

-- Eight groups as RFC 5952 §4 writes them: the longest run of zeros, the first of equals, is "::".
local function ipv6_text(groups)
  local start, length = 0, 1 -- a single zero stays
  local run = 0
  for index = 1, 8 do
    run = groups[index] == 0 and run + 1 or 0
    if run > length then
      start, length = index - run + 1, run
    end
  end
  local function text(from, to)
    local parts = {}
    for index = from, to do
      parts[#parts + 1] = format("%x", groups[index])
    end
    return concat(parts, ":")
  end
  if start == 0 then
    return text(1, 8)
  end
  return text(1, start - 1) .. "::" .. text(start + length, 8)
end

-- 16 bytes, of which those that are missing at the end are zero.
local function ipv6(value)
  local groups = {}
  for index = 1, 8 do
    local high, low = byte(value, index * 2 - 1, index * 2)
    groups[index] = (high or 0) * 256 + (low or 0)
  end
  return ipv6_text(groups)
end

-- From a value's bytes to what a script gets; nil if they are not of this kind.
local READERS = {}

function READERS.integer(value)
  if #value ~= 4 then
    return nil
  end
  local a, b, c, d = byte(value, 1, 4)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

function READERS.ipv4(value)
  return #value == 4 and format("%d.%d.%d.%d", byte(value, 1, 4)) or nil
end

function READERS.ipv6(value)
  return #value == 16 and ipv6(value) or nil
end

-- A reserved byte, the prefix's length, and as many bytes of it as are not zero (RFC 3162 §2.3).
function READERS.ipv6_prefix(value)
  local length = byte(value, 2)
  if not length or length > 128 or #value > 18 then
    return nil
  end
  return ipv6(sub(value, 3)) .. "/" .. length
end

function READERS.bytes(value)
  return value
end

local radius = {}

-- A table of the attributes by their numbers as strings: "1" User-Name, "4" NAS-IP-Address …
-- Integers are numbers, addresses text, all else strings of bytes. Of an attribute that comes more
-- than once this is the first; all["26"] is a list of them all. `code`, `identifier` and
-- `authenticator` are the packet's own. Nil for a packet that is malformed (RFC 2865 §3 and §5).
function radius.parsepacket(payload)
  if type(payload) ~= "string" then
    error("Default-Radius.parsepacket: a string expected, got " .. type(payload), 2)
  end
  local code, identifier, high, low = byte(payload, 1, 4)
  local length = low and high * 256 + low
  -- Bytes beyond the length are padding; fewer of them is a packet that was cut.
  if not length or length < HEADER or length > MOST or length > #payload then
    return nil
  end
  local all = {}
  local packet = {
    code = code,
    identifier = identifier,
    authenticator = sub(payload, 5, HEADER),
    all = all,
  }
  local at = HEADER + 1
  while at <= length do
    local number, size = byte(payload, at, at + 1)
    if at == length or size < 2 or at + size - 1 > length then
      return nil
    end
    local read = READERS[KINDS[number] or "bytes"]
    local value = read(sub(payload, at + 2, at + size - 1))
    if value == nil then
      return nil
    end
    local key = tostring(number)
    if packet[key] == nil then
      packet[key], all[key] = value, { value }
    else
      all[key][#all[key] + 1] = value
    end
    at = at + size
  end
  return packet
end

return radius
