//! A network to test in: workers over memory, clients on interface 1, servers on interface 2.
//!
//! A packet goes through the packet program's own function first; what that punts, a worker gets.

use std::{collections::HashMap, net::Ipv4Addr, path::Path};

use lb_common::{
    address::Address,
    admission::{Admission, PolicyClient, Rate, RateKey},
    flow::{Geometry, SharedBucketV4},
    hash::HashSeed,
    next_hop::NextHop,
    path::{Tables, Verdict, forward},
    service::{Roles, Service},
    tcp::cookie::Secrets,
};

use super::{frames::*, *};
use crate::{
    config::Config,
    flow_table::{Catalog, FlowTable, OwnedMemory},
};

pub const SECOND: Duration = Duration::from_secs(1);
/// More than a round of the clock hand.
pub const ROUND: Duration = Duration::from_millis(300);

pub fn at(address: [u8; 4], port: u16) -> std::net::SocketAddrV4 {
    std::net::SocketAddrV4::new(Ipv4Addr::from(address), port)
}

/// Behind a router.
pub fn client(port: u16) -> std::net::SocketAddrV4 {
    at([198, 51, 100, 7], port)
}

/// On the link, so that somebody has to ask for its MAC.
pub fn neighbour(port: u16) -> std::net::SocketAddrV4 {
    at([192, 0, 2, 77], port)
}

pub fn web() -> std::net::SocketAddrV4 {
    at([192, 0, 2, 10], 80)
}

pub fn dns() -> std::net::SocketAddrV4 {
    at([192, 0, 2, 10], 53)
}

pub fn snat(port: u16) -> std::net::SocketAddrV4 {
    at([192, 0, 2, 9], port)
}

pub fn server(host: u8, port: u16) -> std::net::SocketAddrV4 {
    at([10, 0, 0, host], port)
}

/// What a test's configuration has beyond the usual.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub instance: &'a str,
    /// In quotes, with commas between them.
    pub snat_addresses: &'a str,
    /// Of the virtual service `web`, TCP.
    pub web: &'a str,
    /// Of the virtual service `dns`, UDP.
    pub dns: &'a str,
    pub pools: &'a str,
    /// Where flows of `web` go; its pool if empty.
    pub group: &'a str,
    /// Scripts of the one set, which both services run; empty for none.
    pub request: &'a str,
    pub response: &'a str,
    pub on_error: &'a str,
    pub workers: u16,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            instance: "",
            snat_addresses: "\"192.0.2.9\"",
            web: "",
            dns: "",
            group: "",
            pools: r#"
[[pool]]
name = "web"
servers = [{ address = "10.0.0.11", port = 8080 }]

[[pool]]
name = "resolvers"
servers = [{ address = "10.0.0.21", port = 53 }]"#,
            request: "",
            response: "",
            on_error: "close",
            workers: 1,
        }
    }
}

impl<'a> Setup<'a> {
    /// Sends flows of `web` to a pool group.
    pub fn with_group(self, group: &'a str) -> Self {
        Self { group, ..self }
    }

    fn text(&self) -> String {
        let Self { instance, snat_addresses, web, dns, pools, on_error, .. } = self;
        let scripts = [("l4_request", self.request), ("l4_response", self.response)];
        let used = scripts.iter().filter(|(_, source)| !source.is_empty());
        let keys: String = used.map(|(key, _)| format!("{key} = \"{key}.lua\"\n")).collect();
        let to = match self.group {
            "" => "pool = \"web\"".to_owned(),
            group => format!("pool_group = {group:?}"),
        };
        let (uses, set) = if keys.is_empty() {
            ("", String::new())
        } else {
            let groups = if self.pools.contains("\"empty\"") { "\"tiers\", \"empty\"" } else { "" };
            let names = format!("pools = [\"web\", \"resolvers\"]\npool_groups = [{groups}]");
            let set = format!("[[datascript]]\nname = \"set\"\n{names}\n{keys}");
            ("datascripts = [\"set\"]", set + &format!("on_error = \"{on_error}\"\n"))
        };
        format!(
            r#"
[instance]
name = "test"
interfaces = ["eth0", "eth1"]
snat_addresses = [{snat_addresses}]
{instance}
[[virtual_service]]
name = "web"
address = "192.0.2.10"
port = 80
protocol = "tcp"
{to}
{uses}
{web}
[[virtual_service]]
name = "dns"
address = "192.0.2.10"
port = 53
protocol = "udp"
pool = "resolvers"
{uses}
{dns}
{pools}
{set}"#
        )
    }

