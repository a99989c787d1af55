//! What was collected reaches the server, and nothing of either side is lost meanwhile.

use super::*;

fn chunk(length: usize) -> Vec<u8> {
    vec![b'x'; length]
}

/// Three segments and a half, of which all are on their way.
fn with_four_segments() -> Bench {
    let mut bench = Bench::opening(&chunk(5000));
    bench.now += MILLISECOND;
    let told = bench.server(&syn_ack());
    let sent = [
        "to client . 5001 ack 6001 win 472",
        "to server . 1001 ack 9001 win 500 1460 bytes",
        "to server . 2461 ack 9001 win 500 1460 bytes",
        "to server . 3921 ack 9001 win 500 1460 bytes",
        "to server P. 5381 ack 9001 win 500 620 bytes",
    ];
    assert_eq!(told, sent);
    bench
}

#[test]
fn when_all_is_acknowledged_the_connection_is_spliced() {
    let mut bench = with_four_segments();
    assert_eq!(bench.server(&from_server(0, 1460, b"")), [""; 0], "the client knows more");
    let told = bench.server(&from_server(0, 5000, b""));
    assert_eq!(told, ["splice 4000 0 0", "forward to client"]);
    assert!(bench.inspection.is_over());
    assert_eq!(bench.client(&from_client(5000, b"x")), [""; 0]);
}

#[test]
fn what_is_lost_is_repeated_more_and_more_seldom() {
    let mut bench = with_four_segments();
    let first = vec!["to server . 1001 ack 9001 win 500 1460 bytes".to_owned()];
    for timeout in [200, 400, 800, 1600] {
        assert_eq!(bench.wake(), (timeout * MILLISECOND, first.clone()));
    }
    let told = bench.server(&from_server(0, 1460, b""));
    let next = [
        "to server . 2461 ack 9001 win 500 1460 bytes",
        "to server . 3921 ack 9001 win 500 1460 bytes",
    ];
    assert_eq!(told, next, "slow start from one segment");
    assert_eq!(bench.wake(), (200 * MILLISECOND, vec![next[0].to_owned()]));
    let told = bench.server(&from_server(0, 5000, b""));
    assert_eq!(told, ["splice 4000 0 0", "forward to client"]);
}

#[test]
fn three_acknowledgements_of_the_same_repeat_at_once() {
    let mut bench = with_four_segments();
    let same = from_server(0, 0, b"");
    bench.server(&same);
    assert_eq!(bench.server(&same), [""; 0]);
    assert_eq!(bench.server(&same), [""; 0]);
    let again = ["to server . 1001 ack 9001 win 500 1460 bytes"];
    assert_eq!(bench.server(&same), again);
    assert_eq!(bench.server(&same), [""; 0], "once");
    let told = bench.server(&from_server(0, 5000, b""));
    assert_eq!(told, ["splice 4000 0 0", "forward to client"]);
}

#[test]
fn a_server_that_takes_nothing_gives_up_in_time() {
    let mut bench = with_four_segments();
    let began = bench.now;
    let mut last = Vec::new();
    while !bench.inspection.is_over() {
        last = bench.wake().1;
    }
    assert_eq!(bench.now - began, limits().delivering);
    let end = ["to server R. 2461", "to client R. 5001 ack 6001", "end: Undelivered"];
    assert_eq!(last, end);
}

