//! A worker's own part of an algorithm: whose turn it is, and what it has seen of servers.

use super::{
    Live, Pool,
    fewest::Fewest,
    least::{Fastest, Least},
    looks::LOOKS,
    random::Random,
    round_robin::RoundRobin,
    tournament::OUT,
};
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
    RoundRobin(Passed),
    LeastConnections(Least),
    FastestResponse(Fastest),
    Random(Random),
    CoreAffinity {
        own: Own,
        all: Passed,
    },
    FewestServers(Fewest),
}

impl Turns {
    /// Each worker starts at another position, so that the first flows of many workers do not all
    /// go to the first server.
    pub fn new(pool: &Pool, seat: Seat) -> Self {
        let (servers, worker) = (&pool.servers, seat.worker);
        let count = servers.len();
        let ratios: Vec<_> = servers.iter().map(|server| server.ratio).collect();
        match pool.algorithm {
            Algorithm::ConsistentHash => Self::ConsistentHash,
            Algorithm::RoundRobin => Self::RoundRobin(Passed::new(&ratios, worker)),
            Algorithm::LeastConnections => Self::LeastConnections(Least::new(count, worker)),
            Algorithm::FastestResponse => Self::FastestResponse(Fastest::new(count, worker)),
            Algorithm::Random => Self::Random(Random::new(servers, worker)),
            Algorithm::CoreAffinity => Self::CoreAffinity {
                own: Own::new(&ratios, seat),
                all: Passed::new(&ratios, worker),
            },
            Algorithm::FewestServers => Self::FewestServers(Fewest::new(pool, worker)),
        }
    }

    /// A server among those that are usable. `None` if there is none, or if the key is to decide.
    ///
    /// Where servers take turns, one whose share is not above `dice` passes its turn on, unless
    /// nobody is found who can take it.
    pub fn pick(&mut self, pool: &Pool, live: &impl Live, dice: f32) -> Option<usize> {
        let usable = |index: usize| live.is_usable(ServerIndex(index));
        let admitted = |index: usize| live.share(ServerIndex(index)) > dice;
        let load = |index: usize| live.load(ServerIndex(index), pool.servers[index].ratio);
        let score = |index: usize| if usable(index) { load(index) } else { OUT };
        match self {
            Self::ConsistentHash => None,
            Self::RoundRobin(turns) => turns.pick(usable, admitted),
            Self::LeastConnections(least) => least.pick(score),
            Self::FastestResponse(fastest) => {
                let time = |index| live.response_time(ServerIndex(index));
                fastest.pick(|index| time(index).map(|time| time.as_secs_f64()), score)
            }
            Self::Random(random) => random.pick(usable, load),
            Self::CoreAffinity { own, all } => {
                own.pick(usable, admitted).or_else(|| all.pick(usable, admitted))
            }
            Self::FewestServers(fewest) => fewest.pick(pool, live, dice),
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
    fn new(ratios: &[u16], worker: usize) -> Self {
        let turns = RoundRobin::new(ratios, worker);
        Self { passed: turns.clone(), turns }
    }

    /// Who steps in is looked for among a few: where most of a great pool ramp up, all would be asked.
    fn pick(
        &mut self,
        usable: impl Fn(usize) -> bool,
        admitted: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let first = self.turns.pick(usize::MAX, &usable)?;
        if admitted(first) {
            return Some(first);
        }
        self.passed.pick(LOOKS, |index| usable(index) && admitted(index)).or(Some(first))
    }
}

/// The servers that are a worker's own.
#[derive(Clone, Debug)]
pub(super) struct Own {
    servers: Vec<usize>,
    turns: Passed,
}

impl Own {
    fn new(ratios: &[u16], seat: Seat) -> Self {
        let servers: Vec<_> = (0..ratios.len()).filter(|it| seat.has(*it, ratios.len())).collect();
        let own: Vec<_> = servers.iter().map(|server| ratios[*server]).collect();
        Self { turns: Passed::new(&own, seat.worker), servers }
    }

    fn pick(
        &mut self,
        usable: impl Fn(usize) -> bool,
        admitted: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let Self { servers, turns } = self;
        let picked = turns.pick(|own| usable(servers[own]), |own| admitted(servers[own]))?;
        Some(servers[picked])
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
