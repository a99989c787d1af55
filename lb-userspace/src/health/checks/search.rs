//! Looking for something in an answer that comes in pieces.

use super::{Fault, MOST_READ, shown};

/// What has come of an answer, and what it must hold.
#[derive(Debug)]
pub(super) struct Search<'a> {
    expected: &'a [u8],
    read: Vec<u8>,
}

impl<'a> Search<'a> {
    pub fn new(expected: &'a [u8]) -> Self {
        Self { expected, read: Vec::new() }
    }

    /// More of the answer; whether it holds now what it must. Only what is new is looked at.
    pub fn push(&mut self, piece: &[u8]) -> bool {
        let room = MOST_READ - self.read.len();
        let start = (self.read.len() + 1).saturating_sub(self.expected.len());
        self.read.extend_from_slice(&piece[..piece.len().min(room)]);
        contains(&self.read[start..], self.expected)
    }

    /// Whether no more of the answer is looked at.
    pub fn is_full(&self) -> bool {
        self.read.len() == MOST_READ
    }

    /// How much has come.
    pub fn len(&self) -> usize {
        self.read.len()
    }

    /// Why the answer does not do, when it has come to its end.
    pub fn failure(&self) -> Fault {
        Fault::server(match self.read.len() {
            0 => format!("expected {}, got nothing", shown(self.expected)),
            MOST_READ => {
                format!("expected {}, which is not in the first 64 KiB", shown(self.expected))
            }
            _ => format!("expected {}, got {}", shown(self.expected), shown(&self.read)),
        })
    }
}

/// Whether `expected` is a part of `bytes`.
pub(super) fn contains(bytes: &[u8], expected: &[u8]) -> bool {
    expected.is_empty() || bytes.windows(expected.len()).any(|window| window == expected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_looked_for_is_found_however_the_answer_is_cut(
            text in "[ab]{0,40}", expected in "[ab]{1,4}", piece in 1..5usize,
        ) {
            let mut search = Search::new(expected.as_bytes());
            let found = text.as_bytes().chunks(piece).any(|piece| search.push(piece));
            prop_assert_eq!(found, text.contains(&expected));
        }
    }

    #[test]
    fn no_more_than_so_much_is_kept_or_looked_at() {
        let mut search = Search::new(b"needle");
        assert!(!search.push(&vec![b'a'; MOST_READ - 3]));
        assert!(!search.push(b"needle"));
        assert!(search.is_full() && !search.push(b"needle"));
        assert_eq!(
            search.failure(),
            Fault::server("expected \"needle\", which is not in the first 64 KiB")
        );
    }
}
