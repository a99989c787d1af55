//! The flow table over any memory: mapped in the daemon, a `Vec` in replay and in tests.
//!
//! Layout, hash and the slots' protocol come from `lb-common`, so that the packet programs and the
//! workers agree by construction. Several workers insert, retire and free at once without locks;
//! see [`FlowTable::insert`] for why no key is ever in the table twice.

mod catalog;
mod grace;
mod memory;

use std::{
    hint::black_box,
    sync::atomic::{Ordering, fence},
};

pub use catalog::{Catalog, CatalogFull, CatalogStore, Kind};
pub use grace::{Grace, Ticket};
use lb_common::flow::{
    Activity, BUCKET_SLOTS, Choices, Entry, FlowKeyV4, FlowRecord, Geometry, SharedBucketV4,
    SharedRecord, SharedSlotV4,
};
pub use memory::{Memory, OwnedMemory};

/// Number of a slot: bucket times four, plus its place in the bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SlotId(pub u32);

impl SlotId {
    /// The bucket: the key in the `flows_v4` map that shows this slot.
    #[expect(clippy::cast_possible_truncation, reason = "4")]
    pub const fn bucket(self) -> u32 {
        self.0 / BUCKET_SLOTS as u32
    }

    /// The place in the bucket.
    pub const fn place(self) -> usize {
        self.0 as usize % BUCKET_SLOTS
    }

    #[expect(clippy::cast_possible_truncation, reason = "the table has fewer than 2^32 slots")]
    const fn new(bucket: u32, place: usize) -> Self {
        Self(bucket * BUCKET_SLOTS as u32 + place as u32)
    }
}

/// Why a key could not be inserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InsertError {
    /// Both buckets and the stash are full.
    #[error("the flow table has no room for this flow")]
    Full,
    /// The key is there, or another worker is just inserting it.
    #[error("the flow is there already")]
    Exists,
    /// The same of the reply's key.
    #[error("another flow has the same reply")]
    ReplyExists,
}

/// One direction of a flow that is to be inserted.
#[derive(Clone, Copy, Debug)]
pub struct Direction {
    /// What identifies it.
    pub key: FlowKeyV4,
    /// What is done to its packets.
    pub entry: Entry,
    /// What has been counted already.
    pub activity: Activity,
}

/// Buckets, and the records beside them.
pub struct FlowTable {
    geometry: Geometry,
    memory: Box<dyn Memory>,
}

impl std::fmt::Debug for FlowTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowTable").field("buckets", &self.geometry.total()).finish()
    }
}

impl FlowTable {
    /// Over memory that must hold `geometry.total()` buckets and a record a slot.
    pub fn new(geometry: Geometry, memory: Box<dyn Memory>) -> Self {
        let buckets = geometry.total() as usize;
        assert!(memory.buckets().len() >= buckets, "the mapped table is smaller than its shape");
        assert!(memory.records().len() >= buckets * BUCKET_SLOTS, "a record is missing");
        Self { geometry, memory }
    }

    /// Where keys live.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// A bucket, as the packet path looks at it.
    pub fn bucket(&self, index: u32) -> Option<&SharedBucketV4> {
        self.memory.buckets().get(index as usize)
    }

    /// A slot by its number.
    pub fn slot(&self, id: SlotId) -> &SharedSlotV4 {
        slot_of(self.memory.buckets(), id)
    }

    /// The record beside a slot.
    pub fn record(&self, id: SlotId) -> &SharedRecord {
        &self.memory.records()[id.0 as usize]
    }

    /// Every slot's number.
    pub fn slots(&self) -> impl Iterator<Item = SlotId> + use<> {
        (0..self.geometry.total())
            .flat_map(|bucket| (0..BUCKET_SLOTS).map(move |place| SlotId::new(bucket, place)))
    }

    /// The slot that shows `key`, and its entry.
    pub fn find(&self, key: &FlowKeyV4) -> Option<(SlotId, Entry)> {
        let key = &key.packed();
        self.search(&self.geometry.choices(key), |id, slot| Some((id, slot.read(key)?)))
    }

