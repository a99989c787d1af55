-- Default-DHCP: messages of DHCP for IPv4 (RFC 2131) and their options (RFC 2132).
--
-- A message that is malformed gives nil and never an error.

local byte, sub, find, format = string.byte, string.sub, string.find, string.format
local concat = table.concat

-- RFC 2131 §2 and §3: the fields, then the cookie, then the options.
local COOKIE_AT, COOKIE, OPTIONS_AT = 237, "\99\130\83\99", 241
local SNAME_AT, FILE_AT = 45, 109 -- of 64 and 128 bytes
local MOST = 16384 -- bytes of a message: more than any server takes

local PAD, END = 0, 255 -- RFC 2132 §3
local OVERLOAD, CLIENT_IDENTIFIER = "52", "61" -- RFC 2132 §9.3 and §9.14
local FILE, SNAME, BOTH = 1, 2, 3 -- what may be overloaded
local NODE_SPECIFIC = 255 -- a client identifier of RFC 4361 §6.1
local DUID_LLT, DUID_LL = 1, 3 -- RFC 8415 §11

-- A number of these bytes, the highest first.
local function number(bytes, from, to)
  local value = 0
  for at = from, to do
    value = value * 256 + byte(bytes, at)
  end
  return value
end

local function address(bytes, at)
  return format("%d.%d.%d.%d", byte(bytes, at, at + 3))
end

local function hex(bytes, separator)
  local digits = {}
  for at = 1, #bytes do
    digits[at] = format("%02x", byte(bytes, at))
  end
  return concat(digits, separator)
end

-- The text of a field, which ends with a zero byte or with the field.
local function text(bytes, from, to)
  local field = sub(bytes, from, to)
  local zero = find(field, "\0", 1, true)
  return zero and sub(field, 1, zero - 1) or field
end

-- Adds the options of a field. One that comes again goes on where it was (RFC 3396 §7). False if
-- an option ends beyond the field; that the last is "end" is not insisted on, as servers do not.
local function read_options(bytes, at, last, options)
  while at <= last do
    local code, length = byte(bytes, at, at + 1)
    if code == END then
      return true
    elseif code == PAD then
      at = at + 1
    else
      if at == last or at + 1 + length > last then
        return false
      end
      local parts = options[code] or {}
      parts[#parts + 1] = sub(bytes, at + 2, at + 1 + length)
      options[code], at = parts, at + 2 + length
    end
  end
  return true
end

-- The fields `file` and `sname` hold options if option 52 says so, to be read in this order (RFC
-- 2131 §4.1). Returns what is overloaded, 0 for none; nil for what is malformed.
local function read_overloaded(payload, options)
  local parts = options[tonumber(OVERLOAD)]
  if not parts then
    return 0
  end
  local value = concat(parts)
  local what = byte(value)
  if #value ~= 1 or what < FILE or what > BOTH then
    return nil
  end
  if what ~= SNAME and not read_options(payload, FILE_AT, COOKIE_AT - 1, options) then
    return nil
  elseif what ~= FILE and not read_options(payload, SNAME_AT, FILE_AT - 1, options) then
    return nil
  end
  return what
end

-- RFC 2131 §2, by the names there.
local function read_params(payload, overloaded)
  local op, htype, hlen, hops = byte(payload, 1, 4)
  return {
    op = op,
    htype = htype,
    hlen = hlen,
    hops = hops,
    xid = number(payload, 5, 8),
    secs = number(payload, 9, 10),
    flags = number(payload, 11, 12),
    ciaddr = address(payload, 13),
    yiaddr = address(payload, 17),
    siaddr = address(payload, 21),
    giaddr = address(payload, 25),
    chaddr = hex(sub(payload, 29, 28 + hlen), ":"),
    sname = overloaded < SNAME and text(payload, SNAME_AT, FILE_AT - 1) or "",
    file = overloaded % 2 == 0 and text(payload, FILE_AT, COOKIE_AT - 1) or "",
  }
end

-- Options are found by number as well as by string: options[61] is options["61"].
local by_number = { __metatable = false }

function by_number.__index(options, key)
  if type(key) == "number" then
    return rawget(options, tostring(key))
  end
  return nil
end

local dhcp = {}

-- A message's fields and its options: the fields by their names in RFC 2131 §2, the options by
-- number, as strings of bytes. Nil and nil for a message that is malformed.
function dhcp.getDHCPParamsAndOptions(payload)
  if type(payload) ~= "string" then
    error("Default-DHCP.getDHCPParamsAndOptions: a string expected, got " .. type(payload), 2)
  end
  if sub(payload, COOKIE_AT, OPTIONS_AT - 1) ~= COOKIE or #payload > MOST then
    return nil, nil
  elseif byte(payload, 3) > 16 then -- the length of the hardware address
    return nil, nil
  end
  local parts = {}
  local whole = read_options(payload, OPTIONS_AT, #payload, parts)
  local overloaded = whole and read_overloaded(payload, parts)
  if not overloaded then
    return nil, nil
  end
  local options = setmetatable({}, by_number)
  for code, values in pairs(parts) do
    options[tostring(code)] = concat(values)
  end
  return read_params(payload, overloaded), options
end

-- The hardware type and address in a DUID of these types.
local function link_layer(duid)
  local high, kind, hardware_high, hardware_low = byte(duid, 1, 4)
  if not hardware_low or high ~= 0 then
    return nil
  end
  local at = kind == DUID_LLT and 9 or kind == DUID_LL and 5
  if not at or at > #duid then
    return nil
  end
  return hardware_high * 256 + hardware_low, hex(sub(duid, at), ":")
end

-- Who the client says it is: the type of its hardware, and its address as "aa:bb:cc:dd:ee:ff". Of
-- an identifier with a DUID in it (RFC 4361) they are the DUID's. What holds no address gives the
-- identifier's own type, 0 or 255, and the identifier in hexadecimal digits without colons. Nil if
-- there is none, or none that is as long as it must be.
function dhcp.getOption61(options)
  local identifier = type(options) == "table" and options[CLIENT_IDENTIFIER]
  if type(identifier) ~= "string" or #identifier < 2 then
    return nil
  end
  local kind, value = byte(identifier), sub(identifier, 2)
  if kind == NODE_SPECIFIC then
    local hardware, mac = link_layer(sub(value, 5)) -- behind the number of the interface, IAID
    if hardware then
      return hardware, mac
    end
  end
  return kind, hex(value, (kind == 0 or kind == NODE_SPECIFIC) and "" or ":")
end

return dhcp
