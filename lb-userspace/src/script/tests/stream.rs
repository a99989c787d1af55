//! `collect` of more than is buffered, where more may come.

use super::*;
use crate::table::Value;

impl Bench {
    /// Runs with this much of a stream.
    pub(super) fn progress(&mut self, payload: &[u8], more: More) -> Progress {
        let sets: Vec<_> = (0..self.config.datascripts.len()).map(SetIndex).collect();
        let flow = self.stream(payload, more);
        let world: std::rc::Rc<dyn World> = self.down.clone();
        let event = self.event();
        self.runtime.run(event, &sets, &flow, &world, self.now, wall())
    }

    fn stream<'a>(&self, payload: &'a [u8], more: More) -> Flow<'a> {
        Flow {
            virtual_service: "dns",
            protocol: Protocol::Tcp,
            client: self.client,
            vip: "192.0.2.10:53".parse().unwrap(),
            payload,
            more: Some(more),
            destination: Some(Destination::Pool(PoolIndex(0))),
            server: self.server,
        }
    }

    /// How many bytes the scripts wait for.
    pub(super) fn wait(&mut self, payload: &[u8]) -> Wait {
        match self.progress(payload, More::MayCome) {
            Progress::Waits(wait) => wait,
            Progress::Decided(outcome) => panic!("{outcome:?} by {} bytes", payload.len()),
        }
    }

    /// What they have decided.
    pub(super) fn decided(&mut self, payload: &[u8], more: More) -> Outcome {
        match self.progress(payload, more) {
            Progress::Decided(outcome) => outcome,
            Progress::Waits(wait) => panic!("{wait:?} with {} bytes", payload.len()),
        }
    }

    fn entries(&self, table: &[u8]) -> Vec<(Vec<u8>, Value, u64)> {
        let table = self.tables.table("dns", table);
        let listed = table.map(|table| table.entries(b"", 9, self.now)).unwrap_or_default();
        let listed = listed.into_iter();
        listed.map(|entry| (entry.key.to_vec(), entry.value, entry.remaining)).collect()
    }
}

#[test]
fn a_script_waits_for_what_it_collects_and_begins_anew_with_it() {
    let mut bench =
        Bench::new(&["local early = #avi.l4.read()\nlocal first = avi.l4.collect(4)\n\
         local second = avi.l4.collect('8') avi.vs.log(early, ' ', first, ' ', second)"]);
    let by = |line| Place { set: SetIndex(0), event: Event::L4Request, line };
    for (payload, expected) in [
        ("", Ok(Wait { bytes: 4, by: by(2) })),
        ("abc", Ok(Wait { bytes: 4, by: by(2) })),
        ("abcd", Ok(Wait { bytes: 8, by: by(3) })),
        ("abcdefg", Ok(Wait { bytes: 8, by: by(3) })),
        ("abcdefgh", Err("8 8 8")),
        ("abcdefghi", Err("9 9 9")),
    ] {
        match (bench.progress(payload.as_bytes(), More::MayCome), expected) {
            (Progress::Waits(wait), Ok(expected)) => assert_eq!(wait, expected, "{payload}"),
            (Progress::Decided(outcome), Err(log)) => {
                assert_eq!((outcome.failure, outcome.log.as_str()), (None, log), "{payload}");
            }
            (progress, expected) => panic!("{payload}: {progress:?}, not {expected:?}"),
        }
    }
}

