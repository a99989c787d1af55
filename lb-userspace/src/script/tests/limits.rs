use super::*;
use crate::config::{BuiltInParser, ParserReference};

const EXHAUSTED: &str = "instruction budget of 100000 exhausted";

#[test]
fn a_loop_without_end_exhausts_the_budget() {
    let failure = Bench::new(&["local x = 1\nwhile true do\n x = x + 1\nend"]).failure();
    assert_eq!(failure.message, EXHAUSTED);
    assert!((2..=3).contains(&failure.line), "{failure}");
    assert!(failure.traceback.contains("scripts/s0.lua:"), "{}", failure.traceback);
}

#[test]
fn no_pcall_survives_an_exhausted_budget() {
    for source in [
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() return 1 end) end",
        "xpcall(function() while true do end end, function() while true do end end)",
        "while true do pcall(pcall, pcall, function() while true do end end) end",
        "local function f() pcall(f) f() end f()",
        "while true do pcall(error, 'x') end",
        "while true do pcall(avi.pool.select, 'nope') end",
        "setmetatable(_G, nil)",
    ] {
        Bench::new(&[source]).failure();
    }
    let nested = "local function f() while true do pcall(f) end end f()";
    assert_eq!(error_of(nested), EXHAUSTED);
}

#[test]
fn the_budget_is_exact_enough() {
    // Two instructions a turn of an empty numeric loop would be generous: Lua 5.1 takes one.
    let source = "for i = 1, 900 do end avi.vs.log('done')";
    let run = |budget| Bench::with(config(&[source], None), budget).run();
    assert_eq!(run(1_500).log, "done");
    assert!(run(850).failure.is_some());
    assert!(run(1).failure.is_some());
}

#[test]
fn each_run_has_the_whole_budget() {
    let mut bench = Bench::new(&["for i = 1, 90000 do end"]);
    for _ in 0..10 {
        assert_eq!(bench.run().failure, None);
    }
}

#[test]
fn a_budget_of_zero_is_none() {
    let source = "for i = 1, 3000000 do end avi.vs.log('done')";
    assert_eq!(Bench::with(config(&[source], None), 0).log(), "done");
}

#[test]
fn an_exhausted_run_does_not_harm_the_next() {
    let source = "if avi.l4.read() == 'hello' then while true do end end avi.vs.log('fine')";
    let mut bench = Bench::new(&[source]);
    for _ in 0..20 {
        bench.payload = b"hello".to_vec();
        assert_eq!(bench.failure().message, EXHAUSTED);
        bench.payload.clear();
        assert_eq!(bench.log(), "fine");
    }
}

#[test]
fn an_exhausted_run_does_not_harm_a_load() {
    let mut bench = Bench::new(&["while true do end"]);
    assert_eq!(bench.failure().message, EXHAUSTED);
    let mut next = config(&["avi.vs.log(type(require 'Default-TLS'))"], None);
    next.datascripts[0].protocol_parsers = vec![ParserReference::BuiltIn(BuiltInParser::Tls)];
    bench.config = Arc::new(next);
    bench.runtime.load(&bench.config).unwrap();
    assert_eq!(bench.log(), "userdata");
}

#[test]
fn patterns_that_explode_stop_with_the_budget() {
    for call in ["find(S, P)", "match(S, P)", "gsub(S, P, 'x')", "gmatch(S, P)()"] {
        let call = call.replace('S', "('a'):rep(30) .. 'b'").replace('P', "('.-'):rep(20) .. 'c'");
        assert_eq!(error_of(&format!("string.{call}")), EXHAUSTED, "{call}");
    }
}

#[test]
fn long_calls_of_the_libraries_count() {
    for source in [
        "local s = ('x'):rep(1e6) while true do s:upper() end",
        "local s = ('x'):rep(1e6) while true do s:find('y') end",
        "local s = ('x'):rep(1e6) while true do s:contains('y') end",
        "local t = {} for i = 1, 1e4 do t[i] = 'x' end while true do table.concat(t) end",
        "local t = {} for i = 1, 1e4 do t[i] = -i end while true do table.sort(t) end",
        "string.rep('', 1e15) while true do string.rep('', 1e15) end",
    ] {
        assert_eq!(error_of(source), EXHAUSTED, "{source}");
    }
}

