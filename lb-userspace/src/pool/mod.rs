//! Pools: servers, and which of them takes a flow.
//!
//! [`Pools`] is made from a configuration and never changes: workers share it. What moves while
//! flows are decided is either a worker's own ([`Balancer`]: whose turn it is) or counted in one
//! place for all of them ([`ServerStates`]); picking a server takes no lock.

mod least;
mod live;
mod maglev;
mod random;
mod round_robin;

#[cfg(test)]
mod tests;
mod turns;

use std::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;

use crate::config::{
    self, Algorithm, Config, Forwarding, HashBy, Member, PoolGroupIndex, PoolIndex, ServerIndex,
};
pub use live::{Live, ServerStates};
use maglev::Maglev;
use round_robin::RoundRobin;
pub use turns::Seat;
use turns::Turns;

/// All pools of a configuration.
#[derive(Debug)]
pub struct Pools {
    pools: Vec<Pool>,
    groups: Vec<Vec<Member>>,
    by_name: HashMap<String, PoolIndex>,
}

impl Pools {
    /// The pools as configured. Makes the tables of those with consistent hashing.
    pub fn new(config: &Config) -> Self {
        let by_name = config.pools.iter().enumerate();
        Self {
            by_name: by_name.map(|(index, pool)| (pool.name.clone(), PoolIndex(index))).collect(),
            pools: config.pools.iter().map(Pool::new).collect(),
            groups: config.pool_groups.iter().map(|group| group.members.clone()).collect(),
        }
    }

    /// The members of the group with this index in the configuration that `self` was made from.
    ///
    /// # Panics
    ///
    /// If the index belongs to another configuration with more groups.
    pub fn group(&self, index: PoolGroupIndex) -> &[Member] {
        &self.groups[index.0]
    }

    /// The pool with this index in the configuration that `self` was made from.
    ///
    /// # Panics
    ///
    /// If the index belongs to another configuration with more pools.
    pub fn pool(&self, index: PoolIndex) -> &Pool {
        &self.pools[index.0]
    }

    /// The pool with this name.
    pub fn find(&self, name: &str) -> Option<PoolIndex> {
        self.by_name.get(name).copied()
    }

    /// All pools, in the configuration's order.
    pub fn iter(&self) -> impl Iterator<Item = (PoolIndex, &Pool)> {
        self.pools.iter().enumerate().map(|(index, pool)| (PoolIndex(index), pool))
    }
}

/// Servers that can stand in for each other.
#[derive(Debug)]
pub struct Pool {
    name: String,
    algorithm: Algorithm,
    hash_by: HashBy,
    forwarding: Forwarding,
    servers: Vec<config::Server>,
    /// For consistent hashing.
    maglev: Option<Maglev>,
    /// The first server of each address, in the configuration's order.
    by_address: HashMap<IpAddr, ServerIndex>,
    by_socket: HashMap<SocketAddr, ServerIndex>,
}

impl Pool {
    fn new(pool: &config::Pool) -> Self {
        let (mut by_address, mut by_socket) = (HashMap::new(), HashMap::new());
        for (index, server) in pool.servers.iter().enumerate() {
            by_address.entry(server.address.ip()).or_insert(ServerIndex(index));
            by_socket.insert(server.address, ServerIndex(index));
        }
        Self {
            name: pool.name.clone(),
            algorithm: pool.algorithm,
            hash_by: pool.hash_by,
            forwarding: pool.forwarding,
            servers: pool.servers.clone(),
            maglev: (pool.algorithm == Algorithm::ConsistentHash)
                .then(|| Maglev::new(&pool.servers)),
            by_address,
            by_socket,
        }
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How packets reach the servers.
    pub fn forwarding(&self) -> Forwarding {
        self.forwarding
    }

    /// How servers are picked.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What consistent hashing hashes of a client, if no script says otherwise.
    pub fn hash_key(&self, client: SocketAddr) -> HashKey<'static> {
        match self.hash_by {
            HashBy::SourceAddress => HashKey::Address(client.ip()),
            HashBy::SourceAddressAndPort => HashKey::Socket(client),
        }
    }

    /// In the configuration's order, which [`ServerIndex`] counts.
    pub fn servers(&self) -> &[config::Server] {
        &self.servers
    }

    /// The server with this index, if there is one.
    pub fn server(&self, index: ServerIndex) -> Option<&config::Server> {
        self.servers.get(index.0)
    }

    /// The server that listens on an address, however it is spelt, and on `port`; with no port
    /// given, the first in the configuration's order that has the address.
    pub fn find_server(&self, host: &str, port: Option<u16>) -> Option<ServerIndex> {
        let address = host.parse().ok()?;
        match port {
            Some(port) => self.by_socket.get(&SocketAddr::new(address, port)).copied(),
            None => self.by_address.get(&address).copied(),
        }
    }
}

/// What decides about the server under consistent hashing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashKey<'a> {
    /// A client's address.
    Address(IpAddr),
    /// A client's address and port.
    Socket(SocketAddr),
    /// Any bytes, as a script gives them.
    Custom(&'a [u8]),
}

/// A worker's own part: whose turn it is in each pool and each group.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// By [`PoolIndex`].
    turns: Vec<Turns>,
    /// By [`PoolGroupIndex`].
    group_turns: Vec<RoundRobin>,
}

impl Balancer {
    /// The state of one worker.
    pub fn new(pools: &Pools, seat: Seat) -> Self {
        let groups = pools.groups.iter();
        Self {
            turns: pools.pools.iter().map(|pool| Turns::new(pool, seat)).collect(),
            group_turns: groups.map(|group| RoundRobin::new(group, seat.worker)).collect(),
        }
    }

    /// The pool of a group for a new flow: of the members that are `usable`, those of the highest
    /// priority take turns by their ratios. `None` if none is usable.
    pub fn pick_member(
        &mut self,
        pools: &Pools,
        group: PoolGroupIndex,
        usable: impl Fn(PoolIndex) -> bool,
    ) -> Option<PoolIndex> {
        let members = pools.group(group);
        let usable = |member: &&Member| usable(member.pool);
        let highest = members.iter().filter(usable).map(|member| member.priority).max()?;
        let fits = |index: usize| {
            let member = &members[index];
            member.priority == highest && usable(&member)
        };
        let picked = self.group_turns.get_mut(group.0)?.pick(members, fits)?;
        Some(members[picked].pool)
    }

    /// The server for a new flow, among those that are enabled and usable; `None` if none is.
    ///
    /// `key` counts only under consistent hashing. `pools` must be what `self` was made for.
    pub fn pick(
        &mut self,
        pools: &Pools,
        pool: PoolIndex,
        key: HashKey<'_>,
        live: &impl Live,
    ) -> Option<ServerIndex> {
        let turns = self.turns.get_mut(pool.0)?;
        let pool = pools.pool(pool);
        let usable =
            |index: usize| pool.servers[index].enabled && live.is_usable(ServerIndex(index));
        let picked = match &pool.maglev {
            Some(maglev) => maglev.pick(key, usable),
            None => turns.pick(pool, live),
        };
        picked.map(ServerIndex)
    }
}
