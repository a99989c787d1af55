//! The client's side of the connection while the balancer is its peer: what of its stream is
//! there, and what it is told of that (RFC 9293 §3.10.7.4, RFC 5681 §4.2, RFC 5961).

use std::time::Duration;

use super::{
    segment::{Block, Flags, Outgoing, Segment, SequenceNumber, number},
    stream::{Added, LIMIT, Stream},
};

/// How long the acknowledgement of a segment in order waits for another one. RFC 9293 §3.8.6.3
/// allows half a second; clients wait for no more than this, since Linux waits no longer.
pub const ACKNOWLEDGEMENT_DELAY: Duration = Duration::from_millis(40);

/// A segment without data that is not acceptable is answered no more often than so, lest two sides
/// answer each other for ever (RFC 5961 §7; Linux's `tcp_invalid_ratelimit`).
pub const CHALLENGE_INTERVAL: Duration = Duration::from_millis(500);

/// Selective acknowledgements in one segment: more do not fit (RFC 2018 §3).
const MOST_BLOCKS: usize = 4;

/// What a segment of the client's was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// More of the stream's prefix, or its end.
    More,
    /// Nothing new.
    Nothing,
    /// The client has reset the connection.
    Reset,
}

/// When an acknowledgement is due.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    at: Option<Duration>,
    /// Segments in order that it will be for.
    segments: u8,
    challenged: Option<Duration>,
}

impl Owed {
    fn at_once(&mut self, now: Duration) {
        self.at = Some(now);
    }

    fn for_one_more(&mut self, now: Duration) {
        self.segments = self.segments.saturating_add(1);
        let at = if self.segments >= 2 { now } else { now + ACKNOWLEDGEMENT_DELAY };
        self.at = Some(self.at.map_or(at, |owed| owed.min(at)));
    }

    fn challenge(&mut self, now: Duration) {
        let may = |last| now >= last + CHALLENGE_INTERVAL;
        if self.challenged.is_none_or(may) {
            self.challenged = Some(now);
            self.at_once(now);
        }
    }
}

/// Invariant: [`next`](Self::next) never goes back, and the window's right edge neither.
#[derive(Clone, Debug)]
pub struct Collector {
    stream: Stream,
    /// Number of the stream's first byte.
    start: SequenceNumber,
    /// By how much our windows are shifted.
    shift: u8,
    /// Whether the client understands selective acknowledgements.
    sack: bool,
    /// First number of the block that came last (RFC 2018 §4: it is told first).
    latest: Option<usize>,
    /// Window field of the client's last segment.
    offered: u16,
    owed: Owed,
}

impl Collector {
    /// For a stream that starts with this number.
    pub fn new(start: SequenceNumber, shift: u8, sack: bool) -> Self {
        Self {
            stream: Stream::default(),
            start,
            shift,
            sack,
            latest: None,
            offered: 0,
            owed: Owed::default(),
        }
    }

    /// The stream so far.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The number that is waited for: all before it are there, FIN's too.
    pub fn next(&self) -> SequenceNumber {
        let fin = u32::from(self.stream.is_complete());
        self.start.plus(number(self.stream.prefix().len()) + fin)
    }

    /// Bytes that the client may send.
    pub fn window(&self) -> usize {
        LIMIT - self.stream.prefix().len() - usize::from(self.stream.is_complete())
    }

    /// The window that the client offers, as it stands in its headers.
    pub fn offered(&self) -> u16 {
        self.offered
    }

    /// Takes a segment. `acknowledged` are the numbers that the client may acknowledge: the first
    /// that it must have had, and the one behind the last that it can have.
    pub fn receive(
        &mut self,
        segment: &Segment<'_>,
        acknowledged: (SequenceNumber, SequenceNumber),
        now: Duration,
    ) -> Received {
        if segment.flags.rst {
            return self.reset(segment, now);
        }
        if segment.flags.syn {
            self.owed.challenge(now);
            return Received::Nothing;
        }
        if !self.is_acceptable(segment) {
            self.answer_unacceptable(segment, now);
            return Received::Nothing;
        }
        if !segment.flags.ack {
            return Received::Nothing;
        }
        if !segment.acknowledgement.is_within(acknowledged.0, acknowledged.1) {
            self.owed.challenge(now);
            return Received::Nothing;
        }
        self.offered = segment.window;
        if segment.length() == 0 { Received::Nothing } else { self.take(segment, now) }
    }

