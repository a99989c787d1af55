//! What `lb status` and `/metrics` show.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use lb_common::event::Event;
use serde::{Deserialize, Serialize};

use super::{
    network::{next_hops::State, service::NetworkHandle, view::Toward},
    servers::view::ServerStatus,
};
use crate::{config::Config, engine::Counters};

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
    /// Packets by what happened to them, in the XDP program, the kernel's sockets and the workers
    /// together, by name.
    pub events: BTreeMap<String, u64>,
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
    /// Flows that there may be.
    pub capacity: u32,
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
    /// Its servers.
    pub servers: Vec<ServerStatus>,
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
        protocol: service.protocol.name().to_owned(),
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
    let Toward::Known(id) = view.toward(server.ip()) else { return "unreachable".to_owned() };
    match view.slot(id).map(|slot| (&slot.state, slot.entry)) {
        Some((State::Resolved | State::Remembered, entry)) => {
            let [a, b, c, d, e, f] = entry.destination;
            format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
        }
        Some((State::Resolving, _)) => "resolving".to_owned(),
        Some((State::Unreachable(why), _)) => format!("unreachable: {why}"),
        None => "unknown".to_owned(),
    }
}
