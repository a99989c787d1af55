//! A configuration in force, with what is derived from it.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use lb_common::{
    address::Address,
    admission::{Admission, ClientPrefix, PolicyClient, Rate, RateKey},
    service::{Roles, Service, ServiceKey},
};

use super::{handshakes::cookies, shared::Shared, tally::Tally};
use crate::{
    config::{
        Algorithm, Config, Destination, Forwarding, L4Rule, NetworkSecurityPolicy,
        PersistenceProfile, PolicyIndex, PoolIndex, ServerIndex, SetIndex, VirtualService,
    },
    flow_table::{CatalogFull, Kind},
    pool::{Pools, ServerStates},
    script::{Event, Place},
};

/// New flows are decided by the newest generation; old ones keep what decided them.
pub struct Generation {
    /// Counts from 1 with every configuration that came into force.
    pub number: u32,
    /// What the user wrote, with servers for the names in it.
    pub config: Arc<Config>,
    /// Servers, and how one is picked.
    pub pools: Pools,
    states: Arc<ServerStates>,
    /// By pool.
    tallies: Vec<Tally>,
    services: hashbrown::HashMap<ServiceKey, usize>,
    address_roles: HashMap<Address, Roles>,
    service_numbers: Vec<u32>,
    pool_numbers: Vec<u32>,
    server_numbers: Vec<Vec<u32>>,
    /// By set, then by event in the order of [`Event::ALL`].
    script_numbers: Vec<[Option<u32>; Event::ALL.len()]>,
    rule_numbers: Vec<Vec<u32>>,
    security_numbers: Vec<u32>,
}

/// A rule of a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RuleIndex {
    /// Index into the configuration's policies.
    pub policy: PolicyIndex,
    /// Index into its rules.
    pub rule: usize,
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "generation {}", self.number)
    }
}

impl Generation {
    /// Numbers everything in the catalog, which keeps the numbers that names had before.
    pub fn new(number: u32, config: Arc<Config>, shared: &Shared) -> Result<Self, CatalogFull> {
        let catalog = &shared.catalog;
        let names = config.virtual_services.iter().map(|service| &service.name);
        let service_numbers =
            names.map(|name| catalog.number(Kind::Service, name)).collect::<Result<_, _>>()?;
        let names = config.pools.iter().map(|pool| &pool.name);
        let pool_numbers =
            names.map(|name| catalog.number(Kind::Pool, name)).collect::<Result<_, _>>()?;
        let mut server_numbers = Vec::new();
        for pool in &config.pools {
            let names =
                pool.servers.iter().map(|server| format!("{}/{}", pool.name, server.address));
            let numbers = names.map(|name| catalog.number(Kind::Server, &name));
            server_numbers.push(numbers.collect::<Result<_, _>>()?);
        }
        let mut script_numbers = vec![[None; Event::ALL.len()]; config.datascripts.len()];
        for (index, numbers) in script_numbers.iter_mut().enumerate() {
            for (number, event) in numbers.iter_mut().zip(Event::ALL) {
                if let Some(script) = event.script(&config, SetIndex(index)) {
                    let name = script.path.display().to_string();
                    *number = Some(catalog.number(Kind::Script, &name)?);
                }
            }
        }
        let rules = (0..config.l4_policies.len()).map(|policy| rule_names(&config, policy));
        let rule_number = |name: String| catalog.number(Kind::Rule, &name);
        let rule_numbers =
            rules.map(|names| names.map(rule_number).collect()).collect::<Result<_, _>>()?;
        let names = config.network_security_policies.iter().map(|policy| &policy.name);
        let security_numbers = names
            .map(|name| catalog.number(Kind::SecurityPolicy, name))
            .collect::<Result<_, _>>()?;
        let keys = config.virtual_services.iter().map(service_key);
        let services = keys.enumerate().map(|(index, key)| (key, index)).collect();
        let pools = Pools::new(&config);
        let address_roles = address_roles(&config);
        let tallies = config.pools.iter().map(|_| Tally::default()).collect();
        Ok(Self {
            number,
            config,
            pools,
            states: Arc::clone(&shared.servers),
            tallies,
            services,
            address_roles,
            service_numbers,
            pool_numbers,
            server_numbers,
            script_numbers,
            rule_numbers,
            security_numbers,
        })
    }

    /// The virtual service that listens there.
    pub fn service(&self, key: &ServiceKey) -> Option<(usize, &VirtualService)> {
        let index = *self.services.get(key)?;
        self.config.virtual_services.get(index).map(|service| (index, service))
    }

