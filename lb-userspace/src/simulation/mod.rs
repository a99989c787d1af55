//! A balancer without a network: the program's own function, one worker's engine, and memory.
//!
//! `lb replay`, `lb test` and `lb explain` without a daemon run in here. Nothing is simulated but
//! the surroundings: frames, time, next hops (every address has one) and the kernel's grace
//! periods. The same frames at the same times give the same decisions.

mod frames;
mod network;

#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use lb_common::{
    address::Protocol,
    flow::Geometry,
    hash::HashSeed,
    path::{Verdict, forward},
};
use thiserror::Error;

use crate::{
    config::Config,
    engine::{
        Counters, Effects, Engine, Explanation, Found, Generation, Now, Position, Query, Shared,
    },
    flow_table::{Catalog, CatalogFull, FlowTable, OwnedMemory},
    script::ScriptError,
    table::Tables,
};

pub use frames::{first_packet, from_server};
use network::{Everywhere, Path, Wire};

/// The seed of the flow table's hash; any will do, and the same one makes runs alike.
const SEED: HashSeed = HashSeed([
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
]);

/// The monotonic clock at the beginning: as good as any.
const BEGINNING: Duration = Duration::from_hours(1);

/// Why there cannot be a simulation.
#[derive(Debug, Error)]
pub enum SimulationError {
    /// The scripts do not load.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// There are too many names.
    #[error(transparent)]
    Catalog(#[from] CatalogFull),
}

/// One worker, and a clock that others move.
pub struct Simulation {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    generation: Arc<Generation>,
    engine: Engine,
    network: Everywhere,
    started: SystemTime,
}

impl Simulation {
    /// A balancer under a configuration that nothing has passed through. It begins at `started`;
    /// its table has room for `flows`, and for as many as are configured at most.
    pub fn new(
        config: Arc<Config>,
        started: SystemTime,
        flows: u32,
    ) -> Result<Self, SimulationError> {
        let instance = &config.instance;
        let capacity = flows.clamp(64, instance.flow_capacity.max(64));
        let geometry = Geometry { buckets: Geometry::buckets_for(capacity), seed: SEED };
        let table = FlowTable::new(geometry, Box::new(OwnedMemory::new(&geometry)));
        let catalog = Catalog::new([], Box::new(()));
        let shared = Arc::new(Shared::new(table, catalog, instance, capacity));
        let generation = Arc::new(Generation::new(1, config, &shared)?);
        let counters = Arc::new(Counters::default());
        let position = Position { worker: 0, workers: 1 };
        let parts = (Arc::clone(&shared), Arc::clone(&counters), Arc::clone(&generation));
        let mut engine = Engine::new(position, parts.0, parts.1, parts.2)?;
        engine.keep_explanations();
        let network = Everywhere;
        Ok(Self { shared, counters, generation, engine, network, started })
    }

    /// New flows are decided by another configuration from now on.
    pub fn replace(&mut self, config: Arc<Config>) -> Result<(), SimulationError> {
        let number = self.generation.number + 1;
        let generation = Arc::new(Generation::new(number, config, &self.shared)?);
        self.engine.replace(Arc::clone(&generation))?;
        self.generation = generation;
        Ok(())
    }

    /// The configuration in force.
    pub fn config(&self) -> &Arc<Config> {
        &self.generation.config
    }

    /// The tables of scripts.
    pub fn tables(&self) -> &Tables {
        &self.shared.tables
    }

    /// What the worker has counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A time of day by both clocks. What lies before the beginning is the beginning.
    pub fn at(&self, wall: SystemTime) -> Now {
        let since = wall.duration_since(self.started).unwrap_or_default();
        Now { monotonic: BEGINNING + since, wall: self.started + since }
    }

    /// A frame comes in: the program forwards it, or the worker gets it. What is to be sent, and
    /// how it was decided, is among the effects.
    pub fn receive(&mut self, now: Now, frame: &[u8], effects: &mut Effects) -> Verdict {
        let mut wire = Wire(frame.to_vec());
        let path = Path { shared: &self.shared, generation: &self.generation, now };
        let verdict = forward(&mut wire, &path);
        match verdict {
            Verdict::Punt(_) => {
                self.engine.receive(now, network::INTERFACE, &wire.0, &self.network, effects);
            }
            Verdict::Transmit | Verdict::Redirect { .. } => {
                effects.push(network::INTERFACE, &wire.0);
            }
            Verdict::Pass(_) | Verdict::Drop(_) => {}
        }
        verdict
    }

    /// Does what time demands: flows that are over end, and are among the effects.
    pub fn tick(&mut self, now: Now, effects: &mut Effects) {
        self.engine.tick(now, &self.network, effects);
        self.shared.grace.pass(|| ());
        self.engine.tick(now, &self.network, effects);
    }

    /// What would become of a flow that began now; nothing changes by it. `None`: no virtual
    /// service listens there.
    pub fn explain(&mut self, now: Now, query: Query<'_>) -> Option<Explanation> {
        self.engine.explain(now, query)
    }

    /// The flow between these two, if there is one.
    pub fn flow(&self, protocol: Protocol, client: SocketAddr, vip: SocketAddr) -> Option<Found> {
        Found::of(&self.shared.flows, protocol, client, vip)
    }
}
