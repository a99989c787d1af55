//! What servers say first on spliced connections, shown to L4_RESPONSE scripts.
//!
//! Packets go on to the client at once; a copy of what they carry is put together until the scripts
//! have seen enough. So long the program leaves the server's packets to workers, which are few: the
//! flag goes when the scripts have run to their end, or have waited for too long. The copy is with the
//! worker that owns the connection: another one that gets a packet passes it on.
//!
//! Scripts that never see what they want are left undone, and the log says so.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use lb_common::flow::{Flags, FlowRecord};

use super::{
    Engine, Found, Turn,
    inspect::{LIMIT, Segment, SequenceNumber, Stream},
    log::Note,
    packet::Packet,
};
use crate::{
    flow_table::{FlowTable, SlotId},
    script::More,
};

/// How long a copy is kept.
const LONGEST: Duration = Duration::from_secs(10);
/// Copies that a worker keeps at once, each of [`LIMIT`] bytes at most: 64 MiB.
const MOST: usize = 1024;

/// The beginning of what a server says.
#[derive(Debug)]
struct Tapped {
    /// As the record of the reply direction has it: tells the flow from a later one in the slot.
    created: u64,
    /// Number of the first byte.
    start: SequenceNumber,
    stream: Stream,
    /// How much the scripts want to see.
    need: usize,
}

impl Tapped {
    fn new(created: u64, start: SequenceNumber) -> Self {
        Self { created, start, stream: Stream::default(), need: 1 }
    }

    fn add(&mut self, segment: &Segment<'_>) {
        if segment.sequence.is_before(self.start) {
            self.begin_at(segment.sequence);
        }
        let offset = segment.sequence.since(self.start) as usize;
        if offset < LIMIT {
            self.stream.add(offset, segment.payload, segment.flags.fin);
        }
    }

    /// What was taken for the first segment has overtaken another.
    fn begin_at(&mut self, start: SequenceNumber) {
        let offset = self.start.since(start) as usize;
        let later = std::mem::take(&mut self.stream);
        if offset < LIMIT {
            self.stream.add(offset, later.prefix(), later.is_complete());
        }
        self.start = start;
    }

    fn is_enough(&self) -> bool {
        self.stream.prefix().len() >= self.need || self.stream.is_complete()
    }
}

/// By the slot of the reply direction: those whose scripts wait.
#[derive(Debug, Default)]
pub(super) struct Taps {
    held: HashMap<SlotId, Tapped>,
    /// Since when, in that order; also of those that wait no longer.
    clock: VecDeque<(Duration, SlotId, u64)>,
}

impl Taps {
    fn take(&mut self, reply: SlotId, created: u64) -> Option<Tapped> {
        self.held.remove(&reply).filter(|tapped| tapped.created == created)
    }

    fn is_full(&self) -> bool {
        self.held.len() >= MOST
    }

    fn begin(&mut self, reply: SlotId, tapped: Tapped, now: Duration) {
        self.clock.push_back((now, reply, tapped.created));
        self.held.insert(reply, tapped);
    }

    /// One that has waited for too long.
    fn expired(&mut self, now: Duration) -> Option<(SlotId, Tapped)> {
        while self.clock.front().is_some_and(|(since, ..)| now.saturating_sub(*since) >= LONGEST) {
            let (_, reply, created) = self.clock.pop_front()?;
            if let Some(tapped) = self.take(reply, created) {
                return Some((reply, tapped));
            }
        }
        None
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.held.len()
    }
}

impl Engine {
    /// A packet of the server's on a spliced connection, whose beginning scripts are still to see.
    /// The flow, if one has failed and it is to be closed for that.
    pub(super) fn tap(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &Packet<'_>,
        reply: SlotId,
    ) -> Option<Found> {
        let record = self.shared.flows.record(reply).load();
        let held = self.taps.take(reply, record.created);
        // What the client will not take is none of the stream.
        let segment = Segment::read(packet).filter(|segment| !segment.flags.rst);
        let speaks = segment.filter(|segment| !segment.payload.is_empty() || held.is_some());
        let (is_new, now) = (held.is_none(), turn.now.monotonic);
        let Some(segment) = speaks else {
            held.into_iter().for_each(|held| self.wait_for_more(reply, held, (false, now)));
            return None;
        };
        let mut tapped = held.unwrap_or_else(|| Tapped::new(record.created, segment.sequence));
        tapped.add(&segment);
        if !tapped.is_enough() {
            self.wait_for_more(reply, tapped, (is_new, now));
            return None;
        }
        let found = Found::at(&self.shared.flows, SlotId(record.partner))?;
        let more = if tapped.stream.is_complete() { More::Closed } else { More::MayCome };
        match self.show(turn, packet, &found, (tapped.stream.prefix(), Some(more))) {
            Ok(goes_on) => {
                self.shared.flows.slot(reply).take_flag(Flags::PUNT_RESPONSE);
                (!goes_on).then_some(found)
            }
            Err(wait) => {
                tapped.need = wait.bytes;
                self.wait_for_more(reply, tapped, (is_new, now));
                None
            }
        }
    }

    fn wait_for_more(&mut self, reply: SlotId, tapped: Tapped, (is_new, now): (bool, Duration)) {
        if !is_new {
            self.taps.held.insert(reply, tapped);
        } else if self.taps.is_full() {
            self.give_up(reply, "too many responses are waited for");
        } else {
            self.taps.begin(reply, tapped, now);
        }
    }

    /// Gives up on scripts that have waited for too long: the connection goes on without them.
    pub(super) fn expire_taps(&mut self, now: Duration) {
        while let Some((reply, Tapped { created, stream, need, .. })) = self.taps.expired(now) {
            let flows = &self.shared.flows;
            let goes_on = flows.slot(reply).snapshot().is_some();
            if goes_on && flows.record(reply).load().created == created {
                let (came, seconds) = (stream.prefix().len(), LONGEST.as_secs());
                let why = format!("{need} bytes wanted, {came} came in {seconds} s");
                self.give_up(reply, &why);
            }
        }
    }

    fn give_up(&self, reply: SlotId, why: &str) {
        let forward = SlotId(self.shared.flows.record(reply).load().partner);
        self.shared.notes.add(forward, undone(why));
        self.shared.flows.slot(reply).take_flag(Flags::PUNT_RESPONSE);
    }
}

/// What the log is told of a connection that ends, if its server has never said as much as the
/// response scripts want to see.
pub(super) fn unanswered(found: &Found, flows: &FlowTable) -> Option<Note> {
    if !found.entry.flags.has(Flags::SPLICED) || found.record.partner == FlowRecord::ALONE {
        return None;
    }
    let (_, reply, _) = flows.slot(SlotId(found.record.partner)).snapshot()?;
    reply.flags.has(Flags::PUNT_RESPONSE).then(|| undone("the server has sent too little"))
}

fn undone(why: &str) -> Note {
    Note { log: format!("[L4_RESPONSE left undone: {why}]"), ..Note::default() }
}
