//! One server is filled before the next gets any: those at the end can be switched off.

use super::{
    Pool,
    looks::Looks,
    tournament::{OUT, Tournament},
};

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

/// A server at this moment.
pub(super) struct Site {
    pub usable: bool,
    pub connections: u32,
    pub share: f32,
    /// Flows, for what it is to get.
    pub load: f64,
}

impl Fewest {
    pub fn new(pool: &Pool) -> Self {
        let count = pool.servers.len();
        let seen = Seen { open: Tournament::new(count), filled: Tournament::new(count) };
        let most = pool.servers.iter().map(|server| server.ratio).max().unwrap_or(1);
        Self { seen, looks: Looks::new(count), most }
    }

    /// The first usable server that is not filled and whose share is above `dice`; then of those that
    /// are filled and usable, the one with the lowest load; then the first whatever its share.
    pub fn pick(&mut self, pool: &Pool, site: impl Fn(usize) -> Site, dice: f32) -> Option<usize> {
        let most = self.most;
        let see = |seen: &mut Seen, index| {
            let is_filled = |site: &Site| f64::from(site.connections) >= mark(pool, index, most);
            seen.see(index, Some(site(index)).filter(|site| site.usable), is_filled);
        };
        self.looks.settle(usize::MAX, &mut self.seen, see, |seen| seen.best(dice))
    }
}

impl Seen {
    fn see(&mut self, index: usize, site: Option<Site>, is_filled: impl Fn(&Site) -> bool) {
        let (open, filled) = match site {
            None => (OUT, OUT),
            Some(site) if is_filled(&site) => (OUT, site.load),
            Some(site) => (-f64::from(site.share), OUT),
        };
        self.open.set(index, open);
        self.filled.set(index, filled);
    }

    fn best(&self, dice: f32) -> Option<usize> {
        let admitted = self.open.first(0, |share| share < -f64::from(dice));
        let least = || self.filled.first_lowest(0);
        admitted.or_else(least).or_else(|| self.open.first(0, |share| share < OUT))
    }
}

/// How far a server is filled: up to the pool's limit that of the greatest ratio, the others in
/// proportion.
fn mark(pool: &Pool, index: usize, most: u16) -> f64 {
    let share = f64::from(pool.servers[index].ratio) / f64::from(most);
    (f64::from(pool.policy.max_connections) * share).max(1.0)
}
