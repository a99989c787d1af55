-- All that concerns one station goes to one RADIUS server, whichever NAS asks for it and whenever:
-- its address (Calling-Station-Id) is remembered with the server that it went to first.
--
-- The decision is the flow's: a NAS that sends for many stations from one port gets one server for
-- all of them within the service's idle timeout. Have it use a port for each request, or many.

local radius = require "Default-Radius"

local STATION = "31" -- Calling-Station-Id
local LIFETIME = 3600 -- seconds

local packet = radius.parsepacket(avi.l4.read())
if not packet then
  avi.vs.log("no RADIUS packet")
  avi.vs.close_conn()
elseif not packet[STATION] then
  avi.vs.log("no station") -- by the pool's algorithm
else
  avi.vs.log("station ", packet[STATION])
  avi.vs.persist(packet[STATION], LIFETIME)
end