    /// RFC 5961 §3: only with the very number that is waited for, else the client has to confirm it.
    fn reset(&mut self, segment: &Segment<'_>, now: Duration) -> Received {
        let ahead = segment.sequence.since(self.next());
        if ahead == 0 {
            return Received::Reset;
        }
        if (ahead as usize) < self.window() {
            self.owed.challenge(now);
        }
        Received::Nothing
    }

    /// Whether some of it lies in the window (RFC 9293 §3.4, table 6), or all of the window in it.
    fn is_acceptable(&self, segment: &Segment<'_>) -> bool {
        let next = self.next();
        let starts = segment.sequence.is_before(next.plus(number(self.window())));
        if segment.length() == 0 {
            return segment.sequence == next || (starts && !segment.sequence.is_before(next));
        }
        starts && next.is_before(segment.end())
    }

    /// Data is no part of a loop of answers, and whoever repeats it wants to hear of it.
    fn answer_unacceptable(&mut self, segment: &Segment<'_>, now: Duration) {
        if segment.length() > 0 {
            self.owed.at_once(now);
        } else {
            self.owed.challenge(now);
        }
    }

    fn take(&mut self, segment: &Segment<'_>, now: Duration) -> Received {
        let next = self.next();
        let (offset, payload) = if segment.sequence.is_before(next) {
            let known = next.since(segment.sequence) as usize;
            (next.since(self.start), segment.payload.get(known..).unwrap_or_default())
        } else {
            (segment.sequence.since(self.start), segment.payload)
        };
        let offset = offset as usize;
        match self.stream.add(offset, payload, segment.flags.fin) {
            Added::InOrder if !self.stream.is_complete() => self.owed.for_one_more(now),
            Added::InOrder | Added::Filled => self.owed.at_once(now),
            Added::NotInOrder => {
                self.latest = Some(offset);
                self.owed.at_once(now);
            }
        }
        if self.next() == next { Received::Nothing } else { Received::More }
    }

    /// When an acknowledgement has to be sent.
    pub fn acknowledgement_due(&self) -> Option<Duration> {
        self.owed.at
    }

    /// An acknowledgement is to be sent at once.
    pub fn acknowledge(&mut self, now: Duration) {
        self.owed.at_once(now);
    }

    /// One is to be sent at once, unless one was just now.
    pub fn challenge(&mut self, now: Duration) {
        self.owed.challenge(now);
    }

    /// The acknowledgement, which is no longer owed then.
    pub fn acknowledgement(&mut self, sequence: SequenceNumber) -> Outgoing {
        self.owed.at = None;
        self.owed.segments = 0;
        Outgoing {
            sequence,
            acknowledgement: self.next(),
            flags: Flags::ACK,
            window: self.window_field(),
            blocks: self.blocks(),
            ..Outgoing::default()
        }
    }

    fn window_field(&self) -> u16 {
        u16::try_from(self.window() >> self.shift).unwrap_or(u16::MAX)
    }

    /// The block that the last segment is in comes first.
    fn blocks(&self) -> Vec<Block> {
        if !self.sack {
            return Vec::new();
        }
        let mut ahead: Vec<_> = self.stream.ahead().collect();
        let latest = self.latest.and_then(|at| ahead.iter().position(|block| block.contains(&at)));
        if let Some(latest) = latest {
            ahead[..=latest].rotate_right(1);
        }
        let at = |offset: usize| self.start.plus(number(offset));
        ahead.iter().take(MOST_BLOCKS).map(|block| (at(block.start), at(block.end))).collect()
    }
}
