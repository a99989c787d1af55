//! Pools: servers, and which of them takes a flow.
//!
//! [`Pools`] is made from a configuration and never changes: workers share it. What moves while
//! flows are decided is either a worker's own ([`Balancer`]: whose turn it is) or counted in one
//! place for all of them ([`ServerStates`]); picking a server takes no lock.

mod dice;
mod fewest;
mod least;
mod live;
mod looks;
mod maglev;
mod random;
mod round_robin;
mod share;
mod smooth;
mod smoothed;
mod standing;
mod states;
mod tournament;
mod turns;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;

use crate::config::{
    self, Algorithm, Config, FailAction, Forwarding, HashBy, Member, PoolGroup, PoolGroupIndex,
    PoolIndex, ServerIndex, ServerPolicy,
};
use dice::Dice;
pub use live::Live;
use maglev::Maglev;
use round_robin::RoundRobin;
pub use standing::{Order, Standing, Takes};
pub use states::ServerStates;
pub use turns::Seat;
use turns::Turns;

/// All pools of a configuration.
#[derive(Debug)]
pub struct Pools {
    pools: Vec<Pool>,
    groups: Vec<PoolGroup>,
    by_name: HashMap<String, PoolIndex>,
}

impl Pools {
    /// The pools as configured. Makes the tables of those with consistent hashing.
    pub fn new(config: &Config) -> Self {
        let by_name = config.pools.iter().enumerate();
        Self {
            by_name: by_name.map(|(index, pool)| (pool.name.clone(), PoolIndex(index))).collect(),
            pools: config.pools.iter().map(Pool::new).collect(),
            groups: config.pool_groups.clone(),
        }
    }

    /// The group with this index in the configuration that `self` was made from.
    ///
    /// # Panics
    ///
    /// If the index belongs to another configuration with more groups.
    pub fn group(&self, index: PoolGroupIndex) -> &PoolGroup {
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
    policy: ServerPolicy,
    min_servers_up: usize,
    fail_action: FailAction,
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
            policy: pool.server_policy,
            min_servers_up: pool.min_servers_up,
            fail_action: pool.fail_action,
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

    /// How servers are treated.
    pub fn policy(&self) -> &ServerPolicy {
        &self.policy
    }

    /// With fewer servers up, the pool counts as down.
    pub fn min_servers_up(&self) -> usize {
        self.min_servers_up
    }

    /// The pool that stands in while this one is down.
    pub fn backup(&self) -> Option<PoolIndex> {
        match self.fail_action {
            FailAction::Close => None,
            FailAction::BackupPool(pool) => Some(pool),
        }
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
    dice: Dice,
}

impl Balancer {
    /// The state of one worker.
    pub fn new(pools: &Pools, seat: Seat) -> Self {
        let group_turns = |group: &PoolGroup| {
            let ratios: Vec<_> = group.members.iter().map(|member| member.ratio).collect();
            RoundRobin::new(&ratios, seat.worker)
        };
        Self {
            turns: pools.pools.iter().map(|pool| Turns::new(pool, seat)).collect(),
            group_turns: pools.groups.iter().map(group_turns).collect(),
            dice: Dice::default(),
        }
    }

    /// The pool of a group for a new flow: of the members that are up, those of the highest
    /// priority take turns by their ratios, joined by those of the next as long as fewer servers
    /// are up than the group asks for. `None` if no member is up.
    ///
    /// `servers_up` says how many servers of a pool are up, none of one that is down.
    pub fn pick_member(
        &mut self,
        pools: &Pools,
        group: PoolGroupIndex,
        servers_up: impl Fn(PoolIndex) -> usize,
    ) -> Option<PoolIndex> {
        let PoolGroup { members, min_servers, .. } = pools.group(group);
        let lowest = lowest_priority(members, *min_servers, &servers_up)?;
        let fits = |index: usize| {
            let member = &members[index];
            member.priority >= lowest && servers_up(member.pool) > 0
        };
        let picked = self.group_turns.get_mut(group.0)?.pick(usize::MAX, fits)?;
        Some(members[picked].pool)
    }

    /// The server for a new flow, among those that are usable; `None` if none is.
    ///
    /// A server that is to get less than its ratio says stands aside for a part of the flows;
    /// where load decides, by being held to be more loaded than it is.
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
        let usable = |index: usize| live.is_usable(ServerIndex(index));
        let picked = match &pool.maglev {
            Some(maglev) => {
                // The same for a key at all times, so that clients come back one after the other.
                let dice = maglev::dice(key);
                let admitted = |index| usable(index) && live.share(ServerIndex(index)) > dice;
                maglev.pick(key, admitted).or_else(|| maglev.pick(key, usable))
            }
            None => turns.pick(pool, live, self.dice.roll()),
        };
        picked.map(ServerIndex)
    }
}

/// The priority down to which members take part: the highest of those that are up, and lower ones
/// until `min_servers` are up.
fn lowest_priority(
    members: &[Member],
    min_servers: usize,
    servers_up: impl Fn(PoolIndex) -> usize,
) -> Option<u16> {
    let is_up = |member: &&Member| servers_up(member.pool) > 0;
    let next = |below: Option<u16>| {
        let lower = members.iter().filter(|it| below.is_none_or(|below| it.priority < below));
        lower.filter(is_up).map(|member| member.priority).max()
    };
    let mut lowest = next(None)?;
    loop {
        let taking_part = members.iter().filter(|member| member.priority >= lowest);
        let up: usize = taking_part.map(|member| servers_up(member.pool)).sum();
        match next(Some(lowest)) {
            Some(lower) if up < min_servers => lowest = lower,
            _ => return Some(lowest),
        }
    }
}
