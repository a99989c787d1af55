local query = dns.query("www.example.com")

test("both directions are in the log, and the flow goes where it went", function()
  local lb = balancer("trace.toml")
  local flow = lb:flow { payload = query }
  expect(flow.decided_by).is("algorithm")
  expect(flow.log).is("> 33 bytes 123401000001000000000000")
  flow:answer(bytes("1234 8180"))
  expect(flow.log).is("> 33 bytes 123401000001000000000000 < 10.0.0.11:53 4 bytes 12348180")
  expect(flow.error).is_nil()
end)

test("the connection log has it once the flow has ended", function()
  local lb = balancer("trace.toml")
  local flow = lb:flow { payload = query }
  flow:answer("ok")
  expect(flow.record).is_nil()
  lb:advance(11)
  expect(flow.record.reason).is("idle")
  expect(flow.record.ds_log).contains(" < 10.0.0.11:53 2 bytes 6f6b")
end)

test("packets without a payload, and with bytes of every kind, do no harm", function()
  local lb = balancer("trace.toml")
  local empty = lb:flow()
  empty:answer()
  expect(empty.log).is("> 0 bytes  < 10.0.0.11:53 0 bytes ")
  local zeros = lb:flow { payload = bytes("00 ff 0a 25 00") }
  zeros:answer(string.rep("\0", 1400))
  expect(zeros.error).is_nil()
  expect(zeros.log).matches("^> 5 bytes 00ff0a2500 < .* 1400 bytes " .. string.rep("00", 12) .. "$")
end)
