use super::*;
use crate::script::check;

/// A set that references `Mine` and `Other`, and with them the TLS parser of ours.
fn with_files(request: &str, files: &[(&str, &str)]) -> Bench {
    Bench::with(with_files_config(request, files), BUDGET)
}

fn with_files_config(request: &str, files: &[(&str, &str)]) -> Config {
    let configured = (0..files.len()).map(|index| ParserReference::Configured(ParserIndex(index)));
    let references: Vec<_> =
        configured.chain([ParserReference::BuiltIn(BuiltInParser::Tls)]).collect();
    config_with(&[request], &references, files)
}

/// The same with `Mine` alone.
fn with_mine(request: &str, mine: &str) -> Bench {
    with_files(request, &[("Mine", mine)])
}

#[test]
fn only_what_the_set_references_can_be_required() {
    let message = error_of("require('Default-TLS')");
    let expected = "require: set \"s0\" references no protocol parser \"Default-TLS\"; \
                    it references none";
    assert_eq!(message, expected);
    let failure = with_mine("\nrequire('Default-DHCP')", "return {}").failure();
    assert!(failure.message.ends_with("it references \"Mine\", \"Default-TLS\""), "{failure}");
    assert_eq!(failure.line, 2);
    for (call, text) in [
        ("require()", "1 argument expected, got 0"),
        ("require({})", "bad argument #1 (protocol parser): string expected, got table"),
        ("require('\\255')", "references no protocol parser"),
        ("require('string')", "references no protocol parser \"string\""),
    ] {
        assert_error(call, text);
    }
}

#[test]
fn parsers_are_there_for_the_servers_packet_too() {
    let source = "avi.vs.log((require 'Default-TLS').get_req_buffer_size(avi.l4.read()))";
    let mut config = config(&[], Some(source));
    config.datascripts[0].protocol_parsers = built_in();
    let mut bench = Bench::with(config, BUDGET);
    bench.server = Some("10.0.0.11:8080".parse().unwrap());
    assert_eq!(bench.log(), "5");
}

#[test]
fn parsers_of_ours_cannot_be_changed() {
    for parser in BuiltInParser::ALL {
        let name = parser.name();
        for attempt in [
            "p.get_sni = nil",
            "p.x = 1",
            "rawset(p, 'x', 1)",
            "setmetatable(p, {})",
            "getmetatable(p).__index = {}",
            "next(p)",
        ] {
            let source = format!("local p = require '{name}' {attempt}");
            Bench::with(config_with(&[&source], &built_in(), &[]), BUDGET).failure();
        }
    }
    let reach = "local p = require 'Default-DHCP' local _, o = p.getDHCPParamsAndOptions(avi.l4.read()) \
                 avi.vs.log(getmetatable(o), pcall(setmetatable, o, {}))";
    let mut bench = Bench::with(config_with(&[reach], &built_in(), &[]), BUDGET);
    let log = bench.log_about(dhcp::REQUEST);
    assert!(log.starts_with("falsefalse"), "{log}");
}

#[test]
fn parsers_of_ours_do_not_use_what_a_script_has_overridden() {
    let source = "local log, read, require = avi.vs.log, avi.l4.read, require \
                  string, table, type, error, tostring, setmetatable, rawget, avi = nil \
                  local tls, dhcp = require 'Default-TLS', require 'Default-DHCP' \
                  local radius = require 'Default-Radius' local p = read() \
                  log(tls.get_sni(tls.parse_record(p)), radius.parsepacket(p), \
                  dhcp.getDHCPParamsAndOptions(p))";
    let mut bench = Bench::with(config_with(&[source], &built_in(), &[]), BUDGET);
    assert_eq!(bench.log_about(tls::REAL[0].0), "www.example.comnilnilnil");
}

#[test]
fn a_file_is_run_once_a_run_and_gives_its_module() {
    let mine = "count = (count or 0) + 1\nlocal own = 0\nlocal M = {}\n\
                function M.next() own = own + 1 return own end\nM.name = ...\nreturn M";
    let request = "local a, b = require 'Mine', require('Mine') \
                   avi.vs.log(a == b, a.next(), b.next(), count, a.name)";
    let mut bench = with_mine(request, mine);
    for _ in 0..3 {
        assert_eq!(bench.log(), "true121Mine");
    }
}

#[test]
fn what_a_file_keeps_is_not_seen_by_another_flow_or_set() {
    let mine = "local M = {} avi.vs.log(type(kept), type(M.kept)) kept = 1 M.kept = 1 return M";
    let request = "local m = require 'Mine' m.more = 1";
    let mut config = with_files_config(request, &[("Mine", mine)]);
    let mut second = config.datascripts[0].clone();
    second.name = "second".to_owned();
    config.datascripts.push(second);
    let mut bench = Bench::with(config, BUDGET);
    for _ in 0..2 {
        assert_eq!(bench.log(), "nilnilnilnil");
    }
}

