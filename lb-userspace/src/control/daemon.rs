//! The daemon from start to stop.
//!
//! The order of a start: nothing is attached before the configuration, the machine and the pins
//! are known to be good; the program is attached before the workers run, so that from the first
//! moment on no packet of a virtual service reaches the kernel's own stack.

use std::{collections::BTreeMap, path::PathBuf, process, sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result, anyhow};
use lb_common::service::ServiceKey;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use super::{
    api::{Api, Request},
    connection_log::ConnectionLog,
    exhaustion::Exhaustion,
    explain::nobody_listens,
    former::FormerSources,
    handshakes::Handshakes,
    lock::Lock,
    names::Names,
    network::{addresses, detour, kernel::Kernel, service::NetworkHandle},
    paths::Paths,
    reload::{self, load},
    serve::{self, SocketFile},
    servers::{Servers, view::Sources},
    signals::Signals,
    start,
    status::{FlowGauge, InterfaceStatus, SnatPorts, Status, services_of, sum_of_events},
    trace,
};
use crate::{
    config::{Config, PoolIndex},
    datapath::{
        AddressRoles, ClientPrefixes, Datapath, DropCounts, EventCounts, Options, Pins, ServiceMap,
        check_environment, queue_count, wait_for_grace_period,
    },
    engine::{
        Explanation, FirstPacket, Generation, Peer, Shared, adopt, log::timestamp, snat_sources,
    },
    health::Health,
    script::Runtime,
    worker::{Common, Crew, Plan, now},
};

/// Clients whose next hop may be asked for at once.
const RESOLVE_QUEUE: usize = 4096;
/// Servers without a SNAT port left that workers may tell of at once.
const EXHAUSTION_QUEUE: usize = 256;
/// How often slots of ended flows are let go of, dead workers noticed, tables swept.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// How long new names are waited for at a start or a reload, all of them together.
const NAMES: Duration = Duration::from_secs(2);
/// Table entries looked at in one sweep.
const SWEEP: usize = 1024;

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration's file.
    pub config: PathBuf,
    /// Take the data path down on stop.
    pub detach: bool,
    /// Remove pins of another layout.
    pub replace_pins: bool,
    /// Log a line a packet.
    pub trace: bool,
}

/// Runs until told to stop.
pub fn run(options: &RunOptions) -> Result<()> {
    let config = load(&options.config)?;
    check_environment()?;
    let lock = Lock::take(&config.instance.name)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let daemon = start_or_undo(options, config).await?;
        daemon.serve().await
    });
    if options.detach || !Pins::new(lock.instance()).exist() {
        lock.remove();
    }
    result
}

/// Starts the daemon. A first start that fails leaves nothing behind; what an earlier daemon has
/// left stays as it is, with its flows.
async fn start_or_undo(options: &RunOptions, config: Config) -> Result<Daemon> {
    let instance = config.instance.name.clone();
    let is_first = !Pins::new(&instance).exist();
    let started = Daemon::start(options, config).await;
    if started.is_err()
        && is_first
        && let Err(error) = take_down(&instance).await
    {
        warn!("what the start left cannot be removed, `lb detach` may: {error:#}");
    }
    started
}

/// Takes down what an instance left: links, maps, addresses. For one that does not run.
pub fn detach(instance: &str) -> Result<bool> {
    let lock = Lock::take(instance)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let removed = runtime.block_on(take_down(instance))?;
    // Left by a daemon that was killed.
    let _ = std::fs::remove_file(Paths::new(instance).socket());
    lock.remove();
    Ok(removed)
}

async fn take_down(instance: &str) -> Result<bool> {
    let (pins, paths) = (Pins::new(instance), Paths::new(instance));
    let existed = pins.exist();
    if existed {
        let detours = pins.detours().context("cannot read what is pinned")?;
        pins.remove().with_context(|| format!("cannot remove {}", pins.folder().display()))?;
        detour::remove(&Kernel::connect()?, &detours).await?;
    }
    // It need not be there.
    let _ = std::fs::remove_file(paths.names());
    // Orders are about flows that there are, and about servers that take some.
    let _ = std::fs::remove_file(paths.servers());
    let released = addresses::release(&paths.addresses()).await?;
    Ok(existed || !released.addresses.is_empty())
}

