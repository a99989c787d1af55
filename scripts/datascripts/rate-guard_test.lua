local ABUSER, OTHER = "198.51.100.66", "198.51.100.7"

-- Connects so often and says what became of the last.
local function connect(lb, client, times)
  local flow
  for _ = 1, times or 1 do
    flow = lb:flow { client = client }
  end
  return flow
end

test("as many connections as allowed are served", function()
  local lb = balancer("rate-guard.toml")
  expect(connect(lb, ABUSER, 20).decision).is("server")
  expect(lb:table("web", "connections")).is { [ABUSER] = 20 }
end)

test("one more is reset, for this client alone, and the log says why", function()
  local lb = balancer("rate-guard.toml")
  local flow = connect(lb, ABUSER, 21)
  expect(flow.decision).is("closed")
  expect(flow.log).is("too fast: 21 connections in 10 s")
  expect(flow.record.reason).is("closed_by_script")
  expect(connect(lb, OTHER).decision).is("server")
end)

test("a window that has passed is forgotten", function()
  local lb = balancer("rate-guard.toml")
  connect(lb, ABUSER, 20)
  lb:advance(11)
  expect(connect(lb, ABUSER, 20).decision).is("server")
end)

test("the window does not move with every connection", function()
  local lb = balancer("rate-guard.toml")
  connect(lb, ABUSER, 5)
  lb:advance(6)
  connect(lb, ABUSER, 5)
  expect(lb:lifetimes("web", "connections")[ABUSER]).is(4)
  lb:advance(5)
  expect(lb:table("web", "connections")).is {}
end)

test("who keeps trying stays out, who is quiet is let in again", function()
  local lb = balancer("rate-guard.toml")
  connect(lb, ABUSER, 21)
  lb:advance(50)
  expect(connect(lb, ABUSER).log).is("still too fast")
  lb:advance(50)
  expect(connect(lb, ABUSER).decision).is("closed")
  lb:advance(61)
  expect(connect(lb, ABUSER).decision).is("server")
end)

test("a full table shuts nobody out", function()
  local lb = balancer { config = "rate-guard.toml", table_entries = 1 }
  connect(lb, ABUSER, 3)
  local flow = connect(lb, OTHER)
  expect(flow.decision).is("server")
  expect(flow.log).is("not counted, the table is full")
  -- Who has a place is counted still.
  expect(connect(lb, ABUSER, 18).decision).is("closed")
end)

test("with no room among the abusers a client is out until its window ends", function()
  local lb = balancer { config = "rate-guard.toml", table_entries = 1 }
  connect(lb, OTHER, 21)
  expect(lb:table("web", "abusers")).is { [OTHER] = 21 }
  expect(connect(lb, ABUSER, 21).decision).is("closed")
  expect(connect(lb, ABUSER).log).is("too fast: 21 connections in 10 s")
  lb:advance(11)
  expect(connect(lb, ABUSER).decision).is("server")
end)
