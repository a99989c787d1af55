-- Keeps a client at the server that it got first, for ten minutes after its last connection.

local client = avi.vs.client_ip()
local minutes = 60

-- A lifetime extension of 0 only looks: persist renews.
local server = avi.vs.table_lookup(client, 0)
if server then
  avi.vs.log("back to ", server)
else
  avi.vs.log("new here")
end

-- Stores client -> "address-port" in the table when it is not there, and ends the script. Should
-- the pinned server be down, another is chosen and stored.
avi.vs.persist(client, 10 * minutes, "shop")