#[test]
fn what_takes_long_in_one_instruction_counts_as_what_it_costs() {
    // Each body takes long once: so few turns of it must already exhaust the budget.
    for (setup, body, most) in [
        ("local s = ('x'):rep(2e4)", "local t = s .. n", 330),
        ("local s = ('x'):rep(2e4)", "local t = ('%s%d'):format(s, n)", 330),
        ("local s = ('x'):rep(2e4)", "local t = s:sub(2 + n)", 330),
        ("local s = ('x'):rep(2e4)", "local t = s:rep(2)", 330),
        ("local t = {} for i = 1, 7000 do t[i] = i end", "local a = unpack(t)", 110),
        ("local t = {} for i = 1, 7000 do t[i] = i end", "local a = unpack(t, -500, 7000)", 110),
        ("local t = {} for i = 1, 7000 do t[i] = 7000 - i end", "table.sort(t)", 2),
        ("local t = {}", "table.insert(t, -4e5, 1)", 2),
        (
            "local t = {} for i = 1, 2e4 do t[i] = i end for i = 1, 2e4 do t[i] = nil end",
            "next(t)",
            200,
        ),
        ("local s = ('a'):rep(3e4) local p = s .. 'b'", "s:find(p, 1, true)", 100),
        ("local s = ('x'):rep(1e4) local p = '[' .. ('a'):rep(1e4) .. ']'", "s:find(p)", 1),
        ("local s = ('x'):rep(1e4) local p = '[' .. ('a'):rep(1e4) .. ']-b'", "s:find(p)", 1),
    ] {
        let source = format!("{setup} for n = 1, {most} do {body} end");
        let failure = Bench::new(&[&source]).run().failure;
        assert_eq!(failure.map(|it| it.message).as_deref(), Some(EXHAUSTED), "{body}");
    }
}

#[test]
fn a_search_takes_no_longer_than_both_texts() {
    let source = "local s = ('a'):rep(60000) local p = ('a'):rep(30000) .. 'b' \
                  for i = 1, 10 do s:contains(p) end avi.vs.log('done')";
    assert_eq!(log_of(source), "done");
}

/// Between two looks at the budget no run goes on for longer than this, whatever it is stuck in.
/// The best of a few tries counts, for a machine that does other things meanwhile. A pattern is not
/// among them: each of its steps is counted, so it is stopped by the very step.
const LATE: Duration = Duration::from_millis(10);

#[test]
fn a_script_that_is_stuck_is_stopped_within_ten_milliseconds_of_its_budget() {
    // The memory is the default; a smaller budget shows as much, in less time.
    let limits = ScriptLimits { instruction_budget: 300_000, memory: 32 << 20 };
    let prelude = "local s, d = ('x'):rep(6e4), ('7'):rep(6e4) \
                   local list, full = {}, {} for i = 1, 5000 do list[i] = 'x' full[i] = i end \
                   local function many(...) return select('#', ...) end ";
    for body in [
        "",
        "local t = s .. 'y'",
        "big = (big or 'x') .. (big or 'x') if #big > 4e6 then big = big:sub(1, 4e6) end",
        "local t = {} t[1] = t",
        "kept = kept or {} kept[#kept + 1] = {}",
        "local t = ('%s'):format(s)",
        "local t = d + 0",
        "local t = s < s .. 'y'",
        "unpack(list)",
        "many(unpack(list))",
        "table.concat(list)",
        "table.sort(full, function(a, b) return a > b end)",
        "for k in pairs(full) do full[k] = nil full[k] = k end",
        "pcall(error, s)",
        "pcall(string.rep, s, 1e3)",
        "avi.vs.client_ip()",
        "avi.vs.table_insert(d:sub(1, 30), s:sub(1, 30))",
        "local t = avi.l4.read()",
    ] {
        let mut bench =
            Bench::with(config(&[&format!("{prelude} while true do {body} end")], None), 1);
        bench.runtime = Runtime::new(limits, Arc::clone(&bench.tables)).unwrap();
        bench.runtime.load(&bench.config).unwrap();
        bench.payload = vec![b'p'; 60_000];
        let late = (0..3).map(|_| {
            let message = bench.failure().message;
            let bound = message == "instruction budget of 300000 exhausted"
                || message.starts_with("not enough memory");
            assert!(bound, "{body}: {message}");
            bench.runtime.longest_unwatched()
        });
        let late = late.min().unwrap();
        println!("{late:>12?}  {body}");
        assert!(late < LATE, "{body}: {late:?}");
    }
}

#[test]
fn a_string_that_no_memory_holds_is_refused_at_once() {
    assert_error("string.rep('x', 1e12)", "string.rep: a string of 1000000000000 bytes");
    assert_error("('x'):rep(1/0)", "string.rep");
}

#[test]
fn memory_is_bounded_and_the_state_survives_it() {
    let source = "if avi.l4.read() == 'hello' then local t = {} for i = 1, 1e9 do \
                  t[i] = ('x'):rep(50000) .. i end end avi.vs.log('fine')";
    let mut bench = Bench::with(config(&[source], None), 0);
    for _ in 0..100 {
        bench.payload = b"hello".to_vec();
        let failure = bench.failure();
        assert!(failure.message.starts_with("not enough memory"), "{failure}");
    }
    bench.payload.clear();
    assert_eq!(bench.log(), "fine");
}

