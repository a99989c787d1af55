//! The ports of one source address toward one server.

use std::{
    cmp::Reverse, collections::BinaryHeap, fmt, ops::RangeInclusive, sync::Arc, time::Duration,
};

use super::{bitmap::Bitmap, gauges::SourceGauge};

/// When a port's rest is over, and the port: packed so that the order of the numbers is that of
/// the ends. Milliseconds, rounded up; 48 bits of them are 8900 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rest(u64);

impl Rest {
    fn new(until: Duration, port: u16) -> Self {
        let millis = u64::try_from(until.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX >> 16);
        Self(millis << 16 | u64::from(port))
    }

    pub fn until(self) -> Duration {
        Duration::from_millis(self.0 >> 16)
    }

    pub fn port(self) -> u16 {
        self.0 as u16
    }

    pub fn is_over(self, now: Duration) -> bool {
        self.until() <= now
    }
}

/// A port is free, or marked: in use, resting, or taken by somebody else.
pub(super) struct Set {
    marked: Box<Bitmap>,
    /// Of the worker's share.
    free: u32,
    marks: u32,
    resting: BinaryHeap<Reverse<Rest>>,
    /// Where the search goes on, so that a free port, too, is left alone as long as possible.
    next: u16,
    /// When a port was last taken or given back.
    used: Duration,
    gauge: Arc<SourceGauge>,
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} marked, {} of them resting", self.marks, self.resting.len())
    }
}

impl Set {
    pub fn new(share: &RangeInclusive<u16>, gauge: Arc<SourceGauge>) -> Self {
        Self {
            marked: Bitmap::new(),
            free: length(share),
            marks: 0,
            resting: BinaryHeap::new(),
            next: *share.start(),
            used: Duration::ZERO,
            gauge,
        }
    }

    pub fn gauge(&self) -> &Arc<SourceGauge> {
        &self.gauge
    }

    /// Another share from now on. What rests outside of it need not: nobody here takes it.
    pub fn set_share(&mut self, share: &RangeInclusive<u16>) {
        let gone = |rest: &Reverse<Rest>| !share.contains(&rest.0.port());
        let gone: Vec<u16> =
            self.resting.iter().copied().filter(gone).map(|r| r.0.port()).collect();
        self.resting.retain(|rest| share.contains(&rest.0.port()));
        for port in gone {
            self.gauge.rested();
            self.marks -= u32::from(self.marked.remove(port));
        }
        self.free = length(share) - self.marked.count(share);
    }

    /// Whether a port is free, or one's rest is over.
    pub fn has_free(&self, now: Duration) -> bool {
        self.free > 0 || self.longest_rested().is_some_and(|rest| rest.is_over(now))
    }

    /// The port whose rest is over first, or has been for longest.
    pub fn longest_rested(&self) -> Option<Rest> {
        self.resting.peek().map(|rest| rest.0)
    }

    /// Takes a free port.
    pub fn take_free(&mut self, share: &RangeInclusive<u16>, now: Duration) -> Option<u16> {
        if self.free == 0 {
            return None;
        }
        let (first, last) = (*share.start(), *share.end());
        let from = if share.contains(&self.next) { self.next } else { first };
        let port = self
            .marked
            .first_clear(from, last)
            .or_else(|| self.marked.first_clear(first, from.saturating_sub(1)))?;
        self.mark(share, port);
        self.next = port.wrapping_add(1);
        self.used = now;
        self.gauge.taken();
        Some(port)
    }

    /// Takes the port that has rested longest, whether its rest is over or not.
    pub fn take_resting(&mut self, now: Duration) -> Option<Rest> {
        let rest = self.wake()?;
        self.used = now;
        self.gauge.taken();
        Some(rest)
    }

    /// Marks a port of a flow that is there already. False if it was marked. The search begins
    /// beyond it: what came before, servers may still hold in TIME_WAIT.
    pub fn adopt(&mut self, share: &RangeInclusive<u16>, port: u16) -> bool {
        if share.contains(&port) {
            self.next = self.next.max(port.wrapping_add(1));
        }
        let is_new = self.mark(share, port);
        if is_new {
            self.gauge.taken();
        }
        is_new
    }

    /// A port that is in use is so no longer, and free once `until` has come. False if it was
    /// not marked.
    pub fn give_back(
        &mut self,
        share: &RangeInclusive<u16>,
        port: u16,
        until: Duration,
        now: Duration,
    ) -> bool {
        if !self.marked.contains(port) {
            return false;
        }
        self.gauge.given_back();
        self.used = now;
        if until > now && share.contains(&port) {
            self.gauge.rests();
            self.resting.push(Reverse(Rest::new(until, port)));
        } else {
            self.clear(share, port);
        }
        true
    }

    /// A port that was just taken turns out to be used by somebody else: it stays marked.
    pub fn leave(&mut self) {
        self.gauge.given_back();
    }

    /// Makes a marked port free that no flow uses.
    pub fn clear(&mut self, share: &RangeInclusive<u16>, port: u16) {
        if self.marked.remove(port) {
            self.marks -= 1;
            self.free += u32::from(share.contains(&port));
        }
    }

    /// Frees ports whose rest is over, so many at most. Says how many.
    pub fn release(&mut self, share: &RangeInclusive<u16>, now: Duration, most: usize) -> usize {
        for released in 0..most {
            if !self.longest_rested().is_some_and(|rest| rest.is_over(now)) {
                return released;
            }
            if let Some(rest) = self.wake() {
                self.clear(share, rest.port());
            }
        }
        most
    }

    /// Whether nothing is marked, and has not been for so long.
    pub fn is_forgotten(&self, now: Duration, after: Duration) -> bool {
        self.marks == 0 && now.saturating_sub(self.used) >= after
    }

    /// The bytes that resting ports take.
    #[cfg(test)]
    pub fn room_for_resting(&self) -> usize {
        self.resting.capacity() * size_of::<Rest>()
    }

    fn wake(&mut self) -> Option<Rest> {
        let Reverse(rest) = self.resting.pop()?;
        self.gauge.rested();
        // What a busy hour has taken is given back when it is over.
        if self.resting.capacity() > 64 && self.resting.len() < self.resting.capacity() / 4 {
            self.resting.shrink_to(self.resting.len() * 2);
        }
        Some(rest)
    }

    fn mark(&mut self, share: &RangeInclusive<u16>, port: u16) -> bool {
        let is_new = self.marked.insert(port);
        self.marks += u32::from(is_new);
        self.free -= u32::from(is_new && share.contains(&port));
        is_new
    }
}

fn length(share: &RangeInclusive<u16>) -> u32 {
    u32::try_from(share.len()).unwrap_or_default()
}
