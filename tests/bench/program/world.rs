//! The programs over a table with a number of flows.

use std::{fmt, process};

use anyhow::{Context as _, Result};
use aya::programs::Xdp;
use lb_common::{
    address::{Address, Port, Protocol},
    flow::{Activity, Entry, Flags, FlowKeyV4, FlowRecord},
    next_hop::{NextHop, NextHopId, NextHopTarget},
    rewrite::{EndpointsV4, RewriteV4},
    service::{Roles, Service, ServiceKey},
    splice::{ClientScales, Handshakes, Sender},
};
use lb_userspace::{
    datapath::{self, AddressRoles, Datapath, Options, Pins, Socket},
    flow_table::{Direction, FlowTable},
};

/// How many flows tables have.
pub const SIZES: [u32; 4] = [1, 1 << 10, 1 << 16, 1 << 20];
/// How many of them are spliced in further tables.
pub const SPLICED: [u32; 2] = [1, 1 << 16];
/// The program that makes each packet another flow's and forwards it.
pub const FORWARD: &str = "forward_varied";
/// What it is compared with.
pub const CONTROLS: [(&str, &str); 3] = [
    ("return XDP_TX", "control_transmit"),
    ("swap MACs", "control_swap"),
    ("vary", "control_vary"),
];
/// The virtual service's address.
pub const VIP: [u8; 4] = [192, 0, 2, 10];
/// The first of many virtual services, and the first of as many addresses that mean nothing.
const SERVICES: [u8; 4] = [10, 64, 0, 0];
const FOREIGN: [u8; 4] = [10, 128, 0, 0];
const SNAT: [u8; 4] = [192, 0, 2, 9];
/// Client and server of flow 0; the flow's number, of 22 bits at most, is added to both.
const CLIENT: [u8; 4] = [10, 0, 0, 0];
const SERVER: [u8; 4] = [100, 64, 0, 0];
/// The loopback interface: test runs come in by it, so a next hop there means `XDP_TX`.
const LOOPBACK: u32 = 1;

/// How flows are forwarded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Both addresses are rewritten.
    Snat,
    /// The client's is kept.
    Dnat,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Snat { "snat" } else { "dnat" })
    }
}

/// Which way packets go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client, made by the program.
    Forward,
    /// From the server, made by the program.
    Reply,
    /// As they are given: the product's own program.
    Any,
}

impl Way {
    /// Those that the program makes.
    pub const ALL: [Self; 2] = [Self::Forward, Self::Reply];
}

/// What flows there are.
#[derive(Clone, Copy)]
pub struct Flows {
    pub mode: Mode,
    pub protocol: Protocol,
    pub flows: u32,
    pub spliced: bool,
}

impl Flows {
    /// As plain flows are forwarded.
    pub const fn plain(mode: Mode, protocol: Protocol, flows: u32) -> Self {
        Self { mode, protocol, flows, spliced: false }
    }
}

/// A table full of flows, and programs over it.
pub struct World {
    pub mode: Mode,
    pub protocol: Protocol,
    pub flows: u32,
    /// Whether they are spliced, with windows to be shifted.
    pub spliced: bool,
    product: Datapath,
    ways: [Datapath; 2],
    table: FlowTable,
    // Stays open for as long as the programs run.
    _socket: Option<Socket>,
}

/// Removes the pins, also when loading fails. Once loaded, programs and maps live by their file
/// descriptors: who is killed leaves nothing.
struct Unpin(Pins);

impl Drop for Unpin {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

impl World {
    /// Loads the programs and fills the table. There is one virtual service.
    pub fn new(object: &[u8], flows: Flows) -> Result<Self> {
        let Flows { mode, protocol, flows: count, spliced } = flows;
        let globals = Way::ALL.map(|way| globals(mode, way, count));
        let mut world = Self::load(object, flows, &globals)?;
        for number in 0..count {
            let (forward, reply) = flow(number, mode, protocol, spliced);
            world.table.insert(&forward, Some(&reply), &FlowRecord::default())?;
        }
        let addresses = fill(&mut world.product, &[VIP])?;
        addresses.expect(&Address::v4(SNAT), Roles::SNAT);
        if mode == Mode::Dnat {
            let servers = (0..count).map(|number| Address::v4(plus(SERVER, number)));
            servers.for_each(|server| addresses.expect(&server, Roles::DNAT_SERVER));
        }
        Ok(world)
    }

    /// An empty table and so many virtual services, a power of two. Packets of [`Way::Forward`] go
    /// to one after the other, those of [`Way::Reply`] to as many addresses that are not theirs.
    pub fn of_services(object: &[u8], services: u32) -> Result<Self> {
        let globals = [SERVICES, FOREIGN].map(|first| globals_of_misses(first, services));
        let none = Flows::plain(Mode::Snat, Protocol::Tcp, 0);
        let mut world = Self::load(object, none, &globals)?;
        let addresses: Vec<_> = (0..services).map(|number| plus(SERVICES, number)).collect();
        fill(&mut world.product, &addresses)?;
        Ok(world)
    }

    fn load(object: &[u8], flows: Flows, globals: &[Globals; 2]) -> Result<Self> {
        let Flows { mode, protocol, flows, spliced } = flows;
        let options = Options::new(format!("bench-{}", process::id()), flows.max(64));
        let _unpin = Unpin(Pins::new(&options.instance));
        let mut product = Datapath::load(&options)?;
        let load = |globals: &Globals| -> Result<Datapath> {
            let mut datapath = Datapath::load_object(&options, object, globals)?;
            for name in CONTROLS.map(|(_, program)| program).iter().chain([&FORWARD]) {
                program(&mut datapath, name)?.load()?;
            }
            Ok(datapath)
        };
        let ways = [load(&globals[0])?, load(&globals[1])?];
        let table = FlowTable::new(product.geometry(), Box::new(product.map_flow_table()?));
        Ok(Self { mode, protocol, flows, spliced, product, ways, table, _socket: None })
    }

