//! Scripts of random calls with random arguments on random payloads: nothing panics, nothing is
//! left for the next run, the bounds hold, and every failure says what it is.
//!
//! `cargo xtask fuzz` runs it longer.

use proptest::{prelude::*, sample::select};

use super::*;
use crate::{script::api::functions::functions, testing::cases};

/// Says all that a script can see of its world: what it has globals, metatables and libraries for.
const SENTINEL: &str = "
    local seen = {}
    local function see(name, value)
      seen[#seen + 1] = name .. '=' .. type(value)
    end
    for _, name in ipairs({'_G', '_VERSION', 'assert', 'avi', 'coroutine', 'debug', 'error', 'f',
        'getfenv', 'getmetatable', 'io', 'ipairs', 'load', 'math', 'next', 'os', 'pairs', 'pcall',
        'rawequal', 'rawget', 'rawset', 'require', 'select', 'setmetatable', 'string', 't', 'table',
        'tonumber', 'tostring', 'type', 'unpack', 'x', 'xpcall', 'y', 'z'}) do
      see(name, _G[name])
    end
    for name in pairs(_G) do seen[#seen + 1] = name end
    see('string meta', getmetatable(''))
    see('global meta', getmetatable(_G))
    see('nil meta', getmetatable(nil))
    see('number meta', getmetatable(1))
    see('function meta', getmetatable(pcall))
    see('library meta', getmetatable(string))
    see('index', ('').leak)
    see('new', ({}).leak)
    seen[#seen + 1] = ('a-b'):gsub('%-', '+') .. ('x'):upper() .. #'abc' .. tostring(1 == 1)
    seen[#seen + 1] = tostring(pcall(error)) .. select('#', 1, nil) .. math.floor(1.5)
    local text = table.concat(seen, ' ')
    local sum = 0
    for i = 1, #text do sum = (sum * 31 + text:byte(i)) % 2147483647 end
    avi.vs.log(#seen, ' ', sum, ' ', os.time(), ' ', math.random(1e6))";

/// Arguments: of every type, and some that mean something.
fn argument() -> impl Strategy<Value = String> {
    let fixed = [
        "nil",
        "true",
        "false",
        "{}",
        "{1, 2, 'x'}",
        "0",
        "1",
        "-1",
        "2^53",
        "-1e9",
        "1e300",
        "0/0",
        "1/0",
        "''",
        "'web'",
        "'api'",
        "'10.0.0.11'",
        "8080",
        "'8080'",
        "'k'",
        "'.-.-.-b'",
        "'(%w+)(.*)'",
        "'[a'",
        "'%f[%w]%b()'",
        "'\\0\\255'",
        "f",
        "t",
        "x",
        "y",
        "avi",
        "avi.vs",
        "string",
        "_G",
        "pcall",
        "error",
        "getmetatable('')",
        "function(...) return ... end",
        "function() error(t) end",
        "'*t'",
        "'!%c%x%Q'",
        "setmetatable({}, {__index = function(_, k) return k end})",
        "avi.l4.read()",
        "('x'):rep(5000)",
        "setmetatable({}, {__tostring = function() while true do end end})",
        "newproxy",
    ];
    prop_oneof![
        8 => select(fixed.map(str::to_owned).to_vec()),
        1 => any::<f64>().prop_map(|number| format!("({number:e})").replace("(inf", "(1/0").replace("(-inf", "(-1/0").replace("(NaN", "(0/0")),
        1 => "[a-z0-9.%()*+-]{0,12}".prop_map(|text| format!("'{text}'")),
    ]
}

/// Every function that there is, ours and Lua's. Of those that give any number of results the first:
/// Lua's `pcall` asserts, in debug builds only, that there are few.
fn callee() -> impl Strategy<Value = String> {
    const LUAS: &[&str] = &[
        "assert",
        "error",
        "getmetatable",
        "ipairs",
        "next",
        "pairs",
        "pcall",
        "rawequal",
        "rawget",
        "rawset",
        "select",
        "setmetatable",
        "tonumber",
        "tostring",
        "type",
        "first(unpack)",
        "xpcall",
        "first(string.byte)",
        "string.char",
        "string.format",
        "string.gmatch",
        "string.gsub",
        "string.len",
        "string.sub",
        "table.concat",
        "table.foreach",
        "table.foreachi",
        "table.getn",
        "table.insert",
        "table.maxn",
        "table.remove",
        "table.sort",
        "math.abs",
        "math.floor",
        "math.fmod",
        "math.ldexp",
        "math.max",
        "f",
        "x",
        "loadstring",
        "coroutine.wrap",
        "collectgarbage",
        "debug.getinfo",
    ];
    let ours = functions().map(|function| function.name).filter(|name| !name.starts_with("host."));
    select(ours.chain(LUAS.iter().copied()).map(str::to_owned).collect::<Vec<_>>())
}

/// A call and what is done with its results.
fn call() -> impl Strategy<Value = String> {
    let call = (callee(), prop::collection::vec(argument(), 0..4))
        .prop_map(|(name, arguments)| (name, arguments.join(", ")));
    (call, 0..12).prop_map(|((name, arguments), form)| match form {
        0 => format!("{name}({arguments})"),
        1 => format!("x = {name}({arguments})"),
        2 => format!("local a, b = pcall({name}{}{arguments}) y = b", comma(&arguments)),
        3 => format!("for i = 1, 20 do pcall({name}{}{arguments}) end", comma(&arguments)),
        4 => format!("t[#t + 1] = {{pcall({name}{}{arguments})}}", comma(&arguments)),
        5 => format!("pcall(pcall, {name}{}{arguments})", comma(&arguments)),
        6 => format!(
            "xpcall(function() return {name}({arguments}) end, function(e) y = e error(e) end)"
        ),
        7 => format!("pcall(function() avi.vs.log({name}({arguments})) end)"),
        8 => format!("pcall(function() x = x .. tostring({name}({arguments})) end)"),
        9 => format!("f = function(...) return {name}(...) end"),
        10 => format!("pcall(table.sort, {{3, 1, 2}}, function() return {name}({arguments}) end)"),
        _ => format!("pcall(string.gsub, 'abc', '.', function() return {name}({arguments}) end)"),
    })
}

fn comma(arguments: &str) -> &str {
    if arguments.is_empty() { "" } else { ", " }
}

/// Tries to leave something behind, or to run on.
fn mischief() -> impl Strategy<Value = String> {
    select(
        [
            "_G.z = f rawset(_G, 'y', t) setmetatable(t, {__index = _G, __gc = f, __mode = 'k'})",
            "pcall(function() string.leak = 1 end) pcall(function() getmetatable('').__index = t end)",
            "pcall(rawset, string, 'leak', 1) pcall(rawset, avi, 'leak', 1)",
            "string = {leak = 1} avi.leak = 1",
            "pcall = nil error = nil setmetatable = nil _G._G = nil",
            "while true do pcall(function() while true do end end) end",
            "x = 'x' while true do x = x .. x end",
            "while true do t = {t} end",
            "local function g() return (pcall(g)) end g()",
            "local function g() return 1 + g() end pcall(g)",
            "for i = 1, 1e9 do t[i] = i end",
            "error(setmetatable({}, {__tostring = function(s) return tostring(s) end}))",
            "('a'):rep(200):find(('.-'):rep(20) .. 'b')",
        ]
        .map(str::to_owned)
        .to_vec(),
    )
}

fn script() -> impl Strategy<Value = String> {
    let statement = prop_oneof![9 => call(), 1 => mischief()];
    prop::collection::vec(statement, 1..8).prop_map(|statements| {
        let begin = "x, y, t = 'x', 1, {} f = function(...) return ... end \
                     local function first(f) return function(...) return (f(...)) end end";
        format!("{begin}\n{}", statements.join(";\n"))
    })
}

/// Runs a script on a state that has been used for others.
fn run(bench: &mut Bench, source: &str) -> Outcome {
    bench.config = Arc::new(config(&[source], None));
    bench.runtime.load(&bench.config).expect("it compiles");
    bench.run()
}

fn assert_well(bench: &Bench, outcome: &Outcome, source: &str) {
    assert!(outcome.log.chars().count() <= LOG_CHARACTERS, "{source}");
    if let Some(failure) = &outcome.failure {
        assert!(!failure.message.trim().is_empty(), "{source}: {failure:?}");
    }
    assert!(bench.runtime.used_memory() <= MEMORY, "{source}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(64)))]
    #[test]
    fn fuzz_scripts_leave_the_world_as_it_was(
        sources in prop::collection::vec(script(), 1..4),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        response in any::<bool>(),
    ) {
        let mut bench = Bench::new(&[]);
        let before = run(&mut bench, SENTINEL);
        prop_assert_eq!(before.failure, None);
        bench.payload = payload;
        for source in &sources {
            let outcome = run(&mut bench, source);
            assert_well(&bench, &outcome, source);
            if response {
                bench.config = Arc::new(config(&[], Some(source)));
                bench.runtime.load(&bench.config).expect("it compiles");
                bench.server = Some("10.0.0.11:8080".parse().unwrap());
                let outcome = bench.run();
                assert_well(&bench, &outcome, source);
                bench.server = None;
            }
            let after = run(&mut bench, SENTINEL);
            prop_assert_eq!((&after.log, after.failure), (&before.log, None), "after\n{}", source);
        }
    }
}