    pub fn config(&self) -> Arc<Config> {
        let read = |path: &Path| {
            let request = path.ends_with("l4_request.lua");
            Ok(if request { self.request } else { self.response }.to_owned())
        };
        let config = Config::parse(Path::new("/etc/lb/lb.toml"), &self.text(), read);
        Arc::new(config.unwrap_or_else(|problems| panic!("{problems}")))
    }

    pub fn world(&self) -> World {
        let config = self.config();
        let instance = &config.instance;
        let geometry = Geometry {
            buckets: Geometry::buckets_for(instance.flow_capacity),
            seed: HashSeed(
                [11, 22, 33, 44, 55].map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            ),
        };
        let flows = FlowTable::new(geometry, Box::new(OwnedMemory::new(&geometry)));
        let catalog = Catalog::new([], Box::new(()));
        let shared = Arc::new(Shared::new(
            flows,
            catalog,
            instance,
            instance.flow_capacity,
            Arc::new(SECRETS),
        ));
        let generation = Generation::new(1, config, &shared).unwrap();
        World::start(shared, Arc::new(generation), self.workers, &[])
    }
}

/// Neighbours by default rules, and what a test says against them.
#[derive(Debug, Default)]
pub struct Net {
    pub toward: HashMap<Ipv4Addr, Toward>,
    pub entries: HashMap<NextHopId, NextHop>,
}

/// The next hop of everybody behind the router.
pub const ROUTER: NextHopId = NextHopId(1);

/// The next hop of a server.
pub fn hop(host: u8) -> NextHopId {
    NextHopId(1000 + u32::from(host))
}

/// A next hop that is resolved.
pub fn resolved(id: NextHopId) -> NextHop {
    let [.., high, low] = id.0.to_be_bytes();
    let interface = if id.0 < 1000 { 1 } else { 2 };
    let source = [2, 1, 0, 0, 0, u8::try_from(interface).unwrap()];
    NextHop::new(interface, [2, 0, 0, 0, high, low], source)
}

impl Neighbours for Net {
    fn toward(&self, destination: IpAddr) -> Toward {
        let IpAddr::V4(destination) = destination else { return Toward::Unreachable };
        let by_rule = match destination.octets() {
            [10, 0, 0, host] => Toward::Known(hop(host)),
            [198, 51, 100, _] => Toward::Known(ROUTER),
            [192, 0, 2, _] => Toward::Unknown,
            _ => Toward::Unreachable,
        };
        self.toward.get(&destination).copied().unwrap_or(by_rule)
    }

    fn entry(&self, id: NextHopId) -> NextHop {
        self.entries.get(&id).copied().unwrap_or_else(|| resolved(id))
    }
}

/// The link that a packet to the balancer comes by, if it comes from behind this next hop.
pub fn link_from(id: NextHopId) -> Link {
    let hop = resolved(id);
    Link { destination: hop.source(), source: hop.destination(), ..link_to(id) }
}

/// The link that a packet leaves by to a next hop.
pub fn link_to(id: NextHopId) -> Link {
    let hop = resolved(id);
    let (destination, source) = (hop.destination(), hop.source());
    Link { interface: hop.interface, destination, source, vlan: 0 }
}

