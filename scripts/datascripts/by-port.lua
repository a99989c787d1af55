-- One server for each port: several virtual services share this script, and the port that the
-- client came to says which server it wants. So each console, shard or tenant has a stable address
-- of its own, while there is one pool to look after.

-- The virtual service's port, as text -> the server's address.
local SERVERS = {
  ["2201"] = "10.0.0.11",
  ["2202"] = "10.0.0.12",
  ["2203"] = "10.0.0.13",
}
local SSH = 22

local port = avi.vs.port()
local server = SERVERS[port]

if not server then
  avi.vs.log("no server for port ", port)
  avi.vs.close_conn(true)
elseif avi.pool.get_server_status("consoles", server, SSH) == 0 then
  -- Another server would not do: by itself `select` takes one that is up.
  avi.vs.log(server, " is down")
  avi.vs.close_conn(true)
else
  avi.pool.select("consoles", server, SSH)
end
