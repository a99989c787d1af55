//! Which servers are in service: what the configuration, operators, monitors and time say together.
//!
//! Here is decided that a server takes no new flows for somebody ordered so, and that its flows are
//! to end; both are one write to [`ServerStates`], where workers find it when they decide a flow
//! or come by one. No flow is walked, and no worker waits.
//!
//! - [`tenure`] is the pure core: one server, with time as an argument.
//! - [`file`] keeps what is to outlive the daemon.
//! - [`orders`] are what operators want, and the admin API's part of it.
//! - [`rates`] count new flows a second.
//! - [`view`] says it all for `lb status`.
//!
//! Nothing wakes the control loop for a deadline or a verdict: it looks at all servers with its
//! housekeeping, ten times a second, which takes a few microseconds for a hundred of them.

mod file;
pub mod orders;
mod rates;
mod tenure;
pub mod view;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tracing::{info, warn};

use crate::{
    config::{Pool, Server, ServerPolicy},
    engine::{Found, Generation, Now, Shared},
    flow_table::SlotId,
    pool::ServerStates,
};
use file::{Saved, SavedServer};
use rates::Rate;
use tenure::Tenure;
use view::ServerState;

/// All servers that are configured, or still have flows.
#[derive(Debug)]
pub struct Servers {
    states: Arc<ServerStates>,
    path: PathBuf,
    saved: Saved,
    /// By the number in the catalog.
    known: HashMap<u32, Known>,
    /// Of virtual services, by their number in the catalog.
    services: HashMap<u32, Rate>,
    sampled: Option<Duration>,
}

/// One of them.
#[derive(Debug)]
struct Known {
    pool: String,
    address: SocketAddr,
    /// As configured last.
    ratio: u16,
    tenure: Tenure,
    rate: Rate,
    /// What `lb status` calls its state, and since when.
    shown: Option<(ServerState, Now)>,
}

/// A server of a configuration.
struct Configured<'a> {
    number: u32,
    /// Its pool, and the pool's place.
    pool: &'a Pool,
    place: usize,
    server: &'a Server,
}

fn configured(generation: &Generation) -> impl Iterator<Item = Configured<'_>> {
    let pools = generation.config.pools.iter().zip(generation.server_numbers()).enumerate();
    pools.flat_map(|(place, (pool, numbers))| {
        let servers = pool.servers.iter().zip(numbers);
        servers.map(move |(server, number)| Configured { number: *number, pool, place, server })
    })
}

impl Servers {
    /// Goes on where an earlier daemon ended, with the flows that it left. To be called before any
    /// worker runs: none may decide by other orders than those that stand.
    pub fn start(
        shared: &Shared,
        generation: &Generation,
        adopted: &[Vec<SlotId>],
        path: PathBuf,
        now: Now,
    ) -> Self {
        let saved = file::read(&path).unwrap_or_else(|error| {
            warn!("orders of an earlier daemon are forgotten: {}: {error}", path.display());
            Saved::default()
        });
        let states = Arc::clone(&shared.servers);
        let (known, services) = (HashMap::new(), HashMap::new());
        let mut servers = Self { states, path, saved, known, services, sampled: None };
        for Configured { number, pool, server, .. } in configured(generation) {
            let tenure = Tenure::new(server.enabled, pool.server_policy, now);
            servers.known.insert(number, Known::new(&pool.name, server, tenure));
        }
        servers.find_removed(shared, generation, adopted, now);
        for SavedServer { pool, address, kept } in std::mem::take(&mut servers.saved.servers) {
            let is_it = |known: &&mut Known| known.pool == pool && known.address == address;
            if let Some(known) = servers.known.values_mut().find(is_it) {
                known.tenure.restore(&kept, now);
            }
        }
        servers.apply(now.monotonic);
        servers.save(generation);
        servers
    }

    /// Flows may lead to servers that left the configuration, in a reload or while no daemon ran.
    fn find_removed(
        &mut self,
        shared: &Shared,
        generation: &Generation,
        adopted: &[Vec<SlotId>],
        now: Now,
    ) {
        for id in adopted.iter().flatten() {
            let Some(found) = Found::at(&shared.flows, *id) else { continue };
            let number = found.record.server;
            let Some(address) = found.server().filter(|_| number != 0) else { continue };
            if self.known.contains_key(&number) {
                continue;
            }
            let pool = shared.catalog.name(found.record.pool).unwrap_or_default();
            let policy = self.last_policy(generation, &pool);
            let tenure = Tenure::removed(policy, now);
            let server = Server { address, ratio: 0, enabled: false };
            self.known.insert(number, Known::new(&pool, &server, tenure));
        }
    }

    /// How a pool treated its servers that they have left; or treats them, if nobody knows.
    fn last_policy(&self, generation: &Generation, pool: &str) -> ServerPolicy {
        let configured = generation.config.pools.iter().find(|it| it.name == pool);
        let policy = configured.map(|pool| pool.server_policy).unwrap_or_default();
        let patience = self.saved.patience.get(pool).copied();
        ServerPolicy { graceful_disable: patience.unwrap_or(policy.graceful_disable), ..policy }
    }

