//! The connections that a worker inspects, and when each wants to be woken.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::Inspected;
use crate::flow_table::SlotId;

/// Memory that a worker's inspections may take together. One that makes it more ends.
pub(in crate::engine) const MEMORY: usize = 256 << 20;

/// By the slot of the forward direction.
#[derive(Debug)]
pub(in crate::engine) struct Inspections {
    held: HashMap<SlotId, Inspected>,
    /// Who is to be woken when, each once: a client that says a byte at a time moves its hour with
    /// each.
    clock: BTreeSet<(Duration, SlotId)>,
    memory: usize,
    /// How much memory they may take together, in bytes.
    most: usize,
}

impl Inspections {
    /// None yet, with so many bytes of memory.
    pub fn within(most: usize) -> Self {
        Self { held: HashMap::new(), clock: BTreeSet::new(), memory: 0, most }
    }

    /// Takes one out, to work with it.
    pub fn take(&mut self, id: SlotId, created: u64) -> Option<Inspected> {
        self.held.get(&id).filter(|inspected| inspected.created == created)?;
        let mut inspected = self.held.remove(&id)?;
        self.memory -= inspected.memory;
        if let Some(at) = inspected.wakes_at.take() {
            self.clock.remove(&(at, id));
        }
        Some(inspected)
    }

    /// Puts one in, or back.
    pub fn put(&mut self, mut inspected: Inspected) {
        inspected.memory = size_of::<Inspected>() + inspected.inspection.memory();
        self.memory += inspected.memory;
        inspected.wakes_at = inspected.inspection.wakes_at();
        self.clock.extend(inspected.wakes_at.map(|at| (at, inspected.id)));
        self.held.insert(inspected.id, inspected);
    }

    /// One that wants to be woken by now. It is to be taken out then.
    pub fn due(&self, now: Duration) -> Option<(SlotId, u64)> {
        let (_, id) = self.clock.first().filter(|(at, _)| *at <= now)?;
        self.held.get(id).map(|inspected| (*id, inspected.created))
    }

    /// Whether they have all the memory that they may have.
    pub fn is_full(&self) -> bool {
        self.memory >= self.most
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Bytes of memory that they take, and how many are on the clock.
    #[cfg(test)]
    pub fn weight(&self) -> (usize, usize) {
        (self.memory, self.clock.len())
    }
}