#[test]
fn a_file_shares_the_scripts_globals() {
    let mine = "function helper() return shared end return {}";
    let request = "shared = 'yes' require 'Mine' avi.vs.log(helper(), _G.helper == helper)";
    assert_eq!(with_mine(request, mine).log(), "yestrue");
}

#[test]
fn a_parser_may_require_another_that_the_set_references() {
    let files = [
        ("Mine", "local o, t = require 'Other', require 'Default-TLS' return {o = o, t = t}"),
        ("Other", "return {name = 'other'}"),
    ];
    let request = "local m = require 'Mine' avi.vs.log(m.o.name, m.o == require 'Other', \
                   m.t == require 'Default-TLS')";
    assert_eq!(with_files(request, &files).log(), "othertruetrue");
    let failure = with_mine("\nlocal m = require 'Mine'", "return {x = require 'Nope'}").failure();
    let message = "parsers/mine.lua:1: require: set \"s0\" references no protocol parser \"Nope\"";
    assert!(failure.message.starts_with(message), "{failure}");
    assert_eq!(failure.line, 2);
}

#[test]
fn parsers_that_require_each_other_are_an_error() {
    let text = "it requires itself, perhaps by way of another";
    let failure = with_mine("require 'Mine'", "require 'Mine' return {}").failure();
    assert!(failure.message.contains(text), "{failure}");
    let files = [("Mine", "require 'Other' return {}"), ("Other", "\nrequire 'Mine' return {}")];
    let failure = with_files("\n\nrequire 'Mine'", &files).failure();
    assert!(failure.message.starts_with("parsers/other.lua:2: require: "), "{failure}");
    assert!(failure.message.contains(text), "{failure}");
    assert_eq!(failure.line, 3);
    assert!(failure.traceback.contains("parsers/mine.lua:1"), "{}", failure.traceback);
}

#[test]
fn a_file_that_failed_is_not_tried_again_in_the_same_run() {
    let request = "avi.vs.log(pcall(require, 'Mine')) local ok, e = pcall(require, 'Mine') \
                   avi.vs.log(e:contains('has failed before'))";
    let mut bench = with_mine(request, "error('broken')");
    for _ in 0..2 {
        assert_eq!(bench.log(), "falseparsers/mine.lua:1: brokentrue");
    }
}

#[test]
fn a_file_must_return_a_table() {
    for (mine, got) in
        [("", "nil"), ("return", "nil"), ("return 5", "number"), ("return avi", "userdata")]
    {
        let failure = with_mine("\nrequire 'Mine'", mine).failure();
        let expected = format!(
            "require: protocol parser \"Mine\" must return a table of its functions, \
             and parsers/mine.lua returned {got}"
        );
        assert_eq!((failure.line, failure.message), (2, expected), "{mine}");
    }
}

#[test]
fn a_failure_in_a_parser_has_the_scripts_line_and_the_parsers_position() {
    let mine = "local M = {}\nfunction M.parse(x)\n  return x.y.z\nend\nreturn M";
    let request = "local m = require 'Mine'\n\nlocal x = m.parse({})";
    let failure = with_mine(request, mine).failure();
    assert_eq!(failure.line, 3);
    assert!(failure.message.starts_with("parsers/mine.lua:3: attempt to index"), "{failure}");
    for frame in ["parsers/mine.lua:3: in", "scripts/s0.lua:3: in"] {
        assert!(failure.traceback.contains(frame), "{frame}: {}", failure.traceback);
    }
    assert_eq!(failure.script, PathBuf::from("scripts/s0.lua"));
}

#[test]
fn what_a_parser_decides_is_by_the_scripts_line() {
    let mine = "local M = {}\n\n\nfunction M.go()\n  avi.pool.select('api')\nend\nreturn M";
    let outcome = with_mine("local m = require 'Mine'\nm.go()\nlocal x", mine).run();
    assert_eq!(outcome.selection.unwrap().by.line, 2);
}

#[test]
fn the_bounds_of_a_run_hold_in_its_parsers() {
    for mine in ["while true do end", "local function f() return f() end return {f = f()}"] {
        let failure = with_mine("\nrequire 'Mine'", mine).failure();
        assert!(failure.message.contains("instruction budget"), "{failure}");
        assert_eq!(failure.line, 2);
    }
    let hog = "hog = {} while true do hog[#hog + 1] = ('x'):rep(1e5) .. #hog end";
    let request = "if avi.l4.read() == 'hello' then require 'Mine' end";
    let mut bench = Bench::with(with_files_config(request, &[("Mine", hog)]), 10_000_000);
    assert!(bench.failure().message.contains("not enough memory"));
    bench.payload.clear();
    assert_eq!(bench.log(), "");
}

