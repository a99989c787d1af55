//! The half of a host's TCP that receives.

use super::{
    endpoint::{Habits, byte},
    wire::Segment,
};
use crate::wire::TcpFlags;

pub struct Receiver {
    initial: u32,
    salt: u32,
    fin: u64,
    buffer: u64,
    mss: u64,
    /// The first position that is missing.
    pub next: u64,
    /// Up to where somebody has read, and what was promised to be taken.
    read: u64,
    edge: u64,
    /// What came early, latest first.
    early: Vec<[u64; 2]>,
    /// What came twice (RFC 2883): to be told once.
    twice: Option<[u64; 2]>,
}

impl Receiver {
    pub fn new(own: &Habits, peer: &Habits) -> Self {
        Self {
            initial: 0,
            salt: peer.salt,
            fin: 1 + peer.bytes,
            buffer: own.buffer,
            mss: peer.mss,
            next: 1,
            read: 1,
            edge: 1,
            early: vec![],
            twice: None,
        }
    }

    pub fn begin(&mut self, initial: u32) {
        self.initial = initial;
    }

    pub fn is_done(&self) -> bool {
        self.next > self.fin && self.read == self.fin
    }

    pub fn unread(&self) -> u64 {
        self.next.min(self.fin) - self.read
    }

    /// The number that is expected next.
    pub fn number(&self) -> u32 {
        self.initial.wrapping_add(self.next as u32)
    }

    pub fn position(&self, number: u32) -> i64 {
        self.next as i64 + i64::from(number.wrapping_sub(self.number()) as i32)
    }

    /// Reads; true if the sender must hear of it.
    pub fn read(&mut self, most: u64) -> bool {
        self.read += self.unread().min(most);
        let open = self.edge.saturating_sub(self.next);
        self.read + self.buffer >= self.edge + 2 * self.mss || open == 0
    }

    /// Bytes that may come from now on, in whole units. What was promised stays promised.
    pub fn window(&mut self, scale: u8) -> u64 {
        let wanted = self.read + self.buffer;
        // Not a few bytes more each time (RFC 9293 §3.8.6.2.2).
        let worth = wanted >= self.edge + self.mss.min(self.buffer / 2);
        let edge = if worth { wanted } else { self.edge };
        let units = edge.saturating_sub(self.next).div_ceil(1 << scale).min(65_535);
        self.edge = self.edge.max(self.next + (units << scale));
        units << scale
    }

    /// Up to four blocks: what came twice, then what came early.
    pub fn blocks(&mut self) -> Vec<[u32; 2]> {
        let numbers = |block: [u64; 2]| block.map(|at| self.initial.wrapping_add(at as u32));
        let blocks = self.twice.take().into_iter().chain(self.early.iter().copied());
        blocks.take(4).map(numbers).collect()
    }

    /// Takes what a segment at `start` brings. What is beyond the promise is cut, or not taken.
    pub fn take(&mut self, start: i64, segment: &Segment, cut: bool) {
        let whole = start + segment.length() as i64;
        assert!(start >= 1 && whole <= self.fin as i64 + 1, "no part of the stream: {segment:?}");
        let (start, mut end) = (start as u64, whole as u64);
        for (position, got) in (start..).zip(&segment.payload) {
            assert_eq!(*got, byte(self.salt, position), "the byte at {position}: {segment:?}");
        }
        assert_eq!(segment.has(TcpFlags::FIN), end == self.fin + 1, "the FIN: {segment:?}");
        if end <= self.next {
            self.twice = Some([start, end]);
            return;
        }
        if end > self.edge {
            if !cut {
                return;
            }
            end = self.edge;
        }
        if start < end {
            self.add([start.max(self.next), end]);
        }
    }

    fn add(&mut self, mut new: [u64; 2]) {
        let touches = |[start, end]: &[u64; 2]| *start <= new[1] && new[0] <= *end;
        let (joined, rest): (Vec<_>, Vec<_>) = self.early.drain(..).partition(touches);
        for [start, end] in joined {
            new = [new[0].min(start), new[1].max(end)];
        }
        self.early = rest;
        if new[0] <= self.next {
            self.next = self.next.max(new[1]);
        } else {
            self.early.insert(0, new);
        }
    }
}
