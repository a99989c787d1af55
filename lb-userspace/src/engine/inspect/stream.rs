//! A stream of bytes put together from pieces that come in any order.
//!
//! Of bytes that come twice the first count: what a script has seen cannot be replaced by a later
//! segment with the same numbers. Memory follows what is there: a piece far ahead takes its own
//! length, not the way up to it.

use std::ops::Range;

/// Most bytes of a stream that are kept: what a window that is not scaled can promise (RFC 9293
/// §3.1), as that of a SYN-ACK. No more can be on the way, and no window has to shrink.
pub const LIMIT: usize = 65_535;

/// Most pieces ahead of the prefix, each with a hole before it. A piece that would be one more is
/// dropped, and comes again.
pub const MOST_AHEAD: usize = 16;

/// Bytes that follow each other.
#[derive(Clone, Debug, Default)]
struct Run {
    start: usize,
    bytes: Vec<u8>,
}

impl Run {
    fn end(&self) -> usize {
        self.start + self.bytes.len()
    }
}

/// Invariants: runs are in order and a hole is between any two; the first, which is always there,
/// starts at 0; none ends behind [`LIMIT`] or behind the stream's end, once that is known.
#[derive(Clone, Debug)]
pub struct Stream {
    runs: Vec<Run>,
    end: Option<usize>,
}

/// What a piece changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Added {
    /// The prefix has grown, and no hole is or was behind it.
    InOrder,
    /// The prefix has grown up to or over a hole that was known.
    Filled,
    /// Kept for later, or there already, or dropped.
    NotInOrder,
}

impl Default for Stream {
    fn default() -> Self {
        Self { runs: vec![Run::default()], end: None }
    }
}

impl Stream {
    /// All bytes from the first up to the first hole.
    pub fn prefix(&self) -> &[u8] {
        self.runs.first().map_or(&[], |run| &run.bytes)
    }

    /// Whether the prefix is all that will ever come.
    pub fn is_complete(&self) -> bool {
        self.end == Some(self.prefix().len())
    }

    /// Pieces ahead of the prefix.
    pub fn ahead(&self) -> impl Iterator<Item = Range<usize>> {
        self.runs.iter().skip(1).map(|run| run.start..run.end())
    }

    /// Bytes of memory that are in use.
    pub fn memory(&self) -> usize {
        let runs = self.runs.iter().map(|run| run.bytes.capacity()).sum::<usize>();
        runs + self.runs.capacity() * size_of::<Run>()
    }

    /// Takes a piece that starts at `offset`; what lies behind the limit or the stream's end is cut
    /// off, and `last` says that the stream ends with it.
    pub fn add(&mut self, offset: usize, piece: &[u8], last: bool) -> Added {
        let (before, was_complete) = (self.prefix().len(), self.is_complete());
        let had_holes = self.runs.len() > 1;
        let end = offset.saturating_add(piece.len());
        // FIN has a number too, and that must be in the window.
        if last && end < LIMIT {
            self.end_at(end);
        }
        let end = end.min(self.end.unwrap_or(LIMIT));
        let start = offset.max(before);
        if start < end {
            self.keep(start, &piece[start - offset..end - offset]);
        }
        let grew = self.prefix().len() > before || self.is_complete() != was_complete;
        match (grew, had_holes) {
            (true, false) => Added::InOrder,
            (true, true) => Added::Filled,
            (false, _) => Added::NotInOrder,
        }
    }

    /// The first end counts, if no byte is behind it.
    fn end_at(&mut self, end: usize) {
        let fits = self.runs.last().is_some_and(|run| run.end() <= end);
        if self.end.is_none() && fits {
            self.end = Some(end);
        }
    }

    /// Joins a piece with the runs that it touches. Not empty, within the limits.
    fn keep(&mut self, start: usize, piece: &[u8]) {
        let end = start + piece.len();
        let first = self.runs.partition_point(|run| run.end() < start);
        let behind = self.runs.partition_point(|run| run.start <= end);
        if first == behind && self.runs.len() > MOST_AHEAD {
            return;
        }
        let mut joined = Run { start, bytes: Vec::new() };
        for run in self.runs.drain(first..behind) {
            if run.start <= start {
                joined = run;
                continue;
            }
            let hole = joined.end() - start..run.start - start;
            joined.bytes.extend_from_slice(&piece[hole]);
            joined.bytes.extend_from_slice(&run.bytes);
        }
        if let Some(rest) = piece.get(joined.end() - start..) {
            joined.bytes.extend_from_slice(rest);
        }
        self.runs.insert(first, joined);
    }
}
