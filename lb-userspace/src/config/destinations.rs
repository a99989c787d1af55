//! Where flows are sent by configuration: pool groups, and the rules of L4 policies.

use std::{net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use lb_common::address::Protocol;
use serde_spanned::Spanned;

use super::{
    Destination, PoolIndex,
    raw::{Named, PROTOCOLS},
    section::{Section, Span},
    value,
};

/// `[[pool_group]]`: pools that stand in for each other.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolGroup {
    /// Unique.
    pub name: String,
    /// At least one; no two of one pool.
    pub members: Vec<Member>,
    /// Servers that flows are spread over at least: members of lower priority take part until so
    /// many are up.
    pub min_servers: usize,
}

/// An entry of `members`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// The pool.
    pub pool: PoolIndex,
    /// Of the members that are up, only those of the highest number take flows.
    pub priority: u16,
    /// Its share among the members of its priority; from 1 to 1000.
    pub ratio: u16,
}

/// `[[l4_policy]]`: rules in their order; the first that holds decides.
#[derive(Clone, PartialEq, Debug)]
pub struct L4Policy {
    /// Unique.
    pub name: String,
    /// At least one.
    pub rules: Vec<L4Rule>,
}

/// An entry of `rules`: what it names must all hold, and what it does not name holds.
#[derive(Clone, PartialEq, Debug)]
pub struct L4Rule {
    /// Unique in its policy.
    pub name: String,
    /// The client's address is in one of them.
    pub clients: Vec<IpNet>,
    /// The virtual service's port is in one of them.
    pub ports: Vec<RangeInclusive<u16>>,
    /// The virtual service's protocol.
    pub protocol: Option<Protocol>,
    /// Where the flow goes.
    pub destination: Destination,
}

impl L4Rule {
    /// Whether it holds for a flow.
    pub fn holds(&self, protocol: Protocol, client: IpAddr, port: u16) -> bool {
        self.protocol.is_none_or(|own| own == protocol)
            && (self.ports.is_empty() || self.ports.iter().any(|ports| ports.contains(&port)))
            && (self.clients.is_empty() || self.clients.iter().any(|net| net.contains(&client)))
    }
}

/// A pool or a group of them, by name.
#[derive(Debug)]
pub(super) enum RawDestination {
    Pool(Spanned<String>),
    Group(Spanned<String>),
}

/// `[[pool_group]]` as it is written.
#[derive(Debug)]
pub(super) struct RawGroup {
    pub name: Option<Spanned<String>>,
    pub members: Vec<RawMember>,
    pub min_servers: usize,
}

/// An entry of `members`.
#[derive(Debug)]
pub(super) struct RawMember {
    pub place: Span,
    pub pool: Option<Spanned<String>>,
    pub priority: u16,
    pub ratio: u16,
}

/// `[[l4_policy]]` as it is written.
#[derive(Debug)]
pub(super) struct RawPolicy {
    pub name: Option<Spanned<String>>,
    pub rules: Vec<RawRule>,
}

/// An entry of `rules`. An empty list holds for everything.
#[derive(Debug)]
pub(super) struct RawRule {
    pub name: Option<Spanned<String>>,
    pub clients: Vec<Spanned<IpNet>>,
    pub ports: Vec<Spanned<RangeInclusive<u16>>>,
    pub protocol: Option<Protocol>,
    pub destination: Option<RawDestination>,
}

impl Named for RawGroup {
    fn name(&self) -> Option<&Spanned<String>> {
        self.name.as_ref()
    }
}

impl Named for RawPolicy {
    fn name(&self) -> Option<&Spanned<String>> {
        self.name.as_ref()
    }
}

impl Named for RawRule {
    fn name(&self) -> Option<&Spanned<String>> {
        self.name.as_ref()
    }
}

/// `pool` or `pool_group`; both are one too many.
pub(super) fn destination(section: &mut Section<'_>) -> Option<RawDestination> {
    let pool = section.optional("pool", value::name);
    let group = section.optional("pool_group", value::name);
    if let (Some(pool), Some(group)) = (&pool, &group) {
        let problem = section.report().at(group.span(), "both `pool` and `pool_group` are given");
        let problem = problem.with_related(pool.span(), "the pool");
        section.report().add(problem.with_help("remove one: a group may have a single member"));
    }
    pool.map(RawDestination::Pool).or_else(|| group.map(RawDestination::Group))
}

/// Whether a destination is given, rightly or not.
pub(super) fn has_destination(section: &Section<'_>) -> bool {
    section.key_span("pool").or(section.key_span("pool_group")).is_some()
}

pub(super) fn group(mut section: Section<'_>) -> RawGroup {
    let name = section.required("name", "\"web\"", value::name);
    let members = section.tables("members", "an entry of `members`");
    if section.is_empty("members") {
        section.missing("members", "[{ pool = \"blue\", priority = 2 }, { pool = \"green\" }]");
    }
    let min_servers = section.or("min_servers", 1, value::integer(1..=1_000_000));
    section.finish();
    RawGroup { name, members: members.into_iter().map(member).collect(), min_servers }
}

fn member(mut section: Section<'_>) -> RawMember {
    let member = RawMember {
        place: section.place.clone(),
        pool: section.required("pool", "\"blue\"", value::name),
        priority: section.or("priority", 1, value::integer(0..=65535)),
        ratio: section.or("ratio", 1, value::integer(1..=1000)),
    };
    section.finish();
    member
}

pub(super) fn policy(mut section: Section<'_>) -> RawPolicy {
    let name = section.required("name", "\"offices\"", value::name);
    let rules = section.tables("rules", "an entry of `rules`");
    if section.is_empty("rules") {
        let example = "[{ name = \"branch\", clients = [\"10.1.0.0/16\"], pool = \"near\" }]";
        section.missing("rules", example);
    }
    section.finish();
    RawPolicy { name, rules: rules.into_iter().map(rule).collect() }
}

fn rule(mut section: Section<'_>) -> RawRule {
    let name = section.required("name", "\"branch\"", value::name);
    let clients = section.list("clients", value::prefix);
    let ports = section.list("ports", value::port_or_range);
    let protocol = section.optional("protocol", value::one_of(&PROTOCOLS));
    if !has_destination(&section) {
        section.missing("pool", "\"web\", or pool_group = \"…\"");
    }
    let destination = destination(&mut section);
    section.finish();
    RawRule { name, clients, ports, protocol: protocol.map(Spanned::into_inner), destination }
}