#[test]
fn what_a_parser_took_is_free_for_the_next_run() {
    // Two thirds of the memory, in globals: of the parser's run, then of one without it.
    let mine = "hog = {} for i = 1, 26 do hog[i] = ('x'):rep(100000) .. i end return {}";
    // Of strings that are equal Lua keeps one.
    let request = mine.replace("return {}", "").replace("'x'", "'y'");
    let request = format!("if avi.l4.read() == 'hello' then require 'Mine' else {request} end");
    let config = with_files_config(&request, &[("Mine", mine)]);
    let mut bench = Bench::with(config, 10_000_000);
    for run in 0..10 {
        bench.payload = if run % 2 == 0 { b"hello".to_vec() } else { vec![] };
        assert_eq!(bench.run().failure, None, "run {run}");
    }
}

#[test]
fn persist_ends_the_run_from_within_a_parser() {
    let mut bench = with_mine("\npcall(require, 'Mine') avi.vs.log('no')", "avi.vs.persist('k')");
    for _ in 0..2 {
        let outcome = bench.run();
        assert_eq!((outcome.failure, outcome.log.as_str()), (None, ""));
        assert_eq!(outcome.persist.unwrap().by.line, 2);
    }
}

#[test]
fn a_parser_that_does_not_compile_is_refused_at_load() {
    let mut bench = with_mine("avi.vs.log('old')", "return {}");
    let broken = Arc::new(with_files_config("avi.vs.log('new')", &[("Mine", "\nlocal = 1")]));
    let error = bench.runtime.load(&broken).unwrap_err().to_string();
    assert_eq!(error, "parsers/mine.lua:2: '<name>' expected near '='");
    assert_eq!(bench.log(), "old");
    let problems = check(&broken);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].script.path, PathBuf::from("parsers/mine.lua"));
    assert_eq!(problems[0].line, 2);
}

#[test]
fn parsers_that_take_half_the_memory_are_refused() {
    let large = "x = {".to_owned() + &"'a', {}, ".repeat(200_000) + "} return {}";
    let mut bench = with_mine("require 'Mine' avi.vs.log('old')", "return {}");
    let config = Arc::new(with_files_config("avi.vs.log('new')", &[("Mine", &large)]));
    let error = bench.runtime.load(&config).unwrap_err().to_string();
    assert!(error.contains("must be at least twice"), "{error}");
    assert_eq!(bench.log(), "old");
}

/// Script, line, column, message and help of each problem.
fn problems(config: &Config) -> Vec<(String, u32, u32, String, String)> {
    let told = |problem: Problem| {
        let script = problem.script.path.display().to_string();
        let help = problem.help.unwrap_or_default();
        (script, problem.line, problem.column, problem.message, help)
    };
    check(config).into_iter().map(told).collect()
}

#[test]
fn literal_names_are_checked_in_scripts_and_in_parsers() {
    let request =
        "local a, b = require 'Mine', require('Default-TLS')\n  x = require 'Default-DHCP'";
    let mine =
        "\nlocal r = require 'Nope' avi.pool.select('other') avi.pool.select('web') return {}";
    let found = problems(&with_files_config(request, &[("Mine", mine)]));
    let problem = |script: &str, line, column, what: &str, help: &str| {
        let message = format!("set \"s0\" references no {what}");
        (script.to_owned(), line, column, message, help.to_owned())
    };
    let add = "add \"Default-DHCP\" to `protocol_parsers` of [[datascript]] \"s0\"";
    let add_pool = "add \"other\" to `pools` of [[datascript]] \"s0\"";
    assert_eq!(
        found,
        [
            problem("scripts/s0.lua", 2, 15, "protocol parser \"Default-DHCP\"", add),
            problem("parsers/mine.lua", 2, 19, "protocol parser \"Nope\"", ""),
            problem("parsers/mine.lua", 2, 42, "pool \"other\"", add_pool),
        ]
    );
}

#[test]
fn a_parser_that_no_set_references_must_compile_all_the_same() {
    let config = config_with(&[""], &[], &[("Mine", "x ="), ("Other", "require 'Nope'")]);
    let scripts: Vec<_> = problems(&config).into_iter().map(|problem| problem.0).collect();
    assert_eq!(scripts, ["parsers/mine.lua"]);
    assert!(Bench::new(&[]).runtime.load(&Arc::new(config)).is_err());
}
