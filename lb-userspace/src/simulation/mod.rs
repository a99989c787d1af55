//! A balancer without a network: the program's own function, one worker's engine, and memory.
//!
//! `lb replay`, `lb test` and `lb explain` without a daemon run in here. Nothing is simulated but
//! the surroundings: frames, time, next hops (every address has one) and the kernel's grace
//! periods. The same frames at the same times give the same decisions.

mod arrivals;
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
        Counters, Effects, Engine, Explanation, FlowView, Found, Generation, Hand, Now, Position,
        Query, Shared, log::Note,
    },
    flow_table::{Catalog, CatalogFull, FlowTable, OwnedMemory},
    script::ScriptError,
    table::Tables,
};

pub use arrivals::Arrivals;
pub use frames::{Segment, first_packet, from_client, from_server};
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

/// How long flows may be left alone: the 32 bits of a slot's time hold 52 days.
const LEG: Duration = Duration::from_hours(24);

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
    arrivals: Arrivals,
    started: SystemTime,
}

impl Simulation {
    /// A balancer under a configuration that nothing has passed through. It begins at `started`;
    /// its table has room for `flows`, and for as many as are configured at most. How many may be
    /// half open is by the configured capacity.
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
        let cookies = Arc::new(network::SECRETS);
        let shared = Shared::new(table, catalog, instance, instance.flow_capacity, cookies);
        let shared = Arc::new(shared);
        let generation = Arc::new(Generation::new(1, config, &shared)?);
        let counters = Arc::new(Counters::default());
        let position = Position { worker: 0, workers: 1 };
        let parts = (Arc::clone(&shared), Arc::clone(&counters), Arc::clone(&generation));
        let mut engine = Engine::new(position, parts.0, parts.1, parts.2)?;
        engine.keep_explanations();
        let network = Everywhere;
        let arrivals = Arrivals::default();
        Ok(Self { shared, counters, generation, engine, network, arrivals, started })
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
        let Self { shared, generation, arrivals, .. } = &*self;
        let path = Path { shared, generation, arrivals, now };
        let verdict = forward(&mut wire, &path);
        match verdict {
            Verdict::Punt(_) => {
                self.engine.receive(now, network::INTERFACE, &wire.0, &self.network, effects);
            }
            Verdict::Transmit | Verdict::Answer(_) | Verdict::Redirect { .. } => {
                effects.push(network::INTERFACE, &wire.0);
            }
            Verdict::Drop(event) => {
                effects.explanations.extend(self.engine.explain_drop(now, frame, event));
            }
            Verdict::Pass(_) => {}
        }
        verdict
    }

    /// Does what time demands: flows that are over end, and are among the effects.
    pub fn tick(&mut self, now: Now, effects: &mut Effects) {
        self.engine.tick(now, &self.network, effects);
        self.shared.grace.pass(|| ());
        self.engine.tick(now, &self.network, effects);
    }

    /// Lets time pass, be it years: what falls due on the way is done as if the worker had looked
    /// after its flows all the while.
    pub fn pass_time(&mut self, from: Now, to: Now, effects: &mut Effects) {
        let mut now = from;
        loop {
            let leg = to.monotonic.saturating_sub(now.monotonic).min(LEG);
            now = Now { monotonic: now.monotonic + leg, wall: now.wall + leg };
            self.look_after(now, leg, effects);
            if now.monotonic >= to.monotonic {
                return;
            }
        }
    }

    /// Visits every flow at the end of a time in which nothing else happens. When in between it is
    /// done cannot be seen, so as many rounds as it takes will do.
    fn look_after(&mut self, now: Now, passed: Duration, effects: &mut Effects) {
        let enough = self.shared.gauge.flows() as usize / Hand::MOST + 2;
        let rounds = passed.as_nanos() / Hand::ROUND.as_nanos();
        let rounds = usize::try_from(rounds).unwrap_or(enough).clamp(1, enough);
        for left in (0..u32::try_from(rounds).unwrap_or(u32::MAX)).rev() {
            let before = Hand::ROUND * left;
            let wall = now.wall.checked_sub(before).unwrap_or(now.wall);
            self.tick(Now { monotonic: now.monotonic - before, wall }, effects);
        }
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

    /// What scripts have said so far of a flow that goes on.
    pub fn note(&self, flow: &Found) -> Note {
        self.shared.notes.get(flow.id)
    }

    /// A flow as an operator sees it, with what scripts have logged of it.
    pub fn view(&self, now: Now, flow: &Found) -> FlowView {
        flow.view(&self.shared.catalog, self.note(flow), now.monotonic)
    }
}