/// What came of a frame, or of time.
#[derive(Debug, Default)]
pub struct Step {
    /// Links and packets, in order.
    pub sent: Vec<(Link, Vec<u8>)>,
    pub log: Vec<FlowLog>,
    pub resolve: Vec<IpAddr>,
    pub out_of_ports: Vec<Peer>,
}

impl Step {
    fn of(effects: Effects) -> Self {
        let sent = effects.frames().map(|sent| Link::read(sent.interface, sent.frame)).collect();
        let Effects { log, resolve, out_of_ports, .. } = effects;
        Self { sent, log, resolve, out_of_ports }
    }

    /// The one packet that was sent by this link; nothing else came of it.
    pub fn to(&self, id: NextHopId) -> Message {
        assert_eq!((self.sent.len(), self.log.len(), self.resolve.len()), (1, 0, 0), "{self:?}");
        assert_eq!(self.sent[0].0, link_to(id));
        Message::read(&self.sent[0].1)
    }

    pub fn messages(&self) -> Vec<Message> {
        self.sent.iter().map(|(_, packet)| Message::read(packet)).collect()
    }

    /// Nothing came of it.
    pub fn nothing(&self) {
        assert_eq!((self.sent.len(), self.log.len(), self.resolve.len()), (0, 0, 0), "{self:?}");
    }

    /// The one record that was logged; nothing was sent.
    pub fn ended(&self) -> &FlowLog {
        assert_eq!((self.sent.len(), self.log.len()), (0, 1), "{self:?}");
        &self.log[0]
    }
}

pub struct Member {
    pub engine: Engine,
    pub counters: Arc<Counters>,
}

const SECRETS: Secrets = Secrets { even: [1, 2], odd: [3, 4] };

pub struct World {
    pub shared: Arc<Shared>,
    pub generation: Arc<Generation>,
    pub net: Net,
    pub time: Duration,
    pub arrivals: crate::simulation::Arrivals,
    pub workers: Vec<Member>,
}

impl World {
    /// Workers over a table; each takes over the flows that are dealt to it.
    pub fn start(
        shared: Arc<Shared>,
        generation: Arc<Generation>,
        workers: u16,
        adopted: &[Vec<SlotId>],
    ) -> Self {
        let member = |worker: u16| {
            let counters = Arc::new(Counters::default());
            let position = Position { worker, workers };
            let parts = (Arc::clone(&shared), Arc::clone(&counters), Arc::clone(&generation));
            let mut engine = Engine::new(position, parts.0, parts.1, parts.2).unwrap();
            if let Some(flows) = adopted.get(usize::from(worker)) {
                engine.take_over(flows);
            }
            Member { engine, counters }
        };
        let workers = (0..workers).map(member).collect();
        Self {
            shared,
            generation,
            net: Net::default(),
            time: 1000 * SECOND,
            arrivals: Default::default(),
            workers,
        }
    }

    pub fn now(&self) -> Now {
        Now { monotonic: self.time, wall: SystemTime::UNIX_EPOCH + self.time }
    }

    fn counts(&self) -> Vec<u64> {
        let sum = |event: &Event| self.workers.iter().map(|w| w.counters.get(*event)).sum();
        Event::ALL.iter().map(sum).collect()
    }

    /// Does something that must count exactly these events, in any order.
    fn counting(&mut self, expected: &[Event], act: impl FnOnce(&mut Self, &mut Effects)) -> Step {
        let (before, mut effects) = (self.counts(), Effects::default());
        act(self, &mut effects);
        let moved = Event::ALL.iter().zip(before).zip(self.counts()).flat_map(
            |((event, before), after)| {
                std::iter::repeat_n(*event, usize::try_from(after - before).unwrap())
            },
        );
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(moved.collect::<Vec<_>>(), expected, "counters that moved");
        Step::of(effects)
    }

