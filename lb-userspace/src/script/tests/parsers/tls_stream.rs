//! The published script where a ClientHello comes over TCP, in pieces of any size.

use proptest::prelude::*;

use super::{
    tls::{Hello, PUBLISHED, REAL, SERVER_NAME, first_record, named, record, split},
    *,
};

/// With a pool of the name that real clients ask for.
fn published() -> Bench {
    let mut config = config_with(&[PUBLISHED], &built_in(), &[]);
    config.pools[1].name = "www.example.com".to_owned();
    Bench::with(config, ENOUGH)
}

/// What is decided when the scripts run again as soon as there is what they wait for, and how often
/// they waited. `None`: they wait for more than comes.
fn in_the_end(bench: &mut Bench, payload: &[u8], first: usize) -> (Option<Outcome>, usize) {
    let (mut there, mut waits) = (first, 0);
    while there <= payload.len() {
        match bench.progress(&payload[..there], More::MayCome) {
            Progress::Decided(outcome) => return (Some(outcome), waits),
            Progress::Waits(wait) => {
                assert!((there + 1..=65_000).contains(&wait.bytes), "{wait:?} of {there}");
                (there, waits) = (wait.bytes, waits + 1);
            }
        }
    }
    (None, waits)
}

fn records(payload: &[u8]) -> usize {
    match payload {
        [] => 0,
        _ => 1 + records(&payload[first_record(payload)..]),
    }
}

#[test]
fn a_hello_that_is_cut_anywhere_is_decided_as_the_whole_one() {
    let mut bench = published();
    for (payload, name) in REAL {
        let whole = bench.decided(payload, More::MayCome);
        let pool = whole.selection.map(|selection| selection.chosen);
        assert_eq!(pool, (name != "nil").then_some(Chosen::Pool(PoolIndex(1))));
        for cut in 0..payload.len() {
            let (outcome, waits) = in_the_end(&mut bench, payload, cut);
            assert_eq!(outcome.as_ref(), Some(&whole), "{cut}");
            // For the first bytes, for the header of each record, and for its end.
            assert!((1..=1 + 2 * records(payload)).contains(&waits), "{waits} from {cut}");
            assert_eq!(bench.decided(payload, More::MayCome), whole, "{cut}");
        }
    }
}

#[test]
fn a_hello_in_records_of_any_size_is_decided_too() {
    let message = Hello::with(&[(SERVER_NAME, &named("www.example.com"))]).message();
    let mut bench = published();
    for size in 1..=message.len() {
        let (outcome, _) = in_the_end(&mut bench, &split(&message, size), 1);
        assert_eq!(outcome.unwrap().log, "SNI=www.example.com", "{size}");
    }
}

/// What becomes of a connection.
#[derive(PartialEq, Debug)]
enum End {
    /// It is decided by this many bytes, and closed with a reset and this log.
    Reset(usize, &'static str),
    /// The script fails by this many bytes, with this in the message.
    Fails(usize, &'static str),
    /// It waits for this many bytes, until `collect_timeout` or the client's FIN.
    Waits(usize),
}

#[test]
fn what_is_no_hello_with_a_name_has_a_defined_end() {
    let long = named(&"x".repeat(255));
    let unnamed = Hello::with(&[(43, &[2, 3, 4])]).record();
    let long = Hello::with(&[(SERVER_NAME, &long)]).record();
    let mut cut_name = Hello::with(&[(SERVER_NAME, &named("www.example.com"))]).record();
    let last = cut_name.len() - 16;
    cut_name[last] = 0xff;
    for (what, payload, expected) in [
        ("no name", unnamed.clone(), End::Reset(unnamed.len(), "SNI not present")),
        ("a name of 255 bytes", long.clone(), End::Fails(long.len(), "references no pool \"xxx")),
        (
            "a name that ends elsewhere",
            cut_name.clone(),
            End::Reset(cut_name.len(), "SNI not present"),
        ),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: www.example.com\r\n".to_vec(), End::Reset(20, "")),
        ("SSH", b"SSH-2.0-OpenSSH_9.2p1 Debian".to_vec(), End::Reset(20, "")),
        ("zeros", vec![0; 64], End::Reset(20, "")),
        ("no more than a little", b"HELO a\r\n".to_vec(), End::Waits(20)),
        (
            "a record that is too long",
            [&[22, 3, 1, 0xff, 0xff][..], &[1; 40]].concat(),
            End::Reset(20, ""),
        ),
        (
            "the longest record, never sent",
            [&[22, 3, 1, 0x40, 0][..], &[1; 40]].concat(),
            End::Waits(5 + 0x4000),
        ),
        (
            "a message that never ends",
            [&record(22, &[1, 0xff, 0xff, 0xff, 3, 3])[..], &[0; 20]].concat(),
            End::Reset(20, "SNI not present"),
        ),
    ] {
        let mut bench = published();
        let (mut there, mut end) = (1, None);
        while end.is_none() {
            end = Some(match bench.progress(&payload[..there], More::MayCome) {
                Progress::Waits(wait) if wait.bytes <= payload.len() => {
                    there = wait.bytes;
                    continue;
                }
                Progress::Waits(wait) => End::Waits(wait.bytes),
                Progress::Decided(outcome) => ended(&outcome, there, &expected),
            });
        }
        assert_eq!(end, Some(expected), "{what}");
        // The client gives up: a script that waits fails, and its set says what follows.
        let last = bench.decided(&payload, More::Closed);
        if let Some(End::Waits(_)) = end {
            assert!(last.failure.unwrap().message.ends_with("no more will come"), "{what}");
        }
    }
}

fn ended(outcome: &Outcome, there: usize, expected: &End) -> End {
    match (&outcome.failure, outcome.close, expected) {
        (Some(failure), None, End::Fails(_, text)) if failure.message.contains(text) => {
            End::Fails(there, text)
        }
        (None, Some(Close { reset: true, .. }), End::Reset(_, log)) if outcome.log == *log => {
            End::Reset(there, log)
        }
        _ => panic!("{outcome:?} with {there} bytes, not {expected:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_in_any_pieces_come_to_an_end(
        like_tls in any::<bool>(),
        rest in prop::collection::vec(any::<u8>(), 0..600),
        mut cuts in prop::collection::vec(0..600usize, 0..8),
    ) {
        let payload = if like_tls { [&[22, 3, 1, 0][..], &rest].concat() } else { rest };
        let mut bench = published();
        cuts.sort_unstable();
        for cut in cuts.into_iter().filter(|cut| *cut <= payload.len()) {
            if let Progress::Waits(wait) = bench.progress(&payload[..cut], More::MayCome) {
                prop_assert!(wait.bytes > cut && wait.bytes <= 65_000);
            }
        }
        for more in [More::Closed, More::Late] {
            let outcome = bench.decided(&payload, more);
            let ends = [outcome.failure.is_some(), outcome.close.is_some(), outcome.selection.is_some()];
            prop_assert_eq!(ends.into_iter().filter(|end| *end).count(), 1);
        }
    }
}
