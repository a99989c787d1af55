//! What servers answer to a SYN, and what the client learns of it.

use super::*;

const SYN: &str = "to server S. 1000 win 65535 mss Some(1460) scale Some(8) sack true";

#[test]
fn the_syn_carries_what_the_client_offered() {
    let agreed = agreed(536, None, false);
    let mut bench = Bench::with(Start { agreed, ..start() }, limits());
    bench.client(&from_client(0, b"x"));
    let syn = "to server S. 1000 win 500 mss Some(536) scale None sack false";
    assert_eq!(bench.decide(Decision::Connect), [syn]);
}

#[test]
fn the_syn_is_repeated_and_then_it_is_anothers_turn() {
    let mut bench = Bench::opening(b"hello");
    let syn = vec![SYN.to_owned()];
    assert_eq!(
        bench.wake(),
        (ACKNOWLEDGEMENT_DELAY, vec!["to client . 5001 ack 1006 win 511".to_owned()])
    );
    assert_eq!(bench.wake(), (SECOND - ACKNOWLEDGEMENT_DELAY, syn.clone()));
    assert_eq!(bench.wake(), (2 * SECOND, syn));
    let failed = ["to server R. 1001", "failed: Silent"].map(str::to_owned).to_vec();
    assert_eq!(bench.wake(), (2 * SECOND, failed));
    assert_eq!(bench.decide(Decision::Connect), [SYN]);
}

#[test]
fn servers_that_fail_one_after_the_other_end_it_in_time() {
    let mut bench = Bench::opening(b"hello");
    let began = bench.now;
    let mut failures = 0;
    let last = loop {
        let told = bench.wait().1;
        if told.iter().any(|line| line.starts_with("failed")) {
            failures += 1;
            bench.decide(Decision::Connect);
        }
        if bench.inspection.is_over() {
            break told;
        }
    };
    assert_eq!(failures, 2);
    assert_eq!(bench.now - began, limits().opening);
    assert_eq!(last, ["to server R. 1001", "to client R. 5001 ack 1006", "end: NoServer(Silent)"]);
}

#[test]
fn each_answer_has_its_consequence() {
    let sequence = |number| SequenceNumber(number);
    let reset = Segment { flags: RST_ACK, sequence: sequence(0), ..from_server(0, 0, b"") };
    let cases: [(&str, Segment<'_>, &str); 11] = [
        ("refused", reset, "failed: Refused"),
        ("a reset for another SYN", Segment { acknowledgement: sequence(1000), ..reset }, ""),
        ("a reset that acknowledges nothing", Segment { flags: Flags::RST, ..reset }, ""),
        ("too low", Segment { acknowledgement: sequence(1000), ..syn_ack() }, "to server R. 1000"),
        ("too high", Segment { acknowledgement: sequence(1002), ..syn_ack() }, "to server R. 1002"),
        ("an old connection", from_server(0, 900, b""), "to server R. 1901"),
        ("only an ACK", from_server(0, 0, b""), ""),
        ("only a SYN", Segment { flags: Flags::SYN, ..syn_ack() }, ""),
        ("no flag", Segment { flags: Flags::default(), ..syn_ack() }, ""),
        ("FIN", Segment { flags: FIN, ..from_server(0, 0, b"") }, ""),
        (
            "a fine one",
            syn_ack(),
            "to client . 5001 ack 1006 win 511, to server P. 1001 ack 9001 win 500 'hello'",
        ),
    ];
    for (name, segment, expected) in cases {
        let told = Bench::opening(b"hello").server(&segment);
        assert_eq!(told.join(", "), expected, "{name}");
    }
}

#[test]
fn only_an_error_about_our_syn_counts() {
    let mut bench = Bench::opening(b"hello");
    assert_eq!(bench.step(Input::Unreachable(SequenceNumber(1001))), [""; 0]);
    let told = bench.step(Input::Unreachable(SequenceNumber(1000)));
    assert_eq!(told, ["to server R. 1001", "failed: Unreachable"]);
    assert_eq!(bench.decide(Decision::Refuse), ["to client R. 5001 ack 1006", "end: Refused"]);
}

#[test]
fn a_late_answer_of_a_server_that_was_given_up_is_nothing() {
    let mut bench = Bench::opening(b"hello");
    bench.step(Input::Unreachable(SequenceNumber(1000)));
    assert_eq!(bench.server(&syn_ack()), [""; 0]);
}

#[test]
fn what_the_server_says_of_itself_is_kept_to() {
    let options = |mss, window_scale| Options { mss, window_scale, sack_permitted: false };
    let payload = [b'x'; 1500];
    // What it says; the length of the first segment, and what the splice does.
    let cases = [
        ("as we", options(Some(1460), Some(7)), 1460, "splice 4000 0 0"),
        ("nothing", options(None, None), 536, "splice 4000 -7 8"),
        ("wide windows", options(Some(9000), Some(14)), 1460, "splice 4000 7 0"),
        ("too wide", options(Some(1460), Some(255)), 1460, "splice 4000 7 0"),
        ("a tiny MSS", options(Some(1), Some(0)), 48, "splice 4000 -7 0"),
        ("an MSS of nothing", options(Some(0), Some(0)), 48, "splice 4000 -7 0"),
    ];
    for (name, options, length, splice) in cases {
        let mut bench = Bench::opening(&payload);
        let mut actions = Vec::new();
        let answer = Segment { options, ..syn_ack() };
        bench.inspection.step(bench.now, Input::Server(&answer), &mut actions);
        let first = actions.iter().find_map(|action| match action {
            Action::Send(Side::Server, segment) => Some(segment.payload.len()),
            _ => None,
        });
        assert_eq!(first, Some(length), "{name}");
        let told = bench.server(&from_server(0, 1500, b""));
        let told: Vec<_> = told.iter().filter(|line| line.starts_with("splice")).collect();
        // A tiny MSS makes more segments than the first flight has.
        assert!(told == [splice] || (length == 48 && told.is_empty()), "{name}: {told:?}");
    }
}

#[test]
fn scaling_that_was_not_offered_is_not_agreed() {
    let agreed = agreed(1460, None, true);
    let mut bench = Bench::with(Start { agreed, need: 0, ..start() }, limits());
    bench.client(&from_client(0, b""));
    bench.decide(Decision::Connect);
    assert_eq!(bench.server(&syn_ack()).last().unwrap(), "splice 4000 0 0");
}

#[test]
fn the_client_may_say_more_or_leave_before_the_server_answers() {
    let mut bench = Bench::opening(b"hello");
    assert_eq!(bench.client(&from_client(5, b" you")), ["to client . 5001 ack 1010 win 511"]);
    let told = bench.client(&Segment { flags: FIN, ..from_client(9, b"") });
    assert_eq!(told, ["to client . 5001 ack 1011 win 511"]);
    let told = bench.server(&syn_ack());
    assert_eq!(told, ["to server FP. 1001 ack 9001 win 500 'hello you'"]);

    let mut bench = Bench::opening(b"hello");
    let reset = Segment { flags: Flags::RST, ..from_client(5, b"") };
    assert_eq!(bench.client(&reset), ["to server R. 1001", "end: ClientReset"]);
}
