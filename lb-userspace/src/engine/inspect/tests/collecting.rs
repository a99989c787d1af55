//! What the client is told about each kind of segment while its payload is collected.

use super::*;

/// A client whose first five bytes are there and acknowledged; the script wants more.
fn with_hello() -> Bench {
    let mut bench = Bench::with(Start { need: 1000, ..start() }, limits());
    bench.client(&from_client(0, b""));
    bench.client(&from_client(0, b"hello"));
    assert_eq!(bench.wait().1, ["to client . 5001 ack 1006 win 511"]);
    bench
}

/// What is done at once, and what 40 milliseconds later.
fn answers(bench: &mut Bench, segment: &Segment<'_>) -> (Vec<String>, Vec<String>) {
    let at_once = bench.client(segment);
    bench.now += ACKNOWLEDGEMENT_DELAY;
    (at_once, bench.step(Input::Timer))
}

#[test]
fn each_kind_of_segment_has_its_answer() {
    const AGAIN: &str = "to client . 5001 ack 1006 win 511";
    let none = "";
    let data = from_client(5, b"more");
    let sequence = |number| SequenceNumber(number);
    // Name, segment; what is answered at once, and later.
    let cases: [(&str, Segment<'_>, &str, &str); 22] = [
        ("in order", data, none, "to client . 5001 ack 1010 win 511"),
        ("again", from_client(0, b"hello"), AGAIN, none),
        ("a part again", from_client(3, b"lo"), AGAIN, none),
        ("overlapping", from_client(3, b"lomore"), none, "to client . 5001 ack 1010 win 511"),
        ("a hole", from_client(7, b"re"), "to client . 5001 ack 1006 win 511 sack 1008:1010", none),
        ("before the stream", from_client(-5, b"x"), AGAIN, none),
        ("far before", from_client(-70_000, b"x"), AGAIN, none),
        ("behind the window", from_client(65_535, b"x"), AGAIN, none),
        ("half the range away", from_client(i32::MIN, b"x"), AGAIN, none),
        (
            "across the edge",
            from_client(65_534, b"xy"),
            "to client . 5001 ack 1006 win 511 sack 66535:66536",
            none,
        ),
        ("an acknowledgement", from_client(5, b""), none, none),
        ("a keep-alive", from_client(4, b""), AGAIN, none),
        ("a keep-alive with its byte", from_client(4, b"o"), AGAIN, none),
        ("ahead, without data", from_client(9, b""), none, none),
        ("SYN again", Segment { sequence: sequence(1000), flags: Flags::SYN, ..data }, AGAIN, none),
        ("SYN inside", Segment { flags: Flags::SYN, ..data }, AGAIN, none),
        ("no ACK", Segment { flags: Flags::default(), ..data }, none, none),
        (
            "acknowledges the future",
            Segment { acknowledgement: sequence(5002), ..data },
            AGAIN,
            none,
        ),
        ("acknowledges the past", Segment { acknowledgement: sequence(5000), ..data }, AGAIN, none),
        ("RST inside", Segment { flags: RST_ACK, ..from_client(6, b"") }, AGAIN, none),
        ("RST before", Segment { flags: RST_ACK, ..from_client(4, b"") }, none, none),
        ("RST behind", Segment { flags: RST_ACK, ..from_client(65_535, b"") }, none, none),
    ];
    for (name, segment, at_once, later) in cases {
        let told = answers(&mut with_hello(), &segment);
        assert_eq!(
            (told.0.join(", "), told.1.join(", ")),
            (at_once.into(), later.into()),
            "{name}"
        );
    }
}

#[test]
fn only_the_right_reset_ends_it() {
    for flags in [RST_ACK, Flags::RST] {
        let mut bench = with_hello();
        let reset = Segment { flags, acknowledgement: SequenceNumber(0), ..from_client(5, b"") };
        assert_eq!(bench.client(&reset), ["end: ClientReset"]);
        assert!(bench.inspection.is_over());
        assert_eq!(bench.inspection.wakes_at(), None);
    }
}

#[test]
fn every_second_segment_is_acknowledged_at_once() {
    let mut bench = Bench::with(Start { need: 1000, ..start() }, limits());
    assert_eq!(bench.client(&from_client(0, b"a")), [""; 0]);
    assert_eq!(bench.client(&from_client(1, b"b")), ["to client . 5001 ack 1003 win 511"]);
    assert_eq!(bench.client(&from_client(2, b"c")), [""; 0]);
    assert_eq!(bench.wake().0, ACKNOWLEDGEMENT_DELAY);
    assert_eq!(bench.client(&from_client(3, b"d")), [""; 0]);
    bench.now += 39 * MILLISECOND;
    assert_eq!(bench.client(&from_client(4, b"e")), ["to client . 5001 ack 1006 win 511"]);
}

#[test]
fn a_hole_is_told_until_it_is_filled() {
    let mut bench = with_hello();
    let told =
        |bench: &mut Bench, offset, payload| bench.client(&from_client(offset, payload)).join("");
    let head = "to client . 5001 ack 1006 win 511";
    assert_eq!(told(&mut bench, 7, b"B"), format!("{head} sack 1008:1009"));
    assert_eq!(told(&mut bench, 9, b"D"), format!("{head} sack 1010:1011 sack 1008:1009"));
    assert_eq!(told(&mut bench, 7, b"B"), format!("{head} sack 1008:1009 sack 1010:1011"), "again");
    for offset in [11, 13, 15] {
        told(&mut bench, offset, b"x");
    }
    let four = " sack 1018:1019 sack 1008:1009 sack 1010:1011 sack 1012:1013";
    assert_eq!(told(&mut bench, 17, b"x"), format!("{head}{four}"), "no more than four");
    assert_eq!(
        told(&mut bench, 5, b"xxxxxxxxxxxxxxxxxxx"),
        "to client . 5001 ack 1025 win 511",
        "filled: told at once"
    );
    assert_eq!(bench.inspection.payload(), b"helloxxBxDxxxxxxxxxxxxxx"[..].get(..24).unwrap());
}

#[test]
fn a_client_without_sack_is_told_none() {
    let agreed = agreed(1460, None, false);
    let mut bench = Bench::with(Start { agreed, ..start() }, limits());
    let told = bench.client(&from_client(2, b"x"));
    assert_eq!(told, ["to client . 5001 ack 1001 win 65535"], "and no scale");
}

#[test]
fn payload_may_come_with_the_first_acknowledgement() {
    let mut bench = Bench::new();
    assert_eq!(bench.client(&from_client(0, b"hello")), ["decide: Enough"]);
    assert_eq!(bench.inspection.payload(), b"hello");
}

#[test]
fn numbers_wrap_in_the_middle_of_the_payload() {
    let client = SequenceNumber(u32::MAX - 3);
    let mut bench = Bench::with(Start { client, need: 10, ..start() }, limits());
    let at = |offset: u32, payload| Segment {
        sequence: client.plus(1 + offset),
        ..from_client(0, payload)
    };
    assert_eq!(bench.client(&at(6, b"67")), ["to client . 5001 ack 4294967293 win 511 sack 3:5"]);
    assert_eq!(bench.client(&at(0, b"012")), ["to client . 5001 ack 0 win 511 sack 3:5"]);
    assert_eq!(bench.client(&at(2, b"2345")), ["to client . 5001 ack 5 win 511"]);
    assert_eq!(bench.client(&at(8, b"89")), ["decide: Enough"]);
    assert_eq!(bench.inspection.payload(), b"0123456789");
}

#[test]
fn fin_in_order_and_early() {
    let mut bench = with_hello();
    let early = Segment { flags: FIN, ..from_client(8, b"!") };
    assert_eq!(bench.client(&early), ["to client . 5001 ack 1006 win 511 sack 1009:1010"]);
    let told = bench.client(&from_client(5, b" yo"));
    assert_eq!(told, ["decide: Closed", "to client . 5001 ack 1011 win 511"], "FIN counts too");
    bench.decide(Decision::Connect);
    assert_eq!(bench.client(&early), ["to client . 5001 ack 1011 win 511"], "FIN again");
    let behind = from_client(9, b"more");
    assert_eq!(
        bench.client(&behind),
        ["to client . 5001 ack 1011 win 511"],
        "nothing is behind it"
    );
    assert_eq!(bench.inspection.payload(), b"hello yo!");
}

#[test]
fn the_window_closes_and_is_probed() {
    let mut bench = Bench::with(Start { need: LIMIT, ..start() }, limits());
    let chunk = vec![b'x'; 1440];
    let mut last = String::new();
    for at in 0..45 {
        let told = bench.client(&from_client(at * 1440, &chunk));
        last = told.last().cloned().unwrap_or(last);
    }
    assert_eq!(bench.inspection.payload().len(), 64_800);
    bench.wait();
    assert_eq!(bench.client(&from_client(64_800, &chunk[..734])), [""; 0]);
    assert_eq!(bench.wait().1, ["to client . 5001 ack 66535 win 0"], "less than the scale can say");
    assert_eq!(bench.client(&from_client(65_534, b"y")), ["decide: Enough"]);
    assert_eq!(bench.wait().1, ["to client . 5001 ack 66536 win 0"]);
    assert_eq!(bench.client(&from_client(65_535, b"p")), ["to client . 5001 ack 66536 win 0"]);
    assert_eq!(bench.inspection.payload().len(), LIMIT);
    let probe = from_client(65_534, b"");
    assert_eq!(bench.client(&probe), ["to client . 5001 ack 66536 win 0"], "without data");
    assert_eq!(bench.client(&from_client(65_535, b"")), [""; 0], "an acknowledgement");
}

/// Two sides that each think the other is out of the window must not talk for ever.
#[test]
fn segments_without_data_are_answered_twice_a_second_at_most() {
    let mut bench = with_hello();
    let mut answers = 0;
    for _ in 0..1000 {
        bench.now += 2 * MILLISECOND;
        answers += bench.client(&from_client(-9, b"")).len();
    }
    assert_eq!(answers, 4);
}

#[test]
fn memory_grows_with_what_is_there() {
    let mut bench = Bench::with(Start { need: LIMIT, ..start() }, limits());
    bench.client(&from_client(0, b"x"));
    assert!(bench.inspection.memory() < 2048, "{}", bench.inspection.memory());
    for at in 0..46 {
        bench.client(&from_client(at * 1440, &[b'x'; 1440]));
    }
    assert!(bench.inspection.memory() <= 2 * LIMIT + 2048, "{}", bench.inspection.memory());
}
