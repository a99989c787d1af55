use std::fs;

use tempfile::TempDir;

use super::*;

const CONFIG: &str = r#"
[instance]
name = "test"
interfaces = ["eth0"]
snat_addresses = ["192.0.2.9"]
[instance.tables]
key_size = 8
value_size = 8
[[virtual_service]]
name = "web"
address = "192.0.2.10"
port = 80
protocol = "tcp"
pool = "servers"
datascripts = ["set"]
[[virtual_service]]
name = "dns"
address = "192.0.2.10"
port = 53
protocol = "udp"
pool = "servers"
datascripts = ["set"]
[[datascript]]
name = "set"
pools = ["servers"]
l4_request = "request.lua"
l4_response = "response.lua"
[[pool]]
name = "servers"
servers = [{ address = "10.0.0.11", port = 53 }, { address = "10.0.0.12", port = 53 }]
"#;

const REQUEST: &str = "local payload = avi.l4.read()
if payload == 'fail' then
  error('as asked')
elseif payload == 'close' then
  avi.vs.close_conn()
elseif payload == 'time' then
  avi.vs.log(os.time())
else
  avi.vs.table_insert('seen', payload, 1, 300)
  avi.vs.log(payload)
end";

const RESPONSE: &str = "local payload = avi.l4.read()
if payload == 'fail' then
  error('late')
end
avi.vs.log('<', payload)";

/// A service that inspects, one that does after two seconds without payload, and one that decides at
/// the end of a handshake with a cookie.
const STREAMS: &str = r#"
[instance]
name = "test"
interfaces = ["eth0"]
snat_addresses = ["192.0.2.9"]
[[virtual_service]]
name = "stream"
address = "192.0.2.10"
port = 443
protocol = "tcp"
tcp_mode = "inspect"
pool = "servers"
datascripts = ["set"]
[[virtual_service]]
name = "patient"
address = "192.0.2.10"
port = 25
protocol = "tcp"
tcp_mode = "inspect"
inspect_timeout = "2s"
pool = "servers"
datascripts = ["set"]
[[virtual_service]]
name = "cookie"
address = "192.0.2.10"
port = 80
protocol = "tcp"
syn_protection = "always"
pool = "servers"
[[datascript]]
name = "set"
pools = ["servers"]
l4_request = "stream.lua"
l4_response = "answer.lua"
[[pool]]
name = "servers"
servers = [{ address = "10.0.0.11", port = 443 }, { address = "10.0.0.12", port = 443 }]
"#;

const STREAM: &str = "avi.l4.collect(avi.vs.port() == '25' and 0 or 4)
local payload = avi.l4.read()
if payload == 'long' then
  avi.l4.collect(20000)
elseif payload == 'close' then
  avi.vs.close_conn(true)
