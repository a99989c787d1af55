//! Pieces in any order make the stream that they were cut from, once, in bounded memory.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::super::stream::{Added, LIMIT, MOST_AHEAD, Stream};
use crate::testing::cases;

fn ahead(stream: &Stream) -> Vec<(usize, usize)> {
    stream.ahead().map(|range| (range.start, range.end)).collect()
}

#[test]
fn pieces_are_joined_with_those_that_they_touch() {
    type Case =
        (&'static str, &'static [(usize, &'static str)], &'static str, &'static [(usize, usize)]);
    let cases: [Case; 9] = [
        ("in order", &[(0, "ab"), (2, "cd")], "abcd", &[]),
        ("a hole stays", &[(0, "ab"), (3, "d")], "ab", &[(3, 4)]),
        ("it is filled", &[(3, "d"), (0, "ab"), (2, "c")], "abcd", &[]),
        ("the first copy counts", &[(1, "bc"), (0, "XXXd")], "Xbcd", &[]),
        ("over two holes at once", &[(1, "b"), (3, "d"), (0, "XXXXe")], "XbXde", &[]),
        ("inside of what is there", &[(0, "abcd"), (1, "XX")], "abcd", &[]),
        ("before a piece, touching it", &[(4, "e"), (2, "cd")], "", &[(2, 5)]),
        ("between two, touching both", &[(2, "c"), (4, "e"), (3, "d")], "", &[(2, 5)]),
        (
            "between two, touching none",
            &[(2, "c"), (6, "g"), (4, "e")],
            "",
            &[(2, 3), (4, 5), (6, 7)],
        ),
    ];
    for (name, pieces, prefix, rest) in cases {
        let mut stream = Stream::default();
        for (offset, piece) in pieces {
            stream.add(*offset, piece.as_bytes(), false);
        }
        assert_eq!(String::from_utf8_lossy(stream.prefix()), prefix, "{name}");
        assert_eq!(ahead(&stream), rest, "{name}");
    }
}

#[test]
fn it_says_what_a_piece_has_changed() {
    let mut stream = Stream::default();
    assert_eq!(stream.add(0, b"ab", false), Added::InOrder);
    assert_eq!(stream.add(0, b"ab", false), Added::NotInOrder);
    assert_eq!(stream.add(4, b"ef", false), Added::NotInOrder);
    assert_eq!(stream.add(2, b"c", false), Added::Filled, "up to a hole");
    assert_eq!(stream.add(3, b"d", false), Added::Filled, "the hole");
    assert_eq!(stream.add(6, b"", true), Added::InOrder, "the end");
    assert_eq!(stream.add(6, b"", true), Added::NotInOrder, "again");
}

#[test]
fn the_end_counts_once_and_nothing_is_behind_it() {
    let mut stream = Stream::default();
    stream.add(0, b"ab", false);
    stream.add(3, b"d", true);
    assert!(!stream.is_complete(), "early");
    stream.add(4, b"e", false);
    stream.add(2, b"cXXX", false);
    assert!(stream.is_complete());
    assert_eq!(stream.prefix(), b"abcd");
    stream.add(4, b"e", true);
    assert_eq!(stream.prefix(), b"abcd", "another end");

    let mut stream = Stream::default();
    stream.add(0, b"abcd", false);
    stream.add(0, b"ab", true);
    assert!(!stream.is_complete(), "an end before what is there");
}

#[test]
fn nothing_is_kept_behind_the_limit() {
    let mut stream = Stream::default();
    stream.add(0, &vec![1; LIMIT - 1], false);
    stream.add(LIMIT - 1, b"ab", false);
    stream.add(LIMIT, b"b", false);
    assert_eq!(stream.prefix().len(), LIMIT);
    stream.add(LIMIT, b"", true);
    assert!(!stream.is_complete(), "the end has no room in the window");
    stream.add(usize::MAX, b"ab", true);
    assert_eq!(ahead(&stream), []);
}

#[test]
fn there_are_only_so_many_holes() {
    let mut stream = Stream::default();
    for at in 0..1000 {
        stream.add(2 * at + 1, b"x", false);
    }
    assert_eq!(ahead(&stream).len(), MOST_AHEAD);
    stream.add(2, b"x", false);
    assert_eq!(ahead(&stream)[0], (1, 4), "a piece that joins others has room");
}

#[test]
fn a_byte_far_ahead_takes_no_more_memory_than_one_that_is_near() {
    let memory = |offset| {
        let mut stream = Stream::default();
        stream.add(offset, b"x", false);
        stream.memory()
    };
    assert_eq!(memory(60_000), memory(1));
    assert!(memory(60_000) < 300, "{}", memory(60_000));
}

/// Where a piece starts, how long it is, and whether it is a forgery.
type Piece = (Index, usize, bool);

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    vec((any::<Index>(), 1usize..400, prop::bool::weighted(0.2)), 1..120)
}

fn original(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(128)))]

    /// Against a model that keeps every byte by itself.
    #[test]
    fn the_first_copy_of_each_byte_makes_the_stream(
        length in 1usize..5000,
        pieces in pieces(),
    ) {
        let original = original(length);
        let mut model: Vec<Option<u8>> = vec![None; length];
        let mut stream = Stream::default();
        for (at, size, forged) in pieces {
            let start = at.index(length);
            let end = (start + size).min(length);
            let mut piece = original[start..end].to_vec();
            if forged {
                piece.iter_mut().for_each(|byte| *byte ^= 0xff);
            }
            let held: usize = stream.ahead().count();
            stream.add(start, &piece, false);
            let kept = |offset: usize| {
                offset < stream.prefix().len() || stream.ahead().any(|run| run.contains(&offset))
            };
            for (offset, byte) in (start..end).zip(&piece) {
                if kept(offset) {
                    model[offset].get_or_insert(*byte);
                } else {
                    prop_assert_eq!(held, MOST_AHEAD, "dropped without need");
                }
            }
            let prefix: Vec<u8> = model.iter().map_while(|byte| *byte).collect();
            prop_assert_eq!(stream.prefix(), &prefix[..]);
            prop_assert!(stream.ahead().count() <= MOST_AHEAD);
            let bytes = model.iter().flatten().count();
            prop_assert!(stream.memory() <= 2 * bytes + 2048, "{} for {bytes}", stream.memory());
            let runs: Vec<_> = stream.ahead().collect();
            let mut last = stream.prefix().len();
            for run in runs {
                prop_assert!(last < run.start && run.start < run.end, "{run:?} after {last}");
                last = run.end;
            }
        }
    }

    #[test]
    fn whatever_the_order_and_the_cuts_it_is_the_same_stream(
        length in 0usize..=LIMIT - 1,
        cuts in vec(any::<Index>(), 0..40),
        order in vec(any::<Index>(), 41),
    ) {
        let original = original(length);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(length + 1)).collect();
        cuts.extend([0, length]);
        cuts.sort_unstable();
        let mut pieces: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        for (at, other) in order.iter().take(pieces.len()).enumerate() {
            let other = other.index(pieces.len());
            pieces.swap(at, other);
        }
        let mut stream = Stream::default();
        // Whoever has no room comes again.
        for _ in 0..=pieces.len() / MOST_AHEAD {
            for piece in &pieces {
                stream.add(piece.start, &original[piece.clone()], piece.end == length);
            }
        }
        prop_assert_eq!(stream.prefix(), &original[..]);
        prop_assert!(stream.is_complete());
    }
}
