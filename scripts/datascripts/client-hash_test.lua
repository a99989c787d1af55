-- The first address of each of so many networks.
local function networks(count)
  local clients = {}
  for number = 1, count do
    clients[number] = "198.51." .. number .. ".1"
  end
  return clients
end

local function servers_of(lb, clients)
  local servers = {}
  for _, client in ipairs(clients) do
    servers[client] = lb:flow({ client = client }).server
  end
  return servers
end

test("all clients of a network get one server, again and again", function()
  local lb = balancer("client-hash.toml")
  local server = lb:flow({ client = "198.51.100.1" }).server
  for _, client in ipairs { "198.51.100.1", "198.51.100.2", "198.51.100.254" } do
    expect(lb:flow({ client = client }).server).is(server)
  end
end)

test("networks are spread over all servers", function()
  local seen = {}
  for _, server in pairs(servers_of(balancer("client-hash.toml"), networks(50))) do
    seen[server] = true
  end
  expect(seen).is { ["10.0.0.11:443"] = true, ["10.0.0.12:443"] = true, ["10.0.0.13:443"] = true }
end)

test("two balancers come to the same answer", function()
  local one = servers_of(balancer("client-hash.toml"), networks(50))
  expect(servers_of(balancer("client-hash.toml"), networks(50))).is(one)
end)

test("when a server goes down its clients move, others' stay, and all come back", function()
  local lb = balancer("client-hash.toml")
  local before = servers_of(lb, networks(50))
  lb:disable("app", "10.0.0.12")
  for client, server in pairs(servers_of(lb, networks(50))) do
    if before[client] == "10.0.0.12:443" then
      expect(server).is_one_of { "10.0.0.11:443", "10.0.0.13:443" }
    else
      expect(server).is(before[client])
    end
  end
  lb:enable("app", "10.0.0.12")
  expect(servers_of(lb, networks(50))).is(before)
end)