    /// A virtual service's number in the catalog.
    pub fn service_number(&self, index: usize) -> u32 {
        self.service_numbers.get(index).copied().unwrap_or_default()
    }

    /// A pool's number in the catalog.
    pub fn pool_number(&self, pool: PoolIndex) -> u32 {
        self.pool_numbers.get(pool.0).copied().unwrap_or_default()
    }

    /// The pool that has this number in the catalog, if it is still configured.
    pub(super) fn pool_numbered(&self, number: u32) -> Option<PoolIndex> {
        self.pool_numbers.iter().position(|own| *own == number).map(PoolIndex)
    }

    /// All servers' numbers in the catalog, by pool and then by server.
    pub fn server_numbers(&self) -> &[Vec<u32>] {
        &self.server_numbers
    }

    /// A server's number in the catalog.
    pub fn server_number(&self, pool: PoolIndex, server: ServerIndex) -> u32 {
        self.numbers_of(pool).get(server.0).copied().unwrap_or_default()
    }

    /// The numbers of a pool's servers in the catalog.
    pub(super) fn numbers_of(&self, pool: PoolIndex) -> &[u32] {
        self.server_numbers.get(pool.0).map_or(&[], Vec::as_slice)
    }

    /// The number in the catalog of the script that a line is of.
    pub(super) fn script_number(&self, place: Place) -> Option<u32> {
        let event = Event::ALL.iter().position(|event| *event == place.event)?;
        self.script_numbers.get(place.set.0)?[event]
    }

    /// A policy rule's number in the catalog.
    pub(super) fn rule_number(&self, rule: RuleIndex) -> u32 {
        let numbers = self.rule_numbers.get(rule.policy.0);
        numbers.and_then(|numbers| numbers.get(rule.rule)).copied().unwrap_or_default()
    }

    /// The first rule of a service's policies that holds for a client, and where it sends it.
    pub(super) fn rule(
        &self,
        service: &VirtualService,
        client: IpAddr,
    ) -> Option<(RuleIndex, Destination)> {
        let (protocol, port) = (service.protocol(), service.address.port());
        let mut rules = self.rules(service);
        let (index, rule) = rules.find(|(_, rule)| rule.holds(protocol, client, port))?;
        Some((index, rule.destination))
    }

    /// The rules of a service's policies, in their order.
    pub(super) fn rules(
        &self,
        service: &VirtualService,
    ) -> impl Iterator<Item = (RuleIndex, &L4Rule)> {
        service.l4_policies.iter().flat_map(|policy| {
            let rules = self.config.l4_policies.get(policy.0).map(|policy| &policy.rules);
            let rules = rules.into_iter().flatten().enumerate();
            rules.map(|(rule, found)| (RuleIndex { policy: *policy, rule }, found))
        })
    }

    /// A policy rule's name, as `policy/rule`.
    pub(super) fn rule_name(&self, rule: RuleIndex) -> Option<String> {
        rule_names(&self.config, rule.policy.0).nth(rule.rule)
    }

    /// What changes about servers.
    pub(super) fn states(&self) -> &ServerStates {
        &self.states
    }

    /// What was last counted of a pool's servers.
    pub(super) fn tally(&self, pool: PoolIndex) -> &Tally {
        &self.tallies[pool.0]
    }

    /// Whether the server's first packet of a flow is to be seen: by a script, or to learn how
    /// fast the server is.
    pub fn shows_response(&self, service: &VirtualService, pool: PoolIndex) -> bool {
        let measures = self.pools.pool(pool).algorithm() == Algorithm::FastestResponse;
        measures || self.has_response_script(service)
    }

    /// Whether a service's scripts want to see the servers' first packets.
    pub fn has_response_script(&self, service: &VirtualService) -> bool {
        let sets = service.datascripts.iter().filter_map(|set| self.config.datascripts.get(set.0));
        sets.into_iter().any(|set| set.l4_response.is_some())
    }

    /// What the `virtual_services` map has to hold.
    pub fn service_entries(&self) -> Vec<(ServiceKey, Service)> {
        let services = self.services.iter();
        services.filter_map(|(key, index)| Some((*key, self.service_entry(*index)?))).collect()
    }

    /// What the program has to know about the service that listens there.
    pub fn entry(&self, key: &ServiceKey) -> Option<Service> {
        self.service_entry(*self.services.get(key)?)
    }