end
avi.vs.log(#avi.l4.read(), payload:sub(1, 4))
avi.pool.select('servers', '10.0.0.12')";

const ANSWER: &str = "avi.l4.collect(4) avi.vs.log('<', avi.l4.read())";

/// Runs a file with these lines as its only test, with `lb` a balancer.
fn run_test(body: &str) -> Option<Failure> {
    let text = format!("test('t', function() local lb = balancer('lb.toml')\n{body}\nend)");
    let mut reports = run_file(&text);
    assert_eq!(reports.len(), 1, "{body}");
    reports.remove(0).failure
}

fn run_file(text: &str) -> Vec<Report> {
    let folder = TempDir::new().unwrap();
    let files = [
        ("lb.toml", CONFIG),
        ("request.lua", REQUEST),
        ("response.lua", RESPONSE),
        ("helper.lua", "function double(n) return 2 * n end return 'helped'"),
        ("streams.toml", STREAMS),
        ("stream.lua", STREAM),
        ("answer.lua", ANSWER),
        ("a_test.lua", text),
    ];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    fs::write(folder.path().join("hello.bin"), b"\0\xff").unwrap();
    let mut reports = Vec::new();
    run(&folder.path().join("a_test.lua"), "", &mut |report| reports.push(report));
    reports
}

#[test]
fn what_holds_passes() {
    for body in [
        // Expectations.
        "expect(1).is(1) expect('a').is_not('b') expect(nil).is(nil) expect(nil).is_nil()",
        "expect({ 1, { a = 2 } }).is({ 1, { a = 2 } }) expect({ 1 }).is_not({ 1, 2 })",
        "expect('abc').contains('b') expect({ 1, { 2 } }).contains({ 2 }) expect('a.c').contains('.')",
        "expect('abc').matches('^a.c$') expect(2).is_one_of({ 1, 2 }) expect(1):is(1)",
        // Flows, and what they have come to.
        "local flow = lb:flow { service = 'web', client = '198.51.100.7:4000', payload = 'x' }
         expect(flow.decision).is('server') expect(flow.server).is('10.0.0.11:53')
         expect(flow.client).is('198.51.100.7:4000') expect(flow.vip).is('192.0.2.10:80')
         expect(flow.pool).is('servers') expect(flow.log).is('x') expect(flow.record).is_nil()",
        "local flow = lb:flow { vip = '192.0.2.10:53' }
         expect(flow.virtual_service).is('dns') expect(flow.protocol).is('udp')",
        "expect(lb:flow({ protocol = 'tcp' }).virtual_service).is('web')",
        "local flow = lb:flow { service = 'dns', payload = 'q' }
         flow:answer('a') expect(flow.log).is('q<a')
         lb:advance(29) expect(flow.record).is_nil()
         lb:advance(2) expect(flow.record.reason).is('idle') expect(flow.log).is('q<a')
         expect(flow.record.reply_packets).is(1) expect(#lb:records()).is(1)",
        "local flow = lb:flow { service = 'web' } flow:answer() lb:advance(30)
         expect(flow.record).is_nil() lb:advance(600) expect(flow.record.reason).is('idle')",
        "local flow = lb:flow { service = 'web', payload = 'close' }
         expect(flow.decision).is('closed') expect(flow.line).is(5)
         expect(flow.record.reason).is('closed_by_script')",
        "local flow = lb:flow { service = 'web', payload = 'fail' }
         expect(flow.decision).is('closed') expect(flow.error).matches('request.lua:3: as asked$')",
        "local flow = lb:flow { service = 'web', payload = 'x' } flow:answer('fail')
         expect(flow.error).matches('response.lua:3: late$')",
        "for _ = 1, 3 do lb:flow { service = 'web', client = '198.51.100.7' } end",
        // Tables.
        "lb:flow { service = 'web', payload = 'key' } lb:flow { service = 'dns' }
         expect(lb:table('web', 'seen')).is({ key = 1 })
         expect(lb:lifetimes('web', 'seen')).is({ key = 300 })
         lb:advance(299.5) expect(lb:lifetimes('web', 'seen').key).is(1)
         lb:advance(1) expect(lb:table('web', 'seen')).is({})",
        "lb:put { service = 'web', key = 'k', value = 'v' } expect(lb:table('web')).is({ k = 'v' })
         lb:put { service = 'web', key = 'k', value = 2, lifetime = 7, table = 't' }
         expect(lb:table('web', 't')).is({ k = 2 }) expect(lb:lifetimes('web', 't').k).is(7)",
        // Servers.
        "lb:disable('servers', '10.0.0.11:53')
         for _ = 1, 3 do expect(lb:flow({ service = 'web' }).server).is('10.0.0.12:53') end
         lb:disable('servers') expect(lb:flow({ service = 'web' }).decision).is('refused')
         lb:enable('servers', '10.0.0.11') expect(lb:flow({ service = 'web' }).decision).is('server')",
        // Time.
        "expect(lb:time()).is(1767225600) lb:advance(1.5) expect(lb:time()).is(1767225601.5)
         expect(lb:flow({ service = 'web', payload = 'time' }).log).is('1767225601')",
        "local then_ = balancer { config = 'lb.toml', time = '2030-01-01T00:00:00Z' }
         expect(os.date('!%Y', then_:time())).is('2030') expect(lb:time()).is(1767225600)",
        // Payloads.
        "expect(bytes('16 03 01')).is('\\22\\3\\1') expect(file('hello.bin')).is(bytes('00ff'))
         expect(dofile('helper.lua')).is('helped') expect(double(2)).is(4)",
        "expect(dns.query('a.bc', 'AAAA')).is(bytes(
           '1234 0100 0001 0000 0000 0000 01 61 02 6263 00 001c 0001'))
         expect(dns.query('.')).is(bytes('1234 0100 0001 0000 0000 0000 00 0001 0001'))",
        "expect(radius.request { [31] = 'ab', [5] = 258, code = 4 }).is(
           bytes('04 01 001e') .. string.rep('\\0', 16) .. bytes('05 06 00000102 1f 04 6162'))",
        // Nothing that is different every time, or reaches out.
        "expect({ io, os.execute, os.getenv, os.remove, math.random, loadstring, loadfile }).is({})",
        "local ok, caught = pcall(lb.flow, lb, { service = 'nowhere' })
         expect(ok).is(false) expect(caught).matches('a_test.lua:%d+: no virtual service')",
    ] {
        assert_eq!(run_test(body), None, "{body}");
    }
}

