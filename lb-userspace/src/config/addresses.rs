//! What addresses may stand for: families, and one thing each.

use std::{collections::HashMap, net::IpAddr};

use lb_common::service::ADDRESSES;
use serde_spanned::Spanned;

use super::{
    check::Names,
    destinations::RawDestination,
    raw::{RawConfig, RawPool, RawServer, RawService},
    section::Report,
};

/// Reports addresses that cannot be used as they are.
pub(super) fn check(raw: &RawConfig, names: &Names, report: &Report) {
    refuse_ipv6(raw, report);
    for pool in &raw.pools {
        one_family(pool, report);
    }
    for service in &raw.services {
        same_family_as_pool(service, raw, names, report);
    }
    own_addresses(raw, report);
}

/// The packet path is IPv4 only so far. The types hold both families, and so do all other
/// checks: this function is all there is to remove.
fn refuse_ipv6(raw: &RawConfig, report: &Report) {
    for address in all(raw).filter(|address| address.get_ref().is_ipv6()) {
        let message = format!("{} is an IPv6 address", address.get_ref());
        let problem = report.at(address.span(), message);
        report.add(problem.with_help("the packet path is IPv4 only so far"));
    }
}

fn all(raw: &RawConfig) -> impl Iterator<Item = &Spanned<IpAddr>> {
    balancers(raw).map(|(address, _)| address).chain(servers(raw))
}

/// The addresses that the balancer answers to, and what for.
fn balancers(raw: &RawConfig) -> impl Iterator<Item = (&Spanned<IpAddr>, &'static str)> {
    let services = raw.services.iter().filter_map(|service| service.address.as_ref());
    services
        .map(|address| (address, "the virtual service"))
        .chain(raw.instance.snat_addresses.iter().map(|address| (address, "the SNAT address")))
}

fn servers(raw: &RawConfig) -> impl Iterator<Item = &Spanned<IpAddr>> {
    raw.pools.iter().flat_map(server_addresses)
}

fn server_addresses(pool: &RawPool) -> impl Iterator<Item = &Spanned<IpAddr>> {
    pool.servers.iter().filter_map(|RawServer { address, .. }| address.as_ref())
}

fn family(address: &Spanned<IpAddr>) -> &'static str {
    if address.get_ref().is_ipv4() { "IPv4" } else { "IPv6" }
}

/// A flow's packets keep their family on the way, so a pool that mixes them serves nobody whole.
fn one_family(pool: &RawPool, report: &Report) {
    let Some(first) = server_addresses(pool).next() else {
        return;
    };
    if let Some(other) = server_addresses(pool).find(|other| family(other) != family(first)) {
        let problem = report
            .at(other.span(), "the pool mixes IPv4 and IPv6 servers")
            .with_related(first.span(), format!("this is {}", family(first)));
        report.add(problem.with_help("make two pools, one for each family"));
    }
}

fn same_family_as_pool(service: &RawService, raw: &RawConfig, names: &Names, report: &Report) {
    let (Some(address), Some(destination)) = (&service.address, &service.destination) else {
        return;
    };
    let (name, pools) = pools_of(destination, raw, names);
    let other = pools.into_iter().find_map(|pool| {
        let server = server_addresses(pool).next()?;
        (family(server) != family(address)).then_some((pool.name.as_ref()?, server))
    });
    if let Some((pool, server)) = other {
        let message = format!(
            "the service is {}, and the servers of pool {:?} are {}",
            family(address),
            pool.get_ref(),
            family(server)
        );
        let problem = report.at(name.span(), message).with_related(address.span(), "the service");
        report.add(problem.with_help("a service and its pools are of one family"));
    }
}

/// The pools that a destination leads to, and where it is named.
fn pools_of<'r>(
    destination: &'r RawDestination,
    raw: &'r RawConfig,
    names: &Names,
) -> (&'r Spanned<String>, Vec<&'r RawPool>) {
    let pool = |name: &Spanned<String>| {
        names.pools.get(name.get_ref()).and_then(|index| raw.pools.get(index.0))
    };
    match destination {
        RawDestination::Pool(name) => (name, pool(name).into_iter().collect()),
        RawDestination::Group(name) => {
            let group = names.groups.get(name.get_ref()).and_then(|index| raw.groups.get(index.0));
            let members = group.iter().flat_map(|group| &group.members);
            (name, members.filter_map(|member| pool(member.pool.as_ref()?)).collect())
        }
    }
}

/// A server on one of the balancer's own addresses would have its packets sent back here.
fn own_addresses(raw: &RawConfig, report: &Report) {
    let mut own = HashMap::new();
    for (address, role) in balancers(raw) {
        own.entry(*address.get_ref()).or_insert((address.span(), role));
    }
    for server in servers(raw) {
        if let Some((place, role)) = own.get(server.get_ref()) {
            let message = format!("server {} is the balancer itself", server.get_ref());
            let problem = report.at(server.span(), message).with_related(place.clone(), *role);
            report.add(problem.with_help("a server has an address of its own"));
        }
    }
    too_many(raw, own.len(), report);
}

fn too_many(raw: &RawConfig, own: usize, report: &Report) {
    let mut distinct: Vec<_> = servers(raw).map(Spanned::get_ref).collect();
    distinct.sort();
    distinct.dedup();
    if own + distinct.len() > ADDRESSES as usize {
        let message = format!("more than {ADDRESSES} addresses of services, SNAT and servers");
        let problem = report.at(raw.instance.place.clone(), message);
        report.add(problem.with_help("an instance has room for no more: split it in two"));
    }
}
