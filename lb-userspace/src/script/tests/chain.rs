use super::*;
use crate::table::Value;

#[test]
fn a_run_that_fails_leaves_nothing_behind() {
    let mut bench =
        Bench::new(&["avi.vs.table_insert('k', 'v') avi.vs.log('x') avi.pool.select('web') \
         avi.pool.chash('c') avi.vs.close_conn() error('no')"]);
    let outcome = bench.run();
    assert_eq!((outcome.selection, outcome.close, outcome.chash), (None, None, None));
    assert_eq!(outcome.log, "");
    let table = bench.tables.table("dns", b"").unwrap();
    assert_eq!(table.entries(b"", 9, bench.now), []);
}

#[test]
fn a_run_that_fails_does_not_extend_a_lifetime() {
    let mut bench = Bench::new(&["avi.vs.table_lookup('k') error('no')"]);
    let table = bench.tables.table_or_create("dns", b"").unwrap();
    let lifetime = Duration::from_secs(10);
    table.insert(b"k", Value::Number(1.0), lifetime, bench.now);
    assert!(bench.run().failure.is_some());
    assert_eq!(table.entries(b"", 9, bench.now)[0].remaining, 10);
}

#[test]
fn sets_run_in_order_and_the_last_select_wins() {
    let mut bench = Bench::new(&[
        "avi.vs.log('1') avi.pool.select('web') avi.pool.chash('a')",
        "avi.vs.log('2') avi.pool.select('api')",
        "avi.vs.log('3')",
    ]);
    let outcome = bench.run();
    let selection = outcome.selection.unwrap();
    assert_eq!((selection.chosen, selection.by.set), (Chosen::Pool(PoolIndex(1)), SetIndex(1)));
    assert_eq!((outcome.log.as_str(), outcome.chash), ("123", Some(b"a".to_vec())));
}

#[test]
fn close_conn_ends_the_chain_but_not_the_run() {
    let outcome = Bench::new(&["avi.vs.close_conn(true) avi.vs.log('1')", "avi.vs.log('2')"]).run();
    assert_eq!((outcome.log.as_str(), outcome.close.unwrap().reset), ("1", true));
}

#[test]
fn a_failure_ends_the_chain_and_what_went_before_stands() {
    let mut bench = Bench::new(&["avi.vs.log('1')", "local x = nil + 1", "avi.vs.log('3')"]);
    let outcome = bench.run();
    assert_eq!((outcome.log.as_str(), outcome.failure.unwrap().set), ("1", SetIndex(1)));
}

#[test]
fn a_failure_says_where_what_and_by_which_calls() {
    let source = "local function inner()\n  error('broken')\nend\n\
                  local function outer()\n  inner()\n  return 1\nend\nouter()";
    let failure = Bench::new(&[source]).failure();
    assert_eq!(failure.to_string(), "scripts/s0.lua:2: broken");
    assert_eq!((failure.event, failure.on_error), (Event::L4Request, OnError::Close));
    for frame in ["scripts/s0.lua:2: in", "scripts/s0.lua:5: in", "scripts/s0.lua:8: in"] {
        assert!(failure.traceback.contains(frame), "{frame}: {}", failure.traceback);
    }
    assert!(failure.traceback.ends_with("in main chunk"), "{}", failure.traceback);
    assert!(!failure.traceback.contains("firstpacket"), "{}", failure.traceback);
}

#[test]
fn a_failure_in_a_function_of_ours_has_line_and_traceback_too() {
    let failure = Bench::new(&["local x\n\navi.pool.select('nope')"]).failure();
    assert_eq!(failure.line, 3);
    assert!(failure.message.starts_with("avi.pool.select: "), "{failure}");
    let innermost = failure.traceback.lines().next();
    assert_eq!(innermost, Some("[C]: in function 'avi.pool.select'"), "{}", failure.traceback);
    assert!(failure.traceback.contains("scripts/s0.lua:3"), "{}", failure.traceback);
}

#[test]
fn a_failure_in_a_script_with_a_long_path_has_its_line() {
    let mut config = config(&["\nlocal x = y.z"], None);
    let script = config.datascripts[0].l4_request.take().unwrap();
    config.datascripts[0].l4_request = Some(Arc::new(Script {
        path: PathBuf::from("/a-folder-with-a-name".repeat(8)),
        source: script.source.clone(),
    }));
    let failure = Bench::with(config, BUDGET).failure();
    assert_eq!(failure.line, 2);
    assert!(failure.message.starts_with("attempt to index"), "{failure}");
}

#[test]
fn an_error_value_that_is_no_string_is_a_failure_like_any_other() {
    for source in ["error()", "error({})", "error(nil)", "error(avi)", "error(1)"] {
        Bench::new(&[source]).failure();
    }
    let hostile = "error(setmetatable({}, {__tostring = function() error('x') end}))";
    Bench::new(&[hostile]).failure();
}