    /// Hands a frame to a worker, as if the program had punted it.
    pub fn punt(&mut self, worker: usize, interface: u32, frame: &[u8], counts: &[Event]) -> Step {
        self.counting(counts, |world, effects| {
            let now = world.now();
            let engine = &mut world.workers[worker].engine;
            engine.receive(now, interface, frame, &world.net, effects);
        })
    }

    /// Sends a packet by a link: the program forwards it, or worker 0 gets it. Expected are the
    /// program's verdict and what the worker counts.
    pub fn send_by(
        &mut self,
        link: Link,
        packet: &[u8],
        verdict: Verdict,
        counts: &[Event],
    ) -> Step {
        let mut frame = Wire { interface: link.interface, bytes: link.frame(packet) };
        assert_eq!(forward(&mut frame, self), verdict, "the program's verdict");
        let interface = match verdict {
            Verdict::Punt(_) => return self.punt(0, link.interface, &frame.bytes, counts),
            Verdict::Pass(_) | Verdict::Drop(_) => return Step::default(),
            Verdict::Transmit | Verdict::Answer(_) => link.interface,
            Verdict::Redirect { interface } => interface,
        };
        Step { sent: vec![Link::read(interface, &frame.bytes)], ..Step::default() }
    }

    /// The same, from where the sender is.
    pub fn send(&mut self, message: &Message, verdict: Verdict, counts: &[Event]) -> Step {
        self.send_by(link_from(side_of(message)), &message.packet(), verdict, counts)
    }

    /// The same, whatever comes of it and is counted for it.
    pub fn send_any(&mut self, message: &Message) -> Step {
        self.send_any_by(0, message)
    }

    /// The same; what the program punts gets this worker.
    pub fn send_any_by(&mut self, worker: usize, message: &Message) -> Step {
        let link = link_from(side_of(message));
        let mut frame = Wire { interface: link.interface, bytes: link.frame(&message.packet()) };
        let interface = match forward(&mut frame, self) {
            Verdict::Punt(_) => {
                let (now, mut effects) = (self.now(), Effects::default());
                let engine = &mut self.workers[worker].engine;
                engine.receive(now, link.interface, &frame.bytes, &self.net, &mut effects);
                return Step::of(effects);
            }
            Verdict::Pass(_) | Verdict::Drop(_) => return Step::default(),
            Verdict::Transmit | Verdict::Answer(_) => link.interface,
            Verdict::Redirect { interface } => interface,
        };
        Step { sent: vec![Link::read(interface, &frame.bytes)], ..Step::default() }
    }

    /// A packet that begins a flow.
    pub fn begin(&mut self, message: &Message) -> Step {
        self.send(message, Verdict::Punt(Event::PuntFirstPacket), &[])
    }

    /// A packet of a flow that the program forwards by itself.
    pub fn passes(&mut self, message: &Message) -> Step {
        let to_server = message.from.ip().octets()[0] != 10;
        let interface = if to_server { 2 } else { 1 };
        self.send(message, Verdict::Redirect { interface }, &[])
    }

    /// Time goes on; a grace period passes; each worker does what is due.
    pub fn wait_counting(&mut self, duration: Duration, counts: &[Event]) -> Step {
        self.time += duration;
        self.counting(counts, |world, effects| {
            world.tick_all(effects);
            world.shared.grace.pass(|| ());
            world.tick_all(effects);
        })
    }

    pub fn wait(&mut self, duration: Duration) -> Step {
        self.wait_counting(duration, &[])
    }

    /// Each worker does what is due, without a grace period.
    pub fn tick(&mut self) -> Step {
        self.counting(&[], Self::tick_all)
    }

    /// The same; exactly these events are counted.
    pub fn tick_counting(&mut self, counts: &[Event]) -> Step {
        self.counting(counts, Self::tick_all)
    }

    /// The same, whatever comes of it and is counted for it.
    pub fn tick_any(&mut self) {
        self.tick_all(&mut Effects::default());
    }