    fn service_entry(&self, index: usize) -> Option<Service> {
        let service = self.config.virtual_services.get(index)?;
        let policy = service.network_security_policy;
        let policy = policy.and_then(|policy| self.security_numbers.get(policy.0));
        Some(Service {
            id: self.service_number(index),
            policy: policy.copied().unwrap_or_default(),
            rate: Rate::per_second(service.connection_rate_limit),
            client_rate: Rate::per_second(service.client_connection_rate_limit),
            cookies: cookies(service),
        })
    }

    /// The policy that says who may begin flows to a service.
    pub fn security(&self, service: &VirtualService) -> Option<&NetworkSecurityPolicy> {
        self.config.network_security_policies.get(service.network_security_policy?.0)
    }

    /// What keeps clients of a service at their servers.
    pub fn profile(&self, service: &VirtualService) -> Option<&PersistenceProfile> {
        self.config.persistence_profiles.get(service.persistence_profile?.0)
    }

    /// What a policy says of a client, as the program finds it in its maps.
    pub fn admission(&self, asked: &PolicyClient) -> Option<Admission> {
        let position = self.security_numbers.iter().position(|own| *own == asked.policy)?;
        let policy = self.config.network_security_policies.get(position)?;
        Some(admission(policy.allows(asked.address().ip())))
    }

    /// What the `client_prefixes` map has to hold.
    pub fn client_prefixes(&self) -> Vec<ClientPrefix> {
        let policies = self.config.network_security_policies.iter().zip(&self.security_numbers);
        policies.flat_map(|(policy, number)| prefixes(policy, *number)).collect()
    }

    /// What the `addresses` map has to hold.
    pub fn address_roles(&self) -> &HashMap<Address, Roles> {
        &self.address_roles
    }

    /// What an address is to this instance.
    pub fn roles(&self, address: &Address) -> Roles {
        self.address_roles.get(address).copied().unwrap_or_default()
    }

    /// Every server's address.
    pub fn servers(&self) -> impl Iterator<Item = SocketAddr> {
        self.config.pools.iter().flat_map(|pool| pool.servers.iter().map(|server| server.address))
    }
}

/// The names of a policy's rules, as `policy/rule`.
fn rule_names(config: &Config, policy: usize) -> impl Iterator<Item = String> {
    let policy = config.l4_policies.get(policy).into_iter();
    policy
        .flat_map(|policy| policy.rules.iter().map(|rule| format!("{}/{}", policy.name, rule.name)))
}

/// A policy's prefixes, and the one of length 0 for everybody else.
fn prefixes(policy: &NetworkSecurityPolicy, number: u32) -> impl Iterator<Item = ClientPrefix> {
    let of = move |client| PolicyClient::new(number, client);
    let allowed = policy.allow.iter().map(|prefix| (prefix, true));
    let listed = allowed.chain(policy.deny.iter().map(|prefix| (prefix, false)));
    let listed = listed.map(move |(prefix, allowed)| {
        let bits = match prefix {
            // An IPv4 address is the end of one of IPv6.
            IpNet::V4(v4) => 96 + u32::from(v4.prefix_len()),
            IpNet::V6(v6) => v6.prefix_len().into(),
        };
        ClientPrefix { bits, of: of(prefix.network().into()), admission: admission(allowed) }
    });
    let others = admission(policy.allows_others());
    listed.chain([ClientPrefix { bits: 0, of: of(RateKey::EVERYONE), admission: others }])
}

fn admission(allowed: bool) -> Admission {
    if allowed { Admission::ALLOW } else { Admission::DENY }
}

fn address_roles(config: &Config) -> HashMap<Address, Roles> {
    let mut roles: HashMap<Address, Roles> = HashMap::new();
    let mut add = |address: IpAddr, role: Roles| {
        let known = roles.entry(address.into()).or_default();
        *known = known.and(role);
    };
    for service in &config.virtual_services {
        add(service.address.ip(), Roles::VIRTUAL_SERVICE);
    }
    for address in &config.instance.snat_addresses {
        add(*address, Roles::SNAT);
    }
    for pool in config.pools.iter().filter(|pool| pool.forwarding == Forwarding::Dnat) {
        for server in &pool.servers {
            add(server.address.ip(), Roles::DNAT_SERVER);
        }
    }
    roles
}

fn service_key(service: &VirtualService) -> ServiceKey {
    ServiceKey::at(service.address, service.protocol())
}
