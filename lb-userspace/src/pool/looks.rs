//! Which servers a worker looks at for a decision: a few in turn, not all.
//!
//! Flows, times and limits of servers are other workers' and time's to change, and nobody is told: to
//! tell all workers of every flow would cost more than to look. So each remembers what it saw at its
//! last look at each server, in an order that has the best on top, and looks again: at the next
//! [`LOOKS`] servers for every decision, and at the one that it is about to pick, until that stays the
//! best. What follows:
//!
//! - In a pool of no more than [`LOOKS`] servers all are looked at: who is picked is exactly right. So
//!   it is in any pool as long as servers only become worse.
//! - Who is picked is as good as it seems, and no worse than any of sixteen others at this moment. Two
//!   that are drawn at random keep loads nearly even (Mitzenmacher, IEEE TPDS 2001).
//! - That a server has become better is seen by a worker after at most a sixteenth as many of its
//!   decisions as there are servers: before the server would, on average, have got a flow of it.
//! - That no server is usable is found only by looking at all, unless the caller asks for less. Such a
//!   decision, and a worker's first, takes time linear in the number of servers; any other looks at
//!   sixteen, at the one that is picked, and at those in between that have become worse.

use std::mem;

use super::dice::start;

/// Servers that are looked at for each decision.
pub(super) const LOOKS: usize = 16;

/// Whose turn it is to be looked at.
#[derive(Clone, Debug)]
pub(super) struct Looks {
    /// Servers in the pool.
    count: usize,
    next: usize,
    /// To be looked at for the next decision.
    due: usize,
}

impl Looks {
    /// Before the first decision all are looked at; then each worker begins elsewhere, so that whatever
    /// changes, one of them sees it soon.
    pub fn new(count: usize, worker: usize) -> Self {
        Self { count, next: start(worker, count), due: count }
    }

    /// Who is looked at for the next decision at least.
    pub fn due(&self) -> impl Iterator<Item = usize> + use<> {
        (self.next..self.count).chain(0..self.next).take(self.due)
    }

    /// The best server, if any is good enough.
    ///
    /// `see` puts what a server is like now into `memory`, `best` says which is the best of what is
    /// in there. While it is none, others are looked at, up to `most` servers or all of them.
    pub fn settle<M>(
        &mut self,
        most: usize,
        memory: &mut M,
        see: impl Fn(&mut M, usize),
        best: impl Fn(&M) -> Option<usize>,
    ) -> Option<usize> {
        let due = mem::replace(&mut self.due, LOOKS.min(self.count));
        (0..due).for_each(|_| see(memory, self.turn()));
        if due == self.count {
            return best(memory);
        }
        let mut left = most.min(self.count).saturating_sub(due);
        loop {
            let Some(index) = best(memory) else {
                left = left.checked_sub(1)?;
                see(memory, self.turn());
                continue;
            };
            see(memory, index);
            if best(memory) == Some(index) {
                return Some(index);
            }
        }
    }

    fn turn(&mut self) -> usize {
        let index = self.next;
        self.next = if index + 1 < self.count { index + 1 } else { 0 };
        index
    }
}