    /// Fetches all that a look at each of these flows will read, together: memory that nobody has
    /// touched for a while takes long to come, but many pieces of it take hardly longer than one.
    pub fn fetch(&self, flows: impl Iterator<Item = SlotId> + Clone) {
        let (buckets, records) = (self.memory.buckets(), self.memory.records());
        for id in flows.clone() {
            black_box((slot_of(buckets, id).is_free(), records[id.0 as usize].partner()));
        }
        for id in flows {
            let partner = SlotId(records[id.0 as usize].partner());
            let bucket = buckets.get(partner.bucket() as usize);
            black_box(bucket.map(|bucket| bucket.slots[partner.place()].is_free()));
        }
    }

    /// The same of the places where a key may be, and of the records where it will most likely be.
    pub fn fetch_places(&self, key: &FlowKeyV4) {
        let Choices { first, second, .. } = self.geometry.choices(&key.packed());
        let (buckets, records) = (self.memory.buckets(), self.memory.records());
        for place in 0..BUCKET_SLOTS {
            let [id, other] = [first, second].map(|bucket| SlotId::new(bucket, place));
            black_box((slot_of(buckets, id).is_free(), slot_of(buckets, other).is_free()));
            black_box(records[id.0 as usize].partner());
        }
    }

    /// Inserts both directions of a flow, or neither. `record` is the forward direction's; its
    /// `partner` and bits are set here. Without a reply the flow has one direction only.
    pub fn insert(
        &self,
        forward: &Direction,
        reply: Option<&Direction>,
        record: &FlowRecord,
    ) -> Result<SlotId, InsertError> {
        let forward_id = self.claim(forward)?;
        let reply_id = match reply.map(|reply| self.claim(reply)).transpose() {
            Ok(reply_id) => reply_id,
            Err(error) => {
                self.slot(forward_id).free();
                return Err(match error {
                    InsertError::Exists => InsertError::ReplyExists,
                    other => other,
                });
            }
        };
        let partner = reply_id.map_or(FlowRecord::ALONE, |id| id.0);
        let bits = record.bits | FlowRecord::FORWARD;
        self.record(forward_id).store(&FlowRecord { partner, bits, ..*record });
        if let Some(reply_id) = reply_id {
            let back = FlowRecord { partner: forward_id.0, ..FlowRecord::default() };
            self.record(reply_id).store(&FlowRecord { created: record.created, ..back });
            // The reply first: no packet may reach a server whose answer finds no flow.
            self.slot(reply_id).publish();
        }
        self.slot(forward_id).publish();
        Ok(forward_id)
    }

    /// Gives a flow of one direction, which is [`Flags::INSPECTED`], its other one. `entry` is what
    /// its packets will be sent on by, `record` replaces the forward direction's.
    ///
    /// [`Flags::INSPECTED`]: lb_common::flow::Flags::INSPECTED
    pub fn join(
        &self,
        forward: SlotId,
        entry: &Entry,
        reply: &Direction,
        record: &FlowRecord,
    ) -> Result<SlotId, InsertError> {
        let reply_id = self.claim(reply).map_err(|error| match error {
            InsertError::Exists => InsertError::ReplyExists,
            other => other,
        })?;
        let bits = record.bits | FlowRecord::FORWARD;
        self.record(forward).store(&FlowRecord { partner: reply_id.0, bits, ..*record });
        let back = FlowRecord { partner: forward.0, ..FlowRecord::default() };
        self.record(reply_id).store(&FlowRecord { created: record.created, ..back });
        self.slot(forward).prepare(entry);
        self.slot(reply_id).publish();
        Ok(reply_id)
    }

    /// Takes a joined flow's other direction away again. It may be used again at once: of a slot that
    /// is `INSPECTED` the program reads nothing, and counts nothing into it.
    pub fn part(&self, forward: SlotId) {
        let record = self.record(forward).load();
        if record.partner == FlowRecord::ALONE {
            return;
        }
        let reply = SlotId(record.partner);
        self.record(forward).store(&FlowRecord { partner: FlowRecord::ALONE, ..record });
        if self.slot(reply).retire() {
            self.record(reply).store(&FlowRecord::default());
            self.slot(reply).free();
        }
    }

    /// Hides both directions of a flow from the packet path. False if somebody else did.
    pub fn retire(&self, forward: SlotId) -> bool {
        let partner = self.record(forward).load().partner;
        if !self.slot(forward).retire() {
            return false;
        }
        if partner != FlowRecord::ALONE {
            self.slot(SlotId(partner)).retire();
        }
        true
    }

