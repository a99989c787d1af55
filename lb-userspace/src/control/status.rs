//! What `lb status` and `/metrics` show.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use lb_common::event::Event;
use serde::{Deserialize, Serialize};

use super::{
    names::NameStatus,
    network::{next_hops::State, service::NetworkHandle},
    servers::view::ServerStatus,
};
use crate::{
    config::Config,
    engine::{Counters, PortGauges},
};

/// The state of a running instance.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The instance's name.
    pub instance: String,
    /// Version of `lb`.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// When it started, RFC 3339.
    pub started: String,
    /// The configuration's file.
    pub config: String,
    /// Generation of the configuration in force.
    pub generation: u32,
    /// Flows found in pinned maps at the start.
    pub adopted_flows: usize,
    /// Where the program is attached.
    pub interfaces: Vec<InterfaceStatus>,
    /// Workers.
    pub workers: usize,
    /// How full the flow table is.
    pub flows: FlowGauge,
    /// Records of the connection log so far.
    pub logged_flows: u64,
    /// Records that the connection log has lost: its disk was too slow, or refused them.
    pub lost_log_records: u64,
    /// Inserts of scripts, and puts, that found their table full.
    pub refused_table_inserts: u64,
    /// Ports of the SNAT addresses.
    pub snat_ports: SnatPorts,
    /// Packets by what happened to them, in the packet programs, the kernel's sockets and the
    /// workers together, by name.
    pub events: BTreeMap<String, u64>,
    /// Why the addresses that names of servers have now are not in force; they are as a rule.
    pub refused_addresses: Option<String>,
    /// Virtual services.
    pub virtual_services: Vec<ServiceStatus>,
    /// Pools.
    pub pools: Vec<PoolStatus>,
}

/// An interface of the instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native` or `generic`.
    pub mode: String,
    /// Receive queues, each with a worker's socket.
    pub queues: u32,
}

/// How full the flow table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowGauge {
    /// Flows now.
    pub now: u32,
    /// Of these, not established yet.
    pub half_open: u32,
    /// Whether these are so many that services answer with cookies which do so under pressure.
    pub pressure: bool,
    /// Flows that there may be.
    pub capacity: u32,
}

/// Ports of the SNAT addresses. One that is in use toward several servers counts once for each.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnatPorts {
    /// Used by flows.
    pub in_use: u64,
    /// Given back, while the server may still keep TIME_WAIT.
    pub resting: u64,
    /// How often a port was used again before its rest was over, since no other was left.
    pub reused_early: u64,
    /// How often a flow was refused, since none was left at all.
    pub exhausted: u64,
    /// Of each address, also of those that only old flows use.
    pub addresses: Vec<SnatAddress>,
}

/// A SNAT address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnatAddress {
    /// The address.
    pub address: IpAddr,
    /// Ports of it that flows use.
    pub in_use: u64,
    /// Ports of it that rest.
    pub resting: u64,
}

impl SnatPorts {
    pub(super) fn new(gauges: &PortGauges, events: &BTreeMap<String, u64>) -> Self {
        let addresses = gauges.by_source().into_iter().map(|(address, count)| SnatAddress {
            address,
            in_use: count.in_use,
            resting: count.resting,
        });
        let addresses: Vec<_> = addresses.collect();
        let exhausted = events.get(Event::DropSnatPortsExhausted.name());
        Self {
            in_use: addresses.iter().map(|address| address.in_use).sum(),
            resting: addresses.iter().map(|address| address.resting).sum(),
            reused_early: gauges.reused_early(),
            exhausted: exhausted.copied().unwrap_or_default(),
            addresses,
        }
    }
}

/// A virtual service.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its pool or pool group.
    pub pool: Option<String>,
    /// Its script sets, in order.
    pub datascripts: Vec<String>,
    /// Flows that it has.
    pub connections: u32,
    /// New flows a second, over the last ten.
    pub rate: f64,
    /// Flows that ever began, since the daemon did.
    pub flows_total: u64,
}

/// A pool.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// How it picks.
    pub algorithm: String,
    /// How packets reach its servers.
    pub forwarding: String,
    /// Its servers, also those that names lead to.
    pub servers: Vec<ServerStatus>,
    /// What is known of the names among its servers.
    pub names: Vec<NameStatus>,
}

/// Events by name, those that never happened too: of the kernel, and of the workers.
pub(super) fn sum_of_events(
    kernel: impl Iterator<Item = (Event, u64)>,
    workers: &[Arc<Counters>],
) -> BTreeMap<String, u64> {
    let in_workers = |event: Event| workers.iter().map(|counters| counters.get(event)).sum();
    let names = Event::ALL.iter().map(|event| (event.name().to_owned(), in_workers(*event)));
    let mut sum: BTreeMap<String, u64> = names.collect();
    for (event, count) in kernel {
        *sum.entry(event.name().to_owned()).or_default() += count;
    }
    sum
}

/// The virtual services of a configuration, without what they have to do.
pub(super) fn services_of(config: &Config) -> Vec<ServiceStatus> {
    let set = |index: &crate::config::SetIndex| config.datascripts[index.0].name.clone();
    let services = config.virtual_services.iter().map(|service| ServiceStatus {
        name: service.name.clone(),
        address: service.address,
        protocol: service.protocol().name().to_owned(),
        pool: service.destination.map(|to| config.destination_name(to).to_owned()),
        datascripts: service.datascripts.iter().map(set).collect(),
        connections: 0,
        rate: 0.0,
        flows_total: 0,
    });
    services.collect()
}

/// How packets to a server leave, or what keeps them from it.
pub(super) fn next_hop(network: &NetworkHandle, server: SocketAddr) -> String {
    let view = network.view().load_full();
    match view.host(server.ip()).map(|slot| (&slot.state, slot.entry)) {
        Some((State::Resolved | State::Remembered, entry)) => {
            let [a, b, c, d, e, f] = entry.destination();
            format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
        }
        Some((State::Resolving, _)) => "resolving".to_owned(),
        Some((State::Unreachable(why), _)) => format!("unreachable: {why}"),
        // Of servers there are more than next hops, or it was added only just now.
        None => "unreachable: it has no next hop".to_owned(),
    }
}
