-- RADIUS: keeps a station at the server that got its first request. A login by EAP takes several
-- requests, which mean nothing to a server that has not seen those before.
--
-- Who the station is stands in Calling-Station-Id, attribute 31 (RFC 2865, section 5.31).
--
-- The decision is the flow's: what an access point sends from one port within the idle timeout goes
-- where the first of it went. Have it use a port for each request, or many.

local radius = require "Default-Radius"

local STATION = "31"
local LIFETIME = 3600 -- seconds after a station's last flow

-- Access points write a MAC address in many ways, and a station that roams must be the same
-- everywhere: 02-00-5E-10-00-01, 02:00:5e:10:00:01 and 0200.5e10.0001. What is no MAC address,
-- such as a telephone number, stays as it is.
local function canonical(station)
  local digits = string.gsub(station, "[-:.]", "")
  if #digits == 12 and not string.find(digits, "%X") then
    return string.lower(digits)
  end
  return station
end

local packet = radius.parsepacket(avi.l4.read())
local station = packet and packet[STATION]

if not packet then
  -- Left to a server, which discards it (section 3). To close the flow would shut out the access
  -- point's good requests from the same port too.
  avi.vs.log("not RADIUS")
elseif not station or station == "" then
  avi.vs.log("no station") -- such as Accounting-On, which is about the access point itself
else
  local key = canonical(station)
  avi.vs.log("station ", key)
  avi.vs.persist(key, LIFETIME) -- in the service's pool
end
-- Whoever comes to here goes to the service's pool, by its algorithm.
