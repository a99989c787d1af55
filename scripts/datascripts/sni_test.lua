-- What openssl s_client 3.0 sends first when it is asked for shop.test.
local HELLO = file("sni-hello.bin")

-- The same ClientHello for another name of as many letters.
local function hello(name)
  assert(#name == #"shop.test")
  return (HELLO:gsub("shop%.test", name))
end

local function ask(lb, payload)
  return lb:flow { payload = payload }
end

test("a name leads to its pool", function()
  local lb = balancer("sni.toml")
  for name, pool in pairs { ["shop.test"] = "shop", ["mail.test"] = "mail", ["SHOP.Test"] = "shop" } do
    local flow = ask(lb, hello(name))
    expect(flow.pool).is(pool)
    expect(flow.log).is(name)
    expect(flow.decided_by).is("script_pool")
  end
end)

test("a name that nobody has leads to the service's own pool", function()
  local flow = ask(balancer("sni.toml"), hello("none.test"))
  expect(flow.pool).is("default")
  expect(flow.log).is("none.test")
end)

test("so does a ClientHello without a name", function()
  -- The extension's type, nine bytes before the name, becomes one that nobody knows (RFC 8701).
  local at = HELLO:find("shop.test", 1, true) - 9
  expect(HELLO:sub(at, at + 1)).is("\0\0")
  local flow = ask(balancer("sni.toml"), HELLO:sub(1, at - 1) .. "\250\250" .. HELLO:sub(at + 2))
  expect(flow.pool).is("default")
  expect(flow.log).is("no name")
end)

test("a ClientHello is waited for, wherever it is cut", function()
  local lb = balancer("sni.toml")
  for cut = 1, #HELLO - 1 do
    local flow = ask(lb, HELLO:sub(1, cut))
    expect(flow.decision).is("waits")
    expect(flow.waits_for).is(cut < 20 and 20 or #HELLO)
    flow:send(HELLO:sub(cut + 1))
    expect(flow.pool).is("shop")
    lb:advance(60)
  end
end)

test("a byte a segment is enough", function()
  local bytes = {}
  for byte in HELLO:gmatch(".") do
    bytes[#bytes + 1] = byte
  end
  expect(ask(balancer("sni.toml"), bytes).pool).is("shop")
end)

test("what is no TLS is reset", function()
  local flow = ask(balancer("sni.toml"), "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
  expect(flow.decision).is("closed")
  expect(flow.log).is("not TLS")
  expect(flow.error).is_nil()
end)

test("a client that says too little, or nothing, is reset in time", function()
  local lb = balancer("sni.toml")
  local short, silent = ask(lb, HELLO:sub(1, 100)), ask(lb)
  lb:advance(9)
  expect(short.decision).is("waits")
  lb:advance(2)
  expect(short.record.reason).is("no_payload")
  expect(silent.record.reason).is("no_payload")
end)

test("a client that closes before the end is closed", function()
  local flow = ask(balancer("sni.toml"), HELLO:sub(1, 100))
  flow:close()
  expect(flow.decision).is("closed")
  expect(flow.error).contains("the client has closed its side")
end)
