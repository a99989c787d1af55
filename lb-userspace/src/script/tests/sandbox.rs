use super::*;
use crate::script::api::functions::functions;

/// Runs one script after another on the same state.
fn log_of_second(first: &str, second: &str) -> String {
    let mut bench = Bench::new(&[first]);
    let outcome = bench.run();
    assert_eq!(outcome.failure, None, "{first}");
    bench.config = Arc::new(config(&[second], None));
    bench.runtime.load(&bench.config).unwrap();
    bench.log()
}

#[test]
fn what_scripts_must_not_have_is_not_there() {
    for name in [
        "io",
        "debug",
        "ffi",
        "package",
        "dofile",
        "loadfile",
        "load",
        "loadstring",
        "newproxy",
        "getfenv",
        "setfenv",
        "collectgarbage",
        "gcinfo",
        "module",
        "coroutine",
        "print",
        "jit",
        "os.execute",
        "os.exit",
        "os.getenv",
        "os.remove",
        "os.rename",
        "os.tmpname",
        "os.setlocale",
        "string.dump",
        "host",
    ] {
        assert_eq!(log_of(&format!("avi.vs.log(type({name}))")), "nil", "{name}");
    }
    assert!(error_of("io.open('x')").starts_with("attempt to index global 'io'"));
}

#[test]
fn the_standard_libraries_are_there() {
    for name in [
        "string.format",
        "string.gsub",
        "string.byte",
        "table.concat",
        "table.getn",
        "math.floor",
        "math.mod",
        "os.time",
        "os.date",
        "os.clock",
        "pcall",
        "xpcall",
        "unpack",
        "select",
        "rawget",
        "rawset",
        "rawequal",
        "setmetatable",
        "next",
        "ipairs",
        "tonumber",
        "assert",
    ] {
        assert_eq!(log_of(&format!("avi.vs.log(type({name}))")), "function", "{name}");
    }
    assert_eq!(log_of("avi.vs.log(_VERSION, _G._VERSION, ('x'):upper())"), "Lua 5.1Lua 5.1X");
}

#[test]
fn a_function_is_the_same_by_its_full_name_and_step_by_step() {
    let functions = functions().map(|function| function.name).filter(|name| name.contains('.'));
    for name in functions.filter(|name| !name.starts_with("host.")) {
        let (library, own) = name.rsplit_once('.').unwrap();
        let source = format!(
            "local library = {library} avi.vs.log(library.{own} == {name}, ' ', type({name}))"
        );
        // The second can touch its globals, and so reads nothing by full names.
        for source in [source.clone(), format!("{source} x = 1")] {
            assert_eq!(log_of(&source), "true function", "{source}");
        }
    }
}

#[test]
fn full_names_are_no_globals_that_a_script_could_see() {
    let source = "avi.vs.log(tostring(_G['avi.vs.log']), ' ', tostring(rawget(_G, 'os.time')))";
    assert_eq!(log_of(source), "nil nil");
    let own = "local avi = {vs = {client_ip = function() return 'own' end}}
               log(avi.vs.client_ip())";
    assert_eq!(log_of(&format!("local log = avi.vs.log {own}")), "own");
    assert_eq!(log_of("local log = avi.vs.log avi = {vs = {ip = 1}} log(avi.vs.ip)"), "1");
}

#[test]
fn globals_are_seen_by_functions_of_the_same_run() {
    let source =
        "payload = avi.l4.read() function f() return payload, _G.payload end avi.vs.log(f())";
    assert_eq!(log_of(source), "hellohello");
}

#[test]
fn globals_do_not_leak_into_another_run_or_script() {
    let source = "avi.vs.log(type(x), type(_G.y)) x = 1 _G.y = 2 rawset(_G, 'z', 3)";
    let mut bench = Bench::new(&[source, "avi.vs.log(type(x), type(y), type(z))"]);
    assert_eq!(bench.log(), "nilnilnilnilnil");
    assert_eq!(bench.log(), "nilnilnilnilnil");
}

#[test]
fn what_a_run_overrides_is_back_in_the_next() {
    let source = "avi.vs.log(type(avi), type(pcall)) avi = nil pcall = nil string = nil";
    let mut bench = Bench::new(&[&source.replace("avi.vs.log", "local l = avi.vs.log l")]);
    assert_eq!(bench.log(), "userdatafunction");
    assert_eq!(bench.log(), "userdatafunction");
}

#[test]
fn libraries_cannot_be_changed() {
    for library in ["avi", "avi.vs", "avi.pool", "avi.l4", "string", "table", "math", "os"] {
        for attempt in [
            "LIB.x = 1",
            "LIB.format = nil",
            "rawset(LIB, 'x', 1)",
            "table.insert(LIB, 1)",
            "table.remove(LIB)",
            "table.sort(LIB)",
            "setmetatable(LIB, {})",
            "getmetatable(LIB).__index = {}",
            "getmetatable(LIB).__newindex = nil",
            "rawget(LIB, 'x')",
            "next(LIB)",
            "for k in pairs(LIB) do end",
            "unpack(LIB)",
        ] {
            let attempt = attempt.replace("LIB", library);
            Bench::new(&[&attempt]).failure();
        }
    }
    let message = error_of("string.format = nil");
    assert_eq!(message, "'string' cannot be changed");
}

#[test]
fn the_metatable_of_strings_is_out_of_reach() {
    assert_eq!(log_of("avi.vs.log(getmetatable(''))"), "false");
    for attempt in [
        "getmetatable('').__index = nil",
        "setmetatable('', {})",
        "('').x = 1",
        "string.gsub = function() end",
        "('x').format = 1",
    ] {
        Bench::new(&[attempt]).failure();
    }
}

