//! The half of a host's TCP that sends.

use super::{endpoint::Habits, wire::Segment};

/// Segments under way at most.
const LIMIT: u64 = 12;
const FIRST_TIMEOUT: u64 = 100;

/// A piece of the stream.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    pub start: u64,
    pub bytes: u64,
    pub fin: bool,
}

#[derive(Debug)]
pub struct Sender {
    initial: u32,
    mss: u64,
    /// The FIN's position; what follows it is the end.
    fin: u64,
    unacknowledged: u64,
    next: u64,
    /// Behind the last that was ever sent.
    pub most: u64,
    /// The peer's window, and which segment told it.
    pub window: u64,
    told_by: (u64, u64),
    /// What the peer said to have: it is not sent again but after a timeout.
    sacked: Vec<[u64; 2]>,
    duplicates: u32,
    timeout: u64,
    pub timer: u64,
}

impl Sender {
    pub fn new(habits: &Habits) -> Self {
        Self {
            initial: habits.initial,
            mss: habits.mss,
            fin: 1 + habits.bytes,
            unacknowledged: 0,
            next: 0,
            most: 1,
            window: 0,
            told_by: (0, 0),
            sacked: vec![],
            duplicates: 0,
            timeout: FIRST_TIMEOUT,
            timer: u64::MAX,
        }
    }

    /// The SYN has been acknowledged.
    pub fn begin(&mut self) {
        (self.unacknowledged, self.next) = (1, 1);
        // Something may be waiting to be sent.
        self.timer = 0;
    }

    pub fn is_done(&self) -> bool {
        self.unacknowledged > self.fin
    }

    fn position(&self, number: u32) -> i64 {
        let base = self.initial.wrapping_add(self.unacknowledged as u32);
        self.unacknowledged as i64 + i64::from(number.wrapping_sub(base) as i32)
    }

    /// Takes acknowledgement, window and SACK blocks of a segment at `start` of the other stream.
    pub fn acknowledged(&mut self, now: u64, start: i64, segment: &Segment, window: u64) {
        let acknowledged = self.position(segment.acknowledgement);
        assert!(acknowledged <= self.most as i64, "acknowledged what was not sent: {segment:?}");
        self.blocks(segment);
        let acknowledged = acknowledged.max(0) as u64;
        let by = (start.max(0) as u64, acknowledged);
        let newer = by.0 > self.told_by.0 || by.0 == self.told_by.0 && by.1 >= self.told_by.1;
        let opened = newer && acknowledged >= self.unacknowledged && window > self.window;
        let duplicate = acknowledged == self.unacknowledged && segment.length() == 0;
        if newer && acknowledged >= self.unacknowledged {
            (self.window, self.told_by) = (window, by);
        }
        if acknowledged > self.unacknowledged {
            self.unacknowledged = acknowledged;
            self.next = self.next.max(acknowledged);
            self.sacked.retain(|[_, end]| *end > acknowledged);
            (self.duplicates, self.timeout) = (0, FIRST_TIMEOUT);
            self.rest(now);
        } else if duplicate && !opened && self.unacknowledged < self.most {
            self.duplicates += 1;
            if self.duplicates == 3 {
                // Once more from the first that is missing, as after a timeout but sooner.
                self.next = self.unacknowledged;
            }
        }
    }

    /// What a receiver says to have must have been sent, whether it says it late or twice.
    fn blocks(&mut self, segment: &Segment) {
        for block in &segment.sack {
            let [start, end] = block.map(|edge| self.position(edge));
            let sane = 1 <= start && start < end && end <= self.most as i64;
            assert!(sane, "SACK of what was not sent: {segment:?}, {start}..{end}");
            self.sacked.push([start as u64, end as u64]);
        }
    }

    fn rest(&mut self, now: u64) {
        self.timer = if self.is_done() { u64::MAX } else { now + self.timeout };
    }

    /// What is to be sent now.
    pub fn poll(&mut self, now: u64, late: bool, may_send: bool) -> Vec<Reach> {
        let mut out = Vec::new();
        if self.is_done() || !may_send {
            self.timer = u64::MAX;
            return out;
        }
        if late {
            if self.timer != 0 {
                self.timeout = (self.timeout * 2).min(2000);
                // Again what was not acknowledged, and a byte though the window is closed.
                // What was told selectively is forgotten then (RFC 2018 §8): the last that is missing
                // may have come from the balancer, and its acknowledgement be lost.
                self.sacked.clear();
                self.next = self.unacknowledged;
                out.extend(self.piece(self.window.max(1)));
            }
            self.rest(now);
        } else if self.timer == u64::MAX {
            self.rest(now);
        }
        while out.len() < LIMIT as usize && self.next < self.unacknowledged + LIMIT * self.mss {
            let Some(reach) = self.piece(self.window) else { break };
            out.push(reach);
        }
        out
    }

    /// The next piece that the peer does not have, if the window lets it through.
    fn piece(&mut self, window: u64) -> Option<Reach> {
        while let Some([_, end]) = self.sacked.iter().find(|[s, e]| (*s..*e).contains(&self.next)) {
            self.next = *end;
        }
        let window_end = self.unacknowledged + window;
        let known = self.sacked.iter().map(|[start, _]| *start).filter(|s| *s > self.next);
        let end = known.chain([self.fin, self.next + self.mss, window_end]).min()?;
        let bytes = end.saturating_sub(self.next);
        let fin = self.next + bytes == self.fin && window_end > self.fin;
        // Small pieces only if nothing is under way (RFC 9293 §3.8.6.2.1).
        let small = bytes < self.mss && end == window_end && self.next > self.unacknowledged;
        if bytes == 0 && !fin || small {
            return None;
        }
        let reach = Reach { start: self.next, bytes, fin };
        self.next += bytes + u64::from(fin);
        self.most = self.most.max(self.next);
        Some(reach)
    }
}
