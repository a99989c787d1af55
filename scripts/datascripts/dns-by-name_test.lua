local function ask(payload)
  return balancer("dns-by-name.toml"):flow { payload = payload }
end

test("names below corp.test are internal, whatever their case, all others public", function()
  for name, pool in pairs {
    ["corp.test"] = "internal",
    ["www.corp.test"] = "internal",
    ["WWW.Corp.TEST"] = "internal",
    ["notcorp.test"] = "public",
    ["corp.test.example"] = "public",
    ["www.example.com"] = "public",
  } do
    local flow = ask(dns.query(name))
    expect(flow.pool).is(pool)
    expect(flow.log).is(string.lower(name))
  end
end)

test("the type of a query does not matter", function()
  for _, kind in ipairs { "A", "AAAA", "MX", "HTTPS", "ANY" } do
    expect(ask(dns.query("www.corp.test", kind)).pool).is("internal")
  end
end)

test("the root is a name too", function()
  expect(ask(dns.query(".")).pool).is("public")
end)

test("what is no query is closed, however it is malformed", function()
  local query = dns.query("www.corp.test")
  local malformed = {
    empty = "",
    text = "hello",
    ["header only"] = string.sub(query, 1, 12),
    ["cut in a label"] = string.sub(query, 1, 20),
    ["cut before the last label"] = string.sub(query, 1, 26),
    ["a compressed name"] = string.sub(query, 1, 12) .. bytes("c0 0c 00 01 00 01"),
    ["a label that is too long"] = string.sub(query, 1, 12) .. bytes("c8") .. string.rep("x", 300),
  }
  for what, payload in pairs(malformed) do
    local flow = ask(payload)
    assert(flow.decision == "closed", what .. " went to " .. tostring(flow.server))
    expect(flow.log).is("not a DNS query")
    expect(flow.error).is_nil()
  end
end)