/// Everything that the control loop owns.
struct Daemon {
    options: RunOptions,
    started: SystemTime,
    /// As it was read last; the generation's has servers for the names in it.
    file: Arc<Config>,
    names: Names,
    /// Why the addresses of names as they are now are not in force, if they are not.
    refused_addresses: Option<String>,
    generation: Arc<Generation>,
    shared: Arc<Shared>,
    datapath: Datapath,
    services: ServiceMap,
    prefixes: ClientPrefixes,
    addresses: AddressRoles,
    events: EventCounts,
    drops: Vec<DropCounts>,
    network: NetworkHandle,
    crew: Crew,
    health: Health,
    servers: Servers,
    log: ConnectionLog,
    interfaces: Vec<InterfaceStatus>,
    adopted: usize,
    former: FormerSources,
    exhaustion: Exhaustion,
    handshakes: Handshakes,
    out_of_ports: mpsc::Receiver<Peer>,
    requests: mpsc::Receiver<Request>,
    grace: std::thread::JoinHandle<()>,
    _socket: SocketFile,
}

impl Daemon {
    async fn start(options: &RunOptions, config: Config) -> Result<Self> {
        let file = Arc::new(config);
        let indices = start::interface_indices(&file.instance.interfaces)?;
        let mut names = Names::start(&file, Paths::new(&file.instance.name).names());
        names.settle(NAMES).await;
        let config = names.expand(&file);
        let instance = &config.instance;
        let mut datapath = Datapath::load(&Options {
            instance: instance.name.clone(),
            flow_capacity: instance.flow_capacity,
            replace_pins: options.replace_pins,
            trace: options.trace,
        })?;
        if options.trace {
            trace::show(&mut datapath)?;
        }
        let shared = start::share(&mut datapath, &config)?;
        let plan = Plan {
            interfaces: indices.iter().map(|(index, _)| (*index, queue_count(*index))).collect(),
            cores: instance.cores.clone(),
        };
        // Runs of the program that began under the old daemon may still write to what it owned.
        wait_for_grace_period();
        let flows = adopt(&shared, instance, plan.workers());
        // And runs that are under way now may have found what was just given back.
        wait_for_grace_period();
        let adopted = flows.iter().map(Vec::len).sum();
        let former = FormerSources::of(snat_sources(&shared.flows, &flows), &config);
        let number = start::newest_generation(&shared, &flows) + 1;
        let generation = Arc::new(Generation::new(number, Arc::clone(&config), &shared)?);
        let mut runtime = Runtime::new(instance.script, Arc::clone(&shared.tables))?;
        runtime.load(&config)?;
        let path = Paths::new(&instance.name).servers();
        let servers = Servers::start(&shared, &generation, &flows, path, now());

        let (resolve, clients) = mpsc::channel(RESOLVE_QUEUE);
        let network = start::network(&mut datapath, &generation, clients).await?;
        start::ensure_addresses(&config, &former).await?;
        let mut services = datapath.take_services()?;
        let mut prefixes = datapath.take_client_prefixes()?;
        let mut addresses = datapath.take_addresses()?;
        prefixes.replace(&generation.client_prefixes()).context("cannot fill map prefixes")?;
        let roles = former.add_to(generation.address_roles());
        addresses.replace(&roles).context("cannot fill map addresses")?;
        services.replace(&generation.service_entries()).context("cannot fill map services")?;
        start::detach_others(&datapath, &indices).await?;
        let devices = start::devices(&indices).await?;
        let planned = (&plan, &*devices);
        let attached =
            start::attach(&mut datapath, instance.attach_mode, &indices, planned).await?;
        let seats = start::seats(&mut datapath, planned, &attached, flows)?;
        let drops = start::drop_counts(&seats)?;
        let log = ConnectionLog::start(instance.connection_log.as_deref())
            .with_context(|| format!("cannot open {:?}", instance.connection_log))?;
        let (exhausted, out_of_ports) = mpsc::channel(EXHAUSTION_QUEUE);
        let common = Common {
            shared: Arc::clone(&shared),
            generation: Arc::clone(&generation),
            log: log.sender(),
            resolve,
            exhausted,
            view: network.view(),
        };
        let crew = Crew::start(&plan, &common, seats).context("cannot start the workers")?;
        drop(common);
        let (sender, requests) = mpsc::channel(16);
        let api = Api { shared: Arc::clone(&shared), requests: sender };
        let socket = serve::listen(&instance.admin_socket, api)
            .with_context(|| format!("cannot listen on {}", instance.admin_socket.display()))?;
        let events = datapath.take_events()?;
        let interfaces =
            attached.iter().zip(&plan.interfaces).map(start::interface_status).collect();
        let grace = start::keep_grace(&shared)?;
        let health =
            Health::start(Arc::clone(&shared.servers), &config, generation.server_numbers())
                .context("cannot start the health monitors")?;
        info!(instance = instance.name, adopted, workers = plan.workers(), "ready");
        Ok(Self {
            options: options.clone(),
            started: SystemTime::now(),
            file,
            names,
            refused_addresses: None,
            generation,
            shared,
            handshakes: Handshakes::new(datapath.handshakes()),
            datapath,
            services,
            prefixes,
            addresses,
            events,
            drops,
            network,
            crew,
            health,
            servers,
            log,
            interfaces,
            adopted,
            former,
            exhaustion: Exhaustion::default(),
            out_of_ports,
            requests,
            grace,
            _socket: socket,
        })
    }

