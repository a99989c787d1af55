//! What was collected goes to the server, until it has acknowledged all of it.
//!
//! What was acknowledged to the client is never sent again by it: this copy is the only one. It is
//! fixed when delivery begins; what the client sends beyond it is forwarded, translated, and the
//! client's to repeat. Of the numbers that were collected nothing is forwarded: the server gets
//! the bytes that the script saw, whatever a client sends under the same numbers later.
//!
//! One retransmission timer (RFC 6298), slow start (RFC 5681), back to the first byte that is
//! missing when it fires, and one fast retransmission: enough for a connection's first 64 KiB.

use std::time::Duration;

use super::{
    opening::Connected,
    segment::{Flags, Outgoing, Segment, SequenceNumber},
};

/// The shortest time before something is repeated (Linux's `TCP_RTO_MIN`).
pub const LEAST_TIMEOUT: Duration = Duration::from_millis(200);
/// The longest (RFC 6298 §2.5): on a bad road a dozen repetitions in a row are lost now and then, and
/// their time doubles with each.
const MOST_TIMEOUT: Duration = Duration::from_mins(1);
/// The time if no round trip was measured (RFC 6298 §2.1).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// Segments that are sent at once in the beginning (RFC 6928).
const INITIAL_WINDOW: u32 = 10;
/// Acknowledgements of the same that say that something was lost (RFC 5681 §3.2).
const DUPLICATES: u8 = 3;
/// The least that a segment carries when the path is said to take little.
const LEAST_MSS: u32 = 48;
/// Headers of a packet, without options.
const HEADERS: u16 = 40;

/// Offsets count from the first number after the client's SYN. Invariants: `acknowledged <= next
/// <= sent <= end`; as long as `acknowledged < end`, `retry_at` is when something happens.
#[derive(Clone, Debug)]
pub struct Delivery {
    start: SequenceNumber,
    payload: u32,
    /// Behind the last number, FIN's if there is one.
    end: u32,
    acknowledged: u32,
    next: u32,
    /// The most that was ever sent.
    sent: u32,
    mss: u32,
    scale: u8,
    window: u32,
    congestion: u32,
    duplicates: u8,
    first_timeout: Duration,
    timeout: Duration,
    retry_at: Duration,
}

/// What goes into a segment beside the stream.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    /// What is acknowledged to the server.
    pub acknowledgement: SequenceNumber,
    /// The client's window, as the server is to read it.
    pub window: u16,
}

impl Delivery {
    /// Of so many bytes, and FIN, whose first has the number `start`.
    pub fn new(
        start: SequenceNumber,
        payload: u32,
        fin: bool,
        connected: &Connected,
        now: Duration,
    ) -> Self {
        let mss = u32::from(connected.mss);
        // SRTT + 4 * RTTVAR, and RTTVAR is half of the only measurement.
        let timeout = connected.round_trip.map_or(DEFAULT_TIMEOUT, |round_trip| round_trip * 3);
        let timeout = timeout.clamp(LEAST_TIMEOUT, MOST_TIMEOUT);
        Self {
            start,
            payload,
            end: payload + u32::from(fin),
            acknowledged: 0,
            next: 0,
            sent: 0,
            mss,
            scale: connected.scale.unwrap_or(0),
            window: connected.window.into(),
            congestion: INITIAL_WINDOW * mss,
            duplicates: 0,
            first_timeout: timeout,
            timeout,
            retry_at: now + timeout,
        }
    }

    /// Whether the server has everything.
    pub fn is_done(&self) -> bool {
        self.acknowledged == self.end
    }

    /// The number of the first byte.
    pub fn start(&self) -> SequenceNumber {
        self.start
    }

    /// The number behind what is delivered here.
    pub fn end(&self) -> SequenceNumber {
        self.start.plus(self.end)
    }

    /// The number that a segment without data has.
    pub fn next(&self) -> SequenceNumber {
        self.start.plus(self.next)
    }

