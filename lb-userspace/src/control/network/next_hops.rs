//! Which entry of the `next_hops` map leads where, and what belongs into it.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;
use lb_common::next_hop::{Mac, NEXT_HOPS, NextHop, NextHopId};
use serde::{Deserialize, Serialize};

use super::{
    prefixes::Prefixes,
    topology::{Interface, NOWHERE, Neighbour, NeighbourKey, Route, Topology},
    view::{NextHopView, Toward},
};

/// What an entry leads to. It keeps its id for as long as the instance lives, whatever becomes
/// of the network: flows hold ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A host, by whatever way leads to it: a server, or a client on the link.
    Host(IpAddr),
    /// The gateway of the route for this prefix, for all clients behind it; of the next wider
    /// route while this one is gone.
    Gateway(IpNet),
}

/// Who wants a host to be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The configuration: a server.
    Server,
    /// A worker: a client on the link.
    Client,
}

/// Entries that clients and gateways may not take, so that strangers on the link cannot keep
/// servers out.
pub const RESERVED_FOR_SERVERS: u32 = NEXT_HOPS / 4;

/// No entry of the map is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "no next hop is free for {target:?}: an instance knows at most {NEXT_HOPS}, of which \
     {RESERVED_FOR_SERVERS} are kept for servers"
)]
pub struct Full {
    /// What there is no entry for.
    pub target: Target,
}

/// What is known of a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Packets can be sent to it.
    Resolved,
    /// The kernel forgot the neighbour, which it does with those that it does not itself send to.
    /// It is being asked for anew; until it answers or fails to, its last MAC serves.
    Remembered,
    /// The neighbour is being asked for.
    Resolving,
    /// No packet can be sent to it.
    Unreachable(Unreachable),
}

/// Why packets cannot be sent to a target.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreachable {
    /// Nothing in the main routing table.
    #[error("no route in the main table leads to it")]
    NoRoute,
    /// A route that says so, longer than any that leads somewhere.
    #[error("a `blackhole`, `unreachable` or `prohibit` route in the main table refuses it")]
    Refused,
    /// XDP can send only by the interfaces that it is attached to.
    #[error(
        "its route leaves by `{interface}`, which is not among the instance's interfaces (nor is \
         it a VLAN of one)"
    )]
    NotOurInterface {
        /// The interface's name, or its index if it is gone.
        interface: String,
    },
    /// The interface is down, or not an Ethernet.
    #[error("its route leaves by `{interface}`, which is down or has no Ethernet address")]
    InterfaceUnusable {
        /// The interface's name.
        interface: String,
    },
    /// One of the host's own addresses: XDP cannot deliver to the host it runs on.
    #[error("it is an address of this host itself")]
    Local,
}

/// A target with its entry.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Where it leads.
    pub target: Target,
    /// What is in the map.
    pub entry: NextHop,
    /// Why.
    pub state: State,
    role: Role,
    neighbour: Option<NeighbourKey>,
    written: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct NextHops {
    ids: HashMap<Target, NextHopId>,
    /// By id.
    slots: Vec<Option<Slot>>,
    routes: Prefixes<Toward>,
    refused_gateways: usize,
}

impl NextHops {
    /// With the ids that an earlier run of the daemon gave: flows that outlived it hold them.
    /// Ids that cannot be are skipped.
    pub fn restored(assigned: impl IntoIterator<Item = (NextHopId, Target)>) -> Self {
        let mut next_hops = Self::default();
        for (id, target) in assigned {
            let is_new = next_hops.is_free(id) && !next_hops.ids.contains_key(&target);
            if (1..NEXT_HOPS).contains(&id.0) && is_new {
                next_hops.assign(id, target, Role::Client);
            }
        }
        next_hops
    }

    /// The ids in use.
    pub fn assigned(&self) -> impl Iterator<Item = (NextHopId, Target)> {
        self.slots().map(|(id, slot)| (id, slot.target))
    }

    /// The id for a host, a new one if it has none. Its entry comes with the next
    /// [`update`](Self::update).
    ///
    /// # Errors
    ///
    /// When no entry is free.
    pub fn add_host(&mut self, host: IpAddr, role: Role) -> Result<NextHopId, Full> {
        let id = self.add(Target::Host(host), role)?;
        if let (Role::Server, Some(Some(slot))) = (role, self.slots.get_mut(id.0 as usize)) {
            slot.role = Role::Server;
        }
        Ok(id)
    }