#[test]
fn what_a_run_did_before_it_waits_is_gone() {
    let mut bench = Bench::new(&["avi.vs.table_insert('k', 'v') avi.vs.table_remove('gone')\n\
         avi.vs.table_lookup('old', 500) avi.vs.log('x') avi.pool.select('api') global = 1\n\
         avi.pool.chash('c') avi.l4.collect(9) avi.vs.log(global)"]);
    let table = bench.tables.table_or_create("dns", b"").unwrap();
    for key in [&b"gone"[..], b"old"] {
        table.insert(key, Value::Number(1.0), Duration::from_secs(10), bench.now);
    }
    let before = bench.entries(b"");
    bench.runtime.keep_journal(true);
    let wait = bench.wait(b"hello");
    assert_eq!(bench.entries(b""), before);
    let journal = bench.runtime.take_journal();
    let [waits] = &journal[..] else { panic!("{journal:?}") };
    assert_eq!((waits.ending, waits.log.as_str()), (Ending::Waits(wait), ""));
    assert_eq!((waits.set, waits.event, &waits.tables[..]), (SetIndex(0), wait.by.event, &[][..]));
    let outcome = bench.decided(b"hello all", More::MayCome);
    assert_eq!((outcome.log.as_str(), outcome.chash), ("x1", Some(b"c".to_vec())));
    assert_eq!(outcome.selection.unwrap().chosen, Chosen::Pool(PoolIndex(1)));
    let after: Vec<_> = bench.entries(b"").into_iter().map(|(key, _, left)| (key, left)).collect();
    assert_eq!(after, [(b"k".to_vec(), 300), (b"old".to_vec(), 510)]);
    assert_eq!(bench.runtime.take_journal().len(), 1);
}

#[test]
fn neither_close_conn_nor_an_earlier_wait_is_left_of_a_run_that_waits() {
    let mut bench =
        Bench::new(&["if #avi.l4.read() < 3 then avi.vs.close_conn() avi.l4.collect(3) end"]);
    bench.wait(b"");
    assert_eq!(bench.decided(b"abc", More::MayCome), Outcome::default());
    // Nor does a run that waited keep one from failing, or a flow of another kind from ending.
    assert_eq!(bench.decided(b"", More::Closed).failure.unwrap().line, 1);
    bench.wait(b"");
    assert!(bench.run().failure.is_none());
}

#[test]
fn no_pcall_keeps_a_run_alive_that_waits() {
    for source in [
        "pcall(avi.l4.collect, 9) avi.vs.log('alive')",
        "pcall(pcall, pcall, avi.l4.collect, 9) avi.vs.log('alive')",
        "xpcall(function() avi.l4.collect(9) end, function() avi.vs.log('handler') end)",
        "table.sort({1, 2, 3}, function() pcall(avi.l4.collect, 9) avi.vs.log('alive') end)",
        "while true do pcall(avi.l4.collect, 9) end",
        "string.gsub('aa', 'a', function() pcall(avi.l4.collect, 9) end) avi.vs.close_conn()",
    ] {
        let mut bench = Bench::new(&[source]);
        assert_eq!(bench.wait(b"hello").bytes, 9, "{source}");
        bench.now += Duration::from_secs(1);
        assert_eq!(bench.wait(b"hello al").bytes, 9, "{source}");
    }
}

/// Counts in a table, as one run would.
const COUNTS: &str = "local n = avi.vs.table_lookup('n', 0) or 0 avi.vs.table_remove('n')\n\
                      avi.vs.table_insert('n', n + 1, 300) avi.vs.log('counted ')";

#[test]
fn a_set_that_waits_takes_those_before_it_along() {
    let waits = "avi.vs.log(avi.l4.collect(#avi.l4.read() < 6 and #avi.l4.read() + 1 or 6))";
    let mut bench = Bench::new(&[COUNTS, waits, COUNTS]);
    for length in 0..6 {
        let wait = bench.wait(&b"hello!"[..length]);
        assert_eq!((wait.bytes, wait.by.set), (length + 1, SetIndex(1)));
        assert_eq!(bench.entries(b""), []);
    }
    assert_eq!(bench.decided(b"hello!", More::MayCome).log, "counted 6counted ");
    assert_eq!(bench.entries(b""), [(b"n".to_vec(), Value::Number(2.0), 300)]);
}

#[test]
fn a_set_that_fails_takes_nothing_of_those_before_it_along() {
    let fails = "avi.vs.table_remove('n') avi.vs.table_insert('m', 1, 300) error('no')";
    let mut bench = Bench::new(&[COUNTS, fails, COUNTS]);
    for run in 1..=3 {
        let outcome = bench.decided(b"", More::MayCome);
        assert_eq!((outcome.failure.unwrap().set, &*outcome.log), (SetIndex(1), "counted "));
        assert_eq!(bench.entries(b""), [(b"n".to_vec(), Value::Number(run.into()), 300)]);
    }
}

