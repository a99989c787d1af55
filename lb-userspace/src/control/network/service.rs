//! Keeps the `next_hops` map and the workers' view of it in step with the kernel.

use std::{
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use lb_common::next_hop::{NextHop, NextHopId};
use tokio::{sync::mpsc, time::sleep_until};
use tracing::{debug, warn};

use super::{
    kernel::{Kernel, KernelError},
    monitor::{Monitor, Notice},
    next_hops::{Attached, NextHops, Role, Target},
    retries::Retries,
    topology::{Applied, Topology},
    view::NextHopView,
};

/// How often stale neighbours of servers and gateways are confirmed. The kernel forgets those that
/// nobody uses after `gc_stale_time` (arp(7): 60 s), and it does not see what XDP sends.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(30);

/// How often the interfaces' far ends are looked at: what runs there is nothing that the kernel tells
/// of by itself. For so long may a veth keep what it is sent with `XDP_TX`, once the program at its far
/// end is gone.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Clients that are added together: one view is published for all of them.
const BATCH: usize = 1024;

/// What a [`Network`] starts with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Names of the interfaces that XDP is attached to.
    pub interfaces: Vec<String>,
    /// The servers of the configuration.
    pub servers: Vec<IpAddr>,
    /// The ids that an earlier run gave, if flows outlived it: what [`NextHopView::slots`] told.
    pub assigned: Vec<(NextHopId, Target)>,
}

/// Why a [`Network`] ended.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A request to the kernel failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The kernel tells nothing any more.
    #[error("the rtnetlink socket that the kernel's events come by failed; see the log")]
    MonitorFailed,
    /// An entry could not be written.
    #[error("writing entry {} of map `next_hops`: {source}", id.0)]
    Write {
        /// The entry.
        id: NextHopId,
        /// Why.
        source: io::Error,
    },
}

/// Where everyone finds the latest view.
pub type SharedView = Arc<ArcSwap<NextHopView>>;

enum Command {
    Servers(Vec<IpAddr>),
    Interfaces(Vec<String>),
}

/// To speak to a running [`Network`], which ends when the last of its handles is dropped.
#[derive(Clone, Debug)]
pub struct NetworkHandle {
    commands: mpsc::UnboundedSender<Command>,
    view: SharedView,
}

impl NetworkHandle {
    /// Adds servers; those that are known already stay as they are.
    pub fn add_servers(&self, servers: Vec<IpAddr>) {
        self.send(Command::Servers(servers));
    }

    /// Sets the names of the interfaces that XDP is attached to.
    pub fn set_interfaces(&self, interfaces: Vec<String>) {
        self.send(Command::Interfaces(interfaces));
    }

    /// Where each new view is published.
    pub fn view(&self) -> SharedView {
        Arc::clone(&self.view)
    }

    /// A network that ended has told why from its `run`: there is nothing to add here.
    fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

/// See the module. `W` writes an entry into the map.
pub struct Network<W> {
    kernel: Kernel,
    monitor: Monitor,
    interfaces: Vec<String>,
    attached: Vec<Attached>,
    look_at: Instant,
    topology: Topology,
    is_outdated: bool,
    next_hops: NextHops,
    retries: Retries,
    confirm_at: Instant,
    refused_gateways: usize,
    write: W,
    view: SharedView,
    commands: mpsc::UnboundedReceiver<Command>,
    clients: mpsc::Receiver<IpAddr>,
}

impl<W: FnMut(NextHopId, Target, NextHop) -> io::Result<()>> Network<W> {
    /// Reads what the kernel knows, writes the first entries and publishes the first view; the
    /// rest is [`run`](Self::run)'s. `clients` brings the addresses that workers found
    /// [`Unknown`](super::view::Toward::Unknown): they send with `try_send`, and when there is
    /// no room, again with the client's next packet.
    ///
    /// # Errors
    ///
    /// When the kernel's tables cannot be read, or an entry not be written.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn start(
        settings: Settings,
        clients: mpsc::Receiver<IpAddr>,
        write: W,
    ) -> Result<(NetworkHandle, Self), NetworkError> {
        let monitor = Monitor::open()?;
        let kernel = Kernel::connect()?;
        let view = SharedView::default();
        let (sender, commands) = mpsc::unbounded_channel();
        let handle = NetworkHandle { commands: sender, view: Arc::clone(&view) };
        let mut network = Self {
            kernel,
            monitor,
            interfaces: settings.interfaces,
            attached: Vec::new(),
            look_at: Instant::now(),
            topology: Topology::default(),
            is_outdated: true,
            next_hops: NextHops::restored(settings.assigned),
            retries: Retries::default(),
            confirm_at: Instant::now() + CONFIRM_INTERVAL,
            refused_gateways: 0,
            write,
            view,
            commands,
            clients,
        };
        network.add_hosts(settings.servers, Role::Server);
        network.settle().await?;
        Ok((handle, network))
    }