#[test]
fn what_does_not_hold_or_is_written_wrongly_fails_at_its_line() {
    for (body, message) in [
        ("expect('a').is(1)", "expected  1\n     got  \"a\""),
        ("expect(1).is('1')", "expected  \"1\"\n     got  1"),
        ("expect('é\\n\\0\\255').is_nil()", "got  \"é\\x0a\\x00\\xff\""),
        ("expect({ b = { 1 }, 'x' }).is({})", "got  { \"x\", b = { 1 } }"),
        ("expect(1).is_not(1)", "expected  anything but 1"),
        ("expect(nil).contains('a')", "expected  something that contains \"a\"\n     got  nil"),
        ("expect('abc').matches('^b')", "text that matches \"^b\""),
        ("expect(3).is_one_of({ 1, 2 })", "one of { 1, 2 }"),
        ("expect(1):is(2)", "expected  2"),
        ("expect(1)", "asks for nothing"),
        ("expect(1).is()", "is takes 1 argument, not 0"),
        ("expect(1).is_nil(1)", "is_nil takes 0 arguments, not 1"),
        ("expect(1).equals(1)", "nothing can be expected by \"equals\"; there are contains,"),
        ("expect()", "expect takes 1 argument, not 0"),
        ("assert(false, 'as it is')", "as it is"),
        ("error('boom')", "boom"),
        ("local x = nil + 1", "attempt to perform arithmetic"),
        ("local function f() return 1 + f() end f()", "stack overflow"),
        ("while true do end", "stopped after 50000000 Lua instructions"),
        ("while true do pcall(function() while true do end end) end", "stopped after"),
        ("test('inner', function() end)", "cannot be in another one"),
        (
            "lb:flow { service = 'wep' }",
            "no virtual service is named \"wep\"; did you mean \"web\"?",
        ),
        ("lb:flow { servis = 'web' }", "flow has no option `servis`; did you mean `service`?"),
        ("lb:flow {}", "several virtual services are meant; there are \"web\" (tcp 192.0.2.10:80)"),
        ("lb:flow { vip = '192.0.2.10:81' }", "no virtual service is meant"),
        ("lb:flow { vip = 'web' }", "`vip` must be an address and a port"),
        ("lb:flow { protocol = 'sctp' }", "`protocol` must be \"tcp\" or \"udp\", not \"sctp\""),
        ("lb:flow { service = 'web', vip = '192.0.2.10:80' }", "leave `vip` and `protocol` out"),
        ("lb:flow { service = 'web', client = '::1' }", "must be an IPv4 address"),
        (
            "lb:flow { service = 'web', payload = true }",
            "`payload` must be a string or a list of strings, not true",
        ),
        (
            "lb:flow { service = 'web', payload = string.rep('x', 66000) }",
            "a payload of 66000 bytes",
        ),
        ("lb:flow('web')", "flow takes a table of options, not \"web\""),
        ("lb.flow({})", "flow is called with a colon"),
        (
            "for _ = 1, 2 do lb:flow { service = 'web', client = '198.51.100.7:1' } end",
            "198.51.100.7:1 has a flow to 192.0.2.10:80 already",
        ),
        (
            "return lb:flow({ service = 'web' }).poool",
            "a flow has no `poool`; did you mean `pool`?",
        ),
        ("lb:flow({ service = 'web', payload = 'close' }):answer()", "the flow has ended"),
        ("lb:flow({ service = 'dns', payload = 'close' }):answer()", "the flow was closed"),
        ("lb:put { service = 'web', value = 1 }", "put needs `key`"),
        ("lb:put { service = 'web', key = 'k' }", "put needs `value`"),
        ("lb:put { service = 'web', key = 'k', value = true }", "a string or a number, not true"),
        ("lb:put { service = 'web', key = '123456789', value = 1 }", "at most 8 bytes"),
        ("lb:put { service = 'web', key = 'k', value = 1, lifetime = -1 }", "not negative, not -1"),
        ("lb:table('wep')", "did you mean \"web\"?"),
        ("lb:disable('server')", "no pool is named \"server\"; did you mean \"servers\"?"),
        ("lb:disable('servers', '10.0.0.99')", "there are 10.0.0.11:53, 10.0.0.12:53"),
        ("lb:advance('long')", "advance takes seconds"),
        ("lb:advance(-1)", "not from 0 to a year"),
        ("balancer { config = 'lb.toml', time = 'noon' }", "`time` is written \"2026-01-31T"),
        ("balancer()", "balancer needs `config`"),
        ("bytes('123')", "pairs of hexadecimal digits"),
        ("dns.query(nil)", "dns.query takes a name"),
        ("radius.request { station = 'x' }", "attributes by their numbers"),
        ("file('none.bin')", "none.bin cannot be read"),
        ("dofile('none.lua')", "none.lua cannot be read"),
    ] {
        let failure = run_test(body).unwrap_or_else(|| panic!("passes: {body}"));
        assert!(failure.message.contains(message), "{body}\n{failure}");
        let place = failure.places.first().unwrap_or_else(|| panic!("no place: {body}"));
        assert!(place.file.ends_with("a_test.lua") && place.line == 2, "{body}\n{failure}");
    }
}

