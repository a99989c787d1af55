-- Chooses by the client's address. Runs once a flow, on its first packet (L4_REQUEST).

local client = avi.vs.client_ip()
local host = tonumber(string.match(client, "^192%.0%.2%.(%d+)$"))

if client == "192.0.2.101" then
  -- This one tests the new release: always that very server.
  avi.vs.log("tester")
  avi.pool.select("staff", "10.0.0.12", 80)
elseif host and host < 200 then
  avi.vs.log("staff")
  avi.pool.select("staff")
else
  avi.vs.log("guest")
  avi.pool.select("guests")
end