#[test]
fn the_globals_behind_the_globals_are_out_of_reach() {
    assert_eq!(log_of("avi.vs.log(getmetatable(_G), rawget(_G, 'avi'))"), "falsenil");
    for attempt in ["setmetatable(_G, {})", "getmetatable(_G).__index.x = 1"] {
        Bench::new(&[attempt]).failure();
    }
}

#[test]
fn functions_that_were_replaced_in_one_run_are_not_called_by_ours() {
    let first = "type, select, error, tostring, ipairs = nil string = {} table = nil \
                 avi.vs.log(('a-b'):gsub('%-', '+'))";
    let second = "avi.vs.log(('a-b'):gsub('%-', '+')) local ok, e = pcall(error, 'x', 0) \
                  avi.vs.log(ok, e)";
    assert_eq!(log_of_second(first, second), "a+b1falsex");
}

#[test]
fn a_closure_that_outlives_its_run_is_unreachable_for_the_next() {
    let first = "kept = function() return 'leak' end setmetatable(_G.t or {}, {__index = kept})";
    assert_eq!(log_of_second(first, "avi.vs.log(type(kept))"), "nil");
}

#[test]
fn no_way_out_is_left_open() {
    for attempt in [
        // Whatever runs later finds the globals and metatables as they were.
        "setmetatable(_G, {__index = {}}) ",
        "getmetatable(_G).__index = nil",
        "getmetatable('').__index.upper = nil",
        "rawset(getmetatable(''), '__index', {})",
        "rawset(string, 'upper', nil)",
        "rawset(avi.vs, 'log', nil)",
        "for name in pairs(avi) do end",
        "next(avi.pool)",
        "setmetatable(avi, nil)",
        "setmetatable(function() end, {})",
        "getfenv(0).x = 1",
        "getfenv(pcall).pcall = nil",
        "setfenv(1, {})",
        "setfenv(avi.vs.log, {})",
        "string.dump(function() end)",
        "('x').dump(function() end)",
        "loadstring('return 1')()",
        "load(function() return nil end)",
        "loadstring(('\\27Lua'))",
        "debug.getregistry()",
        "debug.getupvalue(pcall, 1)",
        "debug.sethook()",
        "collectgarbage('stop')",
        "collectgarbage('setpause', 1e9)",
        "newproxy(true)",
        "newproxy(avi)",
        "coroutine.wrap(function() end)()",
        "require('os')",
        "module('x')",
        "package.loaded.os.exit()",
        "_G._G._G.io.open('x')",
        "table.insert(_G.string, 1)",
        "table.sort(avi)",
        "unpack(string)",
        "string.gsub('x', 'x', os.exit)",
        "_VERSION.x = 1",
    ] {
        Bench::new(&[attempt]).failure();
    }
}

#[test]
fn collecting_runs_nothing_of_a_script() {
    let source = "setmetatable({}, {__gc = function() avi.vs.log('collected') end})\
                  for i = 1, 2e3 do local t = {i} end avi.vs.log('done')";
    assert_eq!(log_of(source), "done");
}

#[test]
fn weak_tables_keep_nothing_from_another_run() {
    let first = "w = setmetatable({}, {__mode = 'k'}) w[w] = w w[avi] = w w[pcall] = function() return w end";
    assert_eq!(
        log_of_second(first, "avi.vs.log(type(w), type(avi), type(pcall))"),
        "niluserdatafunction"
    );
}

#[test]
fn an_error_whose_text_never_comes_is_a_failure_all_the_same() {
    for source in [
        "error(setmetatable({}, {__tostring = function() while true do end end}))",
        "error(setmetatable({}, {__tostring = function(self) return tostring(self) end}))",
        "error(setmetatable({}, {__tostring = function() return {} end}))",
        "error(setmetatable({}, {__tostring = function() error(setmetatable({}, {__tostring = error})) end}))",
        "error(setmetatable({}, {__tostring = function() return ('x'):rep(1e6) .. ('y'):rep(3e6) end}))",
    ] {
        let mut bench = Bench::new(&[source]);
        let failure = bench.failure();
        assert!(
            !failure.message.is_empty() && failure.message.len() < 4_100,
            "{source}: {failure}"
        );
        assert_eq!(bench.failure(), failure, "the state is as it was");
    }
}

#[test]
fn time_is_what_the_run_was_given() {
    assert_eq!(log_of("avi.vs.log(os.time(), ' ', os.clock())"), "1700000000 0");
    assert_eq!(log_of("avi.vs.log(os.date('!%Y-%m-%dT%H:%M:%S'))"), "2023-11-14T22:13:20");
}

#[test]
fn a_replay_draws_the_same_random_numbers() {
    let source = "avi.vs.log(math.random(), ' ', math.random(6), ' ', math.random(5, 7))";
    let mut bench = Bench::new(&[source]);
    assert_eq!(bench.log(), bench.log());
    let first = bench.log();
    bench.client.set_port(1);
    assert_ne!(bench.log(), first);
}

#[test]
fn random_numbers_are_in_their_interval() {
    let source = "for i = 1, 1000 do local r, n = math.random(), math.random(3, 5) \
                  assert(r >= 0 and r < 1 and n >= 3 and n <= 5 and n % 1 == 0) end \
                  math.randomseed(1) local a = math.random() math.randomseed(1) \
                  avi.vs.log(a == math.random())";
    assert_eq!(log_of(source), "true");
    assert_error("math.random(0)", "math.random: there is no whole number from 1 to 0");
    assert_error("math.random(1, 1e300)", "bad argument #2 (n): number that is exact");
    assert_error("math.random(0 / 0)", "bad argument #1 (m): number that is exact");
}