#[test]
fn what_a_client_says_over_tcp_is_shown_to_scripts_that_inspect() {
    for body in [
        // Enough at once, or in pieces.
        "local flow = lb:flow { service = 'stream', payload = 'abcde' }
         expect(flow.decision).is('server') expect(flow.server).is('10.0.0.12:443')
         expect(flow.log).is('5abcd') expect(flow.waits_for).is_nil()",
        "local flow = lb:flow { service = 'stream', payload = { 'a', 'bc', '', 'd' } }
         expect(flow.decision).is('server') expect(flow.log).is('4abcd')",
        // Not enough: they wait, and run again.
        "local flow = lb:flow { service = 'stream', payload = 'abc' }
         expect(flow.decision).is('waits') expect(flow.waits_for).is(4) expect(flow.line).is(1)
         expect(flow.server).is_nil() expect(flow.record).is_nil()
         flow:send('d') expect(flow.decision).is('server') expect(flow.log).is('4abcd')",
        "local flow = lb:flow { service = 'stream', payload = 'long' }
         expect(flow.waits_for).is(20000) expect(flow.line).is(4)
         flow:send { string.rep('x', 9000), string.rep('y', 10995) } expect(flow.decision).is('waits')
         flow:send('z') expect(flow.log).is('20000long')
         flow:answer('right') expect(flow.log).is('20000long<right')",
        // Nothing at all.
        "local flow = lb:flow { service = 'stream' } expect(flow.decision).is('waits')
         expect(flow.waits_for).is(4) lb:advance(11)
         expect(flow.record.reason).is('no_payload') expect(flow.decision).is('waits')",
        "local flow = lb:flow { service = 'patient' } expect(flow.decision).is('waits')
         expect(flow.waits_for).is(1) expect(flow.script).is_nil() expect(flow.log).is('')
         lb:advance(1.5) expect(flow.decision).is('waits')
         lb:advance(1) expect(flow.decision).is('server') expect(flow.log).is('0')",
        // Nothing more.
        "local flow = lb:flow { service = 'stream', payload = 'abc' } flow:close()
         expect(flow.decision).is('closed') expect(flow.error).contains('has closed its side')
         expect(flow.record.reason).is('script_error')",
        "local flow = lb:flow { service = 'stream', payload = 'close' }
         expect(flow.decision).is('closed') expect(flow.record.reason).is('closed_by_script')",
        // The server's side, and the end.
        "local flow = lb:flow { service = 'stream', payload = 'abcd' } flow:answer()
         expect(flow.log).is('4abcd') flow:answer('ri') flow:answer('ght')
         expect(flow.log).is('4abcd<right') flow:send('more') lb:advance(30)
         expect(flow.record).is_nil() lb:advance(600) expect(flow.record.reason).is('idle')",
        // The same client again, and one that decides at the handshake's end.
        "for _, wanted in ipairs { 'abcd', 'efgh' } do
           local flow = lb:flow { service = 'stream', client = '198.51.100.7:1', payload = wanted }
           expect(flow.log).is('4' .. wanted) lb:advance(60)
           expect(flow.record.ds_log).is('4' .. wanted)
         end",
        "local flow = lb:flow { service = 'cookie', payload = 'x' }
         expect(flow.decision).is('server') flow:answer('y') lb:advance(600)
         expect(flow.record.reason).is('idle')",
    ] {
        let body = format!("lb = balancer('streams.toml') {body}");
        assert_eq!(run_test(&body), None, "{body}");
    }
}

