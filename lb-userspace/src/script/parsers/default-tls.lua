-- Default-TLS: what a TLS client says first, its ClientHello (RFC 8446; RFC 5246 for TLS 1.2).
--
-- Bytes that are no ClientHello, or not one yet, give nil or false and never an error.

local byte, sub, concat = string.byte, string.sub, table.concat

-- Content types of records, from change_cipher_spec to heartbeat (RFC 8446 §5.1, RFC 6520 §2).
local FIRST_TYPE, LAST_TYPE, HANDSHAKE = 20, 24, 22
-- In records that are not encrypted yet (RFC 8446 §5.1), and in any (§5.2, RFC 5246 §6.2.3).
local MOST_PLAIN, MOST = 2 ^ 14, 2 ^ 14 + 2048
local CLIENT_HELLO = 1 -- a handshake message's type, RFC 8446 §4
local SERVER_NAME, HOST_NAME = 0, 0 -- an extension and a type of name, RFC 6066 §3
-- Nobody makes a ClientHello of more bytes than this, or cuts one into so many records: today's, with
-- key shares of post-quantum algorithms, are of some two thousand.
local MOST_PAYLOAD, MOST_RECORDS = 32768, 256

local function check(name, payload)
  if type(payload) ~= "string" then
    error("Default-TLS." .. name .. ": a string expected, got " .. type(payload), 3)
  end
end

-- Numbers of two and three bytes; nil where they are not all there.
local function u16(bytes, at)
  local high, low = byte(bytes, at, at + 1)
  return low and high * 256 + low
end

local function u24(bytes, at)
  local high, middle, low = byte(bytes, at, at + 2)
  return low and (high * 256 + middle) * 256 + low
end

-- The length of the record whose header begins at `at` and its content type. Nil: the header is
-- not all there. False: it is no record of TLS.
local function record(payload, at)
  local content, major, _, high, low = byte(payload, at, at + 4)
  if not low then
    return nil
  end
  local length = high * 256 + low
  if content < FIRST_TYPE or content > LAST_TYPE or major ~= 3 or length > MOST then
    return false
  end
  return length, content
end

-- The first handshake message, which may be split over records as its sender likes (RFC 8446
-- §5.1). Returns nil where there is none, and how many bytes of payload to wait for if they may
-- show one.
local function first_message(payload)
  local fragments, have, at = {}, 0, 1
  local need = 4 -- type and length come first; then it is known
  for _ = 1, MOST_RECORDS do
    local length, content = record(payload, at)
    if length == nil then
      return nil, at + 4
    elseif not length or content ~= HANDSHAKE or length == 0 or length > MOST_PLAIN then
      return nil
    end
    local last = at + 4 + length
    if last > MOST_PAYLOAD then
      return nil
    elseif last > #payload then
      return nil, last
    end
    fragments[#fragments + 1] = sub(payload, at + 5, last)
    have, at = have + length, last + 1
    if need == 4 and have >= 4 then
      fragments = { concat(fragments) }
      if byte(fragments[1]) ~= CLIENT_HELLO then
        return nil
      end
      need = 4 + u24(fragments[1], 2)
    end
    if need > MOST_PAYLOAD then
      return nil
    elseif have >= need then
      return sub(concat(fragments), 1, need)
    end
  end
  return nil
end

-- What follows a vector of `least` to `most` bytes whose length stands at `at`, in one byte or in
-- two, as its most allows (RFC 8446 §3.4); nil if it is of another length or ends beyond `message`.
local function behind(message, at, least, most)
  local length, size
  if most < 256 then
    length, size = byte(message, at), 1
  else
    length, size = u16(message, at), 2
  end
  if not length or length < least or length > most or at + size + length > #message + 1 then
    return nil
  end
  return at + size + length
end

-- Where a ClientHello's extensions begin; beyond its end where it has none, as RFC 5246 §7.4.1.2
-- allows. Nil for what is malformed (RFC 8446 §4.1.2).
local function extensions(hello)
  local session_id = 1 + 4 + 2 + 32 -- behind the header, legacy_version and random
  local cipher_suites = behind(hello, session_id, 0, 32)
  local compression_methods = cipher_suites and behind(hello, cipher_suites, 2, 65534)
  if not compression_methods or (compression_methods - cipher_suites) % 2 ~= 0 then
    return nil
  end
  local at = behind(hello, compression_methods, 1, 255)
  if not at or at == #hello + 1 then
    return at
  end
  if behind(hello, at, 0, 65535) ~= #hello + 1 then
    return nil
  end
  return at + 2
end

-- The host name in the extension from `at` to `last`: of a list, the only entry of this type
-- (RFC 6066 §3). Nil if there is none, false for what is malformed.
local function host_name(hello, at, last)
  if u16(hello, at) ~= last - at - 1 or last - at < 2 then
    return false
  end
  at = at + 2
  local name
  while at <= last do
    local kind, high, low = byte(hello, at, at + 2)
    local after = low and at + 3 + high * 256 + low
    if not after or after == at + 3 or after > last + 1 then
      return false
    end
    if kind == HOST_NAME then
      if name then
        return false
      end
      name = sub(hello, at + 3, after - 1)
    end
    at = after
  end
  return name
end

-- The server's name in the extensions from `at` to the message's end, in any order; what is not
-- known, GREASE (RFC 8701) or not, is passed over. Nil if there is none, false for what is
-- malformed: a name that comes twice would be another to another reader.
local function server_name(hello, at)
  local seen, name = false, nil
  while at <= #hello do
    local kind_high, kind_low, high, low = byte(hello, at, at + 3)
    local after = low and at + 4 + high * 256 + low
    if not after or after > #hello + 1 then
      return false
    end
    if kind_high * 256 + kind_low == SERVER_NAME then
      if seen then
        return false
      end
      seen, name = true, host_name(hello, at + 4, after - 1)
      if name == false then
        return false
      end
    end
    at = after
  end
  return name
end

local tls = {}

-- How many bytes of payload to collect: those of the first record, of which the first 5 tell its
-- length. 5 as well for what is no TLS, so that nobody waits for more of it. If the first record
-- is there and a ClientHello goes on in another: up to the end of that, as far as it can be told.
function tls.get_req_buffer_size(payload)
  check("get_req_buffer_size", payload)
  local message, wanted = first_message(payload)
  if message or not wanted then
    return 5 + (record(payload, 1) or 0)
  end
  return wanted
end

-- Whether the payload begins with a record of a handshake that a client begins. It need not be
-- there to its end.
function tls.sanity_check(payload)
  check("sanity_check", payload)
  local length, content = record(payload, 1)
  return length ~= nil and length ~= false and content == HANDSHAKE
    and length > 0 and length <= MOST_PLAIN and byte(payload, 6) == CLIENT_HELLO
end

-- A handle for a whole and well-formed ClientHello, else nil.
function tls.parse_record(payload)
  check("parse_record", payload)
  local hello = first_message(payload)
  local at = hello and extensions(hello)
  if not at then
    return nil
  end
  local name = server_name(hello, at)
  if name == false then
    return nil
  end
  return { server_name = name }
end

-- The name of the server that the client asks for, as it has written it; nil if it names none,
-- and for a handle that is nil.
function tls.get_sni(handle)
  if type(handle) ~= "table" then
    return nil
  end
  return handle.server_name
end

return tls