    /// Another configuration is in force. Servers that come into service rise; those of a pool that
    /// is new as a whole have nobody to take their turns from.
    pub fn follow(&mut self, generation: &Generation, now: Now) {
        let here = self.known.values().filter(|known| known.tenure.enabled().is_some());
        let pools: HashSet<String> = here.map(|known| known.pool.clone()).collect();
        let mut there = HashSet::new();
        for Configured { number, pool, server, .. } in configured(generation) {
            there.insert(number);
            let said = (server.enabled, pool.server_policy);
            let rises = match self.known.get_mut(&number) {
                Some(known) => {
                    known.ratio = server.ratio;
                    known.tenure.configure(Some(said), now)
                }
                None => {
                    let tenure = Tenure::new(server.enabled, pool.server_policy, now);
                    self.known.insert(number, Known::new(&pool.name, server, tenure));
                    server.enabled && pools.contains(&pool.name)
                }
            };
            if rises {
                self.states.rise(number);
            }
        }
        for (_, known) in self.known.iter_mut().filter(|(number, _)| !there.contains(*number)) {
            known.ratio = 0;
            known.tenure.configure(None, now);
        }
        self.forget_removed();
        self.apply(now.monotonic);
        self.save(generation);
    }

    /// Does what is due.
    pub fn tick(&mut self, sources: &view::Sources<'_>) {
        let now = sources.now;
        if self.forget_removed() {
            self.save(sources.generation);
        }
        self.apply(now.monotonic);
        let since = self.sampled.map(|sampled| now.monotonic.saturating_sub(sampled));
        if since.is_none_or(|since| since >= rates::INTERVAL) {
            self.sampled = Some(now.monotonic);
            self.sample(sources);
        }
    }

    fn sample(&mut self, sources: &view::Sources<'_>) {
        let now = sources.now.monotonic;
        for (number, known) in &mut self.known {
            known.rate.sample(now, self.states.total(*number));
        }
        let all = 0..sources.generation.config.virtual_services.len();
        let numbers = all.map(|index| sources.generation.service_number(index));
        let samples = numbers.map(|number| {
            let mut rate = self.services.remove(&number).unwrap_or_default();
            rate.sample(now, sources.shared.services.total(number));
            (number, rate)
        });
        self.services = samples.collect();
        self.follow_states(sources);
    }

    /// Servers that are not in the configuration stay known as long as they have flows. True if
    /// one was forgotten.
    fn forget_removed(&mut self) -> bool {
        let (states, before) = (&self.states, self.known.len());
        self.known.retain(|number, known| {
            let stays = known.tenure.enabled().is_some() || states.connections(*number) > 0;
            if !stays {
                states.set_order(*number, None);
                states.set_gone(*number, false);
            }
            stays
        });
        self.known.len() != before
    }

    /// Has workers know.
    fn apply(&self, now: Duration) {
        for (number, known) in &self.known {
            let standing = self.states.standing(*number);
            let order = known.tenure.ordered().map(tenure::Ordered::order);
            if standing.order() != order {
                self.states.set_order(*number, order);
            }
            let is_gone = known.tenure.is_gone(now, standing.is_down());
            if standing.is_gone() != is_gone {
                self.states.set_gone(*number, is_gone);
                let (pool, server) = (&known.pool, known.address);
                let flows = self.states.connections(*number);
                if is_gone && flows > 0 {
                    info!(pool, %server, flows, "the server's flows end");
                }
            }
        }
    }

    /// Keeps what a later daemon has to know.
    fn save(&mut self, generation: &Generation) {
        let servers = self.known.values().filter_map(|known| {
            let Known { pool, address, tenure, .. } = known;
            let kept = tenure.kept()?;
            Some(SavedServer { pool: pool.clone(), address: *address, kept })
        });
        let mut servers: Vec<_> = servers.collect();
        servers.sort_by(|one, other| (&one.pool, one.address).cmp(&(&other.pool, other.address)));
        let pools = generation.config.pools.iter();
        let patience = pools.map(|it| (it.name.clone(), it.server_policy.graceful_disable));
        let saved = Saved { servers, patience: patience.collect::<BTreeMap<_, _>>() };
        if saved == self.saved {
            return;
        }
        match file::write(&self.path, &saved) {
            Ok(()) => self.saved = saved,
            Err(error) => {
                let path = self.path.display();
                warn!("orders will not outlive the daemon: cannot write {path}: {error}");
            }
        }
    }
}

impl Known {
    fn new(pool: &str, server: &Server, tenure: Tenure) -> Self {
        Self {
            pool: pool.to_owned(),
            address: server.address,
            ratio: server.ratio,
            tenure,
            rate: Rate::default(),
            shown: None,
        }
    }
}
