//! One server is filled before the next gets any: those at the end can be switched off.

use super::{
    Live, Pool,
    looks::{LOOKS, Looks},
    tournament::{OUT, Tournament},
};
use crate::config::ServerIndex;

/// What a worker has seen of each server.
#[derive(Clone, Debug)]
pub(super) struct Fewest {
    seen: Seen,
    looks: Looks,
    /// The greatest ratio.
    most: u16,
}

/// A usable server is in one of these.
#[derive(Clone, Debug)]
struct Seen {
    /// Those that are not filled: their shares, below zero, so that the greatest is the lowest.
    open: Tournament,
    /// The others: their loads.
    filled: Tournament,
}

impl Fewest {
    pub fn new(pool: &Pool, worker: usize) -> Self {
        let count = pool.servers.len();
        let seen = Seen { open: Tournament::new(count), filled: Tournament::new(count) };
        let most = pool.servers.iter().map(|server| server.ratio).max().unwrap_or(1);
        Self { seen, looks: Looks::new(count, worker), most }
    }

    /// The first usable server that is not filled and whose share is above `dice`; then of those that
    /// are filled and usable, the one with the lowest load; then the first whatever its share.
    pub fn pick(&mut self, pool: &Pool, live: &impl Live, dice: f32) -> Option<usize> {
        let Self { seen, looks, most } = self;
        let see = |seen: &mut Seen, index| seen.see(pool, *most, live, ServerIndex(index));
        if pool.servers.len() > LOOKS {
            return looks.settle(usize::MAX, seen, see, |seen| seen.best(dice));
        }
        // Who is behind the first need not be looked at.
        let mut all = 0..pool.servers.len();
        let first = all.find(|index| {
            see(seen, *index);
            seen.first_admitted(dice) == Some(*index)
        });
        first.or_else(|| seen.best(dice))
    }
}

impl Seen {
    fn see(&mut self, pool: &Pool, most: u16, live: &impl Live, server: ServerIndex) {
        let ratio = pool.servers[server.0].ratio;
        let filled =
            || is_filled(live.connections(server), ratio, most, pool.policy.max_connections);
        let (open, filled) = match live.is_usable(server) {
            false => (OUT, OUT),
            true if filled() => (OUT, live.load(server, ratio)),
            true => (-f64::from(live.share(server)), OUT),
        };
        self.open.set(server.0, open);
        self.filled.set(server.0, filled);
    }

    fn first_admitted(&self, dice: f32) -> Option<usize> {
        self.open.first(0, |share| share < -f64::from(dice))
    }

    fn best(&self, dice: f32) -> Option<usize> {
        let least = || self.filled.first_lowest(0);
        self.first_admitted(dice).or_else(least).or_else(|| self.open.first(0, |share| share < OUT))
    }
}

/// A server of the greatest ratio, `most`, is filled at the pool's limit, the others in proportion;
/// none is without a flow.
fn is_filled(connections: u32, ratio: u16, most: u16, limit: u32) -> bool {
    let (used, of) =
        (u64::from(connections) * u64::from(most), u64::from(limit) * u64::from(ratio));
    connections > 0 && used >= of
}