    /// Follows the topology; `interfaces` are those that XDP is attached to.
    /// Returns the entries that changed, to be written to the map: all of them the first time,
    /// for the map may hold what an earlier run left.
    pub fn update(
        &mut self,
        topology: &Topology,
        interfaces: &[Attached],
    ) -> Vec<(NextHopId, NextHop)> {
        self.add_gateways(topology);
        let network = Network::new(topology, interfaces);
        let mut changed = Vec::new();
        for (id, slot) in (0..).map(NextHopId).zip(&mut self.slots) {
            if let Some(slot) = slot
                && slot.follow(&network)
            {
                changed.push((id, slot.entry));
            }
        }
        self.routes = self.directions(&network);
        changed
    }

    /// What an entry leads to.
    pub fn target(&self, id: NextHopId) -> Option<Target> {
        Some(self.slots.get(id.0 as usize)?.as_ref()?.target)
    }

    /// What the workers get to see.
    pub fn view(&self) -> NextHopView {
        let hosts = self.ids.iter().filter_map(|(target, id)| match target {
            Target::Host(host) => Some((*host, *id)),
            Target::Gateway(_) => None,
        });
        NextHopView::new(self.slots.clone(), hosts.collect(), self.routes.clone())
    }

    /// The neighbours to be asked for.
    pub fn wanted(&self) -> impl Iterator<Item = NeighbourKey> {
        let wanted = |slot: &Slot| matches!(slot.state, State::Resolving | State::Remembered);
        self.slots().filter(move |(_, slot)| wanted(slot)).filter_map(|(_, slot)| slot.neighbour)
    }

    /// The servers' and gateways' neighbours whose MAC the kernel has not confirmed for a while.
    pub fn unconfirmed(&self, topology: &Topology) -> HashSet<NeighbourKey> {
        let lasting =
            |slot: &Slot| slot.role == Role::Server || matches!(slot.target, Target::Gateway(_));
        let neighbours = self.slots().filter(|(_, slot)| lasting(slot));
        let neighbours = neighbours.filter_map(|(_, slot)| slot.neighbour);
        neighbours.filter(|key| is_stale(topology, *key)).collect()
    }

    /// How many routes' gateways found no entry free.
    pub fn refused_gateways(&self) -> usize {
        self.refused_gateways
    }

    fn slots(&self) -> impl Iterator<Item = (NextHopId, &Slot)> {
        let slots = (0..).map(NextHopId).zip(&self.slots);
        slots.filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }

    fn is_free(&self, id: NextHopId) -> bool {
        self.slots.get(id.0 as usize).is_none_or(Option::is_none)
    }

    fn add(&mut self, target: Target, role: Role) -> Result<NextHopId, Full> {
        if let Some(id) = self.ids.get(&target) {
            return Ok(*id);
        }
        let end = match role {
            Role::Server => NEXT_HOPS,
            Role::Client => NEXT_HOPS - RESERVED_FOR_SERVERS,
        };
        // Ids are only ever added: the first free one is past the last, but for gaps in what was
        // restored, which nothing needs.
        let id = NextHopId(u32::try_from(self.slots.len().max(1)).unwrap_or(u32::MAX));
        if id.0 >= end {
            return Err(Full { target });
        }
        self.assign(id, target, role);
        Ok(id)
    }

    fn assign(&mut self, id: NextHopId, target: Target, role: Role) {
        let index = id.0 as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, None);
        }
        self.slots[index] = Some(Slot {
            target,
            entry: NextHop::default(),
            state: State::Unreachable(Unreachable::NoRoute),
            role,
            neighbour: None,
            written: false,
        });
        self.ids.insert(target, id);
    }

    fn add_gateways(&mut self, topology: &Topology) {
        let gateways = topology.routes().filter(|route| route.gateway.is_some());
        let refused =
            |route: &Route| self.add(Target::Gateway(route.prefix), Role::Client).is_err();
        self.refused_gateways = gateways.copied().filter(refused).count();
    }

    /// What a worker does with a client's address, by route.
    fn directions(&self, network: &Network) -> Prefixes<Toward> {
        let mut directions = Prefixes::default();
        for route in network.topology.routes() {
            let gateway = self.ids.get(&Target::Gateway(route.prefix));
            *directions.entry(route.prefix) = match (route.gateway, gateway) {
                _ if network.exit(route.interface).is_err() => Toward::Unreachable,
                (Some(_), Some(id)) => Toward::Known(*id),
                (Some(_), None) => Toward::Unreachable,
                (None, _) => Toward::Unknown,
            };
        }
        directions
    }
}

