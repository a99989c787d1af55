test("each port leads to its server", function()
  local lb = balancer("by-port.toml")
  local servers = { [2201] = "10.0.0.11:22", [2202] = "10.0.0.12:22", [2203] = "10.0.0.13:22" }
  for port, server in pairs(servers) do
    for _ = 1, 3 do
      local flow = lb:flow { vip = "192.0.2.10:" .. port }
      expect(flow.server).is(server)
      expect(flow.decided_by).is("script_server")
    end
  end
end)

test("a server that is down has no stand-in: the connection is closed", function()
  local lb = balancer("by-port.toml")
  lb:disable("consoles", "10.0.0.12:22")
  local flow = lb:flow { service = "console-2" }
  expect(flow.decision).is("closed")
  expect(flow.log).is("10.0.0.12 is down")
  expect(lb:flow({ service = "console-1" }).decision).is("server")
  lb:enable("consoles", "10.0.0.12:22")
  expect(lb:flow({ service = "console-2" }).decision).is("server")
end)

test("a port without a server is closed, and the log says so", function()
  local flow = balancer("by-port.toml"):flow { service = "console-4" }
  expect(flow.decision).is("closed")
  expect(flow.log).is("no server for port 2204")
  expect(flow.record.reason).is("closed_by_script")
end)
