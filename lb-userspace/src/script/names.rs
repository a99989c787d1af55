//! Names in a script → indices in the configuration, resolved by prebuilt maps.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use hashbrown::HashMap;

use crate::config::{
    Config, ParserReference, Pool, PoolGroupIndex, PoolIndex, ServerIndex, SetIndex,
};

/// The names of a whole configuration.
#[derive(Debug)]
pub(super) struct Names {
    services: HashMap<String, Arc<str>>,
    sets: Vec<Rc<SetNames>>,
}

/// What the scripts of one set may name.
#[derive(Debug)]
pub(super) struct SetNames {
    pub(super) set: String,
    /// As scripts name them: their strings are bytes.
    pools: ByName<Rc<PoolNames>>,
    groups: ByName<PoolGroupIndex>,
    /// In the configuration's order.
    parsers: Vec<(String, ParserReference)>,
}

/// A pool and its servers by address.
#[derive(Debug)]
pub(super) struct PoolNames {
    pub(super) index: PoolIndex,
    pub(super) servers: usize,
    by_address: ByName<Vec<(u16, ServerIndex)>>,
}

/// Values by names in bytes. Among a few names, to compare them is less work than to hash one.
#[derive(Debug)]
enum ByName<T> {
    Few(Vec<(Vec<u8>, T)>),
    Many(HashMap<Vec<u8>, T>),
}

/// How many names are a few.
const FEW: usize = 8;

impl<T> ByName<T> {
    fn get(&self, name: &[u8]) -> Option<&T> {
        match self {
            Self::Few(few) => few.iter().find(|(own, _)| own == name).map(|(_, value)| value),
            Self::Many(many) => many.get(name),
        }
    }
}

impl<T> FromIterator<(Vec<u8>, T)> for ByName<T> {
    /// Of a name that comes twice, the later value.
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, T)>>(named: I) -> Self {
        let all: HashMap<_, _> = named.into_iter().collect();
        if all.len() <= FEW { Self::Few(all.into_iter().collect()) } else { Self::Many(all) }
    }
}

impl Names {
    pub(super) fn new(config: &Config) -> Self {
        let pools: Vec<_> = config.pools.iter().enumerate().map(PoolNames::new).collect();
        let set_names = |set: &crate::config::DataScriptSet| {
            let referenced = set.pools.iter().filter_map(|pool| {
                let name = config.pools.get(pool.0)?.name.clone();
                Some((name.into_bytes(), Rc::clone(pools.get(pool.0)?)))
            });
            let groups = set.pool_groups.iter().filter_map(|group| {
                let name = config.pool_groups.get(group.0)?.name.clone();
                Some((name.into_bytes(), *group))
            });
            let parsers = set.protocol_parsers.iter().filter_map(|reference| {
                Some((config.parser_name(*reference)?.to_owned(), *reference))
            });
            Rc::new(SetNames {
                set: set.name.clone(),
                pools: referenced.collect(),
                groups: groups.collect(),
                parsers: parsers.collect(),
            })
        };
        let names = config.virtual_services.iter().map(|service| service.name.as_str());
        Self {
            services: names.map(|name| (name.to_owned(), name.into())).collect(),
            sets: config.datascripts.iter().map(set_names).collect(),
        }
    }

    /// A virtual service's name, to keep.
    pub(super) fn service(&self, name: &str) -> Arc<str> {
        self.services.get(name).cloned().unwrap_or_else(|| name.into())
    }

    pub(super) fn set(&self, set: SetIndex) -> Option<&Rc<SetNames>> {
        self.sets.get(set.0)
    }
}

impl SetNames {
    /// Those of no set.
    pub(super) fn none() -> Self {
        Self {
            set: String::new(),
            pools: ByName::Few(Vec::new()),
            groups: ByName::Few(Vec::new()),
            parsers: Vec::new(),
        }
    }

    pub(super) fn pool(&self, name: &[u8]) -> Option<&Rc<PoolNames>> {
        self.pools.get(name)
    }

    pub(super) fn group(&self, name: &[u8]) -> Option<PoolGroupIndex> {
        self.groups.get(name).copied()
    }

    pub(super) fn parser(&self, name: &str) -> Option<ParserReference> {
        let known = self.parsers.iter().find(|(own, _)| own == name);
        known.map(|(_, reference)| *reference)
    }

    /// The parsers' names in a sentence.
    pub(super) fn parsers(&self) -> String {
        if self.parsers.is_empty() {
            return "none".to_owned();
        }
        let names: Vec<_> = self.parsers.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        names.join(", ")
    }
}

impl PoolNames {
    fn new((index, pool): (usize, &Pool)) -> Rc<Self> {
        let mut by_address: HashMap<_, Vec<_>> = HashMap::new();
        for (index, server) in pool.servers.iter().enumerate() {
            let address = server.address.ip().to_string().into_bytes();
            let servers = by_address.entry(address).or_default();
            servers.push((server.address.port(), ServerIndex(index)));
        }
        Rc::new(Self {
            index: PoolIndex(index),
            servers: pool.servers.len(),
            by_address: by_address.into_iter().collect(),
        })
    }

    /// The servers of an address, with their ports: the one of this port, else the first.
    pub(super) fn server(&self, address: &[u8], port: Option<u16>) -> Option<(u16, ServerIndex)> {
        let servers = self.at(address)?;
        let exact = servers.iter().find(|(own, _)| Some(*own) == port);
        exact.or_else(|| servers.first()).copied()
    }

    fn at(&self, address: &[u8]) -> Option<&Vec<(u16, ServerIndex)>> {
        self.by_address.get(address).or_else(|| {
            // IPv6 has more than one spelling.
            let address: IpAddr = str::from_utf8(address).ok()?.parse().ok()?;
            self.by_address.get(address.to_string().as_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_names_be_there_few_or_many() {
        for count in 0..3 * FEW {
            let name = |number: usize| format!("10.0.0.{number}").into_bytes();
            let names: ByName<_> = (0..count).map(|number| (name(number), number)).collect();
            assert_eq!(matches!(names, ByName::Few(_)), count <= FEW);
            let found = (0..=count).filter_map(|number| names.get(&name(number)).copied());
            assert!(found.eq(0..count));
        }
        let twice = ByName::from_iter([(vec![1], 1), (vec![1], 2)]);
        assert_eq!(twice.get(&[1]), Some(&2));
    }
}
