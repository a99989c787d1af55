local function flow(client)
  return balancer("by-client.toml"):flow { client = client }
end

test("staff go to their pool, guests to theirs", function()
  expect(flow("192.0.2.102").pool).is("staff")
  expect(flow("192.0.2.199").pool).is("staff")
  for _, guest in ipairs { "192.0.2.200", "198.51.100.7", "192.0.21.2" } do
    expect(flow(guest).pool).is("guests")
    expect(flow(guest).log).is("guest")
  end
end)

test("the tester always gets the very server", function()
  local lb = balancer("by-client.toml")
  for _ = 1, 3 do
    local tester = lb:flow { client = "192.0.2.101" }
    expect(tester.server).is("10.0.0.12:80")
    expect(tester.decided_by).is("script_server")
    expect(tester.log).is("tester")
  end
end)

test("while that server is down the tester gets another, and the log says so", function()
  local lb = balancer("by-client.toml")
  lb:disable("staff", "10.0.0.12:80")
  local tester = lb:flow { client = "192.0.2.101" }
  expect(tester.server).is("10.0.0.11:80")
  expect(tester.log).is("tester[selected server 10.0.0.12:80 is down]")
end)
