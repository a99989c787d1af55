-- Runs on the server's first packet (L4_RESPONSE), and adds to what trace.lua wrote: who answered,
-- how long the answer is, and its first bytes.

local SHOWN = 12

local server, port = avi.pool.get_server_info()
local payload = avi.l4.read()
local head = string.gsub(string.sub(payload, 1, SHOWN), ".", function(byte)
  return string.format("%02x", string.byte(byte))
end)
avi.vs.log(" < ", server, ":", port, " ", #payload, " bytes ", head)
