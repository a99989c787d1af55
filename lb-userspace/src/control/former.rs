//! SNAT addresses that have left the configuration while flows use them.
//!
//! Servers send to them as long as those flows go on: the balancer has to answer for them on the
//! link, and to know that irregular packets to them (fragments, IP options) are its own.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use lb_common::{address::Address, service::Roles};

use crate::{config::Config, engine::PortGauges};

/// The addresses that are kept for flows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct FormerSources(BTreeSet<IpAddr>);

impl FormerSources {
    /// Of all that flows may use, those that a configuration no longer has.
    pub fn of(used: impl IntoIterator<Item = IpAddr>, config: &Config) -> Self {
        let has = |address: &IpAddr| config.instance.snat_addresses.contains(address);
        Self(used.into_iter().filter(|address| !has(address)).collect())
    }

    /// What is kept when `new` takes the place of `old`: any worker may begin flows from the old
    /// addresses until it has the new configuration.
    pub fn after(&self, old: &Config, new: &Config) -> Self {
        Self::of(self.iter().chain(old.instance.snat_addresses.iter().copied()), new)
    }

    /// Forgets those that no flow uses any more. True if there were some.
    pub fn forget_unused(&mut self, gauges: &PortGauges) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let (before, counts) = (self.0.len(), gauges.by_source());
        self.0.retain(|source| counts.get(source).is_some_and(|count| count.in_use > 0));
        self.0.len() != before
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.0.iter().copied()
    }

    /// The configuration's roles, and theirs.
    pub fn add_to(&self, roles: &HashMap<Address, Roles>) -> HashMap<Address, Roles> {
        let mut roles = roles.clone();
        for source in self.iter() {
            let known = roles.entry(source.into()).or_default();
            *known = known.and(Roles::SNAT);
        }
        roles
    }
}