    fn tick_all(&mut self, effects: &mut Effects) {
        let now = self.now();
        for Member { engine, .. } in &mut self.workers {
            engine.tick(now, &self.net, effects);
        }
    }

    /// A new configuration comes into force.
    pub fn replace(&mut self, setup: &Setup<'_>) -> Result<(), script::ScriptError> {
        let number = self.generation.number + 1;
        let generation = Generation::new(number, setup.config(), &self.shared).unwrap();
        let generation = Arc::new(generation);
        for Member { engine, .. } in &mut self.workers {
            engine.replace(Arc::clone(&generation))?;
        }
        self.generation = generation;
        Ok(())
    }

    /// Flows at once, and those not established.
    pub fn gauge(&self) -> (u32, u32) {
        (self.shared.gauge.flows(), self.shared.gauge.half_open())
    }

    /// SNAT ports in use and resting, of all addresses.
    pub fn snat_ports(&self) -> (u64, u64) {
        let counts = self.shared.snat_ports.by_source().into_values();
        counts.fold((0, 0), |sum, count| (sum.0 + count.in_use, sum.1 + count.resting))
    }

    /// Flows that a server has, as its pool's algorithm sees it.
    pub fn connections(&self, pool: &str, server: usize) -> u32 {
        let pool = self.generation.pools.find(pool).unwrap();
        let server = crate::config::ServerIndex(server);
        self.shared.servers.connections(self.generation.server_number(pool, server))
    }

    /// Slots that hold an entry, and slots that a worker owns.
    pub fn slots(&self) -> (usize, usize) {
        let table = &self.shared.flows;
        let count = |holds: fn(&lb_common::flow::SharedSlotV4) -> bool| {
            table.slots().filter(|id| holds(table.slot(*id))).count()
        };
        (count(|slot| slot.snapshot().is_some()), count(lb_common::flow::SharedSlotV4::is_owned))
    }

    /// The flow that a client's packet belongs to.
    pub fn flow(&self, message: &Message) -> Option<Found> {
        let packet = message.packet();
        let packet = Packet::new(Network::new(&packet).unwrap()).unwrap();
        let (id, _) = self.shared.flows.find(&packet.key())?;
        Found::at(&self.shared.flows, id)
    }
}

/// Where the sender of a packet is.
fn side_of(message: &Message) -> NextHopId {
    match message.from.ip().octets() {
        [10, 0, 0, host] => hop(host),
        _ => ROUTER,
    }
}

/// A frame in the program's hands.
struct Wire {
    interface: u32,
    bytes: Vec<u8>,
}

impl lb_common::path::Frame for Wire {
    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn interface(&self) -> u32 {
        self.interface
    }

    fn window<const OFFSET: usize, const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.bytes.get_mut(OFFSET..OFFSET + N)?.try_into().ok()
    }

    fn grow_head(&mut self, grow: i32) -> bool {
        match usize::try_from(grow) {
            Ok(more) => drop(self.bytes.splice(..0, vec![0; more])),
            Err(_) => drop(self.bytes.drain(..grow.unsigned_abs() as usize)),
        }
        true
    }

    fn set_length(&mut self, length: usize) -> bool {
        self.bytes.resize(length, 0);
        true
    }

    fn load<const N: usize>(&mut self, offset: usize, length: usize, into: &mut [u8; N]) -> bool {
        let from = self.bytes.get(offset..offset + length);
        let copied = from.zip(into.get_mut(..length)).map(|(from, to)| to.copy_from_slice(from));
        copied.is_some()
    }
}

impl Tables for World {
    fn nanos(&self) -> u64 {
        u64::try_from(self.time.as_nanos()).unwrap()
    }

    fn geometry(&self) -> Geometry {
        *self.shared.flows.geometry()
    }

    fn bucket(&self, index: u32) -> Option<&SharedBucketV4> {
        self.shared.flows.bucket(index)
    }

    fn next_hop(&self, id: NextHopId) -> Option<NextHop> {
        Some(self.net.entry(id))
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
