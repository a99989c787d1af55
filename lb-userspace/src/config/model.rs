//! What a valid configuration consists of.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use lb_common::address::Protocol;

use super::{
    FailAction, HealthMonitor, L4Policy, MonitorIndex, NamedServer, NetworkSecurityPolicy,
    ParserReference, PersistenceProfile, PoolGroup, ProtocolParser, ServerPolicy, Transport,
};

/// A configuration that holds together.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub path: PathBuf,
    /// What concerns the whole instance.
    pub instance: Instance,
    /// In the file's order. No two share address, port and protocol.
    pub virtual_services: Vec<VirtualService>,
    /// In the file's order.
    pub pools: Vec<Pool>,
    /// In the file's order.
    pub pool_groups: Vec<PoolGroup>,
    /// In the file's order.
    pub l4_policies: Vec<L4Policy>,
    /// In the file's order.
    pub network_security_policies: Vec<NetworkSecurityPolicy>,
    /// In the file's order.
    pub persistence_profiles: Vec<PersistenceProfile>,
    /// In the file's order.
    pub datascripts: Vec<DataScriptSet>,
    /// In the file's order; those that are built in are not among them.
    pub protocol_parsers: Vec<ProtocolParser>,
    /// In the file's order.
    pub health_monitors: Vec<Arc<HealthMonitor>>,
}

impl Config {
    /// The name of a pool or a group; empty if it is of another configuration.
    pub fn destination_name(&self, destination: Destination) -> &str {
        let name = match destination {
            Destination::Pool(index) => self.pools.get(index.0).map(|pool| &pool.name),
            Destination::Group(index) => self.pool_groups.get(index.0).map(|group| &group.name),
        };
        name.map_or("", String::as_str)
    }
}

/// Index into [`Config::pools`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PoolIndex(pub usize);

/// Index into [`Config::pool_groups`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PoolGroupIndex(pub usize);

/// Index into [`Config::l4_policies`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PolicyIndex(pub usize);

/// Index into [`Config::network_security_policies`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SecurityIndex(pub usize);

/// Index into [`Config::persistence_profiles`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ProfileIndex(pub usize);

/// Where flows are sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Destination {
    /// `pool`.
    Pool(PoolIndex),
    /// `pool_group`.
    Group(PoolGroupIndex),
}

/// Index into [`Pool::servers`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ServerIndex(pub usize);

/// Index into [`Config::datascripts`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SetIndex(pub usize);

/// `[instance]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Instance {
    /// Names the pin directory and the admin socket: letters, digits, `-`, `_`.
    pub name: String,
    /// Where XDP attaches; at least one.
    pub interfaces: Vec<String>,
    /// `attach_mode`: how packets of the interfaces are got hold of.
    pub attach_mode: AttachMode,
    /// Flows at once, at most.
    pub flow_capacity: u32,
    /// Source addresses toward servers, for pools in `snat` mode.
    pub snat_addresses: Vec<IpAddr>,
    /// Ports of these addresses that may be used.
    pub snat_ports: RangeInclusive<u16>,
    /// How long servers keep TIME_WAIT, from a connection's last packet; zero if they keep none.
    pub server_time_wait: Duration,
    /// Whether the balancer puts its addresses on the interfaces itself.
    pub manage_addresses: bool,
    /// Where finished flows are logged, a JSON object a line; `None` for nowhere.
    pub connection_log: Option<PathBuf>,
    /// Where the admin API listens; default `/run/lb/<name>.sock`.
    pub admin_socket: PathBuf,
    /// Cores for the workers, in turn; empty: every core in turn.
    pub cores: Vec<usize>,
    /// A TCP flow that is not established yet ends after this long without a packet.
    pub tcp_half_open_timeout: Duration,
    /// A TCP flow that was closed from both sides, or reset, ends after this long.
    pub tcp_closing_timeout: Duration,
    /// A UDP flow with packets from only one side ends after this long.
    pub udp_one_way_timeout: Duration,
    /// Share of the capacity, in percent, that flows not yet established may take.
    pub half_open_share: u8,
    /// Who is asked for the addresses of names; empty: whom the system asks.
    pub name_servers: Vec<SocketAddr>,
    /// Bounds on scripts.
    pub script: ScriptLimits,
    /// Bounds on tables.
    pub tables: TableLimits,
}

/// How packets of an interface are got hold of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AttachMode {
    /// What suits the interface: native XDP, generic where the driver has none; `tc` on a veth of one
    /// queue, generic there where the kernel has no tcx.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the kernel's generic hook: any driver, slower.
    Generic,
    /// At the ingress of the kernel's traffic control, over socket buffers.
    Tc,
}

/// `[instance.script]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScriptLimits {
    /// Lua instructions a run; 0 for no limit.
    pub instruction_budget: u64,
    /// Bytes of a worker's Lua state.
    pub memory: usize,
}

/// `[instance.tables]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableLimits {
    /// Entries in one table.
    pub entries: usize,
    /// Bytes of a key.
    pub key_size: usize,
    /// Bytes of a value.
    pub value_size: usize,
}

