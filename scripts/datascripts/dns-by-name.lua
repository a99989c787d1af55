-- Chooses by the name that a DNS query asks for, read from the flow's first datagram.
--
-- The decision is the flow's: a client that asks again from the same port within the service's
-- idle timeout gets the same server, whatever it asks for. Resolvers use a new port a query.

-- The question's name, in lower case: after a header of 12 bytes, labels, each a length and so
-- many bytes, the last one empty (RFC 1035, section 4.1.2). nil if there is none.
local function question(query)
  local labels, at = {}, 13
  while true do
    local length = string.byte(query, at)
    if not length or length > 63 or at + length > #query then
      return nil -- cut off, or a compressed name, which no first question is
    end
    if length == 0 then
      return table.concat(labels, ".")
    end
    labels[#labels + 1] = string.lower(string.sub(query, at + 1, at + length))
    at = at + 1 + length
  end
end

local function is_below(name, domain)
  return name == domain or string.endswith(name, "." .. domain)
end

local name = question(avi.l4.read())
if not name then
  avi.vs.log("not a DNS query")
  avi.vs.close_conn()
elseif is_below(name, "corp.test") then
  avi.vs.log(name)
  avi.pool.select("internal")
else
  avi.vs.log(name)
  avi.pool.select("public")
end
