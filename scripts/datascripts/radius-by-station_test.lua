local USER_NAME, STATION, STATUS = 1, 31, 40

-- A request about a station, from another port every time.
local function ask(lb, station)
  return lb:flow { payload = radius.request { [USER_NAME] = "alice", [STATION] = station } }
end

test("a station stays at its server, stations are spread", function()
  local lb = balancer("radius-by-station.toml")
  local one, other = ask(lb, "02-00-5E-10-00-01"), ask(lb, "02-00-5E-10-00-02")
  expect(one.decided_by).is("persistence_new")
  expect(other.server).is_not(one.server)
  for _ = 1, 3 do
    expect(ask(lb, "02-00-5E-10-00-01").server).is(one.server)
    expect(ask(lb, "02-00-5E-10-00-02").server).is(other.server)
  end
  expect(ask(lb, "02-00-5E-10-00-01").decided_by).is("persistence")
end)

test("a MAC address is the same however it is written", function()
  local lb = balancer("radius-by-station.toml")
  local ways = { "02-00-5E-10-00-01", "02:00:5e:10:00:01", "0200.5e10.0001", "02005E100001" }
  for _, way in ipairs(ways) do
    expect(ask(lb, way).log).is("station 02005e100001")
  end
  expect(lb:table("authentication")).is { ["02005e100001"] = "10.0.0.11-1812" }
end)

test("what is no MAC address is taken as it is", function()
  local lb = balancer("radius-by-station.toml")
  for _, station in ipairs { "+49-30-1234", "02-00-5E-10-00-0G", "AB-CD", "a\0b\255" } do
    expect(ask(lb, station).decided_by).is("persistence_new")
    expect(lb:table("authentication")[station]).is_not(nil)
  end
end)

test("a station is forgotten an hour after its last flow", function()
  local lb = balancer("radius-by-station.toml")
  ask(lb, "02-00-5E-10-00-01")
  lb:advance(3599)
  ask(lb, "02-00-5E-10-00-01")
  expect(lb:lifetimes("authentication")["02005e100001"]).is(3600)
  lb:advance(3601)
  expect(lb:table("authentication")).is {}
end)

test("when the server goes down the station moves, for good", function()
  local lb = balancer("radius-by-station.toml")
  expect(ask(lb, "station").server).is("10.0.0.11:1812")
  lb:disable("radius", "10.0.0.11")
  expect(ask(lb, "station").server).is("10.0.0.12:1812")
  lb:enable("radius", "10.0.0.11")
  expect(ask(lb, "station").server).is("10.0.0.12:1812")
end)

test("requests without a station go to any server", function()
  local lb = balancer("radius-by-station.toml")
  local accounting_on = radius.request { code = 4, [STATUS] = 7 }
  for _, payload in ipairs { accounting_on, radius.request { [STATION] = "" } } do
    local flow = lb:flow { payload = payload }
    expect(flow.decided_by).is("algorithm")
    expect(flow.error).is_nil()
  end
  expect(lb:flow({ payload = accounting_on }).log).is("no station")
  expect(lb:table("authentication")).is {}
end)

test("what is malformed is left to a server, and shuts nobody out", function()
  local lb = balancer("radius-by-station.toml")
  local request = radius.request { [STATION] = "02-00-5E-10-00-01" }
  for _, payload in ipairs {
    "",
    "hello",
    string.sub(request, 1, 19),
    string.sub(request, 1, #request - 1),
    string.sub(request, 1, 20) .. bytes("1f 00"),
  } do
    local flow = lb:flow { payload = payload }
    expect(flow.decision).is("server")
    expect(flow.log).is("not RADIUS")
    expect(flow.error).is_nil()
  end
end)

test("a full table leaves stations to the algorithm", function()
  local lb = balancer { config = "radius-by-station.toml", table_entries = 1 }
  ask(lb, "one")
  expect(ask(lb, "two").decision).is("server")
  expect(lb:table("authentication")["two"]).is_nil()
end)
