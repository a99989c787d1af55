//! A worker's own part of an algorithm: whose turn it is.

use super::{Live, Pool, least::Rotation, random::Random, round_robin::RoundRobin};
use crate::config::{Algorithm, ServerIndex};

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
    RoundRobin(RoundRobin),
    LeastConnections(Rotation),
    FastestResponse(Rotation),
    Random(Random),
    CoreAffinity(Seat, RoundRobin),
}

impl Turns {
    /// Each worker starts at another position, so that the first flows of many workers do not all
    /// go to the first server.
    pub fn new(pool: &Pool, seat: Seat) -> Self {
        let (servers, worker) = (&pool.servers, seat.worker);
        match pool.algorithm {
            Algorithm::ConsistentHash => Self::ConsistentHash,
            Algorithm::RoundRobin => Self::RoundRobin(RoundRobin::new(servers, worker)),
            Algorithm::LeastConnections => Self::LeastConnections(Rotation::new(worker)),
            Algorithm::FastestResponse => Self::FastestResponse(Rotation::new(worker)),
            Algorithm::Random => Self::Random(Random::new(servers, worker)),
            Algorithm::CoreAffinity => Self::CoreAffinity(seat, RoundRobin::new(servers, worker)),
        }
    }

    /// A server among those that are enabled and usable. `None` if there is none, or if the key is
    /// to decide.
    pub fn pick(&mut self, pool: &Pool, live: &impl Live) -> Option<usize> {
        let servers = &pool.servers;
        let usable = |index: usize| servers[index].enabled && live.is_usable(ServerIndex(index));
        let load = |index: usize| {
            let connections = f64::from(live.connections(ServerIndex(index)));
            (connections + 1.0) / f64::from(servers[index].ratio)
        };
        match self {
            Self::ConsistentHash => None,
            Self::RoundRobin(turns) => turns.pick(servers, usable),
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
                turns.pick(servers, own).or_else(|| turns.pick(servers, usable))
            }
        }
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
