//! What the kernel knows of the network: interfaces, addresses, routes, neighbours.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;
use lb_common::next_hop::Mac;

use super::prefixes::Prefixes;

/// A network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, if it is that kind of interface.
    pub mac: Option<Mac>,
    /// Whether it was set up (`IFF_UP`), carrier or not.
    pub up: bool,
    /// Set for a VLAN device.
    pub vlan: Option<Vlan>,
}

/// What a VLAN device (IEEE 802.1Q) adds to the interface below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vlan {
    /// VLAN identifier.
    pub id: u16,
    /// Index of the interface below.
    pub parent: u32,
}

/// Where a route leads that refuses packets: the kernel gives no interface this index.
pub const NOWHERE: u32 = 0;

/// A route of the main table: a unicast route, or one that refuses packets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Route {
    /// Where to.
    pub prefix: IpNet,
    /// Through whom; `None` if the destinations are on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the interface that packets leave by, or [`NOWHERE`].
    pub interface: u32,
    /// The lowest wins.
    pub metric: u32,
}

impl Route {
    /// Whose MAC a packet to `destination` is sent to.
    pub fn via(&self, destination: IpAddr) -> IpAddr {
        self.gateway.unwrap_or(destination)
    }
}

/// Whom the kernel's neighbour table speaks of: interface and address.
pub type NeighbourKey = (u32, IpAddr);

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Neighbour {
    /// Packets can be sent to it.
    Usable {
        /// Its MAC.
        mac: Mac,
        /// Not confirmed for a while: `NUD_STALE`.
        stale: bool,
    },
    /// It was asked for and did not answer: `NUD_FAILED`.
    Failed,
}

/// A step from one topology to the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// An interface appeared or changed.
    Interface(Interface),
    /// The interface with this index went away.
    InterfaceGone(u32),
    /// An interface has this address, with its subnet's prefix length.
    Address(u32, IpNet),
    /// It no longer has.
    AddressGone(u32, IpNet),
    /// A route was added.
    Route(Route),
    /// A route took the place of the one with its prefix and metric.
    RouteReplaced(Route),
    /// A route was removed.
    RouteGone(Route),
    /// A neighbour appeared or changed.
    Neighbour(NeighbourKey, Neighbour),
    /// The kernel forgot a neighbour, or is only just asking for it.
    NeighbourGone(NeighbourKey),
}

/// Whether a change told everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Applied {
    /// The topology is what the kernel's is.
    Whole,
    /// Everything has to be read anew. Either the kernel drops IPv4 routes without a word when it
    /// makes this change (`fib_sync_down_dev` and `fib_sync_down_addr` in
    /// net/ipv4/fib_semantics.c), or it did not tell which of several routes it replaced.
    ReadAnew,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    interfaces: HashMap<u32, Interface>,
    addresses: HashSet<(u32, IpNet)>,
    /// By prefix, each list by metric; among equals the first that was added.
    routes: Prefixes<Vec<Route>>,
    neighbours: HashMap<NeighbourKey, Neighbour>,
}

impl Topology {
    /// Makes a change. Making it twice, or when it was made already, does no harm: what the
    /// kernel told while its tables were being read is applied over what was read.
    pub fn apply(&mut self, change: Change) -> Applied {
        match change {
            Change::Interface(interface) => return self.set_interface(interface),
            Change::InterfaceGone(index) => {
                self.remove_interface(index);
                return Applied::ReadAnew;
            }
            Change::Address(interface, address) => {
                self.addresses.insert((interface, address));
            }
            Change::AddressGone(interface, address) => {
                self.addresses.remove(&(interface, address));
                return Applied::ReadAnew;
            }
            Change::Route(route) => self.add_route(route),
            Change::RouteReplaced(route) => return self.replace_route(route),
            Change::RouteGone(route) => self.remove_route(&route),
            Change::Neighbour(key, neighbour) => {
                self.neighbours.insert(key, neighbour);
            }
            Change::NeighbourGone(key) => {
                self.neighbours.remove(&key);
            }
        }
        Applied::Whole
    }

    /// The route that a packet to `destination` takes: longest prefix, then lowest metric.
    pub fn route_to(&self, destination: IpAddr) -> Option<&Route> {
        self.routes.longest(destination)?.first()
    }

    /// The route for all of `prefix`: its own, or else that of the longest prefix around it.
    pub fn route_over(&self, prefix: IpNet) -> Option<&Route> {
        self.routes.longest_over(prefix)?.first()
    }

