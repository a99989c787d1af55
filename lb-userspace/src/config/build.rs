//! From a file in which nothing was wrong to a [`Config`].

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lb_common::address::Protocol;
use serde_spanned::Spanned;

use super::{
    Config, DataScriptSet, Destination, FailAction, L4Policy, L4Rule, Member, Pool, PoolGroup,
    Script, Server, VirtualService,
    check::Names,
    destinations::{RawDestination, RawGroup, RawMember, RawPolicy, RawRule},
    monitor, names,
    parser::{ProtocolParser, RawParser},
    persistence,
    raw::{RawConfig, RawPool, RawServer, RawService, RawSet},
    section::Report,
    security,
};

/// The scripts by the paths that the file gives.
pub(super) type Scripts = HashMap<PathBuf, Arc<Script>>;

/// Reads every script once, however often it is named.
pub(super) fn read_scripts(
    raw: &RawConfig,
    folder: &Path,
    report: &Report,
    read: impl Fn(&Path) -> io::Result<String>,
) -> Scripts {
    let mut scripts = Scripts::new();
    let scripts_of_sets = raw.sets.iter().flat_map(|set| [&set.l4_request, &set.l4_response]);
    let parsers = raw.parsers.iter().map(|parser| &parser.file);
    let scripts_of_sets = scripts_of_sets.chain(parsers).flatten().map(|path| ("script", path));
    let files = monitor::files(&raw.monitors).map(|path| ("file", path));
    for (kind, given) in scripts_of_sets.chain(files) {
        if scripts.contains_key(given.get_ref()) {
            continue;
        }
        let path = folder.join(given.get_ref());
        match read(&path) {
            Ok(source) => {
                scripts.insert(given.get_ref().clone(), Arc::new(Script { path, source }));
            }
            Err(error) => report.add(unreadable(kind, given, &path, &error, report)),
        }
    }
    scripts
}

fn unreadable(
    kind: &str,
    given: &Spanned<PathBuf>,
    path: &Path,
    error: &io::Error,
    report: &Report,
) -> super::Problem {
    let message = format!("{kind} {} cannot be read: {error}", path.display());
    let help = match error.kind() {
        io::ErrorKind::NotFound => "the path is relative to the configuration's folder",
        io::ErrorKind::InvalidData => match kind {
            "script" => "scripts are UTF-8: save the file in that encoding",
            _ => "it holds text: certificates in PEM format",
        },
        _ => "the file must be readable for the user that runs the balancer",
    };
    report.at(given.span(), message).with_help(help)
}

/// `None` only if something was missing, which was then reported.
pub(super) fn build(
    path: &Path,
    raw: RawConfig,
    names: &Names,
    scripts: &Scripts,
) -> Option<Config> {
    Some(Config {
        path: path.to_owned(),
        virtual_services: raw
            .services
            .iter()
            .map(|service| virtual_service(service, names))
            .collect::<Option<_>>()?,
        pool_groups: raw
            .groups
            .into_iter()
            .map(|group| pool_group(group, names))
            .collect::<Option<_>>()?,
        l4_policies: raw
            .policies
            .into_iter()
            .map(|policy| l4_policy(policy, names))
            .collect::<Option<_>>()?,
        persistence_profiles: raw
            .profiles
            .into_iter()
            .map(persistence::build)
            .collect::<Option<_>>()?,
        network_security_policies: raw
            .securities
            .into_iter()
            .map(security::build)
            .collect::<Option<_>>()?,
        pools: raw.pools.into_iter().map(|raw| pool(raw, names)).collect::<Option<_>>()?,
        datascripts: raw
            .sets
            .into_iter()
            .map(|set| datascript_set(set, names, scripts))
            .collect::<Option<_>>()?,
        protocol_parsers: raw
            .parsers
            .into_iter()
            .map(|parser| protocol_parser(parser, scripts))
            .collect::<Option<_>>()?,
        health_monitors: raw
            .monitors
            .into_iter()
            .map(|raw| monitor::build(raw, scripts))
            .collect::<Option<_>>()?,
        instance: raw.instance.instance?,
    })
}

fn virtual_service(raw: &RawService, names: &Names) -> Option<VirtualService> {
    let transport = raw.transport?;
    let destination = match &raw.destination {
        Some(raw) => Some(destination(raw, names)?),
        None => None,
    };
    let security = match &raw.security {
        Some(name) => Some(*names.securities.get(name.get_ref())?),
        None => None,
    };
    let profile = match &raw.profile {
        Some(name) => Some(*names.profiles.get(name.get_ref())?),
        None => None,
    };
    let policies = raw.policies.iter().map(|name| names.policies.get(name.get_ref()).copied());
    let datascripts = raw.datascripts.iter().map(|name| names.sets.get(name.get_ref()).copied());
    Some(VirtualService {
        name: raw.name.as_ref()?.get_ref().clone(),
        address: socket(raw.address.as_ref(), raw.port.as_ref())?,
        transport,
        destination,
        l4_policies: policies.collect::<Option<_>>()?,
        network_security_policy: security,
        persistence_profile: profile,
        connection_rate_limit: raw.connection_rate_limit,
        client_connection_rate_limit: raw.client_connection_rate_limit,
        max_concurrent_connections: raw.max_concurrent_connections,
        datascripts: datascripts.collect::<Option<_>>()?,
        idle_timeout: raw
            .idle_timeout
            .as_ref()
            .map_or(default_idle_timeout(transport.protocol()), |timeout| *timeout.get_ref()),
    })
}

