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
        addresses, detour,
        kernel::{Device, Kernel},
        next_hops::Target,
        service::{Network, NetworkHandle, Settings},
    },
    paths::Paths,
    status::InterfaceStatus,
    targets,
};
use crate::{
    config::{AttachMode, Config},
    datapath::{
        Attached, Datapath, DatapathError, DropCounts, Mode, Socket, wait_for_grace_period,
    },
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

/// What each interface is.
pub(super) async fn devices(interfaces: &[(u32, String)]) -> Result<Vec<Device>> {
    let kernel = Kernel::connect()?;
    let mut devices = Vec::new();
    for (index, _) in interfaces {
        devices.push(kernel.device(*index).await?);
    }
    Ok(devices)
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

/// Takes the programs off interfaces that the instance no longer has.
pub(super) async fn detach_others(datapath: &Datapath, indices: &[(u32, String)]) -> Result<()> {
    let names: Vec<String> = indices.iter().map(|(_, name)| name.clone()).collect();
    let detours: Vec<String> = indices.iter().map(|(index, _)| detour::far_name(*index)).collect();
    let gone = datapath.detach_others(&names, &detours).context("cannot detach old interfaces")?;
    detour::remove(&Kernel::connect()?, &gone).await?;
    Ok(())
}

/// Puts the programs on every interface, of which index and receive queues are planned, and says how
/// they run there.
pub(super) async fn attach(
    datapath: &mut Datapath,
    wanted: AttachMode,
    interfaces: &[(u32, String)],
    (plan, devices): (&Plan, &[Device]),
) -> Result<Vec<Attached>> {
    let mut all = Vec::new();
    for (((index, name), (_, queues)), device) in
        interfaces.iter().zip(&plan.interfaces).zip(devices)
    {
        let mode = mode(wanted, datapath.pinned_mode(name), *queues, device);
        let attached = match mode {
            AttachMode::Tc => attach_buffers(datapath, wanted, *index, name).await?,
            mode => datapath.attach(name, *index, mode)?,
        };
        match &attached.fell_back {
            None => info!("attached to {name} in {} mode", attached.mode.name()),
            Some(why) => info!("attached to {name} in generic mode, not as usual: {why}"),
        }
        all.push(attached);
    }
    Ok(all)
}

/// How packets of an interface are to be got hold of. What an earlier daemon has attached stays.
///
/// By a veth come socket buffers. XDP would make a copy of each; what native XDP sends there arrives only
/// where the far end polls, which most do not. But a socket buffer does not say by which of several
/// queues it came.
fn mode(wanted: AttachMode, pinned: Option<Mode>, queues: u32, device: &Device) -> AttachMode {
    match (wanted, pinned) {
        (_, Some(Mode::Tc)) => AttachMode::Tc,
        (AttachMode::Auto, None) if queues == 1 && device.is_veth => AttachMode::Tc,
        // Nothing is at the far end of a detour for what is attached already.
        (AttachMode::Tc, Some(Mode::Native | Mode::Generic)) => AttachMode::Generic,
        (wanted, _) => wanted,
    }
}

/// At the ingress of traffic control; in the generic hook where the kernel cannot and that was not asked
/// for. A first start that fails leaves no detour.
async fn attach_buffers(
    datapath: &mut Datapath,
    wanted: AttachMode,
    index: u32,
    name: &str,
) -> Result<Attached> {
    let kernel = Kernel::connect()?;
    let detour = detour::ensure(&kernel, index).await;
    // One that is there already does not take a larger one.
    let detour = detour.with_context(|| {
        format!("cannot make the detour of {name}, whose MTU may be 3498 at most")
    })?;
    let far_end = detour.far_name.clone();
    let (is_first, is_auto) = (datapath.pinned_mode(name).is_none(), wanted == AttachMode::Auto);
    let refused = match datapath.attach_buffers(name, detour) {
        // The detour is another instance's.
        Err(busy @ DatapathError::Busy { .. }) => return Err(busy.into()),
        Err(refused) if is_first || is_auto => refused,
        attached => return Ok(attached?),
    };
    datapath.detach_detour(&far_end).context("cannot remove a pin")?;
    detour::remove(&kernel, &[far_end]).await?;
    if !is_auto {
        return Err(refused.into());
    }
    let attached = datapath.attach(name, index, AttachMode::Generic)?;
    Ok(Attached { fell_back: Some(refused.to_string()), ..attached })
}

/// Opens a socket on every receive queue and deals them to the workers.
pub(super) fn seats(
    datapath: &mut Datapath,
    (plan, devices): (&Plan, &[Device]),
    attached: &[Attached],
    flows: Vec<Vec<SlotId>>,
) -> Result<Vec<Seat>> {
    let seat = |adopted| Seat { ports: Vec::new(), adopted };
    let mut seats: Vec<Seat> = flows.into_iter().map(seat).collect();
    let interfaces = attached.iter().zip(&plan.interfaces).zip(devices);
    for (position, ((attached, (interface, queues)), device)) in (0..).zip(interfaces) {
        let (interface, detour) = (*interface, attached.detour.as_ref());
        // XDP_TX serves where there is hardware.
        let answers = if device.is_virtual { interface } else { 0 };
        datapath.register(position, interface, answers, detour)?;
        // However many queues there are, a detour has one.
        for queue in 0..if detour.is_some() { 1 } else { *queues } {
            let port = port(attached, interface, queue);
            let port = port.with_context(|| attached.interface.clone())?;
            datapath.listen(&port.receiving, position, queue)?;
            seats[queue as usize].ports.push(port);
        }
    }
    Ok(seats)
}

fn port(attached: &Attached, interface: u32, queue: u32) -> Result<Port, DatapathError> {
    let direct = Socket::open(interface, queue, attached.mode)?;
    Ok(match &attached.detour {
        None => Port { interface, receiving: direct, sending: None },
        Some(detour) => {
            let receiving = Socket::open(detour.far, queue, attached.mode)?;
            Port { interface, receiving, sending: Some(direct) }
        }
    })
}

/// What the kernel drops at the sockets of all seats.
pub(super) fn drop_counts(seats: &[Seat]) -> Result<Vec<DropCounts>> {
    let sockets = seats.iter().flat_map(|seat| &seat.ports).flat_map(Port::sockets);
    let counts = sockets.map(Socket::drop_counts).collect::<io::Result<_>>();
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

#[cfg(test)]
mod tests {
    use AttachMode::{Auto, Generic, Native, Tc};

    use super::*;

    #[test]
    fn socket_buffers_are_for_veths_of_one_queue_and_what_is_attached_stays() {
        let device = |is_veth| Device { is_virtual: true, is_veth, mtu: 1500 };
        let cases = [
            (Auto, None, 1, true, Tc),
            (Auto, None, 2, true, Auto),
            (Auto, None, 1, false, Auto),
            (Native, None, 1, true, Native),
            (Generic, None, 1, true, Generic),
            (Tc, None, 4, false, Tc),
            (Auto, Some(Mode::Native), 1, true, Auto),
            (Auto, Some(Mode::Generic), 1, true, Auto),
            (Native, Some(Mode::Tc), 1, true, Tc),
            (Tc, Some(Mode::Native), 1, true, Generic),
        ];
        for (wanted, pinned, queues, is_veth, expected) in cases {
            let case = format!("{wanted:?}, {pinned:?}, {queues} queues, veth: {is_veth}");
            assert_eq!(mode(wanted, pinned, queues, &device(is_veth)), expected, "{case}");
        }
    }
}
