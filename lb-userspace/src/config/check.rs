//! What only shows when looking at several entries together: names, and what they lead to.

use std::{collections::HashMap, net::SocketAddr};

use serde_spanned::Spanned;

use super::{
    BuiltInParser, Forwarding, MonitorIndex, OnError, ParserIndex, ParserReference, PolicyIndex,
    PoolGroupIndex, PoolIndex, ProfileIndex, SecurityIndex, SetIndex, addresses,
    destinations::{RawDestination, RawGroup},
    names, parser,
    raw::{Named, RawConfig, RawPool, RawService},
    section::{Report, Span},
    security, treatment,
    value::nearest,
};

/// Which entry has which name.
#[derive(Debug)]
pub(super) struct Names {
    pub pools: HashMap<String, PoolIndex>,
    pub groups: HashMap<String, PoolGroupIndex>,
    pub policies: HashMap<String, PolicyIndex>,
    pub securities: HashMap<String, SecurityIndex>,
    pub profiles: HashMap<String, ProfileIndex>,
    pub sets: HashMap<String, SetIndex>,
    pub parsers: HashMap<String, ParserReference>,
    pub monitors: HashMap<String, MonitorIndex>,
}

/// Reports whatever does not go together.
pub(super) fn check(raw: &RawConfig, report: &Report) -> Names {
    index("virtual_service", &raw.services, |_| (), report);
    let names = Names {
        pools: index("pool", &raw.pools, PoolIndex, report),
        groups: index("pool_group", &raw.groups, PoolGroupIndex, report),
        policies: index("l4_policy", &raw.policies, PolicyIndex, report),
        profiles: index("persistence_profile", &raw.profiles, ProfileIndex, report),
        securities: index("network_security_policy", &raw.securities, SecurityIndex, report),
        sets: index("datascript", &raw.sets, SetIndex, report),
        parsers: parsers(raw, report),
        monitors: index("health_monitor", &raw.monitors, MonitorIndex, report),
    };
    for policy in &raw.policies {
        index("l4_policy.rules", &policy.rules, |_| (), report);
    }
    for reference in pool_references(raw) {
        resolve("pool", reference, &names.pools, report);
    }
    for reference in group_references(raw) {
        resolve("pool_group", reference, &names.groups, report);
    }
    for reference in raw.services.iter().flat_map(|service| &service.policies) {
        resolve("l4_policy", reference, &names.policies, report);
    }
    for reference in raw.services.iter().flat_map(|service| &service.datascripts) {
        resolve("datascript", reference, &names.sets, report);
    }
    for reference in raw.sets.iter().flat_map(|set| &set.protocol_parsers) {
        resolve("protocol_parser", reference, &names.parsers, report);
    }
    for reference in raw.pools.iter().flat_map(|pool| &pool.monitors) {
        resolve("health_monitor", reference, &names.monitors, report);
    }
    parser::check(&raw.parsers, report);
    for reference in raw.services.iter().filter_map(|service| service.security.as_ref()) {
        resolve("network_security_policy", reference, &names.securities, report);
    }
    for reference in raw.services.iter().filter_map(|service| service.profile.as_ref()) {
        resolve("persistence_profile", reference, &names.profiles, report);
    }
    raw.securities.iter().for_each(|policy| security::check(policy, report));
    listeners(&raw.services, report);
    for service in &raw.services {
        target(service, raw, &names, report);
    }
    for pool in &raw.pools {
        duplicate_servers(pool, report);
    }
    backups(raw, &names, report);
    names::check(raw, report);
    for group in &raw.groups {
        duplicate_members(group, report);
    }
    snat(raw, &names, report);
    addresses::check(raw, &names, report);
    names
}

/// The parsers of the configuration, and those that are built in.
fn parsers(raw: &RawConfig, report: &Report) -> HashMap<String, ParserReference> {
    let configured = |index| ParserReference::Configured(ParserIndex(index));
    let mut names = index("protocol_parser", &raw.parsers, configured, report);
    let own = BuiltInParser::ALL.map(|own| (own.name().to_owned(), ParserReference::BuiltIn(own)));
    names.extend(own);
    names
}

/// The names of the entries of one table; two of one name are reported.
fn index<T>(
    table: &str,
    entries: &[impl Named],
    number: impl Fn(usize) -> T,
    report: &Report,
) -> HashMap<String, T> {
    let mut names = HashMap::new();
    let mut places: HashMap<&str, Span> = HashMap::new();
    for (position, entry) in entries.iter().enumerate() {
        let Some(name) = entry.name() else { continue };
        let text = name.get_ref();
        if let Some(first) = places.get(text.as_str()) {
            let message = format!("two entries of [[{table}]] are named {text:?}");
            let problem = report.at(name.span(), message).with_help("give each its own name");
            report.add(problem.with_related(first.clone(), "the other one"));
        } else {
            places.insert(text, name.span());
            names.insert(text.clone(), number(position));
        }
    }
    names
}

/// Every mention of a pool by its name.
fn pool_references(raw: &RawConfig) -> impl Iterator<Item = &Spanned<String>> {
    let destinations = destinations(raw).filter_map(|destination| match destination {
        RawDestination::Pool(name) => Some(name),
        RawDestination::Group(_) => None,
    });
    let members = raw.groups.iter().flat_map(|group| &group.members);
    let backups = raw.pools.iter().filter_map(|pool| pool.backup.as_ref());
    destinations
        .chain(members.filter_map(|member| member.pool.as_ref()))
        .chain(backups)
        .chain(raw.sets.iter().flat_map(|set| &set.pools))
}

