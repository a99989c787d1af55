//! What the tables hold in the tests: services, flows in every state, next hops of every kind.

use lb_common::{
    address::{Address, Port, Protocol},
    admission::{Admission, ClientPrefix, PolicyClient, RateKey},
    flow::{Activity, Entry, Flags, FlowKeyV4, Geometry, SharedSlotV4},
    hash::HashSeed,
    next_hop::{Mac, NextHop, NextHopId},
    rewrite::{EndpointsV4, RewriteV4},
    service::{Roles, Service, ServiceKey},
    splice::Splice,
    tcp::cookie::Secrets,
    time::Tick,
};
use lb_userspace::flow_table::FlowTable;

use crate::packet::{Packet, endpoints};

pub const CLIENT: [u8; 4] = [198, 51, 100, 7];
pub const FOREIGN: [u8; 4] = [203, 0, 113, 5];
/// Address of the virtual services of a pool in `snat` mode.
pub const VIP: [u8; 4] = [192, 0, 2, 10];
/// Address of the virtual services of a pool in `dnat` mode.
pub const DNAT_VIP: [u8; 4] = [192, 0, 2, 20];
/// Source of packets to `snat` servers.
pub const SNAT: [u8; 4] = [192, 0, 2, 9];
pub const SERVER: [u8; 4] = [10, 0, 0, 11];
pub const DNAT_SERVER: [u8; 4] = [10, 0, 1, 11];
/// The port that virtual services listen on, TCP and UDP.
pub const PORT: u16 = 80;

/// Number of the network security policy that services may have.
pub const POLICY: u32 = 9;

/// What cookies are made with.
pub const SECRETS: Secrets =
    Secrets { even: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210], odd: [0x1111, 0x2222] };

/// Index of the loopback interface: a test run's packets come in by it unless it says otherwise.
pub const LOOPBACK: u32 = 1;
/// Some other interface.
pub const ELSEWHERE: u32 = 77;
/// MAC that rewritten packets leave with.
pub const OWN: Mac = [2, 0, 0, 0, 0, 0xaa];

/// Back out, untagged.
pub const BACK: NextHopId = NextHopId(1);
/// Back out, in VLAN 100.
pub const VLAN_100: NextHopId = NextHopId(2);
/// By another interface.
pub const REDIRECT: NextHopId = NextHopId(3);
/// Nobody has answered yet.
pub const UNRESOLVED: NextHopId = NextHopId(4);
/// Beyond the map's end.
pub const NO_SUCH: NextHopId = NextHopId(1 << 20);

/// The next hop's MAC ends in its number.
pub fn mac(id: NextHopId) -> Mac {
    let [a, b, c, d] = id.0.to_be_bytes();
    [2, 1, a, b, c, d]
}

/// A next hop of this interface and tag.
pub fn next_hop(id: NextHopId, interface: u32, vlan: u16) -> NextHop {
    NextHop { vlan, bounces: 1, ..NextHop::new(interface, mac(id), OWN) }
}

/// One direction of a flow, and where it is kept.
#[derive(Clone, Debug)]
pub struct Flow {
    pub protocol: Protocol,
    pub from: EndpointsV4,
    pub to: EndpointsV4,
    pub next_hop: NextHopId,
    pub flags: Flags,
    pub splice: Option<Splice>,
    pub place: Place,
}

/// Where in the table a flow is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In its first bucket.
    First,
    /// In its second bucket.
    Second,
    /// In the stash, and its second bucket says so.
    Stash,
    /// In its first bucket, while a worker changes it: the version is odd.
    Owned,
}

impl Flow {
    /// An established one from `from` to `to`.
    pub fn new(protocol: Protocol, from: EndpointsV4, to: EndpointsV4) -> Self {
        let (flags, place) = (Flags::default(), Place::First);
        Self { protocol, from, to, next_hop: BACK, flags, splice: None, place }
    }

    /// By this next hop.
    pub fn by(self, next_hop: NextHopId) -> Self {
        Self { next_hop, ..self }
    }

    /// With these flags.
    pub fn flags(self, flags: Flags) -> Self {
        Self { flags, ..self }
    }

    /// Spliced so.
    pub fn spliced(self, splice: Splice) -> Self {
        Self { splice: Some(splice), ..self }
    }

    /// Kept there.
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// What it is found by.
    pub fn key(&self) -> FlowKeyV4 {
        FlowKeyV4::new(&self.from, self.protocol)
    }

    /// What a slot holds of it.
    pub fn entry(&self) -> Entry {
        let entry = Entry {
            next_hop: self.next_hop,
            rewrite: RewriteV4::new(&self.from, &self.to),
            sequence_delta: 0,
            flags: self.flags,
        };
        self.splice.map_or(entry, |splice| splice.entry(entry))
    }

    /// A packet of the flow: a datagram, or a segment in the middle.
    pub fn packet(&self) -> Packet {
        Packet::of(self.protocol, self.from)
    }

    /// How a packet of the flow must leave, untagged.
    pub fn sent(&self, packet: &Packet) -> Packet {
        Packet {
            macs: [mac(self.next_hop), OWN],
            tag: None,
            ttl: packet.ttl - 1,
            endpoints: self.to,
            ..packet.clone()
        }
    }

    fn put(&self, table: &FlowTable) {
        let choices = table.geometry().choices(&self.key().packed());
        let bucket = |index| table.bucket(index).unwrap();
        let slots = match self.place {
            Place::First | Place::Owned => &bucket(choices.first).slots,
            Place::Second => &bucket(choices.second).slots,
            Place::Stash => {
                bucket(choices.second).slots[0].set_overflowed();
                &bucket(choices.stashed).slots
            }
        };
        let slot = slots.iter().find(|slot| slot.claim()).expect("buckets are nearly empty");
        slot.fill(&self.key(), &self.entry(), &long_ago());
        publish_unless(slot, self.place == Place::Owned);
    }
}