    /// The route that counts for each prefix.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter_map(|(_, routes)| routes.first())
    }

    /// An interface by its index.
    pub fn interface(&self, index: u32) -> Option<&Interface> {
        self.interfaces.get(&index)
    }

    /// An interface by its name.
    pub fn interface_named(&self, name: &str) -> Option<&Interface> {
        self.interfaces.values().find(|interface| interface.name == name)
    }

    /// All interfaces, in no order.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.values()
    }

    /// The host's own addresses with their interfaces' indices, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = (u32, IpNet)> + use<'_> {
        self.addresses.iter().copied()
    }

    /// What the kernel knows of a neighbour; `None`: nothing, or nothing yet.
    pub fn neighbour(&self, key: NeighbourKey) -> Option<Neighbour> {
        self.neighbours.get(&key).copied()
    }

    fn set_interface(&mut self, interface: Interface) -> Applied {
        let up = interface.up;
        let before = self.interfaces.insert(interface.index, interface);
        if before.is_some_and(|before| before.up) && !up {
            Applied::ReadAnew
        } else {
            Applied::Whole
        }
    }

    fn remove_interface(&mut self, index: u32) {
        self.interfaces.remove(&index);
        self.addresses.retain(|(interface, _)| *interface != index);
        self.neighbours.retain(|(interface, _), _| *interface != index);
    }

    fn add_route(&mut self, route: Route) {
        let routes = self.routes.entry(route.prefix);
        if !routes.contains(&route) {
            let place = routes.partition_point(|other| other.metric <= route.metric);
            routes.insert(place, route);
        }
    }

    fn replace_route(&mut self, route: Route) -> Applied {
        let routes = self.routes.entry(route.prefix);
        let mut equals = routes.iter_mut().filter(|other| other.metric == route.metric);
        match (equals.next(), equals.next()) {
            (None, _) => self.add_route(route),
            (Some(old), None) => *old = route,
            (Some(_), Some(_)) => return Applied::ReadAnew,
        }
        Applied::Whole
    }

    fn remove_route(&mut self, route: &Route) {
        let Some(routes) = self.routes.get_mut(route.prefix) else {
            return;
        };
        routes.retain(|other| other != route);
        if routes.is_empty() {
            self.routes.remove(route.prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::network::testing::{interface, ip, net, topology};

    fn route(prefix: &str, gateway: &str, metric: u32) -> Route {
        Route { prefix: net(prefix), gateway: Some(ip(gateway)), interface: 2, metric }
    }

    fn gateway(topology: &Topology, destination: &str) -> Option<IpAddr> {
        topology.route_to(ip(destination))?.gateway
    }

    #[test]
    fn the_longest_prefix_counts_and_then_the_lowest_metric() {
        let topology = topology([
            Change::Route(route("0.0.0.0/0", "10.0.0.1", 0)),
            Change::Route(route("192.0.2.0/24", "10.0.0.2", 200)),
            Change::Route(route("192.0.2.0/24", "10.0.0.3", 100)),
        ]);
        assert_eq!(gateway(&topology, "192.0.2.7"), Some(ip("10.0.0.3")));
        assert_eq!(gateway(&topology, "198.51.100.1"), Some(ip("10.0.0.1")));
        assert_eq!(gateway(&topology, "2001:db8::1"), None);
    }

    #[test]
    fn a_replaced_route_leaves_one_and_a_removed_one_uncovers_the_next() {
        let mut topology = topology([
            Change::Route(route("192.0.2.0/24", "10.0.0.2", 100)),
            Change::Route(route("192.0.2.0/24", "10.0.0.9", 200)),
        ]);
        let replaced = route("192.0.2.0/24", "10.0.0.3", 100);
        assert_eq!(topology.apply(Change::RouteReplaced(replaced)), Applied::Whole);
        assert_eq!(gateway(&topology, "192.0.2.7"), Some(ip("10.0.0.3")));
        assert_eq!(topology.apply(Change::RouteGone(replaced)), Applied::Whole);
        assert_eq!(gateway(&topology, "192.0.2.7"), Some(ip("10.0.0.9")));
        let last = route("192.0.2.0/24", "10.0.0.9", 200);
        assert_eq!(topology.apply(Change::RouteGone(last)), Applied::Whole);
        assert_eq!(topology.route_to(ip("192.0.2.7")), None);
    }

    #[test]
    fn a_change_made_twice_or_before_it_was_told_does_no_harm() {
        let first = route("192.0.2.0/24", "10.0.0.1", 0);
        let second = route("192.0.2.0/24", "10.0.0.2", 0);
        let mut topology = topology([Change::Route(second), Change::Route(second)]);
        assert_eq!(topology.apply(Change::RouteReplaced(second)), Applied::Whole);
        assert_eq!(topology.apply(Change::Route(first)), Applied::Whole);
        assert_eq!(topology.apply(Change::RouteReplaced(second)), Applied::ReadAnew);
        assert_eq!(topology.apply(Change::RouteGone(first)), Applied::Whole);
        assert_eq!(topology.apply(Change::RouteGone(first)), Applied::Whole);
        assert_eq!(gateway(&topology, "192.0.2.7"), Some(ip("10.0.0.2")));
    }

    #[test]
    fn what_makes_the_kernel_drop_routes_silently_calls_for_a_new_reading() {
        let mut topology = topology([Change::Address(2, net("10.0.0.9/24"))]);
        let up = interface(2, "eth0");
        let down = Interface { up: false, ..up.clone() };
        assert_eq!(topology.apply(Change::Interface(down.clone())), Applied::Whole);
        assert_eq!(topology.apply(Change::Interface(up)), Applied::Whole);
        assert_eq!(topology.apply(Change::Interface(down)), Applied::ReadAnew);
        let gone = Change::AddressGone(2, net("10.0.0.9/24"));
        assert_eq!(topology.apply(gone), Applied::ReadAnew);
        assert_eq!(topology.addresses().count(), 0);
        assert_eq!(topology.apply(Change::InterfaceGone(2)), Applied::ReadAnew);
        assert_eq!(topology.interface_named("eth0"), None);
    }
}