#[test]
fn what_cannot_come_is_an_error_that_says_why() {
    let source = "avi.l4.collect(6)";
    for (more, server, why) in [
        (More::Closed, None, "the client has closed its side, no more will come"),
        (More::Late, None, "`inspect_timeout` has run out, so the script decides without"),
        (More::Closed, Some(()), "the server has closed its side, no more will come"),
    ] {
        let mut bench = match server {
            None => Bench::new(&[source]),
            Some(()) => Bench::response(source),
        };
        let failure = bench.decided(b"hello", more).failure.unwrap();
        let message = format!("avi.l4.collect: 6 bytes wanted, 5 buffered: {why}");
        assert_eq!((failure.line, failure.message), (1, message));
        assert_eq!(bench.decided(b"hello!", more).failure, None);
    }
    let mut caught = Bench::new(&["avi.vs.log(pcall(avi.l4.collect, 1) and 'more' or 'none')"]);
    assert_eq!(caught.decided(b"", More::Late).log, "none");
}

#[test]
fn a_response_script_waits_for_the_servers_payload() {
    let mut bench = Bench::response("avi.l4.collect(3) avi.vs.log(avi.l4.read(3))");
    assert_eq!(bench.wait(b"SS").by.event, Event::L4Response);
    assert_eq!(bench.decided(b"SSH-2.0", More::MayCome).log, "SSH");
}

#[test]
fn read_never_waits_and_says_what_does() {
    let mut bench = Bench::new(&["avi.l4.read(6)"]);
    let failure = bench.decided(b"hello", More::MayCome).failure.unwrap();
    let message = "avi.l4.read: 6 bytes wanted, 5 buffered: avi.l4.collect waits for more";
    assert_eq!(failure.message, message);
}

#[test]
fn as_much_as_may_be_asked_for_is_waited_for_and_no_more() {
    assert_eq!(Bench::new(&["avi.l4.collect(65000)"]).wait(b"").bytes, 65_000);
    let failure = Bench::new(&["avi.l4.collect(65001)"]).decided(b"", More::MayCome).failure;
    assert!(failure.unwrap().message.contains("from 0 to 65000"));
}

#[test]
fn each_run_has_a_budget_of_its_own() {
    // Half of it before it waits, and half of it behind.
    let work = "for i = 1, 20000 do end";
    let source = format!("{work} avi.l4.collect(5) {work} avi.vs.log('done')");
    let mut bench = Bench::new(&[&source]);
    for length in 0..5 {
        bench.wait(&b"hello"[..length]);
    }
    assert_eq!(bench.decided(b"hello", More::MayCome).log, "done");
}

#[test]
fn a_rehearsal_waits_too_and_leaves_nothing() {
    let mut bench = Bench::new(&[COUNTS, "avi.l4.collect(6)"]);
    let sets = [SetIndex(0), SetIndex(1)];
    let world: std::rc::Rc<dyn World> = bench.down.clone();
    let mut rehearse = |payload| {
        let flow = bench.stream(payload, More::MayCome);
        let (event, now) = (Event::L4Request, bench.now);
        bench.runtime.rehearse(event, &sets, &flow, &world, now, wall())
    };
    let (progress, mut transaction) = rehearse(b"hello");
    assert!(matches!(progress, Progress::Waits(Wait { bytes: 6, .. })), "{progress:?}");
    assert!(transaction.peek(b"", b"n").is_none());
    let (progress, mut transaction) = rehearse(b"hello!");
    assert!(matches!(progress, Progress::Decided(_)), "{progress:?}");
    assert_eq!(transaction.peek(b"", b"n").unwrap().value, Value::Number(1.0));
    drop(transaction);
    assert_eq!(bench.entries(b""), []);
}

#[test]
fn nothing_waits_where_nothing_is_loaded() {
    let mut bench = Bench::new(&[]);
    bench.config = Arc::new(config(&["avi.l4.collect(9)"], None));
    assert_eq!(bench.decided(b"", More::MayCome), Outcome::default());
}