#[test]
fn errors_of_libraries_have_the_scripts_position_or_none() {
    for (source, message) in [
        ("\ntable.concat({{}})", "invalid value (table) at index 1 in table for 'concat'"),
        ("\nunpack({}, 1, 1e4)", "too many results to unpack"),
    ] {
        let failure = Bench::new(&[source]).failure();
        assert_eq!((failure.line, failure.message.as_str()), (2, message));
        let caught = log_of(&format!("local _, e = pcall(function() {source} end) avi.vs.log(e)"));
        assert_eq!(caught, message);
    }
}

#[test]
fn an_error_without_a_message_is_told_as_that() {
    for source in ["error('')", "error('\\0', 0)", "error('')"] {
        let failure = Bench::new(&[source]).failure();
        assert_eq!(failure.message, "the script raised an error without a message", "{source}");
    }
}

#[test]
fn messages_and_tracebacks_are_cut_to_what_a_log_bears() {
    let failure = Bench::new(&["error(('ä'):rep(100000))"]).failure();
    assert_eq!(failure.message, "ä".repeat(1_000) + "…");
    let name = "f".repeat(20_000);
    let source = format!("function {name}() error('x') end {name}() return 1");
    let failure = Bench::new(&[&source]).failure();
    assert_eq!((failure.message.as_str(), failure.line), ("x", 1));
    assert!(failure.traceback.chars().count() <= 4_001);
}

#[test]
fn pcall_catches_api_errors_as_strings_with_their_position() {
    let source = "\nlocal ok, e = pcall(avi.pool.select, 'nope') avi.vs.log(ok, ' ', e)";
    let log = log_of(source);
    assert_eq!(
        log,
        "false scripts/s0.lua:2: avi.pool.select: set \"s0\" references no pool \"nope\""
    );
}

#[test]
fn pcall_gives_results_and_error_values_through() {
    let source = "avi.vs.log(pcall(function(...) return ... end, 1, nil, 'x')) \
                  local ok, e = pcall(error, {code = 7}) avi.vs.log(ok, e.code) \
                  avi.vs.log(xpcall(function() error('a', 0) end, function(e) return e .. 'b' end))\
                  avi.vs.log(select('#', pcall(error)), pcall(error, nil))";
    assert_eq!(log_of(source), "true1nilxfalse7falseab2falsenil");
}

#[test]
fn persist_reports_key_lifetime_and_pool() {
    let persist = |source| Bench::new(&[source]).run().persist.unwrap();
    let plain = persist("avi.vs.persist('k')");
    assert_eq!((plain.key.as_slice(), plain.lifetime), (&b"k"[..], 300));
    assert_eq!(plain.destination, Destination::Pool(PoolIndex(0)));
    let full = persist("\navi.vs.persist('k', 60, 'api')");
    assert_eq!((full.lifetime, full.by.line), (60, 2));
}

#[test]
fn a_selection_knows_its_line_however_it_is_called() {
    for (source, line) in [
        ("\navi.pool.select('web')", 2),
        ("\n\nreturn avi.pool.select('web')", 3),
        ("local function f()\navi.pool.select('web')\nend\nf()", 2),
        ("local function f()\nreturn avi.pool.select('web')\nend\n\nreturn f()", 2),
        ("local select = avi.pool.select\npcall(select, 'web')", 2),
        ("avi.pool.select('api')\npcall(function()\navi.pool.select('web')\nend)", 3),
    ] {
        let selection = Bench::new(&[source]).run().selection.unwrap();
        assert_eq!(selection.chosen, Chosen::Pool(PoolIndex(0)), "{source}");
        assert_eq!(selection.by.line, line, "{source}");
    }
}

#[test]
fn a_rehearsal_sees_its_own_writes_across_the_chain_and_leaves_nothing() {
    let mut bench = Bench::new(&[
        "avi.vs.table_insert('fresh', 'k', 'v') avi.vs.log(avi.vs.table_lookup('old', 'k', 5))",
        "avi.vs.log(' ', (avi.vs.table_lookup('fresh', 'k')))",
    ]);
    let old = bench.tables.table_or_create("dns", b"old").unwrap();
    old.insert(b"k", Value::Number(1.0), Duration::from_secs(10), bench.now);
    let (outcome, mut transaction) = bench.rehearse();
    assert_eq!((outcome.failure, outcome.log.as_str()), (None, "115 v"));
    assert!(transaction.peek(b"fresh", b"k").is_some());
    drop(transaction);
    assert!(bench.tables.table("dns", b"fresh").is_none());
    assert_eq!(old.entries(b"", 1, bench.now)[0].remaining, 10);
    // A run in earnest after it is as if there had been none.
    assert_eq!(bench.run().log, "115 v");
    assert_eq!(old.entries(b"", 1, bench.now)[0].remaining, 15);
}

