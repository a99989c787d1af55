//! The packet path over plain memory.

use std::collections::HashMap;

use lb_common::{
    address::Address,
    admission::{Admission, ClientPrefix, PolicyClient, Rate, RateKey},
    filter::AddressFilter,
    flow::{Geometry, SharedBucketV4},
    next_hop::{NextHop, NextHopId},
    path::{self, Frame, Tables, Verdict},
    service::{Roles, Service, ServiceKey},
    tcp::cookie::Secrets,
};
use lb_userspace::{
    flow_table::{FlowTable, OwnedMemory},
    simulation::Arrivals,
};

use crate::{
    observed::{self, Observed},
    setup::{LOOPBACK, SECRETS, Setup, geometry},
};

/// What XDP has in front of a packet for a program to grow into, without what it keeps to itself
/// (`XDP_PACKET_HEADROOM` less `struct xdp_frame`).
pub const HEADROOM: usize = 216;

/// What there is behind a packet, for a test that does not ask for less.
const TAILROOM: usize = 320;

/// A frame in a vector, with room in front and behind.
pub struct MemoryFrame {
    bytes: Vec<u8>,
    headroom: usize,
    tailroom: usize,
    interface: u32,
}

impl Frame for MemoryFrame {
    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn interface(&self) -> u32 {
        self.interface
    }

    fn window<const OFFSET: usize, const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.bytes.get_mut(OFFSET..)?.first_chunk_mut()
    }

    fn grow_head(&mut self, grow: i32) -> bool {
        let by = grow.unsigned_abs() as usize;
        if grow < 0 {
            self.bytes.drain(..by);
            self.headroom += by;
        } else if by <= self.headroom {
            self.bytes.splice(..0, vec![0; by]);
            self.headroom -= by;
        } else {
            return false;
        }
        true
    }

    fn set_length(&mut self, length: usize) -> bool {
        let fits = length <= self.bytes.len() + self.tailroom;
        if fits {
            self.bytes.resize(length, 0);
        }
        fits
    }

    fn load<const N: usize>(&mut self, offset: usize, length: usize, into: &mut [u8; N]) -> bool {
        match self.bytes.get(offset..offset + length) {
            Some(bytes) => into[..length].copy_from_slice(bytes),
            None => return false,
        }
        true
    }
}

/// The same as a socket buffer is: of a frame without a tag, only headers are rewritten.
struct MemoryBuffer(MemoryFrame);

impl Frame for MemoryBuffer {
    const ONLY_FORWARDED: bool = true;

    fn length(&self) -> usize {
        self.0.length()
    }

    fn interface(&self) -> u32 {
        self.0.interface()
    }

    fn window<const OFFSET: usize, const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.0.window::<OFFSET, N>()
    }

    fn can_leave_by(&self, next_hop: &NextHop) -> bool {
        next_hop.vlan == 0
    }

    fn grow_head(&mut self, grow: i32) -> bool {
        panic!("a socket buffer was asked to grow by {grow}")
    }

    fn set_length(&mut self, length: usize) -> bool {
        panic!("a socket buffer was asked to be {length} bytes")
    }

    fn load<const N: usize>(&mut self, offset: usize, length: usize, into: &mut [u8; N]) -> bool {
        self.0.load(offset, length, into)
    }
}

/// The maps, in memory.
pub struct Memory {
    table: FlowTable,
    next_hops: HashMap<NextHopId, NextHop>,
    filter: Box<AddressFilter>,
    roles: HashMap<Address, Roles>,
    services: HashMap<ServiceKey, Service>,
    prefixes: Vec<ClientPrefix>,
    arrivals: Arrivals,
    secrets: Secrets,
    pressed: bool,
}

impl Tables for Memory {
    fn nanos(&self) -> u64 {
        observed::nanos()
    }

    fn geometry(&self) -> Geometry {
        *self.table.geometry()
    }

    fn bucket(&self, index: u32) -> Option<&SharedBucketV4> {
        self.table.bucket(index)
    }

