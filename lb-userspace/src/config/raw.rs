//! The file's shape: which keys there are, each value right by itself, with its place.

use std::{
    fmt::Display,
    net::IpAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lb_common::{address::Protocol, service::VIRTUAL_SERVICES};
use serde_spanned::Spanned;
use toml::de::DeTable;

use super::{
    Algorithm, Forwarding, HashBy, OnError, Pool, ServerPolicy, Transport,
    destinations::{self, RawDestination, RawGroup, RawPolicy},
    host::{self, Host},
    instance::{self, RawInstance, TIMEOUTS},
    monitor::{self, RawMonitor},
    parser::{self, RawParser},
    persistence::{self, RawProfile},
    section::{Report, Section, Span},
    security::{self, RawSecurity},
    transport, treatment, value,
};

/// A whole file. What was missing or wrong is `None`, and was reported.
#[derive(Debug)]
pub(super) struct RawConfig {
    pub instance: RawInstance,
    pub services: Vec<RawService>,
    pub pools: Vec<RawPool>,
    pub groups: Vec<RawGroup>,
    pub policies: Vec<RawPolicy>,
    pub securities: Vec<RawSecurity>,
    pub profiles: Vec<RawProfile>,
    pub sets: Vec<RawSet>,
    pub parsers: Vec<RawParser>,
    pub monitors: Vec<RawMonitor>,
}

/// `[[virtual_service]]`.
#[derive(Debug)]
pub(super) struct RawService {
    pub place: Span,
    pub name: Option<Spanned<String>>,
    pub address: Option<Spanned<IpAddr>>,
    pub port: Option<Spanned<u16>>,
    pub protocol: Option<Spanned<Protocol>>,
    pub transport: Option<Transport>,
    pub destination: Option<RawDestination>,
    pub policies: Vec<Spanned<String>>,
    pub security: Option<Spanned<String>>,
    pub profile: Option<Spanned<String>>,
    pub connection_rate_limit: u32,
    pub client_connection_rate_limit: u32,
    pub max_concurrent_connections: u32,
    pub datascripts: Vec<Spanned<String>>,
    pub idle_timeout: Option<Spanned<Duration>>,
    /// Whether it names a pool or a group of them, rightly or not.
    pub has_destination: bool,
    /// Whether it names scripts, rightly or not.
    pub has_datascripts: bool,
}

/// `[[pool]]`.
#[derive(Debug)]
pub(super) struct RawPool {
    pub name: Option<Spanned<String>>,
    pub algorithm: Algorithm,
    pub hash_by: HashBy,
    pub forwarding: Forwarding,
    pub servers: Vec<RawServer>,
    pub monitors: Vec<Spanned<String>>,
    pub min_monitors_up: usize,
    pub policy: ServerPolicy,
    pub min_servers_up: usize,
    pub backup: Option<Spanned<String>>,
}

/// An entry of `servers`.
#[derive(Debug)]
pub(super) struct RawServer {
    pub place: Span,
    /// If it is given by its address.
    pub address: Option<Spanned<IpAddr>>,
    /// If it is given by its name.
    pub host: Option<Spanned<Arc<str>>>,
    pub port: Option<Spanned<u16>>,
    pub ratio: u16,
    pub enabled: bool,
}

/// `[[datascript]]`.
#[derive(Debug)]
pub(super) struct RawSet {
    pub name: Option<Spanned<String>>,
    pub pools: Vec<Spanned<String>>,
    pub groups: Vec<Spanned<String>>,
    pub protocol_parsers: Vec<Spanned<String>>,
    pub l4_request: Option<Spanned<PathBuf>>,
    pub l4_response: Option<Spanned<PathBuf>>,
    pub on_error: OnError,
}

/// Anything of the file that has a name of its own.
pub(super) trait Named {
    /// Its name, if it has one.
    fn name(&self) -> Option<&Spanned<String>>;
}

macro_rules! named {
    ($($kind:ty)*) => {
        $(impl Named for $kind {
            fn name(&self) -> Option<&Spanned<String>> {
                self.name.as_ref()
            }
        })*
    };
}

named!(RawService RawPool RawSet RawParser RawMonitor);

/// Reads the whole document. Paths in `[instance]` are relative to `folder`.
pub(super) fn read(folder: &Path, document: &DeTable<'_>, report: &Report) -> RawConfig {
    let mut root = Section::new("the configuration", 0..0, document, report);
    let has_instance = root.key_span("instance").is_some();
    let section = root.table("instance", "[instance]");
    let instance = if has_instance && section.is_none() {
        RawInstance::default()
    } else {
        instance::read(section, folder, report)
    };
    let services = root.tables("virtual_service", "[[virtual_service]]");
    if let Some(excess) = services.get(VIRTUAL_SERVICES as usize) {
        let message = format!("more than {VIRTUAL_SERVICES} virtual services");
        let problem = report.at(excess.place.clone(), message);
        report.add(problem.with_help("an instance has room for no more: split it in two"));
    }
    let config = RawConfig {
        instance,
        services: services.into_iter().map(service).collect(),
        pools: root.tables("pool", "[[pool]]").into_iter().map(pool).collect(),
        groups: root
            .tables("pool_group", "[[pool_group]]")
            .into_iter()
            .map(destinations::group)
            .collect(),
        policies: root
            .tables("l4_policy", "[[l4_policy]]")
            .into_iter()
            .map(destinations::policy)
            .collect(),
        profiles: root
            .tables("persistence_profile", "[[persistence_profile]]")
            .into_iter()
            .map(persistence::read)
            .collect(),
        securities: root
            .tables("network_security_policy", "[[network_security_policy]]")
            .into_iter()
            .map(security::read)
            .collect(),
        sets: root.tables("datascript", "[[datascript]]").into_iter().map(set).collect(),
        parsers: root
            .tables("protocol_parser", "[[protocol_parser]]")
            .into_iter()
            .map(parser::read)
            .collect(),
        monitors: root
            .tables("health_monitor", "[[health_monitor]]")
            .into_iter()
            .map(|section| monitor::read(section, folder))
            .collect(),
    };
    root.finish();
    config
}

/// New flows a second; 0 for no limit.
const RATES: RangeInclusive<u64> = 0..=100_000_000;

fn service(mut section: Section<'_>) -> RawService {
    let name = section.required("name", "\"web\"", value::name);
    let address = section.required("address", "\"192.0.2.10\"", host::address);
    let port = section.required("port", "443", value::integer(1..=65535));
    let protocol = section.required("protocol", "\"tcp\"", value::one_of(&PROTOCOLS));
    let has_destination = destinations::has_destination(&section);
    let destination = destinations::destination(&mut section);
    let policies = section.list("l4_policies", value::name);
    unique(&policies, "l4_policies", section.report());
    let security = section.optional("network_security_policy", value::name);
    let profile = section.optional("persistence_profile", value::name);
    let connection_rate_limit = section.or("connection_rate_limit", 0, value::integer(RATES));
    let client_connection_rate_limit =
        section.or("client_connection_rate_limit", 0, value::integer(RATES));
    let max_concurrent_connections =
        section.or("max_concurrent_connections", 0, value::integer(treatment::CONNECTIONS));
    let datascripts = section.list("datascripts", value::name);
    unique(&datascripts, "datascripts", section.report());
    let has_datascripts = !section.is_empty("datascripts");
    let idle_timeout = section.optional("idle_timeout", value::duration(TIMEOUTS));
    let transport = transport::read(&mut section, protocol.as_ref());
    let place = section.place.clone();
    section.finish();
    RawService {
        place,
        name,
        address,
        port,
        protocol,
        transport,
        destination,
        policies,
        security,
        profile,
        connection_rate_limit,
        client_connection_rate_limit,
        max_concurrent_connections,
        datascripts,
        idle_timeout,
        has_destination,
        has_datascripts,
    }
}

pub(super) const PROTOCOLS: [(&str, Protocol); 2] =
    [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

fn pool(mut section: Section<'_>) -> RawPool {
    let name = section.required("name", "\"web\"", value::name);
    let algorithm = section.or("algorithm", Algorithm::default(), value::one_of(&Algorithm::ALL));
    let hash_by = hash_by(&mut section, algorithm);
    let forwarding = section.or("forwarding", Forwarding::default(), value::one_of(&FORWARDINGS));
    let servers = section.tables("servers", "an entry of `servers`");
    if section.is_empty("servers") {
        section.missing("servers", "[{ address = \"10.0.0.11\", port = 443 }]");
    }
    if let Some(excess) = servers.get(Pool::MOST_SERVERS) {
        let message = format!("more than {} servers in a pool", Pool::MOST_SERVERS);
        let problem = section.report().at(excess.place.clone(), message);
        section.report().add(problem.with_help("spread them over several pools"));
    }
    let servers: Vec<RawServer> = servers.into_iter().map(server).collect();
    let (monitors, min_monitors_up) = monitors(&mut section);
    let policy = treatment::policy(&mut section, algorithm);
    let min_servers_up = treatment::min_servers_up(&mut section, &servers);
    let backup = treatment::fail_action(&mut section);
    section.finish();
    RawPool {
        name,
        algorithm,
        hash_by,
        forwarding,
        servers,
        monitors,
        min_monitors_up,
        policy,
        min_servers_up,
        backup,
    }
}

fn monitors(section: &mut Section<'_>) -> (Vec<Spanned<String>>, usize) {
    let monitors = section.list("health_monitors", value::name);
    unique(&monitors, "health_monitors", section.report());
    let minimum = section.optional("min_health_monitors_up", value::integer(0..=64));
    let Some(minimum) = minimum else { return (monitors, 0) };
    if *minimum.get_ref() > monitors.len() {
        let message = format!(
            "{} health monitors must hold a server to be up, and the pool has {}",
            minimum.get_ref(),
            monitors.len()
        );
        let problem = section.report().at(minimum.span(), message);
        section.report().add(problem.with_help("0 stands for all of `health_monitors`"));
    }
    (monitors, minimum.into_inner())
}

const HASH_BY: [(&str, HashBy); 2] = [
    ("source-address", HashBy::SourceAddress),
    ("source-address-and-port", HashBy::SourceAddressAndPort),
];

fn hash_by(section: &mut Section<'_>, algorithm: Algorithm) -> HashBy {
    let Some(hash_by) = section.optional("hash_by", value::one_of(&HASH_BY)) else {
        return HashBy::default();
    };
    if algorithm != Algorithm::ConsistentHash {
        let message = format!("`hash_by` means nothing to algorithm {:?}", algorithm.name());
        let problem = section.report().at(hash_by.span(), message);
        section.report().add(problem.with_help("leave it out, or set \"consistent-hash\""));
    }
    hash_by.into_inner()
}

const FORWARDINGS: [(&str, Forwarding); 2] =
    [("snat", Forwarding::Snat), ("dnat", Forwarding::Dnat)];

fn server(mut section: Section<'_>) -> RawServer {
    let (address, host) =
        split(section.required("address", "\"10.0.0.11\"", host::address_or_name));
    let server = RawServer {
        place: section.place.clone(),
        address,
        host,
        port: section.required("port", "443", value::integer(1..=65535)),
        ratio: section.or("ratio", 1, value::integer(1..=1000)),
        enabled: section.or("enabled", true, value::boolean),
    };
    section.finish();
    server
}

/// Either the address or the name that a server is given by.
fn split(given: Option<Spanned<Host>>) -> (Option<Spanned<IpAddr>>, Option<Spanned<Arc<str>>>) {
    let Some(given) = given else { return (None, None) };
    let span = given.span();
    match given.into_inner() {
        Host::Address(address) => (Some(Spanned::new(span, address)), None),
        Host::Name(name) => (None, Some(Spanned::new(span, name))),
    }
}

fn set(mut section: Section<'_>) -> RawSet {
    let name = section.required("name", "\"by-client\"", value::name);
    let pools = section.list("pools", value::name);
    unique(&pools, "pools", section.report());
    let groups = section.list("pool_groups", value::name);
    unique(&groups, "pool_groups", section.report());
    let protocol_parsers = section.list("protocol_parsers", value::name);
    unique(&protocol_parsers, "protocol_parsers", section.report());
    let l4_request = section.optional("l4_request", value::path);
    let l4_response = section.optional("l4_response", value::path);
    if section.key_span("l4_request").or(section.key_span("l4_response")).is_none() {
        let problem = section.report().at(section.place.clone(), "[[datascript]] has no script");
        section.report().add(problem.with_help("such as l4_request = \"by-client.lua\""));
    }
    let on_error = section.or("on_error", OnError::default(), value::one_of(&ON_ERROR));
    section.finish();
    RawSet { name, pools, groups, protocol_parsers, l4_request, l4_response, on_error }
}

const ON_ERROR: [(&str, OnError); 2] =
    [("close", OnError::Close), ("default-pool", OnError::DefaultPool)];

/// The entries of a list, of which each is reported that was there before.
pub(super) fn unique<T: Clone + Ord + Display>(
    list: &[Spanned<T>],
    key: &str,
    report: &Report,
) -> Vec<T> {
    let mut sorted: Vec<_> = list.iter().collect();
    // The sort is stable: of two that are equal, the second stands second.
    sorted.sort();
    for pair in sorted.windows(2).filter(|pair| pair[0] == pair[1]) {
        let message = format!("`{key}` holds {} twice", pair[1].get_ref());
        let problem = report.at(pair[1].span(), message).with_help("remove one of them");
        report.add(problem.with_related(pair[0].span(), "here first"));
    }
    list.iter().map(|entry| entry.get_ref().clone()).collect()
}
