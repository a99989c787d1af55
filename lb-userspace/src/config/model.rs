//! What a valid configuration consists of.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use lb_common::address::Protocol;

use super::{ParserReference, ProtocolParser};

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
    pub datascripts: Vec<DataScriptSet>,
    /// In the file's order; those that are built in are not among them.
    pub protocol_parsers: Vec<ProtocolParser>,
}

/// Index into [`Config::pools`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PoolIndex(pub usize);

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
    /// `attach_mode`: how XDP attaches.
    pub attach_mode: AttachMode,
    /// Flows at once, at most.
    pub flow_capacity: u32,
    /// Source addresses toward servers, for pools in `snat` mode.
    pub snat_addresses: Vec<IpAddr>,
    /// Ports of these addresses that may be used.
    pub snat_ports: RangeInclusive<u16>,
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
    /// Bounds on scripts.
    pub script: ScriptLimits,
    /// Bounds on tables.
    pub tables: TableLimits,
}

/// How XDP attaches to an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AttachMode {
    /// In the driver where it can, else generic.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the kernel's generic hook: any driver, slower.
    Generic,
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
    /// Over what.
    pub protocol: Protocol,
    /// Where flows go that no script sends elsewhere. `None` only if there are scripts.
    pub pool: Option<PoolIndex>,
    /// In the order of execution.
    pub datascripts: Vec<SetIndex>,
    /// A flow ends after this long without a packet. Default: TCP 10 minutes, UDP 30 seconds.
    pub idle_timeout: Duration,
}

/// `[[pool]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Pool {
    /// Unique.
    pub name: String,
    /// How a server is picked.
    pub algorithm: Algorithm,
    /// How packets reach the server.
    pub forwarding: Forwarding,
    /// At least one; no two share address and port.
    pub servers: Vec<Server>,
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
    /// `consistent-hash` of the client's address: Maglev.
    ConsistentHash,
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