/// `[[virtual_service]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct VirtualService {
    /// Unique.
    pub name: String,
    /// Where clients send to.
    pub address: SocketAddr,
    /// Over what, and how.
    pub transport: Transport,
    /// Where flows go that no rule and no script sends elsewhere. `None` only if there are scripts.
    pub destination: Option<Destination>,
    /// The first rule that holds sends the flow elsewhere; before any script runs.
    pub l4_policies: Vec<PolicyIndex>,
    /// Who may begin flows; everyone if there is none.
    pub network_security_policy: Option<SecurityIndex>,
    /// What keeps clients at their servers if no script chooses one.
    pub persistence_profile: Option<ProfileIndex>,
    /// `connection_rate_limit`: new flows a second, of all clients; 0 for no limit.
    pub connection_rate_limit: u32,
    /// `client_connection_rate_limit`: new flows a second of each client; 0 for no limit.
    pub client_connection_rate_limit: u32,
    /// `max_concurrent_connections`: flows at once; 0 for no limit.
    pub max_concurrent_connections: u32,
    /// In the order of execution.
    pub datascripts: Vec<SetIndex>,
    /// A flow ends after this long without a packet. Default: TCP 10 minutes, UDP 30 seconds.
    pub idle_timeout: Duration,
}

impl VirtualService {
    /// Over what.
    pub const fn protocol(&self) -> Protocol {
        self.transport.protocol()
    }
}

/// `[[pool]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Pool {
    /// Unique.
    pub name: String,
    /// How a server is picked.
    pub algorithm: Algorithm,
    /// What consistent hashing hashes.
    pub hash_by: HashBy,
    /// How packets reach the server.
    pub forwarding: Forwarding,
    /// No two share address and port. At least one if there are no `names`.
    pub servers: Vec<Server>,
    /// Servers that are given by name, in the file's order; no two share name and port.
    pub names: Vec<NamedServer>,
    /// How its servers are watched; not at all if there is none.
    pub health_monitors: Vec<MonitorIndex>,
    /// As many of them must hold a server to be up; 0 for all.
    pub min_health_monitors_up: usize,
    /// How it treats its servers.
    pub server_policy: ServerPolicy,
    /// With fewer servers up, it counts as down; at least 1.
    pub min_servers_up: usize,
    /// What becomes of new flows while it is down.
    pub fail_action: FailAction,
}

impl Pool {
    /// As many servers as there can be: more would not be balanced within one percent by the
    /// longest of the tables for consistent hashing.
    pub const MOST_SERVERS: usize = 20_000;
}

/// How a pool picks a server, by Avi's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// `round-robin`: in turn, each as often as its ratio says.
    #[default]
    RoundRobin,
    /// `least-connections`: the one with the fewest flows for its ratio.
    LeastConnections,
    /// `consistent-hash`: Maglev.
    ConsistentHash,
    /// `random`: two are drawn, and the one with fewer flows for its ratio takes the flow.
    Random,
    /// `fastest-response`: the one that answers first packets fastest, for its flows and ratio.
    FastestResponse,
    /// `core-affinity`: each worker has servers of its own, which take turns.
    CoreAffinity,
    /// `fewest-servers`: one is filled before the next gets any.
    FewestServers,
}

impl Algorithm {
    /// Every algorithm, by its name in the file.
    pub const ALL: [(&str, Self); 7] = [
        ("round-robin", Self::RoundRobin),
        ("least-connections", Self::LeastConnections),
        ("consistent-hash", Self::ConsistentHash),
        ("random", Self::Random),
        ("fastest-response", Self::FastestResponse),
        ("core-affinity", Self::CoreAffinity),
        ("fewest-servers", Self::FewestServers),
    ];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        let own = Self::ALL.iter().find(|(_, algorithm)| *algorithm == self);
        own.map_or("", |(name, _)| name)
    }
}

/// What consistent hashing hashes, if no script calls `avi.pool.chash`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HashBy {
    /// `source-address`: a client stays with its server.
    #[default]
    SourceAddress,
    /// `source-address-and-port`: its connections are spread.
    SourceAddressAndPort,
}

/// How packets reach a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Forwarding {
    /// Source and destination are rewritten: the reply comes back by itself.
    #[default]
    Snat,
    /// Only the destination is: the server sees the client, and routes through the balancer.
    Dnat,
}

/// An entry of `servers`.
#[derive(Clone, PartialEq, Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share among the pool's servers; from 1 to 1000.
    pub ratio: u16,
    /// Whether it takes new flows.
    pub enabled: bool,
}

/// `[[datascript]]`: a set, in Avi's words.
#[derive(Clone, PartialEq, Debug)]
pub struct DataScriptSet {
    /// Unique.
    pub name: String,
    /// The pools that its scripts may name.
    pub pools: Vec<PoolIndex>,
    /// The pool groups that its scripts may name.
    pub pool_groups: Vec<PoolGroupIndex>,
    /// The protocol parsers that its scripts may `require`.
    pub protocol_parsers: Vec<ParserReference>,
    /// Runs on a flow's first packet.
    pub l4_request: Option<Arc<Script>>,
    /// Runs on the server's first packet.
    pub l4_response: Option<Arc<Script>>,
    /// What becomes of a flow whose script fails.
    pub on_error: OnError,
}

/// What becomes of a flow whose script fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnError {
    /// `close`: reset (TCP) or dropped (UDP).
    #[default]
    Close,
    /// `default-pool`: on to the virtual service's pool.
    DefaultPool,
}

/// A script's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// As given, made relative to the configuration's folder.
    pub path: PathBuf,
    /// What was in it.
    pub source: String,
}
