//! The servers of a generation as they are at this moment: who is up, who has room.

use std::time::Duration;

use super::generation::Generation;
use crate::{
    config::{PoolGroupIndex, PoolIndex, ServerIndex},
    pool::{Live, Pool, Standing, Takes},
};

impl Generation {
    /// A pool's servers at this moment.
    pub(super) fn live(&self, pool: PoolIndex, now: Duration) -> LiveServers<'_> {
        LiveServers::new(self, pool, now)
    }

    /// Whose new flows a server takes, if it has room for them.
    pub fn takes(&self, pool: PoolIndex, server: ServerIndex) -> Takes {
        // The moment counts only for limits.
        self.live(pool, Duration::ZERO).takes(server)
    }

    /// Whether a server takes everyone's new flows.
    pub fn is_up(&self, pool: PoolIndex, server: ServerIndex) -> bool {
        self.takes(pool, server) == Takes::All
    }

    /// How many servers of a pool are up.
    pub fn count_up(&self, pool: PoolIndex) -> usize {
        let servers = || (0..self.pools.pool(pool).servers().len()).map(ServerIndex);
        let count = || servers().filter(|server| self.is_up(pool, *server)).count();
        self.tally(pool).get(self.states().turnover(), count)
    }

    /// Whether a pool has as many servers up as it must have to take new flows.
    pub fn is_pool_up(&self, pool: PoolIndex) -> bool {
        self.count_up(pool) >= self.pools.pool(pool).min_servers_up()
    }

    /// The servers that are up of a pool that is; none of one that is down.
    pub(super) fn servers_up(&self, pool: PoolIndex) -> usize {
        if self.is_pool_up(pool) { self.count_up(pool) } else { 0 }
    }

    /// The pool itself if it is up, else the one that stands in for it and is.
    pub(super) fn stand_in(&self, pool: PoolIndex) -> Option<PoolIndex> {
        // The configuration is refused if backups lead in a circle.
        let mut chain = std::iter::successors(Some(pool), |pool| self.pools.pool(*pool).backup());
        chain.find(|pool| self.is_pool_up(*pool))
    }

    /// Of the pools that stand in for members of a group, one that is up: those of the highest
    /// priority first.
    pub(super) fn stand_in_for_members(&self, group: PoolGroupIndex) -> Option<PoolIndex> {
        let members = &self.pools.group(group).members;
        let standing_in = members
            .iter()
            .filter_map(|member| Some((member.priority, self.stand_in(member.pool)?)));
        standing_in.rev().max_by_key(|(priority, _)| *priority).map(|(_, pool)| pool)
    }
}

/// The servers of a pool at this moment.
#[derive(Clone, Copy)]
pub(super) struct LiveServers<'a> {
    generation: &'a Generation,
    index: PoolIndex,
    pool: &'a Pool,
    /// In the catalog.
    numbers: &'a [u32],
    now: Duration,
}

impl<'a> LiveServers<'a> {
    /// Of a pool of this generation.
    pub fn new(generation: &'a Generation, index: PoolIndex, now: Duration) -> Self {
        let (pool, numbers) = (generation.pools.pool(index), generation.numbers_of(index));
        Self { generation, index, pool, numbers, now }
    }

    fn number(&self, server: ServerIndex) -> u32 {
        self.numbers.get(server.0).copied().unwrap_or_default()
    }

    /// What monitors and operators hold of a server.
    pub fn standing(&self, server: ServerIndex) -> Standing {
        self.generation.states().standing(self.number(server))
    }

    /// Whose new flows a server takes, if it has room for them.
    pub fn takes(&self, server: ServerIndex) -> Takes {
        let Some(configured) = self.pool.server(server) else { return Takes::None };
        self.standing(server).takes(configured.enabled, self.pool.policy().disable_type)
    }

    /// Whether a server's limits let it take one more flow.
    pub fn has_room(&self, server: ServerIndex) -> bool {
        let states = self.generation.states();
        states.has_room(self.number(server), self.pool.policy(), self.now)
    }

    /// Whether it takes a client whom persistence leads to it.
    pub fn takes_persistent(&self, server: ServerIndex) -> bool {
        self.takes(server) != Takes::None
            && self.generation.is_pool_up(self.index)
            && self.has_room(server)
    }
}

/// The same, without those that have failed at a connection. In a great pool other flows of the worker
/// may pass them over too, until it looks at them again.
pub(super) struct Untried<'a> {
    pub live: LiveServers<'a>,
    /// Their numbers in the catalog.
    pub tried: &'a [u32],
}

impl Untried<'_> {
    pub fn has_failed(&self, server: ServerIndex) -> bool {
        self.tried.contains(&self.live.number(server))
    }
}

impl Live for Untried<'_> {
    fn is_usable(&self, server: ServerIndex) -> bool {
        !self.has_failed(server) && self.live.is_usable(server)
    }

    fn share(&self, server: ServerIndex) -> f32 {
        self.live.share(server)
    }

    fn connections(&self, server: ServerIndex) -> u32 {
        self.live.connections(server)
    }

    fn response_time(&self, server: ServerIndex) -> Option<Duration> {
        self.live.response_time(server)
    }
}

impl Live for LiveServers<'_> {
    fn is_usable(&self, server: ServerIndex) -> bool {
        self.takes(server) == Takes::All && self.has_room(server)
    }

    fn share(&self, server: ServerIndex) -> f32 {
        self.generation.states().share(self.number(server), self.pool.policy(), self.now)
    }

    fn connections(&self, server: ServerIndex) -> u32 {
        self.generation.states().connections(self.number(server))
    }

    fn response_time(&self, server: ServerIndex) -> Option<Duration> {
        self.generation.states().response_time(self.number(server))
    }
}
