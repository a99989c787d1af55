//! The program's maps, as small as they can be, and its frames.

use crate::{
    address::Address,
    admission::{Admission, PolicyClient, Rate, RateKey},
    flow::{Activity, Entry, FlowKeyV4, Geometry, SharedBucketV4, SharedSlotV4},
    hash::HashSeed,
    next_hop::{NextHop, NextHopId},
    path::{Frame, Tables},
    service::{Roles, Service, ServiceKey},
    tcp::cookie::Secrets,
};

/// The interface of the only next hop, and another one.
pub const INTERFACE: u32 = 7;
pub const NEXT_HOP: NextHopId = NextHopId(1);

pub struct Maps(Vec<SharedBucketV4>);

impl Default for Maps {
    fn default() -> Self {
        Self((0..65).map(|_| SharedBucketV4::default()).collect())
    }
}

impl Maps {
    /// Adds a flow, and says where it is.
    pub fn insert(&self, key: &FlowKeyV4, entry: &Entry) {
        let choices = self.geometry().choices(&key.packed());
        let slots = &self.0[choices.first as usize].slots;
        let slot = choices.places().map(|place| &slots[place]).into_iter().find(|s| s.claim());
        let slot = slot.expect("a free slot");
        slot.fill(key, entry, &Activity::default());
        slot.publish();
    }

    pub fn slot(&self, key: &FlowKeyV4) -> &SharedSlotV4 {
        crate::path::find(self, &key.packed()).expect("the flow").0
    }
}

impl Tables for Maps {
    fn nanos(&self) -> u64 {
        0
    }

    fn geometry(&self) -> Geometry {
        Geometry { buckets: 64, seed: HashSeed([1, 3, 5, 7, 11]) }
    }

    fn bucket(&self, index: u32) -> Option<&SharedBucketV4> {
        self.0.get(index as usize)
    }

    fn next_hop(&self, _: NextHopId) -> Option<NextHop> {
        Some(NextHop { bounces: 1, ..NextHop::new(INTERFACE, [2; 6], [2; 6]) })
    }

    fn address_filter(&self) -> Option<&crate::filter::AddressFilter> {
        None
    }

    fn roles(&self, _: &Address) -> Roles {
        Roles::VIRTUAL_SERVICE
    }

    fn service(&self, _: &ServiceKey) -> Option<Service> {
        Some(Service::default())
    }

    fn admission(&self, _: &PolicyClient) -> Option<Admission> {
        None
    }

    fn is_due(&self, _: &RateKey, _: &Rate) -> bool {
        true
    }

    /// The worker of this model answers SYNs itself.
    fn secrets(&self) -> Secrets {
        Secrets::default()
    }

    fn is_pressed(&self) -> bool {
        false
    }
}

/// A frame that is changed in place only.
pub struct Bytes<'a>(pub &'a mut Vec<u8>);

impl Frame for Bytes<'_> {
    fn length(&self) -> usize {
        self.0.len()
    }

    fn interface(&self) -> u32 {
        INTERFACE
    }

    fn window<const OFFSET: usize, const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.0.get_mut(OFFSET..)?.first_chunk_mut()
    }

    fn grow_head(&mut self, _: i32) -> bool {
        false
    }

    fn set_length(&mut self, _: usize) -> bool {
        false
    }

    fn load<const N: usize>(&mut self, _: usize, _: usize, _: &mut [u8; N]) -> bool {
        false
    }
}