    /// Answers requests and signals until one of them ends the daemon.
    async fn serve(mut self) -> Result<()> {
        let mut signals = Signals::new()?;
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let detach = loop {
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(Request::Status(answer)) => { let _ = answer.send(self.status()); }
                    Some(Request::Explain { flow, worker, answer }) => {
                        self.explain(flow, worker, answer);
                    }
                    Some(Request::Server(asked)) => self.with_servers(|it, of| it.answer(asked, of)),
                    Some(Request::Config(answer)) => {
                        let _ = answer.send(Arc::clone(&self.generation.config));
                    }
                    Some(Request::Reload(answer)) => { let _ = answer.send(self.reload().await); }
                    Some(Request::Stop { detach, answer }) => {
                        let _ = answer.send(());
                        break detach;
                    }
                    None => break self.options.detach,
                },
                Some(peer) = self.out_of_ports.recv() => {
                    self.exhaustion.tell(peer, now().monotonic);
                }
                () = self.names.changed() => self.follow_names(),
                Some(()) = signals.hangup.recv() => { let _ = self.reload().await; }
                Some(()) = signals.terminate.recv() => break self.options.detach,
                Some(()) = signals.interrupt.recv() => break self.options.detach,
                _ = housekeeping.tick() => {
                    self.shared.tables.sweep(now().monotonic, SWEEP);
                    self.handshakes.tick(now().monotonic, &self.shared.gauge);
                    self.with_servers(Servers::tick);
                    if let Some(casualty) = self.crew.casualty() {
                        // The data path goes on, and whoever supervises starts a new daemon.
                        return Err(anyhow!(casualty));
                    }
                    self.let_go_of_former_sources().await;
                }
            }
        };
        self.stop(detach).await
    }

    async fn stop(self, detach: bool) -> Result<()> {
        let instance = self.generation.config.instance.name.clone();
        // The workers' sockets close with the last descriptor: from then on drops are counted
        // as for want of a worker.
        drop(self.drops);
        self.crew.stop();
        self.health.stop();
        self.log.stop();
        drop(self.shared);
        drop(self.datapath);
        drop(self.grace);
        if detach {
            take_down(&instance).await?;
            info!(instance, "stopped, data path taken down");
        } else {
            info!(instance, "stopped; established flows go on. `lb detach` takes them down");
        }
        Ok(())
    }

    /// Brings the file as it is now into force, or refuses it whole and says why.
    async fn reload(&mut self) -> Result<u32, String> {
        let result = self.try_reload().await;
        match &result {
            Ok(number) => info!(generation = number, "reloaded"),
            Err(problems) => error!("configuration refused, the old one goes on:\n{problems}"),
        }
        result
    }

    async fn try_reload(&mut self) -> Result<u32, String> {
        let file = Arc::new(load(&self.options.config).map_err(|problems| problems.to_string())?);
        reload::refuse_incompatible(&self.file, &file)?;
        let text = |error: &dyn std::error::Error| error.to_string();
        let mut trial = Runtime::new(file.instance.script, Arc::clone(&self.shared.tables))
            .map_err(|error| text(&error))?;
        trial.load(&file).map_err(|error| text(&error))?;
        // Servers that were written out and are given by name now go on without a gap.
        self.names.meet(&file, NAMES).await;
        let result = self.enforce(file).await;
        self.names.follow(&self.file);
        result
    }

    /// Brings another file's configuration into force.
    async fn enforce(&mut self, file: Arc<Config>) -> Result<u32, String> {
        let config = self.names.expand(&file);
        let generation = self.next_generation(&config)?;
        self.log.reopen();
        self.former = self.former.after(&self.generation.config, &config);
        let ensured = start::ensure_addresses(&config, &self.former).await;
        ensured.map_err(|error| format!("{error:#}"))?;
        let number = self.put_in_force(generation)?;
        self.file = file;
        Ok(number)
    }

    /// Makes a generation of the addresses that names have now.
    fn follow_names(&mut self) {
        let config = self.names.expand(&self.file);
        if config == self.generation.config {
            // Such as when an address has come back before it was missed.
            self.refused_addresses = None;
            return;
        }
        let result =
            self.next_generation(&config).and_then(|generation| self.put_in_force(generation));
        match result {
            Ok(number) => info!(generation = number, "names of servers have other addresses"),
            Err(problem) => {
                error!("the new addresses of servers are not in force: {problem}");
                self.refused_addresses = Some(problem);
            }
        }
    }

    fn next_generation(&self, config: &Arc<Config>) -> Result<Arc<Generation>, String> {
        let number = self.generation.number + 1;
        let generation = Generation::new(number, Arc::clone(config), &self.shared);
        generation.map(Arc::new).map_err(|error| error.to_string())
    }

    /// Hands a generation to everyone who needs it.
    fn put_in_force(&mut self, generation: Arc<Generation>) -> Result<u32, String> {
        let (number, config) = (generation.number, &generation.config);
        self.network.add_servers(generation.servers().map(|server| server.ip()).collect());
        let roles = self.former.add_to(generation.address_roles());
        // Before workers make flows of them, whose packets would be passed over.
        roles.iter().for_each(|(address, roles)| self.addresses.expect(address, *roles));
        // Workers before the maps: they must know a service before its first packet is punted.
        self.crew.replace(&generation)?;
        self.servers.follow(&generation, now());
        self.health.follow(config, generation.server_numbers());
        self.shared.gauge.set_half_open_share(config.instance.half_open_share);
        // Policies before the services that name them: none is let in by one that is not there.
        let maps = self
            .prefixes
            .replace(&generation.client_prefixes())
            .and_then(|()| self.addresses.replace(&roles))
            .and_then(|()| self.services.replace(&generation.service_entries()));
        maps.map_err(|error| format!("cannot fill the maps: {error}"))?;
        self.generation = generation;
        self.refused_addresses = None;
        Ok(number)
    }

    /// Gives up SNAT addresses that are no longer configured and whose last flow has ended.
    async fn let_go_of_former_sources(&mut self) {
        if !self.former.forget_unused(&self.shared.snat_ports) {
            return;
        }
        let generation = Arc::clone(&self.generation);
        let roles = self.former.add_to(generation.address_roles());
        if let Err(error) = self.addresses.replace(&roles) {
            warn!("a former SNAT address stays in the map of addresses: {error}");
        }
        if let Err(error) = start::ensure_addresses(&generation.config, &self.former).await {
            warn!("a former SNAT address stays on its interface: {error:#}");
        }
    }

    /// Has a worker say what would become of a flow; the answer does not come by way of us.
    fn explain(
        &self,
        flow: FirstPacket,
        worker: u16,
        answer: oneshot::Sender<Result<Explanation, String>>,
    ) {
        let key = ServiceKey::at(flow.vip, flow.protocol);
        let config = &self.generation.config;
        if self.generation.service(&key).is_none() {
            let _ = answer.send(Err(nobody_listens(config, &flow)));
        } else {
            self.crew.explain(worker, flow, answer);
        }
    }

    fn with_servers<T>(&mut self, act: impl FnOnce(&mut Servers, &Sources<'_>) -> T) -> T {
        let Self { generation, shared, health, network, servers, .. } = self;
        act(servers, &Sources { generation, shared, health, network, now: now() })
    }

    fn status(&mut self) -> Status {
        let (virtual_services, mut pools) = self.with_servers(|servers, sources| {
            let mut services = services_of(&sources.generation.config);
            servers.load_services(sources, &mut services);
            (services, servers.pools(sources))
        });
        let config = &self.generation.config;
        let gauge = &self.shared.gauge;
        let events = self.event_counts();
        for ((index, pool), status) in config.pools.iter().enumerate().zip(&mut pools) {
            status.names = self.names.status(PoolIndex(index), &pool.names);
        }
        Status {
            instance: config.instance.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            started: timestamp(self.started),
            config: config.path.display().to_string(),
            generation: self.generation.number,
            adopted_flows: self.adopted,
            interfaces: self.interfaces.clone(),
            workers: self.crew.counters().len(),
            flows: FlowGauge {
                now: gauge.flows(),
                half_open: gauge.half_open(),
                pressure: self.handshakes.is_pressed(),
                capacity: gauge.capacity(),
            },
            logged_flows: self.log.written(),
            lost_log_records: self.log.lost(),
            refused_table_inserts: self.shared.tables.refused(),
            snat_ports: SnatPorts::new(&self.shared.snat_ports, &events),
            events,
            virtual_services,
            refused_addresses: self.refused_addresses.clone(),
            pools,
        }
    }

    /// Of the packet programs, the kernel's AF_XDP sockets and all workers together.
    fn event_counts(&self) -> BTreeMap<String, u64> {
        let xdp = self.events.read().unwrap_or_default();
        let sockets = self.drops.iter().flat_map(DropCounts::read).flatten();
        sum_of_events(xdp.into_iter().chain(sockets), &self.crew.counters())
    }
}
