//! The steps of a start, each on its own.

use std::{
    io,
    net::IpAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use lb_common::next_hop::NextHop;
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
use tokio::sync::mpsc;
use tracing::{error, info};

use super::{
    former::FormerSources,
    network::{
        addresses,
        kernel::Kernel,
        next_hops::Target,
        service::{Network, NetworkHandle, Settings},
    },
    paths::Paths,
    status::InterfaceStatus,
    targets,
};
use crate::{
    config::{AttachMode, Config},
    datapath::{Attached, Datapath, DatapathError, DropCounts, Socket, wait_for_grace_period},
    engine::{Generation, Shared},
    flow_table::{Catalog, FlowTable, SlotId},
    worker::{Plan, Port, Seat},
};

/// How often grace periods are waited for: how long an ended flow's slot rests at most.
const GRACE: Duration = Duration::from_millis(50);

/// Index and name of each interface.
pub(super) fn interface_indices(names: &[String]) -> Result<Vec<(u32, String)>> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let index = |name: &String| {
        let index = name_to_index(&any, name);
        let index = index.map_err(|_| DatapathError::NoInterface(name.clone()))?;
        Ok((index, name.clone()))
    };
    names.iter().map(index).collect()
}

/// Whether one of these interfaces has no hardware behind it.
pub(super) async fn any_is_virtual(interfaces: &[(u32, String)]) -> Result<bool> {
    let kernel = Kernel::connect()?;
    for (index, _) in interfaces {
        if kernel.is_virtual(*index).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How the program is to run on each interface, of which index and receive queues are given.
///
/// By a veth come socket buffers. Native XDP would copy each into a page and make another of it at
/// the far end; and what it sends arrives only where the far end polls, which most do not. But a
/// socket buffer does not say by which of several queues it came.
pub(super) async fn attach_modes(
    wanted: AttachMode,
    interfaces: &[(u32, u32)],
) -> Result<Vec<AttachMode>> {
    let kernel = Kernel::connect()?;
    let mut modes = Vec::new();
    for (index, queues) in interfaces {
        modes.push(match wanted {
            AttachMode::Auto if *queues == 1 && kernel.is_veth(*index).await? => {
                AttachMode::Generic
            }
            wanted => wanted,
        });
    }
    Ok(modes)
}

/// What all workers share, over the mapped table.
pub(super) fn share(datapath: &mut Datapath, config: &Config) -> Result<Arc<Shared>> {
    let instance = &config.instance;
    let table = datapath.map_flow_table()?;
    let catalog = datapath.take_catalog()?;
    let kept = catalog.read().context("cannot read the pinned catalog")?;
    let flows = FlowTable::new(datapath.geometry(), Box::new(table));
    let catalog = Catalog::new(kept, Box::new(catalog));
    let (capacity, cookies) = (instance.flow_capacity, datapath.handshakes());
    Ok(Arc::new(Shared::new(flows, catalog, instance, capacity, cookies)))
}

/// The highest generation that adopted flows were decided by.
pub(super) fn newest_generation(shared: &Shared, flows: &[Vec<SlotId>]) -> u32 {
    let generations = flows.iter().flatten().map(|id| shared.flows.record(*id).load().generation);
    generations.max().unwrap_or_default()
}

/// Follows the kernel's routes and neighbours into the `next_hops` map.
pub(super) async fn network(
    datapath: &mut Datapath,
    generation: &Generation,
    clients: mpsc::Receiver<IpAddr>,
) -> Result<NetworkHandle> {
    let mut map = datapath.take_next_hops()?;
    let kept = map.targets().context("cannot read the pinned next hops")?;
    let settings = Settings {
        interfaces: generation.config.instance.interfaces.clone(),
        servers: generation.servers().map(|server| server.ip()).collect(),
        assigned: targets::decode(kept),
    };
    let write = move |id, target: Target, entry: NextHop| -> io::Result<()> {
        map.set(id, &targets::encode(target), &entry)
    };
    let (handle, network) = Network::start(settings, clients, write).await?;
    tokio::spawn(async move {
        if let Err(failed) = network.run().await {
            error!("next hops no longer follow the kernel's neighbours: {failed}");
        }
    });
    Ok(handle)
}

/// Puts the instance's addresses on its interfaces, and keeps those that flows still use.
pub(super) async fn ensure_addresses(config: &Config, former: &FormerSources) -> Result<()> {
    if !config.instance.manage_addresses {
        return Ok(());
    }
    let instance = &config.instance;
    let services = config.virtual_services.iter().map(|service| service.address.ip());
    let sources = instance.snat_addresses.iter().copied().chain(former.iter());
    let mut wanted: Vec<IpAddr> = services.chain(sources).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let state = Paths::new(&instance.name).addresses();
    addresses::ensure(&state, &wanted, &instance.interfaces).await?;
    Ok(())
}

/// Puts the program on every interface, and says how it runs there.
pub(super) fn attach(
    datapath: &mut Datapath,
    modes: &[AttachMode],
    indices: &[(u32, String)],
) -> Result<Vec<Attached>> {
    let attach = |((index, name), mode): (&(u32, String), &AttachMode)| {
        let attached = datapath.attach(name, *index, *mode)?;
        match &attached.fell_back {
            None => info!("attached to {name} in {} mode", attached.mode.name()),
            Some(why) => info!("attached to {name} in generic mode; native mode: {why}"),
        }
        Ok(attached)
    };
    indices.iter().zip(modes).map(attach).collect()
}

/// Opens a socket on every receive queue and deals them to the workers.
pub(super) fn seats(
    datapath: &mut Datapath,
    plan: &Plan,
    attached: &[Attached],
    flows: Vec<Vec<SlotId>>,
) -> Result<Vec<Seat>> {
    let seat = |adopted| Seat { ports: Vec::new(), adopted };
    let mut seats: Vec<Seat> = flows.into_iter().map(seat).collect();
    for (position, (attached, (interface, queues))) in
        (0..).zip(attached.iter().zip(&plan.interfaces))
    {
        for queue in 0..*queues {
            let socket = Socket::open(*interface, queue, attached.mode)
                .with_context(|| attached.interface.clone())?;
            datapath.listen(&socket, position, *interface, queue)?;
            let port = Port { interface: *interface, socket };
            seats[queue as usize].ports.push(port);
        }
    }
    Ok(seats)
}

/// What the kernel drops at the sockets of all seats.
pub(super) fn drop_counts(seats: &[Seat]) -> Result<Vec<DropCounts>> {
    let ports = seats.iter().flat_map(|seat| &seat.ports);
    let counts = ports.map(|port| port.socket.drop_counts()).collect::<io::Result<_>>();
    counts.context("cannot watch the AF_XDP sockets")
}

/// For `lb status`.
pub(super) fn interface_status((attached, plan): (&Attached, &(u32, u32))) -> InterfaceStatus {
    InterfaceStatus {
        name: attached.interface.clone(),
        mode: attached.mode.name().to_owned(),
        queues: plan.1,
    }
}

/// Waits for grace periods, one after the other, as long as the shared state is used.
pub(super) fn keep_grace(shared: &Arc<Shared>) -> Result<JoinHandle<()>> {
    let shared = Arc::downgrade(shared);
    let keeper = thread::Builder::new().name("grace".to_owned()).spawn(move || {
        while let Some(shared) = shared.upgrade() {
            shared.grace.pass(wait_for_grace_period);
            drop(shared);
            thread::sleep(GRACE);
        }
    });
    keeper.context("cannot start a thread")
}