/// Every mention of a pool group by its name.
fn group_references(raw: &RawConfig) -> impl Iterator<Item = &Spanned<String>> {
    let destinations = destinations(raw).filter_map(|destination| match destination {
        RawDestination::Group(name) => Some(name),
        RawDestination::Pool(_) => None,
    });
    destinations.chain(raw.sets.iter().flat_map(|set| &set.groups))
}

/// Of services and of rules.
fn destinations(raw: &RawConfig) -> impl Iterator<Item = &RawDestination> {
    let services = raw.services.iter().filter_map(|service| service.destination.as_ref());
    let rules = raw.policies.iter().flat_map(|policy| &policy.rules);
    services.chain(rules.filter_map(|rule| rule.destination.as_ref()))
}

fn resolve<T>(kind: &str, name: &Spanned<String>, names: &HashMap<String, T>, report: &Report) {
    let text = name.get_ref();
    if names.contains_key(text) {
        return;
    }
    let help = match nearest(text, names.keys().map(String::as_str)) {
        Some(known) => format!("did you mean {known:?}?"),
        None => format!("add a [[{kind}]] with name = {text:?}"),
    };
    report.add(report.at(name.span(), format!("no {kind} is named {text:?}")).with_help(help));
}

/// No two services may take the same packets.
fn listeners(services: &[RawService], report: &Report) {
    let mut taken: HashMap<_, Span> = HashMap::new();
    for service in services {
        let (Some(address), Some(port), Some(protocol)) =
            (&service.address, &service.port, &service.protocol)
        else {
            continue;
        };
        let socket = SocketAddr::new(*address.get_ref(), *port.get_ref());
        let protocol = *protocol.get_ref();
        if let Some(first) = taken.get(&(socket, protocol)) {
            let message = format!("two virtual services listen on {socket}, {protocol}");
            let problem = report.at(port.span(), message);
            let problem = problem.with_related(first.clone(), "the other one");
            report.add(problem.with_help("a service has its own address, port or protocol"));
        } else {
            taken.insert((socket, protocol), port.span());
        }
    }
}

/// A service must lead somewhere, also when a script fails.
fn target(service: &RawService, raw: &RawConfig, names: &Names, report: &Report) {
    if !service.has_destination && !service.has_datascripts {
        let message = "[[virtual_service]] has neither `pool`, `pool_group` nor `datascripts`";
        let problem = report.at(service.place.clone(), message);
        report.add(problem.with_help("name the pool that its flows go to: pool = \"…\""));
    }
    if service.has_destination {
        return;
    }
    for name in &service.datascripts {
        let index = names.sets.get(name.get_ref());
        let Some(set) = index.and_then(|index| raw.sets.get(index.0)) else {
            continue;
        };
        if set.on_error == OnError::DefaultPool {
            let message = format!(
                "datascript {:?} falls back to the service's pool, and the service has none",
                name.get_ref()
            );
            let problem = report.at(name.span(), message);
            report.add(problem.with_help("add `pool`, or set on_error = \"close\" there"));
        }
    }
}

fn duplicate_servers(pool: &RawPool, report: &Report) {
    let mut seen: HashMap<_, Span> = HashMap::new();
    for server in &pool.servers {
        let (Some(address), Some(port)) = (&server.address, &server.port) else {
            continue;
        };
        let socket = SocketAddr::new(*address.get_ref(), *port.get_ref());
        if let Some(first) = seen.get(&socket) {
            let problem = report
                .at(server.place.clone(), format!("the pool holds {socket} twice"))
                .with_related(first.clone(), "here first");
            report.add(problem.with_help("remove one; for a greater share raise its `ratio`"));
        } else {
            seen.insert(socket, server.place.clone());
        }
    }
}

/// No pool may stand in for itself, by way of others either.
fn backups(raw: &RawConfig, names: &Names, report: &Report) {
    let backup = |pool: PoolIndex| {
        let name = raw.pools.get(pool.0)?.backup.as_ref()?;
        names.pools.get(name.get_ref()).copied()
    };
    for (index, pool) in raw.pools.iter().enumerate() {
        let Some(name) = &pool.backup else { continue };
        if treatment::leads_back(PoolIndex(index), backup) {
            let problem = report.at(name.span(), "the pool would stand in for itself");
            report.add(problem.with_help("backup pools must not lead back to where they began"));
        }
    }
}

fn duplicate_members(group: &RawGroup, report: &Report) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for member in &group.members {
        let Some(pool) = &member.pool else { continue };
        if let Some(first) = seen.get(pool.get_ref().as_str()) {
            let message = format!("the group holds pool {:?} twice", pool.get_ref());
            let problem = report.at(member.place.clone(), message);
            let problem = problem.with_related(first.clone(), "here first");
            report.add(problem.with_help("remove one; for a greater share raise its `ratio`"));
        } else {
            seen.insert(pool.get_ref(), member.place.clone());
        }
    }
}

/// A pool in `snat` mode that flows can reach needs a source address.
fn snat(raw: &RawConfig, names: &Names, report: &Report) {
    if !raw.instance.snat_addresses_missing {
        return;
    }
    let used = pool_references(raw).find_map(|reference| {
        let pool = raw.pools.get(names.pools.get(reference.get_ref())?.0)?;
        (pool.forwarding == Forwarding::Snat).then_some((reference, pool))
    });
    let Some((reference, pool)) = used else {
        return;
    };
    let message = format!(
        "pool {:?} forwards with \"snat\", and [instance] has no `snat_addresses`",
        reference.get_ref()
    );
    let place = pool.name.as_ref().map_or_else(|| reference.span(), Spanned::span);
    let problem = report.at(place, message).with_related(raw.instance.place.clone(), "add it here");
    report.add(problem.with_help(
        "such as snat_addresses = [\"192.0.2.9\"], an address that servers send replies to; \
         or forwarding = \"dnat\"",
    ));
}