impl Slot {
    /// Whether the entry changed.
    fn follow(&mut self, network: &Network) -> bool {
        let (entry, state, neighbour) = match network.way_to(self.target) {
            Ok(way) => self.take(&way, network.topology.neighbour(way.neighbour)),
            Err(reason) => (NextHop::default(), State::Unreachable(reason), None),
        };
        let changed = !self.written || entry != self.entry;
        (self.entry, self.state, self.neighbour) = (entry, state, neighbour);
        self.written = true;
        changed
    }

    fn take(&self, way: &Way, known: Option<Neighbour>) -> (NextHop, State, Option<NeighbourKey>) {
        let is_same = self.neighbour == Some(way.neighbour) && self.entry.is_resolved();
        let (mac, state) = match known {
            Some(Neighbour::Usable { mac, .. }) => (Some(mac), State::Resolved),
            None if is_same => (Some(self.entry.destination()), State::Remembered),
            None | Some(Neighbour::Failed) => (None, State::Resolving),
        };
        let entry = mac.map_or_else(NextHop::default, |mac| way.exit.toward(mac));
        (entry, state, Some(way.neighbour))
    }
}

/// An interface that XDP is attached to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The kernel's number for it.
    pub index: u32,
    /// See [`NextHop::bounces`].
    pub bounces: bool,
}

/// How packets leave the host by one of its interfaces.
#[derive(Clone, Copy, Debug)]
struct Exit {
    by: Attached,
    vlan: u16,
    source: Mac,
}

impl Exit {
    fn toward(self, destination: Mac) -> NextHop {
        let Self { by: Attached { index, bounces }, vlan, source } = self;
        let bounces = u8::from(bounces);
        NextHop { vlan, bounces, ..NextHop::new(index, destination, source) }
    }
}

/// How packets reach a target, but for the MAC.
struct Way {
    exit: Exit,
    neighbour: NeighbourKey,
}

/// A topology as one instance sees it.
struct Network<'a> {
    topology: &'a Topology,
    interfaces: &'a [Attached],
    local: HashSet<IpAddr>,
}

impl<'a> Network<'a> {
    fn new(topology: &'a Topology, interfaces: &'a [Attached]) -> Self {
        let local = topology.addresses().map(|(_, address)| address.addr()).collect();
        Self { topology, interfaces, local }
    }

    fn way_to(&self, target: Target) -> Result<Way, Unreachable> {
        let (route, via) = match target {
            Target::Host(host) if self.local.contains(&host) => return Err(Unreachable::Local),
            Target::Host(host) => {
                self.topology.route_to(host).map(|route| (route, route.via(host)))
            }
            Target::Gateway(prefix) => {
                self.topology.route_over(prefix).and_then(|route| Some((route, route.gateway?)))
            }
        }
        .ok_or(Unreachable::NoRoute)?;
        Ok(Way { exit: self.exit(route.interface)?, neighbour: (route.interface, via) })
    }

    fn exit(&self, index: u32) -> Result<Exit, Unreachable> {
        if index == NOWHERE {
            return Err(Unreachable::Refused);
        }
        let Some(interface) = self.topology.interface(index) else {
            return Err(Unreachable::NotOurInterface { interface: index.to_string() });
        };
        let name = || interface.name.clone();
        let (by, vlan) = self
            .attached(interface)
            .ok_or_else(|| Unreachable::NotOurInterface { interface: name() })?;
        let source = interface.mac.filter(|_| interface.up);
        let source = source.ok_or_else(|| Unreachable::InterfaceUnusable { interface: name() })?;
        Ok(Exit { by, vlan, source })
    }

    /// The interface that XDP sends by, and the tag: XDP on an interface sees the frames of the
    /// VLANs over it, and has to tag its own.
    fn attached(&self, interface: &Interface) -> Option<(Attached, u16)> {
        let attached = |index| self.interfaces.iter().find(|it| it.index == index).copied();
        if let Some(itself) = attached(interface.index) {
            return Some((itself, 0));
        }
        let vlan = interface.vlan?;
        Some((attached(vlan.parent)?, vlan.id))
    }
}

fn is_stale(topology: &Topology, key: NeighbourKey) -> bool {
    matches!(topology.neighbour(key), Some(Neighbour::Usable { stale: true, .. }))
}

#[cfg(test)]
#[path = "next_hops_tests.rs"]
mod tests;