fn publish_unless(slot: &SharedSlotV4, owned: bool) {
    if !owned {
        slot.publish();
    }
}

/// What was counted before: about to wrap, and of no time that a test runs at.
fn long_ago() -> Activity {
    let last_seen = Tick(crate::observed::now().0.wrapping_sub(1 << 20));
    Activity { last_seen, packets: u32::MAX, bytes: u64::from(u32::MAX), fin: false, rst: false }
}

/// Everything the packet path looks things up in.
#[derive(Clone, Debug)]
pub struct Setup {
    pub flows: Vec<Flow>,
    pub next_hops: Vec<(NextHopId, NextHop)>,
    /// What every virtual service asks of those who begin flows.
    pub service: Service,
    /// Whether services that may answer with cookies should.
    pub pressed: bool,
}

impl Setup {
    /// The services and next hops of every test, and these flows.
    pub fn new(flows: impl IntoIterator<Item = Flow>) -> Self {
        let next_hops = vec![
            (BACK, next_hop(BACK, LOOPBACK, 0)),
            (VLAN_100, next_hop(VLAN_100, LOOPBACK, 100)),
            (REDIRECT, next_hop(REDIRECT, ELSEWHERE, 0)),
        ];
        let service = Service { id: 1, ..Service::default() };
        Self { flows: flows.into_iter().collect(), next_hops, service, pressed: false }
    }

    /// With services that ask this.
    pub fn asking(self, service: Service) -> Self {
        Self { service, ..self }
    }

    /// Under pressure.
    pub fn pressed(self) -> Self {
        Self { pressed: true, ..self }
    }

    /// Both directions of a `snat` and a `dnat` flow, TCP and UDP.
    pub fn ordinary() -> Self {
        Self::new([Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|protocol| {
            let replies = [snat_reply(protocol), dnat_reply(protocol)];
            let replies = replies.map(|flow| flow.flags(Flags::REPLY));
            [[snat(protocol), dnat(protocol)], replies].concat()
        }))
    }

    /// What each address is.
    pub fn roles() -> Vec<(Address, Roles)> {
        let roles = [
            (VIP, Roles::VIRTUAL_SERVICE),
            (DNAT_VIP, Roles::VIRTUAL_SERVICE),
            (SNAT, Roles::SNAT),
            (DNAT_SERVER, Roles::DNAT_SERVER),
        ];
        roles.map(|(address, roles)| (Address::v4(address), roles)).to_vec()
    }

    /// The virtual services.
    pub fn services(&self) -> Vec<(ServiceKey, Service)> {
        let both = [Protocol::Tcp, Protocol::Udp];
        let at = |address| {
            both.map(|protocol| ServiceKey::new(Address::v4(address), Port::new(PORT), protocol))
        };
        let keys = [at(VIP), at(DNAT_VIP)].concat();
        keys.into_iter().map(|key| (key, self.service)).collect()
    }

    /// What the policy [`POLICY`] says: only 198.51.100.0/24 and one host elsewhere, and there
    /// not 198.51.100.64/26, of which again .65 may.
    pub fn prefixes() -> Vec<ClientPrefix> {
        let (allow, deny) = (Admission::ALLOW, Admission::DENY);
        let v4 = |address: [u8; 4], length: u32, admission| {
            let of = PolicyClient::new(POLICY, Address::v4(address));
            ClientPrefix { bits: 96 + length, of, admission }
        };
        let others = PolicyClient::new(POLICY, RateKey::EVERYONE);
        vec![
            v4([198, 51, 100, 0], 24, allow),
            v4([198, 51, 100, 64], 26, deny),
            v4([198, 51, 100, 65], 32, allow),
            v4([203, 0, 113, 9], 32, allow),
            ClientPrefix { bits: 0, of: others, admission: deny },
        ]
    }

    /// Whether each flow that is to be in its second bucket has two in such a table.
    pub fn fits(&self, geometry: &Geometry) -> bool {
        let mut seconds = self.flows.iter().filter(|flow| flow.place == Place::Second);
        seconds.all(|flow| {
            let choices = geometry.choices(&flow.key().packed());
            choices.first != choices.second
        })
    }

    /// Puts the flows where they belong.
    pub fn fill(&self, table: &FlowTable) {
        self.flows.iter().for_each(|flow| flow.put(table));
    }
}

/// From the client to a `snat` server.
pub fn snat(protocol: Protocol) -> Flow {
    let from = endpoints((CLIENT, 40_000), (VIP, PORT));
    Flow::new(protocol, from, endpoints((SNAT, 20_001), (SERVER, 8080)))
}

/// And back.
pub fn snat_reply(protocol: Protocol) -> Flow {
    back(&snat(protocol))
}

/// From the client to a `dnat` server, which sees the client's address.
pub fn dnat(protocol: Protocol) -> Flow {
    let from = endpoints((CLIENT, 40_001), (DNAT_VIP, PORT));
    Flow::new(protocol, from, endpoints((CLIENT, 40_001), (DNAT_SERVER, 8081)))
}

/// And back.
pub fn dnat_reply(protocol: Protocol) -> Flow {
    back(&dnat(protocol))
}

fn back(flow: &Flow) -> Flow {
    let reply = Flow::new(flow.protocol, flow.to.reversed(), flow.from.reversed());
    reply.flags(Flags::REPLY)
}

/// The shape of the tests' tables in plain memory.
pub fn geometry() -> Geometry {
    let seed = HashSeed([3, 5, 7, 11, 13].map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    Geometry { buckets: Geometry::buckets_for(1), seed }
}