    /// The server's window, in bytes.
    pub fn window(&self) -> u32 {
        self.window
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn due(&self) -> Duration {
        self.retry_at
    }

    /// Sends what windows allow.
    pub fn send(&mut self, carried: Carried, segments: &mut Vec<Outgoing>) {
        let most = self.acknowledged + self.window.min(self.congestion);
        while self.next < self.end && self.next < most {
            let room = most - self.next;
            let (segment, next) = self.segment(self.next, room, carried);
            self.next = next;
            self.sent = self.sent.max(next);
            segments.push(segment);
        }
    }

    /// The segment that starts at an offset before the end and takes at most `room` numbers, and
    /// where it ends.
    fn segment(&self, from: u32, room: u32, carried: Carried) -> (Outgoing, u32) {
        let to = self.payload.min(from.saturating_add(self.mss.min(room)));
        // FIN's own number needs room too.
        let is_last = to == self.payload;
        let fin = is_last && self.end > self.payload && to - from < room;
        let flags = Flags { ack: true, psh: is_last && from < to, fin, ..Flags::default() };
        let segment = Outgoing {
            sequence: self.start.plus(from),
            acknowledgement: carried.acknowledgement,
            flags,
            window: carried.window,
            payload: from as usize..to as usize,
            ..Outgoing::default()
        };
        (segment, to + u32::from(fin))
    }

    /// Repeats from the first byte that is missing, if it is time; of a window that is closed one
    /// byte is tried (RFC 9293 §3.8.6.1).
    pub fn tick(&mut self, now: Duration, carried: Carried, segments: &mut Vec<Outgoing>) {
        if self.is_done() || now < self.retry_at {
            return;
        }
        self.timeout = self.timeout.saturating_mul(2).min(MOST_TIMEOUT);
        self.retry_at = now.saturating_add(self.timeout);
        self.congestion = self.mss;
        self.duplicates = 0;
        self.repeat_first(carried, segments);
    }

    fn repeat_first(&mut self, carried: Carried, segments: &mut Vec<Outgoing>) {
        let room = self.window.clamp(1, self.mss + 1);
        let (segment, next) = self.segment(self.acknowledged, room, carried);
        self.next = next;
        self.sent = self.sent.max(next);
        segments.push(segment);
    }

    /// Takes the acknowledgement of a server's segment; `highest` is the number behind the last
    /// that the server can have from anybody. False if it acknowledges what was never sent, or
    /// what it had acknowledged before.
    pub fn receive(
        &mut self,
        segment: &Segment<'_>,
        highest: SequenceNumber,
        now: Duration,
        carried: Carried,
        segments: &mut Vec<Outgoing>,
    ) -> bool {
        let first = self.start.plus(self.acknowledged);
        let sent = self.start.plus(self.sent);
        let last = if sent.is_before(highest) && self.sent == self.end { highest } else { sent };
        if self.is_done() || !segment.acknowledgement.is_within(first, last) {
            return false;
        }
        let window = u32::from(segment.window) << self.scale;
        let acknowledged = segment.acknowledgement.since(self.start).min(self.end);
        if acknowledged > self.acknowledged {
            self.advance(acknowledged, now);
        } else if segment.length() == 0 && window == self.window && self.next > acknowledged {
            self.duplicate(carried, segments);
        }
        self.window = window;
        if self.next == self.acknowledged {
            self.retry_at = now + self.timeout;
        }
        self.send(carried, segments);
        true
    }

    fn advance(&mut self, acknowledged: u32, now: Duration) {
        self.congestion = self.congestion.saturating_add(acknowledged - self.acknowledged);
        self.acknowledged = acknowledged;
        self.next = self.next.max(acknowledged);
        self.duplicates = 0;
        self.timeout = self.first_timeout;
        self.retry_at = now + self.timeout;
    }

    fn duplicate(&mut self, carried: Carried, segments: &mut Vec<Outgoing>) {
        self.duplicates = self.duplicates.saturating_add(1);
        if self.duplicates == DUPLICATES && self.window > 0 {
            let next = self.next;
            self.repeat_first(carried, segments);
            self.next = self.next.max(next);
        }
    }

    /// A router on the way takes packets of this length only (RFC 1191 §6.3). Smaller ones are sent
    /// at once, from the first that is missing.
    pub fn too_big(&mut self, mtu: u16, carried: Carried, segments: &mut Vec<Outgoing>) {
        let mss = u32::from(mtu.saturating_sub(HEADERS)).max(LEAST_MSS);
        if mss < self.mss {
            self.mss = mss;
            self.next = self.acknowledged;
            self.send(carried, segments);
        }
    }
}