#[test]
fn a_closed_window_is_probed_until_it_opens() {
    let mut bench = Bench::opening(b"hello");
    bench.now += MILLISECOND;
    let told = bench.server(&Segment { window: 0, ..syn_ack() });
    let ack = ["to client . 5001 ack 1006 win 511", "to server . 1001 ack 9001 win 500"];
    assert_eq!(told, ack);
    let probe = vec!["to server . 1001 ack 9001 win 500 'h'".to_owned()];
    assert_eq!(bench.wake(), (200 * MILLISECOND, probe.clone()));
    assert_eq!(bench.server(&Segment { window: 0, ..from_server(0, 0, b"") }), [""; 0]);
    assert_eq!(bench.wake(), (400 * MILLISECOND, probe));
    let told = bench.server(&Segment { window: 0, ..from_server(0, 1, b"") });
    assert_eq!(told, [""; 0], "taken, and closed again");
    bench.now += 150 * MILLISECOND;
    let told = bench.server(&Segment { window: 1, ..from_server(0, 1, b"") });
    let rest = vec!["to server P. 1002 ack 9001 win 500 'ello'".to_owned()];
    assert_eq!(told, rest, "128 bytes, scaled");
    assert_eq!(bench.wake(), (200 * MILLISECOND, rest), "its time begins when it is sent");
}

#[test]
fn a_window_is_kept_to() {
    let mut bench = Bench::opening(&chunk(1460));
    let told = bench.server(&Segment { window: 1000, ..syn_ack() });
    assert_eq!(told[1..], ["to server . 1001 ack 9001 win 500 1000 bytes"]);
    let told = bench.server(&Segment { window: 1, ..from_server(0, 1000, b"") });
    assert_eq!(told, ["to server . 2001 ack 9001 win 500 128 bytes"]);
}

#[test]
fn the_first_flight_has_ten_segments() {
    let mut bench = Bench::with(Start { need: 20_000, ..start() }, limits());
    for at in 0..14 {
        bench.client(&from_client(at * 1460, &chunk(1460)));
    }
    bench.decide(Decision::Connect);
    let sent = |told: Vec<String>| told.iter().filter(|line| line.starts_with("to server")).count();
    assert_eq!(sent(bench.server(&syn_ack())), 10);
    assert_eq!(sent(bench.server(&from_server(0, 2920, b""))), 4);
}

#[test]
fn fin_follows_the_payload_and_is_repeated_too() {
    let mut bench = Bench::new();
    bench.client(&Segment { flags: FIN, ..from_client(0, b"hello") });
    bench.decide(Decision::Connect);
    let sent = ["to server FP. 1001 ack 9001 win 500 'hello'"];
    assert_eq!(bench.server(&syn_ack()), sent);
    assert_eq!(bench.wake().1, sent);
    assert_eq!(bench.server(&from_server(0, 5, b"")), [""; 0], "FIN is on its way");
    assert_eq!(bench.wake().1, ["to server F. 1006 ack 9001 win 500"]);
    let told = bench.server(&from_server(0, 6, b""));
    assert_eq!(told, ["splice 4000 0 0", "forward to client"]);
}

#[test]
fn what_the_server_sends_meanwhile_is_forwarded() {
    let mut bench = with_four_segments();
    let fin = Segment { flags: FIN, ..from_server(7, 1460, b"") };
    let half = Segment { flags: RST_ACK, ..from_server(100, 1460, b"") };
    assert_eq!(bench.server(&from_server(0, 0, b"welcome")), ["forward to client"]);
    assert_eq!(bench.server(&from_server(0, 0, b"welcome")), ["forward to client"], "again");
    assert_eq!(bench.server(&fin), ["forward to client"], "a close");
    assert_eq!(bench.server(&half), ["forward to client"], "a forged reset: the client judges");
    let told = bench.server(&Segment { flags: RST_ACK, ..from_server(8, 1460, b"") });
    assert_eq!(told, ["splice 4000 0 0", "forward to client"], "a reset");

    let mut bench = with_four_segments();
    let told = bench.server(&from_server(0, 5000, b"welcome"));
    assert_eq!(told, ["splice 4000 0 0", "forward to client"], "with the acknowledgement");
}

#[test]
fn a_server_that_has_not_seen_our_acknowledgement_gets_another() {
    let mut bench = with_four_segments();
    assert_eq!(bench.server(&syn_ack()), ["to server . 6001 ack 9001 win 500"]);
    let mut bench = Bench::opening(b"hello");
    let told = bench.server(&Segment { payload: b"early", ..syn_ack() });
    assert_eq!(
        told.last().unwrap(),
        "to server P. 1001 ack 9001 win 500 'hello'",
        "data on a SYN-ACK is not acknowledged"
    );
    assert_eq!(bench.server(&from_server(0, 0, b"early")), ["forward to client"], "comes again");
}

