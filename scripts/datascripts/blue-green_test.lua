local function flow(lb, client)
  return lb:flow { client = client }
end

test("listed prefixes get the new release, all others the old one", function()
  local lb = balancer("blue-green.toml")
  for client, release in pairs {
    ["192.0.2.128"] = "green",
    ["198.51.100.1"] = "green",
    ["198.51.100.254"] = "green",
    ["10.20.3.4"] = "green",
    ["203.0.113.7"] = "blue",
    -- Addresses that only begin with the same digits.
    ["192.0.2.12"] = "blue",
    ["198.51.10.1"] = "blue",
    ["10.200.3.4"] = "blue",
  } do
    local it = flow(lb, client)
    expect(it.pool_group).is(release)
    expect(it.pool).is("web-" .. release)
    expect(it.log).is(release)
  end
end)

test("each release stands in for the other while that has no server up", function()
  local lb = balancer("blue-green.toml")
  lb:disable("web-green")
  expect(flow(lb, "198.51.100.1").pool_group).is("green")
  expect(flow(lb, "198.51.100.1").pool).is("web-blue")
  lb:enable("web-green")
  lb:disable("web-blue")
  expect(flow(lb, "203.0.113.7").pool).is("web-green")
end)

test("one server down is not the release down", function()
  local lb = balancer("blue-green.toml")
  lb:disable("web-blue", "10.0.0.11:80")
  expect(flow(lb, "203.0.113.7").server).is("10.0.0.12:80")
end)

test("with no server at all a flow is refused", function()
  local lb = balancer("blue-green.toml")
  lb:disable("web-blue")
  lb:disable("web-green")
  local refused = flow(lb, "203.0.113.7")
  expect(refused.decision).is("refused")
  expect(refused.reason).contains('"blue"')
end)