#[test]
fn memory_that_runs_out_in_a_function_of_ours_is_an_error_like_any_other() {
    for source in [
        "local t = {} while true do t[#t + 1] = avi.l4.read() end",
        "local s = 'x' while true do s = s:rep(2) end",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = ('a b c d e f'):split(' ') end",
        "local t = {} while true do t[#t + 1] = function() return t end end",
        "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(1e5) .. #t end) end",
    ] {
        let mut bench = Bench::with(config(&[source], None), 1_000_000);
        bench.payload = vec![7; 60_000];
        for _ in 0..3 {
            bench.failure();
        }
    }
}

#[test]
fn garbage_of_ordinary_runs_never_reaches_the_bound() {
    let source = "local t = {} for i = 1, 5 do t[i] = 'part ' .. i end \
                  avi.vs.table_insert(avi.vs.client_ip(), #table.concat(t))";
    let mut bench = Bench::new(&[source]);
    for port in 0..100_000u32 {
        bench.client.set_port((port % 65_536) as u16);
        assert_eq!(bench.run().failure, None, "run {port}");
    }
}

#[test]
fn garbage_of_large_runs_never_reaches_the_bound() {
    // Each takes a third of the memory and leaves it as garbage.
    let source = "local t = {} for i = 1, 65 do t[i] = ('x'):rep(20000) .. i end";
    let mut bench = Bench::new(&[source]);
    for run in 0..200 {
        assert_eq!(bench.run().failure, None, "run {run}");
    }
}

#[test]
fn recursion_without_end_is_an_error() {
    let source = "local function f() return 1 + f() end f()";
    assert_eq!(error_of(source), EXHAUSTED);
    let failure = Bench::with(config(&[source], None), 0).failure();
    assert!(failure.message.contains("stack overflow"), "{failure}");
    let mut bench = Bench::with(config(&["local function f() pcall(f) end f()"], None), 10_000);
    let outcome = bench.run();
    assert_eq!(outcome.log, "");
}

#[test]
fn scripts_that_take_half_the_memory_are_refused() {
    let large = "x = {".to_owned() + &"'a', {}, ".repeat(200_000) + "}";
    let config = Arc::new(config(&[&large], None));
    let mut bench = Bench::new(&["avi.vs.log('old')"]);
    let error = bench.runtime.load(&config).unwrap_err().to_string();
    assert!(error.contains("must be at least twice"), "{error}");
    assert_eq!(bench.log(), "old");
}

#[test]
fn garbled_scripts_do_not_panic() {
    for source in
        ["", "\0", "#!/bin/lua\navi.vs.log('x')", "return", "return 1, 2", "--[[", "\u{feff}"]
    {
        let config = Arc::new(config(&[source], None));
        let mut bench = Bench::new(&[]);
        if bench.runtime.load(&config).is_ok() {
            bench.config = config;
            bench.run();
        }
        check::assert_syntax_agrees(source);
    }
}

#[test]
fn functions_of_ours_bear_a_state_without_memory() {
    // Fills the memory, the last bytes with small pieces, and goes on calling.
    let fill = "local t, n, l = {}, 0 local function big() while true do n = n + 1 \
                t[n] = ('0'):rep(100) .. n end end local function small() while true do l = {l} end \
                end local function call(f, ...) pcall(big) pcall(small) pcall(f, ...) end ";
    let calls = "call(avi.vs.client_ip) call(avi.l4.read) call(avi.vs.log, 1.5) \
                 call(avi.vs.table_insert, 'k', 'v') call(avi.vs.table_lookup, 'k') \
                 call(avi.pool.select, 'nope') call(avi.pool.get_servers) call(string.split, 'a b', ' ')\
                 call(string.gsub, 'abc', '(.)', '%1%1') call(os.date) call(os.date, '*t') \
                 call(string.match, 'abc', '(a)(b)(c)') call(error, 'x') call(require, 'x') \
                 call(avi.pool.select, 'web', '10.0.0.11') call(avi.vs.client_ip, 1) ";
    let source = format!("{fill} {calls} t, l = nil {calls} avi.vs.persist('k')");
    let mut bench = Bench::with(config(&[&source], None), 0);
    for _ in 0..3 {
        let outcome = bench.run();
        assert!(outcome.persist.is_some() || outcome.failure.is_some());
    }
    bench.config = Arc::new(config(&["avi.vs.log('fine')"], None));
    bench.runtime.load(&bench.config).unwrap();
    assert_eq!(bench.log(), "fine");
}
