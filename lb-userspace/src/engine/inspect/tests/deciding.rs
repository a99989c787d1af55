//! When the script runs, what follows from what it says, and what from its silence.

use super::*;

#[test]
fn the_script_runs_once_for_what_it_wanted_to_see() {
    let mut bench = Bench::new();
    assert_eq!(bench.client(&from_client(0, b"")), [""; 0], "no payload, no run");
    assert_eq!(bench.client(&from_client(0, b"ab")), ["decide: Enough"]);
    assert_eq!(bench.decide(Decision::Collect(5)), [""; 0]);
    assert_eq!(bench.client(&from_client(2, b"c")), ["to client . 5001 ack 1004 win 511"]);
    assert_eq!(bench.client(&from_client(3, b"d")), [""; 0], "not yet");
    let told = bench.client(&from_client(4, b"ef"));
    assert_eq!(told, ["decide: Enough", "to client . 5001 ack 1007 win 511"]);
    assert_eq!(bench.inspection.payload(), b"abcdef");
    let syn = "to server S. 1000 win 65535 mss Some(1460) scale Some(8) sack true";
    assert_eq!(bench.decide(Decision::Connect), [syn]);
}

#[test]
fn to_want_what_is_there_is_to_want_more() {
    let mut bench = Bench::new();
    bench.client(&from_client(0, b"ab"));
    assert_eq!(bench.decide(Decision::Collect(1)), [""; 0]);
    assert_eq!(
        bench.client(&from_client(2, b"c")),
        ["decide: Enough", "to client . 5001 ack 1004 win 511"]
    );
}

#[test]
fn what_came_while_the_script_was_busy_counts() {
    let mut bench = Bench::new();
    bench.client(&from_client(0, b"ab"));
    bench.client(&from_client(2, b"cd"));
    assert_eq!(bench.decide(Decision::Collect(4)), ["decide: Enough"]);
}

#[test]
fn more_than_can_come_is_refused() {
    let refused = |end| vec!["to client R. 5001 ack 1003".to_owned(), format!("end: {end}")];
    let mut bench = Bench::new();
    bench.client(&from_client(0, b"ab"));
    assert_eq!(bench.decide(Decision::Collect(LIMIT + 1)), refused("NoMore"));

    let mut bench = Bench::new();
    let told = bench.client(&Segment { flags: FIN, ..from_client(0, b"a") });
    assert_eq!(told, ["decide: Enough", "to client . 5001 ack 1003 win 511"]);
    assert_eq!(bench.decide(Decision::Collect(2)), refused("NoMore"));

    let mut bench = Bench::with(Start { need: LIMIT + 1, ..start() }, limits());
    let mut told = Vec::new();
    for at in 0..46 {
        told = bench.client(&from_client(at * 1440, &[b'x'; 1440]));
    }
    assert_eq!(told[0], "decide: Full");
}

#[test]
fn a_decision_nobody_asked_for_is_none() {
    let mut bench = Bench::new();
    for decision in [Decision::Connect, Decision::Refuse, Decision::Close, Decision::Collect(0)] {
        assert_eq!(bench.decide(decision), [""; 0]);
    }
}

#[test]
fn refusing_resets_the_client() {
    let mut bench = Bench::new();
    bench.client(&from_client(0, b"ab"));
    assert_eq!(bench.decide(Decision::Refuse), ["to client R. 5001 ack 1003", "end: Refused"]);
}

#[test]
fn no_payload_wanted_is_decided_at_once() {
    let mut bench = Bench::with(Start { need: 0, ..start() }, limits());
    assert_eq!(bench.client(&from_client(0, b"")), ["decide: Enough"]);
    bench.decide(Decision::Connect);
    let told = bench.server(&syn_ack());
    assert_eq!(told, ["to server . 1001 ack 9001 win 500", "splice 4000 0 0"]);
    assert!(bench.inspection.is_over());
}

#[test]
fn a_client_that_waits_for_the_server_is_decided_without_payload() {
    let no_payload = Some(2 * SECOND);
    let mut bench = Bench::with(start(), Limits { no_payload, ..limits() });
    bench.client(&from_client(0, b""));
    assert_eq!(bench.wake(), (2 * SECOND, vec!["decide: Silent".to_owned()]));
    assert_eq!(bench.decide(Decision::Collect(1)), [""; 0], "it may wait on");
    let refused = ["to client R. 5001 ack 1001", "end: Idle"];
    assert_eq!(bench.wake(), (8 * SECOND, refused.map(str::to_owned).to_vec()));

    let mut bench = Bench::with(start(), Limits { no_payload, ..limits() });
    bench.client(&from_client(0, b"a"));
    bench.decide(Decision::Collect(5));
    assert_eq!(bench.wait().1, ["to client . 5001 ack 1002 win 511"]);
    let refused = ["to client R. 5001 ack 1002", "end: Idle"];
    assert_eq!(bench.wait().1, refused, "with some payload it waits for all");
}

#[test]
fn a_byte_now_and_then_is_not_enough() {
    let mut bench = Bench::with(Start { need: 1000, ..start() }, limits());
    bench.client(&from_client(0, b""));
    let began = bench.now;
    let mut told = Vec::new();
    for at in 0.. {
        while !bench.inspection.is_over()
            && bench.inspection.wakes_at() < Some(began + 9 * SECOND * at)
        {
            told = bench.wake().1;
        }
        if bench.inspection.is_over() {
            break;
        }
        bench.now = began + 9 * SECOND * at;
        bench.client(&from_client(i32::try_from(at).unwrap(), b"x"));
    }
    assert_eq!(told, ["to client R. 5001 ack 1005", "end: Idle"]);
    assert_eq!(bench.now - began, limits().collecting);
}

#[test]
fn what_is_known_already_keeps_nothing_alive() {
    let mut bench = Bench::with(Start { need: 1000, ..start() }, limits());
    bench.client(&from_client(0, b"x"));
    bench.wait();
    let began = bench.now;
    while !bench.inspection.is_over() {
        bench.now += SECOND;
        bench.client(&from_client(0, b"x"));
        bench.client(&from_client(5, b"x"));
    }
    assert!(bench.now - began <= limits().idle);
}

#[test]
fn a_decision_that_does_not_come_ends_it() {
    let mut bench = Bench::new();
    bench.client(&from_client(0, b"x"));
    assert_eq!(bench.wait().1, ["to client . 5001 ack 1002 win 511"]);
    assert_eq!(bench.wait().1, ["to client R. 5001 ack 1002", "end: Undecided"]);
}
