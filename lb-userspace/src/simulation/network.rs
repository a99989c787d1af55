//! The surroundings of a simulated balancer: next hops, and the maps of the program.

use std::net::IpAddr;

use lb_common::{
    address::Address,
    admission::{Admission, PolicyClient, Rate, RateKey},
    flow::{Geometry, SharedBucketV4},
    next_hop::{NextHop, NextHopId},
    path,
    service::{Roles, Service, ServiceKey},
    tcp::cookie::Secrets,
};

use super::Arrivals;
use crate::engine::{Generation, Neighbours, Now, Shared, Toward};

/// The only interface.
pub(super) const INTERFACE: u32 = 1;

/// The balancer's own MAC: locally administered, as are all here.
pub(super) const MAC: [u8; 6] = [2, 0x66, 0x70, 0, 0, 1];

/// Everybody is a neighbour: the next hop of an address is the address.
pub(super) struct Everywhere;

/// The MAC that stands for an address.
pub(super) fn mac_of(address: u32) -> [u8; 6] {
    let [a, b, c, d] = address.to_be_bytes();
    [2, 0, a, b, c, d]
}

fn next_hop(id: NextHopId) -> NextHop {
    NextHop { bounces: 1, ..NextHop::new(INTERFACE, mac_of(id.0), MAC) }
}

impl Neighbours for Everywhere {
    fn toward(&self, destination: IpAddr) -> Toward {
        match destination {
            IpAddr::V4(v4) => Toward::Known(NextHopId(v4.to_bits())),
            IpAddr::V6(_) => Toward::Unreachable,
        }
    }

    fn entry(&self, id: NextHopId) -> NextHop {
        next_hop(id)
    }
}

/// What cookies are made with: nobody attacks a simulation, and the same ones make runs alike.
pub(super) const SECRETS: Secrets =
    Secrets { even: [0x9e37_79b9_7f4a_7c15, 1], odd: [0xbf58_476d_1ce4_e5b9, 2] };

/// The program's maps, as they would be.
pub(super) struct Path<'a> {
    pub shared: &'a Shared,
    pub generation: &'a Generation,
    pub arrivals: &'a Arrivals,
    pub now: Now,
}

impl path::Tables for Path<'_> {
    fn nanos(&self) -> u64 {
        u64::try_from(self.now.monotonic.as_nanos()).unwrap_or(u64::MAX)
    }

    fn geometry(&self) -> Geometry {
        *self.shared.flows.geometry()
    }

    fn bucket(&self, index: u32) -> Option<&SharedBucketV4> {
        self.shared.flows.bucket(index)
    }

    fn next_hop(&self, id: NextHopId) -> Option<NextHop> {
        Some(next_hop(id))
    }

    /// Everything is looked up: what a filter would keep from it is in no map.
    fn address_filter(&self) -> Option<&lb_common::filter::AddressFilter> {
        None
    }

    fn roles(&self, address: &Address) -> Roles {
        self.generation.roles(address)
    }

    fn service(&self, key: &ServiceKey) -> Option<Service> {
        self.generation.entry(key)
    }

    fn admission(&self, client: &PolicyClient) -> Option<Admission> {
        self.generation.admission(client)
    }

    fn is_due(&self, key: &RateKey, rate: &Rate) -> bool {
        self.arrivals.is_due(key, rate, self.nanos())
    }

    fn secrets(&self) -> Secrets {
        SECRETS
    }

    fn is_pressed(&self) -> bool {
        false
    }
}

/// A frame in the program's hands.
pub(super) struct Wire(pub Vec<u8>);

impl path::Frame for Wire {
    fn length(&self) -> usize {
        self.0.len()
    }

    fn interface(&self) -> u32 {
        INTERFACE
    }

    fn window<const OFFSET: usize, const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.0.get_mut(OFFSET..OFFSET + N)?.try_into().ok()
    }

    fn grow_head(&mut self, grow: i32) -> bool {
        let bytes = grow.unsigned_abs() as usize;
        if grow >= 0 {
            self.0.splice(..0, std::iter::repeat_n(0, bytes));
        } else {
            self.0.drain(..bytes.min(self.0.len()));
        }
        true
    }

    fn set_length(&mut self, length: usize) -> bool {
        self.0.resize(length, 0);
        true
    }

    fn load<const N: usize>(&mut self, offset: usize, length: usize, into: &mut [u8; N]) -> bool {
        let from = self.0.get(offset..offset + length);
        let copied = from.zip(into.get_mut(..length)).map(|(from, to)| to.copy_from_slice(from));
        copied.is_some()
    }
}
