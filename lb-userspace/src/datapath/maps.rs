//! The maps that are written by system call, typed.

use std::{collections::HashSet, io};

use aya::{
    Pod,
    maps::{
        Array, HashMap, Map, MapData, MapError, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
};
use lb_common::{
    address::Address,
    admission::{Admission, ClientPrefix, PolicyClient},
    event::{EVENTS, Event},
    layout::{CATALOG, CatalogEntry, Instance, Interface},
    next_hop::{NEXT_HOPS, NextHop, NextHopId, NextHopTarget},
    service::{Roles, Service, ServiceKey},
};

use super::{DatapathError, memory::MappedFilter};
use crate::flow_table::CatalogStore;

/// A type of `lb-common` as aya wants it: `lb-common` knows nothing of aya, so the wrapper is here.
macro_rules! pod {
    ($($name:ident($inner:ty)),* $(,)?) => {$(
        #[repr(transparent)]
        #[derive(Clone, Copy)]
        pub(super) struct $name(pub(super) $inner);
        // SAFETY: `#[repr(C)]` without padding (sizes are asserted in lb-common), every bit
        // pattern is valid, no references inside.
        unsafe impl Pod for $name {}
    )*};
}

pod! {
    PodNextHop(NextHop),
    PodNextHopTarget(NextHopTarget),
    PodPolicyClient(PolicyClient),
    PodAdmission(Admission),
    PodServiceKey(ServiceKey),
    PodService(Service),
    PodAddress(Address),
    PodRoles(Roles),
    PodInstance(Instance),
    PodInterface(Interface),
    PodCatalogEntry(CatalogEntry),
}

fn io_error(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}

pub(super) fn typed<T>(name: &str, map: Map) -> Result<T, DatapathError>
where
    T: TryFrom<Map, Error = MapError>,
{
    T::try_from(map).map_err(|error| DatapathError::kernel(format!("map {name}"), error))
}

/// `next_hops`, and what each leads to.
pub struct NextHopMap {
    pub(super) entries: Array<MapData, PodNextHop>,
    pub(super) targets: Array<MapData, PodNextHopTarget>,
}

impl NextHopMap {
    /// Points everything that goes by `id` to `next_hop`.
    pub fn set(
        &mut self,
        id: NextHopId,
        target: &NextHopTarget,
        next_hop: &NextHop,
    ) -> io::Result<()> {
        self.targets.set(id.0, PodNextHopTarget(*target), 0).map_err(io_error)?;
        self.entries.set(id.0, PodNextHop(*next_hop), 0).map_err(io_error)
    }

    /// What earlier daemons gave numbers to. Flows still go by these.
    pub fn targets(&self) -> io::Result<Vec<(NextHopId, NextHopTarget)>> {
        let mut targets = Vec::new();
        for id in 1..NEXT_HOPS {
            let target = self.targets.get(&id, 0).map_err(io_error)?.0;
            if target.kind != 0 {
                targets.push((NextHopId(id), target));
            }
        }
        Ok(targets)
    }
}

/// `virtual_services`.
pub struct ServiceMap(pub(super) HashMap<MapData, PodServiceKey, PodService>);

impl ServiceMap {
    /// Makes the map hold exactly these. New ones come before old ones go: a packet finds the
    /// old set, both, or the new.
    pub fn replace(&mut self, services: &[(ServiceKey, Service)]) -> io::Result<()> {
        for (key, service) in services {
            self.0.insert(PodServiceKey(*key), PodService(*service), 0).map_err(io_error)?;
        }
        let kept: HashSet<_> = services.iter().map(|(key, _)| *key).collect();
        let is_gone = |key: &PodServiceKey| !kept.contains(&key.0);
        let gone: Vec<_> = self.0.keys().filter_map(Result::ok).filter(is_gone).collect();
        gone.iter().try_for_each(|key| self.0.remove(key)).map_err(io_error)
    }
}

/// `client_prefixes`.
pub struct ClientPrefixes(pub(super) LpmTrie<MapData, PodPolicyClient, PodAdmission>);

impl ClientPrefixes {
    /// Makes the map hold exactly these, new ones before old ones go.
    pub fn replace(&mut self, prefixes: &[ClientPrefix]) -> io::Result<()> {
        let mut wanted = HashSet::new();
        for ClientPrefix { bits, of, admission } in prefixes {
            let bits = PolicyClient::POLICY_BITS + bits;
            wanted.insert((bits, *of));
            let key = Key::new(bits, PodPolicyClient(*of));
            self.0.insert(&key, PodAdmission(*admission), 0).map_err(io_error)?;
        }
        let is_gone =
            |key: &Key<PodPolicyClient>| !wanted.contains(&(key.prefix_len(), key.data().0));
        let gone: Vec<_> = self.0.keys().filter_map(Result::ok).filter(is_gone).collect();
        gone.iter().try_for_each(|key| self.0.remove(key)).map_err(io_error)
    }
}

/// `addresses`, and the filter before it.
pub struct AddressRoles {
    pub(super) map: HashMap<MapData, PodAddress, PodRoles>,
    pub(super) filter: MappedFilter,
}

impl AddressRoles {
    /// Has packets of an address looked up from now on. To be called before a worker can make a
    /// flow of it.
    pub fn expect(&self, address: &Address, roles: Roles) {
        self.filter.add(address, roles);
    }

    /// Makes the map hold exactly these, new ones before old ones go, and [expects] them.
    ///
    /// [expects]: Self::expect
    pub fn replace(&mut self, roles: &std::collections::HashMap<Address, Roles>) -> io::Result<()> {
        for (address, roles) in roles {
            self.expect(address, *roles);
            self.map.insert(PodAddress(*address), PodRoles(*roles), 0).map_err(io_error)?;
        }
        let gone: Vec<_> = self
            .map
            .keys()
            .filter_map(Result::ok)
            .filter(|address| !roles.contains_key(&address.0))
            .collect();
        gone.iter().try_for_each(|address| self.map.remove(address)).map_err(io_error)
    }
}

/// `events`.
pub struct EventCounts(pub(super) PerCpuArray<MapData, u64>);

impl EventCounts {
    /// How often each event happened in the packet programs, over all CPUs.
    pub fn read(&self) -> io::Result<Vec<(Event, u64)>> {
        let sum = |event: Event| -> Result<_, MapError> {
            debug_assert!(event.number() < EVENTS);
            let counts = self.0.get(&event.number(), 0)?;
            Ok((event, counts.iter().sum()))
        };
        Event::ALL.iter().copied().map(sum).collect::<Result<_, _>>().map_err(io_error)
    }
}

/// `catalog`.
pub struct CatalogMap(pub(super) Array<MapData, PodCatalogEntry>);

impl CatalogMap {
    /// What was kept, by number. Numbers are given in turn, so the first free one ends the list.
    pub fn read(&self) -> io::Result<Vec<(u32, CatalogEntry)>> {
        let mut entries = Vec::new();
        for number in 1..CATALOG {
            let entry = self.0.get(&number, 0).map_err(io_error)?.0;
            if entry.kind == 0 {
                break;
            }
            entries.push((number, entry));
        }
        Ok(entries)
    }
}

impl CatalogStore for CatalogMap {
    fn put(&mut self, number: u32, entry: &CatalogEntry) -> io::Result<()> {
        self.0.set(number, PodCatalogEntry(*entry), 0).map_err(io_error)
    }
}