    /// Opens a worker's socket, so that packets can be punted.
    pub fn listen(&mut self) -> Result<()> {
        let socket = Socket::open(LOOPBACK, 0, datapath::Mode::Generic)?;
        self.product.register(0, LOOPBACK, 0, None)?;
        self.product.listen(&socket, 0, 0)?;
        self._socket = Some(socket);
        Ok(())
    }

    /// A program that was loaded for packets of one way.
    pub fn program(&mut self, way: Way, name: &str) -> Result<&mut Xdp> {
        match way {
            Way::Forward => program(&mut self.ways[0], name),
            Way::Reply => program(&mut self.ways[1], name),
            Way::Any => Ok(self.product.program()?),
        }
    }
}

fn program<'a>(datapath: &'a mut Datapath, name: &str) -> Result<&'a mut Xdp> {
    let program = datapath.ebpf().program_mut(name).context("no such program")?;
    Ok(program.try_into()?)
}

/// What `vary` in lb-ebpf/src/bench.rs makes packets of.
type Globals = [(&'static str, u32); 6];

fn globals(mode: Mode, way: Way, flows: u32) -> Globals {
    let all = flows - 1;
    let number = u32::from_be_bytes;
    let ports = |from: u32, to: u32| from << 16 | to;
    let (source, source_mask, destination, destination_mask, ports) = match (way, mode) {
        (Way::Reply, Mode::Snat) => (SERVER, all, SNAT, 0, ports(8080, 5000)),
        (Way::Reply, Mode::Dnat) => (SERVER, all, CLIENT, all, ports(8080, 1024)),
        _ => (CLIENT, all, VIP, 0, ports(1024, 80)),
    };
    [
        ("FLOW_MASK", all),
        ("SOURCE", number(source)),
        ("SOURCE_MASK", source_mask),
        ("DESTINATION", number(destination)),
        ("DESTINATION_MASK", destination_mask),
        ("PORTS", ports),
    ]
}

/// Packets of one client to so many addresses.
fn globals_of_misses(first: [u8; 4], addresses: u32) -> Globals {
    let all = addresses - 1;
    [
        ("FLOW_MASK", all),
        ("SOURCE", u32::from_be_bytes(CLIENT)),
        ("SOURCE_MASK", 0),
        ("DESTINATION", u32::from_be_bytes(first)),
        ("DESTINATION_MASK", all),
        ("PORTS", 1024 << 16 | 80),
    ]
}

/// The address so many after another.
fn plus(base: [u8; 4], number: u32) -> [u8; 4] {
    (u32::from_be_bytes(base) | number).to_be_bytes()
}

/// Both directions of a flow.
fn flow(number: u32, mode: Mode, protocol: Protocol, spliced: bool) -> (Direction, Direction) {
    let from = EndpointsV4 {
        source: plus(CLIENT, number),
        destination: VIP,
        source_port: Port::new(1024),
        destination_port: Port::new(80),
    };
    let (source, source_port) = match mode {
        Mode::Snat => (SNAT, Port::new(5000)),
        Mode::Dnat => (from.source, from.source_port),
    };
    let destination = plus(SERVER, number);
    let to = EndpointsV4 { source, destination, source_port, destination_port: Port::new(8080) };
    let direction = |from: EndpointsV4, to: EndpointsV4, flags| Direction {
        key: FlowKeyV4::new(&from, protocol),
        entry: Entry {
            next_hop: NextHopId(1),
            rewrite: RewriteV4::new(&from, &to),
            flags,
            ..Entry::default()
        },
        activity: Activity::default(),
    };
    let reply = direction(to.reversed(), from.reversed(), Flags::REPLY);
    let both = (direction(from, to, Flags::default()), reply);
    if spliced { splice(both) } else { both }
}

/// As after two handshakes that agree on little.
fn splice((mut forward, mut reply): (Direction, Direction)) -> (Direction, Direction) {
    let client_scales = Some(ClientScales { its_own: 9, ours: 7 });
    let handshakes =
        Handshakes { cookie: 0xdead_beef, server: 0x1234, client_scales, server_scale: None };
    for (direction, sender) in [(&mut forward, Sender::Client), (&mut reply, Sender::Server)] {
        direction.entry = handshakes.splice(sender).entry(direction.entry);
    }
    (forward, reply)
}

/// A next hop, and a virtual service at each of these addresses.
fn fill(datapath: &mut Datapath, vips: &[[u8; 4]]) -> Result<AddressRoles> {
    let next_hop = NextHop { bounces: 1, ..NextHop::new(LOOPBACK, [2; 6], [4; 6]) };
    let target = NextHopTarget {
        address: Address::v4([10, 0, 0, 1]),
        prefix_length: 32,
        kind: NextHopTarget::HOST,
        reserved: [0; 6],
    };
    datapath.take_next_hops()?.set(NextHopId(1), &target, &next_hop)?;
    let key = |vip: &[u8; 4]| ServiceKey::new(Address::v4(*vip), Port::new(80), Protocol::Tcp);
    let service = Service { id: 1, ..Service::default() };
    let services: Vec<_> = vips.iter().map(|vip| (key(vip), service)).collect();
    datapath.take_services()?.replace(&services)?;
    let roles = vips.iter().map(|vip| (Address::v4(*vip), Roles::VIRTUAL_SERVICE));
    let mut addresses = datapath.take_addresses()?;
    addresses.replace(&roles.collect())?;
    Ok(addresses)
}