#[test]
fn what_the_client_sends_beyond_is_forwarded() {
    let mut bench = with_four_segments();
    bench.server(&from_server(0, 0, b"welcome"));
    let beyond = from_client(5000, b"more");
    let acknowledges = Segment { acknowledgement: SequenceNumber(5008), window: 9, ..beyond };
    assert_eq!(bench.client(&acknowledges), ["forward to server"]);
    let told = bench.wake().1;
    assert_eq!(told, ["to server . 1001 ack 9008 win 9 1460 bytes"], "what it knows now");
    let told = bench.server(&from_server(7, 5004, b""));
    assert_eq!(told, ["splice 4000 0 0", "forward to client"], "more than was delivered here");
}

/// Else a client could show one name to the script and another to the server.
#[test]
fn what_the_script_has_seen_is_never_forwarded() {
    let mut bench = with_four_segments();
    let again = ["to client . 5001 ack 6001 win 500"];
    assert_eq!(bench.client(&from_client(0, b"evil")), again);
    assert_eq!(bench.client(&from_client(4999, b"evil")), again, "a byte of it");
    assert_eq!(bench.client(&from_client(-9, b"")), again, "a probe");
    let syn = Segment { flags: Flags::SYN, ..from_client(6000, b"") };
    bench.now += SECOND / 2;
    assert_eq!(bench.client(&syn).last().unwrap(), again[0], "a SYN");
    let reset = Segment { flags: Flags::RST, ..from_client(4999, b"") };
    assert_eq!(bench.client(&reset), [""; 0]);
}

#[test]
fn what_we_say_stands_behind_what_the_server_has_said() {
    let mut bench = with_four_segments();
    bench.server(&from_server(0, 0, b"welcome"));
    let told = bench.client(&from_client(0, b"again"));
    assert_eq!(told, ["to client . 5008 ack 6001 win 1000"], "number and window are the server's");
}

#[test]
fn the_clients_reset_ends_it_if_it_is_one() {
    let mut bench = with_four_segments();
    let reset = |offset| Segment { flags: Flags::RST, ..from_client(offset, b"") };
    assert_eq!(bench.client(&reset(5001)), ["forward to server"], "the server judges");
    let told = bench.client(&reset(5000));
    assert_eq!(told, ["splice 4000 0 0", "forward to server"]);
}

#[test]
fn acknowledgements_of_what_was_never_sent_deliver_nothing() {
    let mut bench = Bench::opening(&chunk(20_000));
    bench.server(&syn_ack());
    assert_eq!(bench.server(&from_server(0, 14_601, b"")), [""; 0]);
    assert_eq!(bench.server(&from_server(0, 20_000, b"")), [""; 0]);
    assert_eq!(bench.server(&from_server(0, u32::MAX - 2000, b"")), [""; 0]);
    assert!(!bench.inspection.is_over());
}

#[test]
fn packets_that_are_too_big_become_smaller() {
    let mut bench = with_four_segments();
    let told = bench.step(Input::TooBig { quoted: SequenceNumber(999), mtu: 1000 });
    assert_eq!(told, [""; 0], "nothing of ours");
    let told = bench.step(Input::TooBig { quoted: SequenceNumber(2461), mtu: 1040 });
    assert_eq!(told.len(), 5);
    assert_eq!(told[0], "to server . 1001 ack 9001 win 500 1000 bytes");
    let told = bench.step(Input::TooBig { quoted: SequenceNumber(1001), mtu: 0 });
    assert_eq!(told[0], "to server . 1001 ack 9001 win 500 48 bytes");
    let told = bench.step(Input::TooBig { quoted: SequenceNumber(1001), mtu: 1500 });
    assert_eq!(told, [""; 0]);
}