    fn next_hop(&self, id: NextHopId) -> Option<NextHop> {
        self.next_hops.get(&id).copied()
    }

    fn address_filter(&self) -> Option<&AddressFilter> {
        Some(&self.filter)
    }

    fn roles(&self, address: &Address) -> Roles {
        self.roles.get(address).copied().unwrap_or_default()
    }

    fn service(&self, key: &ServiceKey) -> Option<Service> {
        self.services.get(key).copied()
    }

    fn admission(&self, asked: &PolicyClient) -> Option<Admission> {
        let holds = |prefix: &&ClientPrefix| {
            let [of, asked_for] = [prefix.of.client, asked.client].map(u128::from_be_bytes);
            let differing = (of ^ asked_for).leading_zeros();
            prefix.of.policy == asked.policy && differing >= prefix.bits
        };
        let longest = self.prefixes.iter().filter(holds).max_by_key(|prefix| prefix.bits);
        longest.map(|prefix| prefix.admission)
    }

    fn is_due(&self, key: &RateKey, rate: &Rate) -> bool {
        self.arrivals.is_due(key, rate, self.nanos())
    }

    fn secrets(&self) -> Secrets {
        self.secrets
    }

    fn is_pressed(&self) -> bool {
        self.pressed
    }
}

impl Memory {
    /// Tables that hold this.
    pub fn new(setup: &Setup) -> Self {
        let geometry = geometry();
        let table = FlowTable::new(geometry, Box::new(OwnedMemory::new(&geometry)));
        setup.fill(&table);
        let filter = Box::<AddressFilter>::default();
        for (address, roles) in Setup::roles() {
            filter.add(&address, roles);
        }
        Self {
            table,
            filter,
            next_hops: setup.next_hops.iter().copied().collect(),
            roles: Setup::roles().into_iter().collect(),
            services: setup.services().into_iter().collect(),
            prefixes: Setup::prefixes(),
            arrivals: Arrivals::default(),
            secrets: SECRETS,
            pressed: setup.pressed,
        }
    }

    /// As after a configuration in which no address means anything.
    pub fn forget_addresses(&mut self) {
        self.roles.clear();
    }

    /// Sends a packet in by the loopback interface.
    pub fn run(&self, packet: &[u8]) -> (Verdict, Observed) {
        self.run_with(packet, LOOPBACK, HEADROOM)
    }

    /// Sends a packet in by this interface, with this much room in front.
    pub fn run_with(&self, packet: &[u8], interface: u32, room: usize) -> (Verdict, Observed) {
        let bytes = packet.to_vec();
        self.forward(MemoryFrame { bytes, headroom: room, tailroom: TAILROOM, interface })
    }

    /// Sends a packet in with this much room behind it.
    pub fn run_tight(&self, packet: &[u8], tailroom: usize) -> (Verdict, Observed) {
        let bytes = packet.to_vec();
        self.forward(MemoryFrame { bytes, headroom: HEADROOM, tailroom, interface: LOOPBACK })
    }

    /// Sends a packet in as a socket buffer, by the loopback interface.
    pub fn run_buffer(&self, packet: &[u8]) -> (Verdict, Observed) {
        let bytes = packet.to_vec();
        let (headroom, tailroom, interface) = (HEADROOM, TAILROOM, LOOPBACK);
        let mut buffer = MemoryBuffer(MemoryFrame { bytes, headroom, tailroom, interface });
        let forward = || path::forward(&mut buffer, self);
        let (verdict, touched) = observed::watch(&self.table, forward);
        let (action, events) = observed::consequence_of_buffer(verdict);
        (verdict, Observed { action, bytes: buffer.0.bytes, events, touched })
    }

    fn forward(&self, mut frame: MemoryFrame) -> (Verdict, Observed) {
        let forward = || path::forward(&mut frame, self);
        let (verdict, touched) = observed::watch(&self.table, forward);
        let (action, events) = observed::consequence(verdict);
        (verdict, Observed { action, bytes: frame.bytes, events, touched })
    }
}