const fn default_idle_timeout(protocol: Protocol) -> Duration {
    match protocol {
        Protocol::Tcp => Duration::from_mins(10),
        Protocol::Udp => Duration::from_secs(30),
    }
}

fn socket(address: Option<&Spanned<IpAddr>>, port: Option<&Spanned<u16>>) -> Option<SocketAddr> {
    Some(SocketAddr::new(*address?.get_ref(), *port?.get_ref()))
}

fn pool(raw: RawPool, all: &Names) -> Option<Pool> {
    let monitors = raw.monitors.iter().map(|name| all.monitors.get(name.get_ref()).copied());
    let fail_action = match raw.backup {
        Some(name) => FailAction::BackupPool(*all.pools.get(name.get_ref())?),
        None => FailAction::Close,
    };
    Some(Pool {
        name: raw.name?.into_inner(),
        algorithm: raw.algorithm,
        hash_by: raw.hash_by,
        forwarding: raw.forwarding,
        servers: written(&raw.servers).map(server).collect::<Option<_>>()?,
        names: names::of(&raw.servers)?,
        health_monitors: monitors.collect::<Option<_>>()?,
        min_health_monitors_up: raw.min_monitors_up,
        server_policy: raw.policy,
        min_servers_up: raw.min_servers_up,
        fail_action,
    })
}

fn destination(raw: &RawDestination, names: &Names) -> Option<Destination> {
    Some(match raw {
        RawDestination::Pool(name) => Destination::Pool(*names.pools.get(name.get_ref())?),
        RawDestination::Group(name) => Destination::Group(*names.groups.get(name.get_ref())?),
    })
}

fn pool_group(raw: RawGroup, names: &Names) -> Option<PoolGroup> {
    let member = |raw: &RawMember| {
        let pool = *names.pools.get(raw.pool.as_ref()?.get_ref())?;
        Some(Member { pool, priority: raw.priority, ratio: raw.ratio })
    };
    Some(PoolGroup {
        name: raw.name?.into_inner(),
        members: raw.members.iter().map(member).collect::<Option<_>>()?,
        min_servers: raw.min_servers,
    })
}

fn l4_policy(raw: RawPolicy, names: &Names) -> Option<L4Policy> {
    let rule = |raw: RawRule| {
        Some(L4Rule {
            name: raw.name?.into_inner(),
            clients: raw.clients.into_iter().map(Spanned::into_inner).collect(),
            ports: raw.ports.into_iter().map(Spanned::into_inner).collect(),
            protocol: raw.protocol,
            destination: destination(&raw.destination?, names)?,
        })
    };
    Some(L4Policy {
        name: raw.name?.into_inner(),
        rules: raw.rules.into_iter().map(rule).collect::<Option<_>>()?,
    })
}

/// The servers that are given by their addresses.
fn written(servers: &[RawServer]) -> impl Iterator<Item = &RawServer> {
    servers.iter().filter(|server| server.host.is_none())
}

fn server(raw: &RawServer) -> Option<Server> {
    let address = socket(raw.address.as_ref(), raw.port.as_ref())?;
    Some(Server { address, ratio: raw.ratio, enabled: raw.enabled })
}

fn datascript_set(raw: RawSet, names: &Names, scripts: &Scripts) -> Option<DataScriptSet> {
    let script = |path: &Spanned<PathBuf>| scripts.get(path.get_ref()).cloned();
    let pools = raw.pools.iter().map(|name| names.pools.get(name.get_ref()).copied());
    let groups = raw.groups.iter().map(|name| names.groups.get(name.get_ref()).copied());
    let parsers = raw.protocol_parsers.iter();
    let parsers = parsers.map(|name| names.parsers.get(name.get_ref()).copied());
    Some(DataScriptSet {
        name: raw.name?.into_inner(),
        pools: pools.collect::<Option<_>>()?,
        pool_groups: groups.collect::<Option<_>>()?,
        protocol_parsers: parsers.collect::<Option<_>>()?,
        l4_request: raw.l4_request.as_ref().and_then(script),
        l4_response: raw.l4_response.as_ref().and_then(script),
        on_error: raw.on_error,
    })
}

fn protocol_parser(raw: RawParser, scripts: &Scripts) -> Option<ProtocolParser> {
    let script = scripts.get(raw.file?.get_ref()).cloned()?;
    Some(ProtocolParser { name: raw.name?.into_inner(), script })
}