    /// Gives a retired flow's slots back, once no run of the program can know them any more.
    pub fn free(&self, forward: SlotId) {
        let partner = self.record(forward).load().partner;
        for id in [Some(forward), (partner != FlowRecord::ALONE).then_some(SlotId(partner))] {
            let Some(id) = id else { continue };
            self.record(id).store(&FlowRecord::default());
            self.slot(id).free();
        }
    }

    /// Claims and fills a slot for a direction, so that its key is in the table once.
    ///
    /// Two workers may insert the same key at once. Each first writes the key into the slot it
    /// claimed, then looks for the same key in every place it may be. Both do so in the same
    /// order of all memory (the fence), so at least one sees the other, and whoever does gives
    /// up. Both may: then neither inserts, and the packet's sender tries again.
    ///
    /// The stash is one of these places only if the second bucket says that some key overflowed.
    /// Whoever takes a slot there says so before the fence, as with the key itself.
    fn claim(&self, direction: &Direction) -> Result<SlotId, InsertError> {
        let (key, packed) = (&direction.key, &direction.key.packed());
        let choices = &self.geometry.choices(packed);
        let id = self.claim_slot(choices).ok_or(InsertError::Full)?;
        self.slot(id).fill(key, &direction.entry, &direction.activity);
        fence(Ordering::SeqCst);
        let is_twice =
            |other, slot: &SharedSlotV4| (other != id && slot.holds(packed)).then_some(());
        if self.search(choices, is_twice).is_some() {
            self.slot(id).free();
            return Err(InsertError::Exists);
        }
        Ok(id)
    }

    /// A slot in one of the key's buckets.
    ///
    /// The first choice is preferred while two of its slots are free: what lives there is found
    /// at the first look. After that the emptier bucket takes the key, which keeps both from
    /// filling up. At a load of one half this leaves 10 % of the keys in their second bucket and
    /// 240 of a million in the stash; the first choice whenever possible would send 3,600 there.
    fn claim_slot(&self, choices: &Choices) -> Option<SlotId> {
        let Choices { first, second, stashed, .. } = *choices;
        let (of_first, of_second) = (self.free_slots(first), self.free_slots(second));
        let [preferred, other] =
            if of_first >= 2 || of_first >= of_second { [first, second] } else { [second, first] };
        let claim = |bucket| self.claim_in(bucket, choices);
        claim(preferred).or_else(|| claim(other)).or_else(|| {
            let stashed = claim(stashed)?;
            self.slot(SlotId::new(second, 0)).set_overflowed();
            Some(stashed)
        })
    }

    fn free_slots(&self, bucket: u32) -> usize {
        let slots = &self.memory.buckets()[bucket as usize].slots;
        slots.iter().filter(|slot| slot.is_free()).count()
    }

    fn claim_in(&self, bucket: u32, choices: &Choices) -> Option<SlotId> {
        let slots = &self.memory.buckets()[bucket as usize].slots;
        let place = choices.places().into_iter().find(|place| slots[*place].claim())?;
        Some(SlotId::new(bucket, place))
    }

    /// What `look` finds first, going through the slots where a key may be, or may be about to be.
    #[inline]
    fn search<R>(
        &self,
        choices: &Choices,
        look: impl Fn(SlotId, &SharedSlotV4) -> Option<R>,
    ) -> Option<R> {
        let buckets = self.memory.buckets();
        let Choices { first, second, stashed, .. } = *choices;
        let overflowed = buckets[second as usize].slots[0].overflowed();
        let looked_at = if overflowed { &[first, second, stashed][..] } else { &[first, second] };
        for bucket in looked_at {
            let slots = &buckets[*bucket as usize].slots;
            for place in choices.places() {
                if let Some(found) = look(SlotId::new(*bucket, place), &slots[place]) {
                    return Some(found);
                }
            }
        }
        None
    }
}

fn slot_of(buckets: &[SharedBucketV4], id: SlotId) -> &SharedSlotV4 {
    &buckets[id.bucket() as usize].slots[id.place()]
}

#[cfg(test)]
mod tests;