#[test]
fn what_cannot_be_said_over_a_stream_is_told() {
    let flow = "balancer('streams.toml'):flow";
    for (body, message) in [
        (
            "lb:flow { service = 'dns', payload = { 'a', 'b' } }".to_owned(),
            "comes in pieces where tcp_mode = \"inspect\"",
        ),
        ("lb:flow { service = 'dns' }:send('x')".to_owned(), "send: scripts see more than the"),
        (format!("{flow} {{ service = 'stream' }}:answer()"), "it has no server yet"),
        (
            format!("{flow} {{ service = 'stream', payload = 'close' }}:send('x')"),
            "send: the flow has ended",
        ),
        (
            format!("{flow} {{ service = 'stream', payload = 'close' }}:close()"),
            "close: the flow has ended",
        ),
        (
            format!("{flow} {{ service = 'stream', payload = {{ 1 }} }}"),
            "`payload` must be a string or a list of strings, not 1",
        ),
        (
            format!("{flow} {{ service = 'stream', payload = {{ a = 'b' }} }}"),
            "a string or a list of strings, not a table",
        ),
        (
            format!("{flow} {{ service = 'stream', payload = string.rep('x', 65536) }}"),
            "a payload of 65536 bytes",
        ),
    ] {
        let failure = run_test(&body).unwrap_or_else(|| panic!("passes: {body}"));
        assert!(failure.message.contains(message), "{body}\n{failure}");
        assert_eq!(failure.places.first().map(|place| place.line), Some(2), "{body}\n{failure}");
    }
}

#[test]
fn a_test_that_eats_memory_fails_alone() {
    let hog = "test('hog', function() local s = 'x' while true do s = s .. s end end)\n";
    let reports = run_file(&format!("{hog}test('after', function() end)"));
    let failures: Vec<_> = reports.iter().map(|report| report.failure.clone()).collect();
    let [Some(hog), None] = &failures[..] else { panic!("{failures:?}") };
    assert!(hog.message.contains("not enough memory"), "{hog}");
}

#[test]
fn a_test_finds_nothing_of_what_another_has_left() {
    let test = "test(NAME, function() expect(global).is_nil() global = 1 end)\n";
    let two = test.replace("NAME", "'one'") + &test.replace("NAME", "'two'");
    let reports = run_file(&two);
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(|report| report.failure.is_none()), "{reports:?}");
}

#[test]
fn a_failure_in_a_helper_names_the_line_that_called_it() {
    let text =
        "local function check(x)\n  expect(x).is(1)\nend\ntest('t', function()\n  check(2)\nend)";
    let failure = run_file(text).remove(0).failure.unwrap();
    let lines: Vec<_> = failure.places.iter().map(|place| place.line).collect();
    assert_eq!(lines, [2, 5]);
}

#[test]
fn tests_are_named_once_and_with_a_function() {
    for (text, message) in [
        (
            "test('a', function() end)\ntest('a', function() end)",
            "a test of this name already: \"a\"",
        ),
        ("test('a', function() end)\ntest('b')", "a test is written"),
    ] {
        let failure = run_file(text).remove(0).failure.unwrap();
        assert!(failure.message.contains(message) && failure.unreadable, "{failure}");
        assert_eq!(failure.places[0].line, 2);
    }
}