#[test]
fn a_journal_tells_what_each_run_did() {
    let mut bench = Bench::new(&[
        "avi.vs.table_insert('t', 'k', 7, 60)\navi.vs.log('a')\navi.pool.select('api')",
        "avi.vs.table_lookup('none')\navi.vs.table_remove('t', 'k') error('no')",
    ]);
    assert!(bench.runtime.take_journal().is_empty());
    bench.runtime.keep_journal(true);
    bench.run();
    let journal = bench.runtime.take_journal();
    let [first, second] = &journal[..] else { panic!("{journal:?}") };
    let place = Place { set: SetIndex(0), event: Event::L4Request, line: 3 };
    assert_eq!(first.ending, Ending::Selected(Chosen::Pool(PoolIndex(1)), place));
    assert_eq!((first.log.as_str(), second.ending), ("a", Ending::Failed));
    let insert = TableAccess::new("table_insert", b"t", b"k", true);
    assert_eq!(first.tables, [insert.with_value(&Value::Number(7.0), 60).at(1)]);
    let lookup = TableAccess::new("table_lookup", b"", b"none", false).at(1);
    let remove = TableAccess::new("table_remove", b"t", b"k", true).at(2);
    assert_eq!(second.tables, [lookup, remove]);
    assert!(bench.runtime.take_journal().is_empty());
}

#[test]
fn persist_without_any_pool_is_an_error() {
    let outcome = Bench::new(&["avi.vs.persist('k')"]).run_on("bare");
    assert!(outcome.failure.unwrap().message.contains("has no pool"));
}

#[test]
fn persist_ends_the_run_and_the_chain_and_what_it_did_before_counts() {
    let mut bench = Bench::new(&[
        "avi.pool.select('web') avi.vs.table_insert('k', 'v') avi.vs.log('1') \
         avi.vs.persist('k') avi.vs.log('no')",
        "avi.vs.log('2')",
    ]);
    let outcome = bench.run();
    assert_eq!((outcome.failure, outcome.log.as_str()), (None, "1"));
    assert_eq!(outcome.selection, None);
    assert_eq!(bench.tables.table("dns", b"").unwrap().entries(b"", 9, bench.now).len(), 1);
}

#[test]
fn no_pcall_keeps_a_run_alive_that_persist_has_ended() {
    for source in [
        "pcall(avi.vs.persist, 'k') avi.vs.log('alive')",
        "pcall(pcall, pcall, avi.vs.persist, 'k') avi.vs.log('alive')",
        "xpcall(function() avi.vs.persist('k') end, function() avi.vs.log('handler') end) \
         avi.vs.log('alive')",
        "table.sort({1, 2, 3}, function() pcall(avi.vs.persist, 'k') avi.vs.log('alive') end)",
    ] {
        let outcome = Bench::new(&[source]).run();
        assert_eq!((outcome.failure, outcome.log.as_str()), (None, ""), "{source}");
        assert!(outcome.persist.is_some());
    }
}

#[test]
fn loading_replaces_the_scripts_whole_or_keeps_them() {
    let mut bench = Bench::new(&["avi.vs.log('old')"]);
    let broken = Arc::new(config(&["avi.vs.log('new')", "x ="], None));
    let error = bench.runtime.load(&broken).unwrap_err().to_string();
    assert!(error.starts_with("scripts/s1.lua:1: unexpected symbol"), "{error}");
    assert_eq!(bench.log(), "old");
    bench.config = Arc::new(config(&["avi.vs.log('new')"], None));
    bench.runtime.load(&bench.config).unwrap();
    assert_eq!(bench.log(), "new");
}

#[test]
fn bytecode_is_no_script() {
    let lua = mlua::Lua::new();
    let bytecode = lua.load("return 1").into_function().unwrap().dump(true);
    let Ok(source) = String::from_utf8(bytecode.clone()) else {
        // It cannot even be a script's source, which is text.
        return assert!(bytecode.starts_with(b"\x1bLua"));
    };
    let config = Arc::new(config(&[&source], None));
    Bench::new(&[]).runtime.load(&config).unwrap_err();
}

#[test]
fn nothing_runs_where_nothing_is_loaded() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.run(), Outcome::default());
    bench.config = Arc::new(config(&["error('never loaded')"], None));
    assert_eq!(bench.run(), Outcome::default());
}

#[test]
fn a_panic_in_a_function_of_ours_goes_on_beyond_lua_and_the_state_survives_it() {
    struct Broken;
    impl World for Broken {
        fn server_up(&self, _: PoolIndex, _: ServerIndex) -> bool {
            panic!("broken");
        }
    }
    let source = "if avi.l4.read() == 'hello' then \
                  pcall(avi.pool.get_servers) avi.vs.log('alive') end avi.vs.log('fine')";
    let mut bench = Bench::new(&[source]);
    let world: std::rc::Rc<dyn World> = std::rc::Rc::new(Broken);
    let flow = Flow {
        virtual_service: "dns",
        protocol: Protocol::Udp,
        client: bench.client,
        vip: bench.client,
        payload: b"hello",
        more: None,
        destination: Some(Destination::Pool(PoolIndex(0))),
        server: None,
    };
    let runtime = &mut bench.runtime;
    let run = std::panic::AssertUnwindSafe(|| {
        runtime.run(Event::L4Request, &[SetIndex(0)], &flow, &world, bench.now, wall())
    });
    let panic = std::panic::catch_unwind(run).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"broken"));
    bench.payload.clear();
    assert_eq!(bench.log(), "fine");
}
