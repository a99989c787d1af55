//! The connections that a worker inspects, and when each wants to be woken.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use lb_common::{event::Event, next_hop::NextHopId, rewrite::EndpointsV4};

use super::{
    decide::Choice,
    inspect::{Inspection, Segment, SequenceNumber},
    log::EndReason,
};
use crate::{
    config::{PoolIndex, ServerIndex},
    flow_table::SlotId,
};

/// Memory that a worker's inspections may take together. One that makes it more ends.
pub(super) const MEMORY: usize = 256 << 20;

/// A connection between its client's ACK and its splice.
#[derive(Debug)]
pub(super) struct Inspected {
    /// Its forward direction.
    pub id: SlotId,
    /// As the flow record has it: tells it from a later one in the same slot.
    pub created: u64,
    pub inspection: Inspection,
    /// As the client's packets have it.
    pub client: EndpointsV4,
    pub to_client: NextHopId,
    /// The server that was chosen last, until it fails.
    pub server: Option<Connecting>,
    /// Servers that have failed.
    pub tried: Vec<(PoolIndex, ServerIndex)>,
    /// What was decided against it, if that is why it ends.
    pub refusal: Option<(Event, EndReason)>,
    /// When it is on the clock.
    wakes_at: Option<Duration>,
    memory: usize,
}

/// The server that a connection is being opened to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connecting {
    pub choice: Choice,
    /// Its number in the catalog.
    pub number: u32,
    pub to_server: NextHopId,
    /// As the packets to it have it.
    pub ends: EndpointsV4,
    /// Since when it has not said a word.
    pub asked: Option<Duration>,
}

/// What brought a connection forward.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moved<'a> {
    /// A segment of the client's, or of the server's.
    Client(&'a Segment<'a>),
    Server(&'a Segment<'a>),
    /// An ICMP error: the server cannot be reached.
    Unreachable(SequenceNumber),
    /// Another: a segment with this number was longer than what fits.
    TooBig(SequenceNumber, u16),
    Time,
}

impl Inspected {
    pub fn new(
        (id, created): (SlotId, u64),
        inspection: Inspection,
        client: EndpointsV4,
        to_client: NextHopId,
    ) -> Self {
        Self {
            id,
            created,
            inspection,
            client,
            to_client,
            server: None,
            tried: Vec::new(),
            refusal: None,
            wakes_at: None,
            memory: 0,
        }
    }
}

/// By the slot of the forward direction.
#[derive(Debug)]
pub(super) struct Inspections {
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
