-- Each client stays at the server that is written down.
local client = avi.vs.client_ip()
local server = avi.vs.table_lookup("pins", client, 0)
if not server then
  server = "10.0.0.12"
  avi.vs.table_insert("pins", client, server, 3600)
end
avi.pool.select("web", server)
