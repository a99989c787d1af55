local CLIENT = "198.51.100.7"

test("a client stays at the server that it got first", function()
  local lb = balancer("pin-by-table.toml")
  local first = lb:flow { client = CLIENT }
  expect(first.decided_by).is("persistence_new")
  expect(first.log).is("new here")
  for _ = 1, 3 do
    local again = lb:flow { client = CLIENT }
    expect(again.server).is(first.server)
    expect(again.decided_by).is("persistence")
    expect(again.log).matches("^back to 10%.0%.0%.1[123]%-80$")
  end
end)

test("clients are spread over the servers", function()
  local lb, seen = balancer("pin-by-table.toml"), {}
  for host = 1, 6 do
    local server = lb:flow({ client = "198.51.100." .. host }).server
    seen[server] = (seen[server] or 0) + 1
  end
  expect(seen).is { ["10.0.0.11:80"] = 2, ["10.0.0.12:80"] = 2, ["10.0.0.13:80"] = 2 }
end)

test("every connection renews the ten minutes", function()
  local lb = balancer("pin-by-table.toml")
  local first = lb:flow { client = CLIENT }
  lb:advance(599)
  lb:flow { client = CLIENT }
  expect(lb:lifetimes("shop")[CLIENT]).is(600)
  lb:advance(599)
  expect(lb:flow({ client = CLIENT }).server).is(first.server)
  lb:advance(600)
  expect(lb:table("shop")).is {}
  expect(lb:flow({ client = CLIENT }).log).is("new here")
end)

test("when the server goes down the client is pinned to another", function()
  local lb = balancer("pin-by-table.toml")
  lb:put { key = CLIENT, value = "10.0.0.12-80", lifetime = 600 }
  expect(lb:flow({ client = CLIENT }).server).is("10.0.0.12:80")
  lb:disable("shop", "10.0.0.12:80")
  local moved = lb:flow { client = CLIENT }
  expect(moved.server).is_one_of { "10.0.0.11:80", "10.0.0.13:80" }
  lb:enable("shop", "10.0.0.12:80")
  expect(lb:flow({ client = CLIENT }).server).is(moved.server)
end)

test("a full table leaves clients to the algorithm", function()
  local lb = balancer { config = "pin-by-table.toml", table_entries = 1 }
  lb:flow { client = CLIENT }
  local other = lb:flow { client = "198.51.100.8" }
  expect(other.decision).is("server")
  expect(lb:table("shop")["198.51.100.8"]).is_nil()
end)