    /// Follows the kernel until the last [`NetworkHandle`] is dropped.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be followed any more, or an entry not be written.
    pub async fn run(mut self) -> Result<(), NetworkError> {
        let mut clients = Vec::new();
        loop {
            let (wake_at, look_at) = (self.wake_at().into(), self.look_at.into());
            tokio::select! {
                notice = self.monitor.next() => {
                    self.take(notice.ok_or(NetworkError::MonitorFailed)?);
                    while let Some(notice) = self.monitor.ready() {
                        self.take(notice);
                    }
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return Ok(()),
                },
                1.. = self.clients.recv_many(&mut clients, BATCH) => {
                    self.add_hosts(clients.drain(..), Role::Client);
                }
                () = sleep_until(wake_at) => {}
                () = sleep_until(look_at) => if !self.look_at_interfaces().await { continue },
            }
            self.settle().await?;
        }
    }

    fn take(&mut self, notice: Notice) {
        self.is_outdated |= match notice {
            Notice::Change(change) => self.topology.apply(change) == Applied::ReadAnew,
            Notice::ReadAnew => true,
        };
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Servers(servers) => self.add_hosts(servers, Role::Server),
            Command::Interfaces(interfaces) => self.interfaces = interfaces,
        }
    }

    fn add_hosts(&mut self, hosts: impl IntoIterator<Item = IpAddr>, role: Role) {
        for host in hosts {
            match (self.next_hops.add_host(host, role), role) {
                (Ok(_), _) => {}
                (Err(full), Role::Server) => warn!("{full}"),
                // Each of a client's packets would say it again.
                (Err(full), Role::Client) => debug!("{full}"),
            }
        }
    }

    /// Draws the consequences of what changed.
    async fn settle(&mut self) -> Result<(), NetworkError> {
        if self.is_outdated {
            self.topology = self.kernel.topology().await?;
            self.is_outdated = false;
        }
        if !self.interface_indices().into_iter().eq(self.attached.iter().map(|it| it.index)) {
            self.look_at_interfaces().await;
        }
        for (id, entry) in self.next_hops.update(&self.topology, &self.attached) {
            let Some(target) = self.next_hops.target(id) else { continue };
            (self.write)(id, target, entry).map_err(|source| NetworkError::Write { id, source })?;
        }
        self.view.store(Arc::new(self.next_hops.view()));
        self.warn_of_refused_gateways();
        self.ask().await;
        Ok(())
    }

    /// By name each time: an interface that was made anew has another index.
    fn interface_indices(&self) -> Vec<u32> {
        let names = self.interfaces.iter();
        let interfaces = names.filter_map(|name| self.topology.interface_named(name));
        interfaces.map(|interface| interface.index).collect()
    }

    /// Finds out how packets go back by each interface; true if that has changed.
    async fn look_at_interfaces(&mut self) -> bool {
        self.look_at = Instant::now() + LOOK_INTERVAL;
        let mut attached = Vec::new();
        for index in self.interface_indices() {
            let bounces = self.kernel.bounces(index).await.unwrap_or_else(|error| {
                debug!("what comes in by interface {index} goes back by redirection: {error}");
                false
            });
            attached.push(Attached { index, bounces });
        }
        let changed = attached != self.attached;
        self.attached = attached;
        changed
    }

    fn warn_of_refused_gateways(&mut self) {
        let refused = self.next_hops.refused_gateways();
        if refused > self.refused_gateways {
            warn!(refused, "more gateway routes than next hops: clients behind some are refused");
        }
        self.refused_gateways = refused;
    }

    /// Has the kernel ask for unknown neighbours, and confirm stale ones from time to time.
    async fn ask(&mut self) {
        let now = Instant::now();
        let mut asked = self.retries.due(self.next_hops.wanted(), now);
        if now >= self.confirm_at {
            self.confirm_at = now + CONFIRM_INTERVAL;
            asked.extend(self.next_hops.unconfirmed(&self.topology));
        }
        for neighbour in asked {
            // It is asked again later: the interface may be gone by now, or the table full.
            if let Err(error) = self.kernel.resolve(neighbour).await {
                debug!("{error}");
            }
        }
    }

    fn wake_at(&self) -> Instant {
        self.retries.next_due().map_or(self.confirm_at, |due| due.min(self.confirm_at))
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
