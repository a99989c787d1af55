//! Servers that are given by name: what the file says of them, and what a configuration becomes
//! once their addresses are known.
//!
//! The file's configuration keeps names apart from servers; [`Config::expanded`] makes another one
//! of it, in which every address is a server like those that are written out. All that comes after
//! knows servers only.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use lb_common::service::ADDRESSES;

use super::{
    Config, Pool, PoolIndex, Server, host,
    raw::{RawConfig, RawPool, RawServer},
    section::{Report, Span},
};

/// Different names in a configuration: each is asked for again and again.
const MOST_NAMES: usize = 4096;

/// An entry of `servers` whose `address` is a DNS name: as many servers as it has addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedServer {
    /// The name, in small letters.
    pub host: Arc<str>,
    /// Where all of them listen.
    pub port: u16,
    /// The share of each of them; from 1 to 1000.
    pub ratio: u16,
    /// Whether they take new flows.
    pub enabled: bool,
}

/// The addresses of names, as far as they are known.
pub type Resolution = BTreeMap<Arc<str>, Vec<Ipv4Addr>>;

/// A configuration in which names have become servers.
#[derive(Clone, PartialEq, Debug)]
pub struct Expanded {
    /// The configuration.
    pub config: Config,
    /// The addresses that are none of its servers.
    pub left_out: Vec<LeftOut>,
}

/// An address of a name that is no server, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftOut {
    /// Whose server it would be.
    pub pool: PoolIndex,
    /// The name that has it.
    pub host: Arc<str>,
    /// The address.
    pub address: Ipv4Addr,
    /// In words.
    pub why: String,
}

impl Config {
    /// The names of all pools, each once.
    pub fn names(&self) -> BTreeSet<Arc<str>> {
        let names = self.pools.iter().flat_map(|pool| &pool.names);
        names.map(|name| Arc::clone(&name.host)).collect()
    }

    /// With a server for every address that a name has, behind those that are written out and in
    /// the order of their addresses: the order of an answer means nothing.
    ///
    /// An address that is there already stays one server. What is written out has precedence over
    /// names, and a name over those behind it: so one address of a name can be given another ratio,
    /// or be disabled, by writing it out.
    pub fn expanded(&self, resolution: &Resolution) -> Expanded {
        let mut config = self.clone();
        let mut expansion = Expansion::new(self);
        for (index, pool) in config.pools.iter_mut().enumerate() {
            expansion.fill(PoolIndex(index), pool, resolution);
        }
        Expanded { config, left_out: expansion.left_out }
    }
}

/// What is remembered from one pool to the next.
struct Expansion {
    /// The balancer's own.
    own: HashSet<IpAddr>,
    /// Every address that the instance deals with.
    all: HashSet<IpAddr>,
    left_out: Vec<LeftOut>,
}

impl Expansion {
    fn new(config: &Config) -> Self {
        let services = config.virtual_services.iter().map(|service| service.address.ip());
        let own: HashSet<_> =
            services.chain(config.instance.snat_addresses.iter().copied()).collect();
        let servers = config.pools.iter().flat_map(|pool| &pool.servers);
        let all = servers.map(|server| server.address.ip()).chain(own.iter().copied()).collect();
        Self { own, all, left_out: Vec::new() }
    }

    fn fill(&mut self, index: PoolIndex, pool: &mut Pool, resolution: &Resolution) {
        let written = pool.servers.len();
        let mut taken: HashSet<_> = pool.servers.iter().map(|server| server.address).collect();
        for named in &pool.names {
            for address in addresses(resolution, &named.host) {
                let socket = SocketAddr::new(address.into(), named.port);
                if taken.contains(&socket) {
                    continue;
                }
                if let Some(why) = self.refusal(address, taken.len()) {
                    let host = Arc::clone(&named.host);
                    self.left_out.push(LeftOut { pool: index, host, address, why });
                    continue;
                }
                taken.insert(socket);
                self.all.insert(address.into());
                let NamedServer { ratio, enabled, .. } = *named;
                pool.servers.push(Server { address: socket, ratio, enabled });
            }
        }
        pool.servers[written..].sort_by_key(|server| server.address);
    }

    /// Why an address can be none of a pool's servers, of which there are `servers` so far: as the
    /// same address written out would be a problem of the file.
    fn refusal(&self, address: Ipv4Addr, servers: usize) -> Option<String> {
        let address = IpAddr::from(address);
        if let Some(why) = host::unusable(address) {
            return Some(why);
        }
        if self.own.contains(&address) {
            return Some(format!("{address} is the balancer itself"));
        }
        if servers >= Pool::MOST_SERVERS {
            let most = Pool::MOST_SERVERS;
            return Some(format!("{address} is one too many: a pool has at most {most} servers"));
        }
        let is_full = self.all.len() >= ADDRESSES as usize && !self.all.contains(&address);
        is_full.then(|| {
            format!("{address} is one too many: the instance has room for {ADDRESSES} addresses")
        })
    }
}

/// What a name is known to have, in order, each once.
fn addresses(resolution: &Resolution, host: &str) -> BTreeSet<Ipv4Addr> {
    resolution.get(host).into_iter().flatten().copied().collect()
}

/// `None` only if something was missing, which was then reported.
pub(super) fn of(servers: &[RawServer]) -> Option<Vec<NamedServer>> {
    let named = servers.iter().filter_map(|server| Some((server, server.host.as_ref()?)));
    let named = named.map(|(server, host)| {
        Some(NamedServer {
            host: Arc::clone(host.get_ref()),
            port: *server.port.as_ref()?.get_ref(),
            ratio: server.ratio,
            enabled: server.enabled,
        })
    });
    named.collect()
}

/// Reports names that are there twice, and too many of them.
pub(super) fn check(raw: &RawConfig, report: &Report) {
    for pool in &raw.pools {
        duplicates(pool, report);
    }
    let hosts = raw.pools.iter().flat_map(|pool| &pool.servers).filter_map(|it| it.host.as_ref());
    let mut names = HashSet::new();
    let excess = hosts.into_iter().find(|host| {
        names.insert(Arc::clone(host.get_ref()));
        names.len() > MOST_NAMES
    });
    if let Some(excess) = excess {
        let message = format!("more than {MOST_NAMES} names of servers");
        let problem = report.at(excess.span(), message);
        report.add(problem.with_help("a name may have many addresses; or write these out"));
    }
}

fn duplicates(pool: &RawPool, report: &Report) {
    let mut seen: HashMap<_, Span> = HashMap::new();
    for server in &pool.servers {
        let (Some(host), Some(port)) = (&server.host, &server.port) else { continue };
        let (host, port) = (host.get_ref(), *port.get_ref());
        if let Some(first) = seen.get(&(host, port)) {
            let problem = report
                .at(server.place.clone(), format!("the pool holds {host}:{port} twice"))
                .with_related(first.clone(), "here first");
            report.add(problem.with_help("remove one; for a greater share raise its `ratio`"));
        } else {
            seen.insert((host, port), server.place.clone());
        }
    }
}
