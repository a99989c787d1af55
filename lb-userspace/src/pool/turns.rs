//! A worker's own part of an algorithm: whose turn it is.

use super::{Live, Pool, fewest, least::Rotation, random::Random, round_robin::RoundRobin};
use crate::config::{Algorithm, Server, ServerIndex};

/// A worker's place among the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seat {
    /// From 0.
    pub worker: usize,
    /// How many there are.
    pub workers: usize,
}

/// What one worker remembers about one pool.
#[derive(Clone, Debug)]
pub(super) enum Turns {
    /// Nothing: the key decides.
    ConsistentHash,
    RoundRobin(Passed),
    LeastConnections(Rotation),
    FastestResponse(Rotation),
    Random(Random),
    CoreAffinity(Seat, Passed),
    /// Nothing: the load decides.
    FewestServers,
}

impl Turns {
    /// Each worker starts at another position, so that the first flows of many workers do not all
    /// go to the first server.
    pub fn new(pool: &Pool, seat: Seat) -> Self {
        let (servers, worker) = (&pool.servers, seat.worker);
        match pool.algorithm {
            Algorithm::ConsistentHash => Self::ConsistentHash,
            Algorithm::RoundRobin => Self::RoundRobin(Passed::new(servers, worker)),
            Algorithm::LeastConnections => Self::LeastConnections(Rotation::new(worker)),
            Algorithm::FastestResponse => Self::FastestResponse(Rotation::new(worker)),
            Algorithm::Random => Self::Random(Random::new(servers, worker)),
            Algorithm::CoreAffinity => Self::CoreAffinity(seat, Passed::new(servers, worker)),
            Algorithm::FewestServers => Self::FewestServers,
        }
    }

    /// A server among those that are usable. `None` if there is none, or if the key is to decide.
    ///
    /// Where servers take turns, one whose share is not above `dice` passes its turn on, unless
    /// nobody else can take it.
    pub fn pick(&mut self, pool: &Pool, live: &impl Live, dice: f32) -> Option<usize> {
        let servers = &pool.servers;
        let usable = |index: usize| live.is_usable(ServerIndex(index));
        let admitted = |index: usize| usable(index) && live.share(ServerIndex(index)) > dice;
        let connections = |index: usize| live.connections(ServerIndex(index));
        let load = |index: usize| {
            let due = f64::from(servers[index].ratio) * f64::from(live.share(ServerIndex(index)));
            (f64::from(connections(index)) + 1.0) / due
        };
        match self {
            Self::ConsistentHash => None,
            Self::RoundRobin(turns) => turns.pick(servers, usable, admitted),
            Self::LeastConnections(rotation) => rotation.least(servers.len(), usable, load),
            Self::FastestResponse(rotation) => {
                let unknown = fastest(pool, live);
                let time = |index| live.response_time(ServerIndex(index));
                let seconds = |index| time(index).map_or(unknown, |time| time.as_secs_f64());
                rotation.least(servers.len(), usable, |index| seconds(index) * load(index))
            }
            Self::Random(random) => random.pick(usable, load),
            Self::CoreAffinity(seat, turns) => {
                let own = |index| seat.has(index, servers.len()) && usable(index);
                let picked = turns.pick(servers, own, admitted);
                picked.or_else(|| turns.pick(servers, usable, admitted))
            }
            Self::FewestServers => {
                let admits = fewest::pick(pool, admitted, connections, load);
                admits.or_else(|| fewest::pick(pool, usable, connections, load))
            }
        }
    }
}

/// Whose turn it is, and whose when that one passes it on.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    turns: RoundRobin,
    /// Apart from the others, so that who steps in has its own turn all the same.
    passed: RoundRobin,
}

impl Passed {
    fn new(servers: &[Server], worker: usize) -> Self {
        let turns = RoundRobin::new(servers, worker);
        Self { passed: turns.clone(), turns }
    }

    fn pick(
        &mut self,
        servers: &[Server],
        usable: impl Fn(usize) -> bool,
        admitted: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let first = self.turns.pick(servers, &usable)?;
        if admitted(first) {
            return Some(first);
        }
        self.passed.pick(servers, |index| usable(index) && admitted(index)).or(Some(first))
    }
}

impl Seat {
    /// Whether a server is one of this worker's: each worker has some, each server has one at
    /// least.
    fn has(self, server: usize, servers: usize) -> bool {
        if servers >= self.workers {
            server % self.workers.max(1) == self.worker
        } else {
            server == self.worker % servers.max(1)
        }
    }
}

/// A server that has not been measured counts as the fastest: it is to be measured.
fn fastest(pool: &Pool, live: &impl Live) -> f64 {
    let times = (0..pool.servers.len()).filter_map(|index| live.response_time(ServerIndex(index)));
    times.min().map_or(1.0, |time| time.as_secs_f64())
}
