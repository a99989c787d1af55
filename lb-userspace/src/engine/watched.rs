//! The lists of a worker's flows, and when each flow is to be visited.

use std::time::Duration;

use lb_common::time::Tick;

use super::{install::tick, lifecycle::Hand};
use crate::flow_table::{FlowTable, SlotId};

/// Flows that may soon be something else are visited at least so often.
const SEEN_EVERY: Duration = Duration::from_secs(1);
/// So many flows ahead of the hand are fetched together: one after the other, each would be waited
/// for.
const AHEAD: usize = 16;

/// Flows, and the hand that goes over them.
pub(super) struct Watched {
    pub flows: Vec<Mine>,
    hand: Hand,
}

impl Watched {
    pub fn by(hand: Hand) -> Self {
        Self { flows: Vec::new(), hand }
    }

    /// Goes once over all flows as fast as it may, be they due or not.
    pub fn hurry(&mut self) {
        self.hand.hurry(self.flows.len());
    }

    /// Over how many flows the hand is to move now.
    pub fn steps(&mut self, now: Duration) -> usize {
        self.hand.due(now, self.flows.len())
    }

    /// Moves the hand by a flow. If that is to be visited, it is to be kept or removed afterwards.
    pub fn step(&mut self, step: usize, now: Tick, table: &FlowTable) -> Option<(usize, Mine)> {
        let hurries = self.hand.hurries();
        let place = self.hand.next(self.flows.len());
        let is_due = |flow: &&Mine| hurries || flow.is_due(now);
        if step.is_multiple_of(AHEAD) {
            let ahead = self.flows.iter().skip(place).take(AHEAD).filter(is_due);
            table.fetch(ahead.map(|flow| flow.id));
        }
        let flow = self.flows.get(place).filter(is_due).copied();
        if flow.is_none() {
            self.hand.advance();
        }
        Some((place, flow?))
    }

    /// The flow stays, and is to be visited again then.
    pub fn keep(&mut self, place: usize, due: Tick) {
        if let Some(flow) = self.flows.get_mut(place) {
            flow.due = due;
        }
        self.hand.advance();
    }

    /// The flow belongs here no longer: another takes its place under the hand.
    pub fn remove(&mut self, place: usize) {
        self.flows.swap_remove(place);
    }
}

/// A flow of this worker: its slot, and when it was made, to tell it from a later one there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mine {
    pub id: SlotId,
    /// Nothing is to be expected of it before.
    pub due: Tick,
    pub created: u64,
}

impl Mine {
    /// Made just now: what follows its first packet soon is noticed at the first visit.
    pub fn new(id: SlotId, created: u64) -> Self {
        let first = Duration::from_nanos(created) + Hand::ROUND / 2;
        Self { id, due: tick(first), created }
    }

    fn is_due(&self, now: Tick) -> bool {
        let ahead = self.due.since(now);
        // No visit is put off for longer: such a time is long past.
        ahead == 0 || ahead > Tick::ticks(SEEN_EVERY)
    }
}

/// When a flow is to be visited again that cannot time out before `left` ticks: what has gone on
/// for a while is asked less often what has become of it.
pub(super) fn next_visit(now: Tick, age: Duration, left: u32) -> Tick {
    let wait = (age * 3).clamp(Hand::ROUND, SEEN_EVERY);
    Tick(now.0.wrapping_add(Tick::ticks(wait).min(left)))
}

/// The lists of flows that go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum List {
    /// They may soon be something else.
    Brisk,
    /// They stay as they are for a while.
    Settled,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    #[test]
    fn a_flow_is_visited_less_often_as_it_grows_older_and_in_time_for_its_end() {
        let wait = |age: u64, left: u32| {
            next_visit(at(5 * SECOND), Duration::from_millis(age), left).since(at(5 * SECOND))
        };
        assert_eq!(wait(10, u32::MAX), Tick::ticks(Hand::ROUND));
        assert_eq!(wait(200, u32::MAX), Tick::ticks(Duration::from_millis(600)));
        assert_eq!(wait(60_000, u32::MAX), Tick::ticks(SEEN_EVERY));
        assert_eq!(wait(60_000, 7), 7);
    }

    #[test]
    fn a_visit_that_was_due_long_ago_is_due() {
        let flow = |due| Mine { id: SlotId(0), due, created: 0 };
        let now = at(5 * SECOND);
        assert!(flow(now).is_due(now));
        assert!(!flow(Tick(now.0 + 1)).is_due(now));
        assert!(flow(Tick(now.0.wrapping_add(u32::MAX / 4))).is_due(now), "before the wrap");
        assert!(!Mine::new(SlotId(0), 5 * SECOND).is_due(now));
    }
}
