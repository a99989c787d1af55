//! A close in order, and what clients make of it.

use super::*;

fn closing() -> Bench {
    let mut bench = Bench::new();
    bench.client(&from_client(0, b"ab"));
    assert_eq!(bench.decide(Decision::Close), ["to client F. 5001 ack 1003 win 511"]);
    bench
}

fn acknowledging(offset: i32, flags: Flags) -> Segment<'static> {
    Segment { acknowledgement: SequenceNumber(COOKIE + 2), flags, ..from_client(offset, b"") }
}

#[test]
fn fins_are_exchanged() {
    let mut bench = closing();
    assert_eq!(bench.client(&acknowledging(2, Flags::ACK)), [""; 0]);
    let told = bench.client(&acknowledging(2, FIN));
    assert_eq!(told, ["to client . 5002 ack 1004 win 511", "end: Closed"]);

    let mut bench = closing();
    let told = bench.client(&Segment { flags: FIN, ..from_client(2, b"") });
    assert_eq!(told, ["to client . 5002 ack 1004 win 511"], "both at once");
    assert_eq!(bench.client(&acknowledging(3, Flags::ACK)), ["end: Closed"]);
}

#[test]
fn fin_is_repeated_until_it_is_acknowledged() {
    let mut bench = closing();
    let fin = vec!["to client F. 5001 ack 1003 win 511".to_owned()];
    assert_eq!(bench.wake(), (SECOND, fin.clone()));
    assert_eq!(bench.wake(), (2 * SECOND, fin.clone()));
    assert_eq!(bench.wake(), (4 * SECOND, fin));
    bench.client(&acknowledging(2, Flags::ACK));
    assert_eq!(bench.inspection.wakes_at(), Some(bench.now + SECOND));
    let end = ["to client R. 5002 ack 1003", "end: Closed"].map(str::to_owned).to_vec();
    assert_eq!(bench.wake(), (SECOND, end), "the client never closes");
}

#[test]
fn fin_is_not_repeated_once_it_is_acknowledged() {
    let mut bench = closing();
    bench.client(&acknowledging(2, Flags::ACK));
    bench.now += 2 * SECOND;
    assert_eq!(bench.client(&acknowledging(2, Flags::ACK)), [""; 0]);
}

#[test]
fn a_client_may_go_on_for_a_while_or_reset() {
    let mut bench = closing();
    assert_eq!(bench.client(&from_client(2, b"c")), [""; 0]);
    assert_eq!(bench.wait().1, ["to client . 5002 ack 1004 win 511"]);
    let reset = Segment { flags: Flags::RST, ..from_client(3, b"") };
    assert_eq!(bench.client(&reset), ["end: ClientReset"]);
}
