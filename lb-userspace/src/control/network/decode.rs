//! rtnetlink's messages, as changes of a [`Topology`](super::topology::Topology).

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{
        InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
        LinkMessage, LinkXdp, VlanProtocol, XdpAttached,
    },
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop,
        RouteNextHopFlags, RouteType, RouteVia,
    },
};

use super::topology::{Change, Interface, NOWHERE, Neighbour, NeighbourKey, Route, Vlan};

/// What a message says, if it says something that matters here. `replaces` is whether it came
/// with `NLM_F_REPLACE`, which is all the kernel tells of a route that was replaced.
pub fn change(message: &RouteNetlinkMessage, replaces: bool) -> Option<Change> {
    Some(match message {
        RouteNetlinkMessage::NewLink(link) => Change::Interface(interface(link)?),
        RouteNetlinkMessage::DelLink(link) => Change::InterfaceGone(interface(link)?.index),
        RouteNetlinkMessage::NewAddress(message) => {
            Change::Address(message.header.index, address(message)?)
        }
        RouteNetlinkMessage::DelAddress(message) => {
            Change::AddressGone(message.header.index, address(message)?)
        }
        RouteNetlinkMessage::NewRoute(message) if replaces => {
            Change::RouteReplaced(route(message)?)
        }
        RouteNetlinkMessage::NewRoute(message) => Change::Route(route(message)?),
        RouteNetlinkMessage::DelRoute(message) => Change::RouteGone(route(message)?),
        RouteNetlinkMessage::NewNeighbour(message) => neighbour(message)?,
        RouteNetlinkMessage::DelNeighbour(message) => {
            Change::NeighbourGone(neighbour_key(message)?)
        }
        _ => return None,
    })
}

/// Whether a message is about a change that it does not tell in full: of a multipath route (a hop
/// that died, an IPv6 hop that was appended), or of a unicast route that another kind replaced.
pub fn is_partial(message: &RouteNetlinkMessage, replaces: bool) -> bool {
    let (RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route)) = message
    else {
        return false;
    };
    let is_multipath =
        |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::MultiPath(_));
    route.attributes.iter().any(is_multipath) || replaces && route.header.kind != RouteType::Unicast
}

/// `None` for messages of other families: a bridge tells of its ports, and of a port that left
/// it, in the same kind of message.
fn interface(message: &LinkMessage) -> Option<Interface> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let attributes = &message.attributes;
    let name = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let mac = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    });
    Some(Interface {
        index: message.header.index,
        name,
        mac: mac.filter(|_| message.header.link_layer_type == LinkLayerType::Ether),
        up: message.header.flags.contains(LinkFlags::Up),
        vlan: vlan(attributes),
    })
}

/// Whether there is no device behind an interface. Those that the kernel makes on request tell of what
/// kind they are (`IFLA_INFO_KIND`); a device's driver has none.
pub(super) fn is_virtual(message: &LinkMessage) -> bool {
    let has_kind = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::LinkInfo(info) => info.iter().any(|it| matches!(it, LinkInfo::Kind(_))),
        _ => false,
    };
    message.header.link_layer_type == LinkLayerType::Loopback
        || message.attributes.iter().any(has_kind)
}

/// Most bytes of an IP packet that the interface sends; as of Ethernet if the kernel does not say.
pub(super) fn mtu(message: &LinkMessage) -> u32 {
    let told = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    told.unwrap_or(1500)
}

/// Whether an interface is one of a pair of veths.
pub(super) fn is_veth(message: &LinkMessage) -> bool {
    let veth = LinkInfo::Kind(InfoKind::Veth);
    message.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => info.contains(&veth),
        _ => false,
    })
}

/// The far end of a veth: its index, and the identifier that this network namespace has for the far
/// end's, if that is another one.
pub(super) fn far_end(message: &LinkMessage) -> Option<(u32, Option<i32>)> {
    let (mut index, mut namespace) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Link(far) => index = Some(*far),
            LinkAttribute::LinkNetNsId(id) => namespace = Some(*id),
            _ => {}
        }
    }
    index.filter(|_| is_veth(message)).map(|index| (index, namespace))
}

/// Where XDP programs run on an interface, if any do.
pub(super) fn xdp(message: &LinkMessage) -> XdpAttached {
    let attached = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => xdp.iter().find_map(|xdp| match xdp {
            LinkXdp::Attached(attached) => Some(*attached),
            _ => None,
        }),
        _ => None,
    });
    attached.unwrap_or(XdpAttached::None)
}

/// Whether an XDP program runs in an interface's driver.
pub(super) fn runs_native_xdp(message: &LinkMessage) -> bool {
    // `Multiple`: one in the driver, and one besides.
    matches!(xdp(message), XdpAttached::Driver | XdpAttached::Multiple)
}

/// Only of 802.1Q devices over an interface of this network namespace.
fn vlan(attributes: &[LinkAttribute]) -> Option<Vlan> {
    let mut parent = None;
    let mut id = None;
    for attribute in attributes {
        match attribute {
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::LinkNetNsId(_) => return None,
            LinkAttribute::LinkInfo(info) => id = vlan_id(info),
            _ => {}
        }
    }
    Some(Vlan { id: id?, parent: parent? })
}

fn vlan_id(info: &[LinkInfo]) -> Option<u16> {
    let data = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    })?;
    if data.contains(&InfoVlan::Protocol(VlanProtocol::Ieee8021Ad)) {
        return None;
    }
    data.iter().find_map(|attribute| match attribute {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}

/// `IFA_LOCAL` where there is one: on point-to-point links `IFA_ADDRESS` is the other end's.
fn address(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    IpNet::new(address, message.header.prefix_len).ok()
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let unspecified = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    if !(header.kind == RouteType::Unicast || refuses(header.kind))
        || header.flags.contains(RouteFlags::Cloned)
    {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut destination = unspecified;
    let mut metric = 0;
    let mut hop = hop(&message.attributes);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => destination = route_address(address)?,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::MultiPath(hops) => hop = usable_hop(hops),
            _ => {}
        }
    }
    let (interface, gateway) = if refuses(header.kind) { (NOWHERE, None) } else { hop? };
    (table == u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(())?;
    let prefix = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some(Route { prefix, gateway, interface, metric })
}

/// Whether packets that such a route is for go nowhere, whatever wider route there is.
fn refuses(kind: RouteType) -> bool {
    matches!(kind, RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit)
}

type Hop = (u32, Option<IpAddr>);

fn hop(attributes: &[RouteAttribute]) -> Option<Hop> {
    let interface = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })?;
    Some((interface, gateway(attributes)))
}

fn usable_hop(hops: &[RouteNextHop]) -> Option<Hop> {
    let unusable = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
    let hop = hops.iter().find(|hop| !hop.flags.intersects(unusable)).or(hops.first())?;
    Some((hop.interface_index, gateway(&hop.attributes)))
}

/// `RTA_VIA` is a gateway of the other family (RFC 5549).
fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => route_address(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

fn route_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn neighbour(message: &NeighbourMessage) -> Option<Change> {
    let key = neighbour_key(message)?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    });
    Some(match (message.header.state, mac) {
        (NeighbourState::Failed, _) => Change::Neighbour(key, Neighbour::Failed),
        (
            NeighbourState::Reachable
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp,
            Some(mac),
        ) => Change::Neighbour(key, Neighbour::Usable { mac, stale: false }),
        (NeighbourState::Stale, Some(mac)) => {
            Change::Neighbour(key, Neighbour::Usable { mac, stale: true })
        }
        _ => Change::NeighbourGone(key),
    })
}

/// `None` for other families (a bridge's forwarding table comes in the same messages) and for
/// addresses that the host answers for in others' place.
fn neighbour_key(message: &NeighbourMessage) -> Option<NeighbourKey> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::from(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::from(*v6)),
        _ => None,
    })?;
    Some((message.header.ifindex, address))
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::{InfoKind, InfoPortKind};

    use super::*;
    use crate::control::network::testing::{interface as ethernet, ip, net, vlan as vlan_device};

    fn link(index: u8, name: &str, more: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index.into();
        message.header.link_layer_type = LinkLayerType::Ether;
        message.header.flags = LinkFlags::Up;
        let mac = LinkAttribute::Address(vec![2, 0, 0, 0, 1, index]);
        message.attributes = vec![LinkAttribute::IfName(name.into()), mac];
        message.attributes.extend(more);
        message
    }

    fn vlan_link(protocol: VlanProtocol) -> LinkMessage {
        let data = InfoData::Vlan(vec![InfoVlan::Protocol(protocol), InfoVlan::Id(100)]);
        let info = vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)];
        link(4, "eth0.100", vec![LinkAttribute::Link(2), LinkAttribute::LinkInfo(info)])
    }

    fn new_link(message: LinkMessage) -> Option<Change> {
        change(&RouteNetlinkMessage::NewLink(message), false)
    }

    #[test]
    fn vlan_devices_are_known_if_they_are_802_1q_over_an_interface_of_this_namespace() {
        let device = vlan_device(4, 100, 2);
        let without = Interface { vlan: None, ..device.clone() };
        let q = vlan_link(VlanProtocol::Ieee8021Q);
        let mut elsewhere = q.clone();
        elsewhere.attributes.push(LinkAttribute::LinkNetNsId(0));
        assert_eq!(new_link(q), Some(Change::Interface(device)));
        let ad = vlan_link(VlanProtocol::Ieee8021Ad);
        assert_eq!(new_link(ad), Some(Change::Interface(without.clone())));
        assert_eq!(new_link(elsewhere), Some(Change::Interface(without)));
    }

    #[test]
    fn an_interface_is_virtual_if_it_has_a_kind_or_is_the_loopback() {
        let kinds = [InfoKind::Veth, InfoKind::Vlan, InfoKind::Bond, InfoKind::Other("new".into())];
        for kind in kinds {
            let info = vec![LinkInfo::Kind(kind.clone())];
            let message = link(2, "eth0", vec![LinkAttribute::LinkInfo(info)]);
            assert!(is_virtual(&message), "{kind:?}");
        }
        // A port of a bridge says of what kind its master is.
        let port = LinkInfo::PortKind(InfoPortKind::Bridge);
        for more in [vec![], vec![LinkAttribute::LinkInfo(vec![port])]] {
            assert!(!is_virtual(&link(2, "eth0", more)));
        }
        let mut loopback = link(1, "lo", vec![]);
        loopback.header.link_layer_type = LinkLayerType::Loopback;
        assert!(is_virtual(&loopback));
    }

    #[test]
    fn only_a_veth_has_a_far_end() {
        let of = |kind: InfoKind, more: &[LinkAttribute]| {
            let info = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]);
            far_end(&link(2, "eth0", [&[info], more].concat()))
        };
        let far = LinkAttribute::Link(7);
        assert_eq!(of(InfoKind::Veth, std::slice::from_ref(&far)), Some((7, None)));
        let elsewhere = [far.clone(), LinkAttribute::LinkNetNsId(3)];
        assert_eq!(of(InfoKind::Veth, &elsewhere), Some((7, Some(3))));
        assert_eq!(of(InfoKind::Vlan, std::slice::from_ref(&far)), None);
        assert_eq!(of(InfoKind::Veth, &[]), None);
        let info = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]);
        assert!(is_veth(&link(2, "eth0", vec![info])) && !is_veth(&link(2, "eth0", vec![])));
        assert_eq!(far_end(&link(2, "eth0", vec![far])), None);
    }

    #[test]
    fn native_xdp_is_told_apart_from_generic() {
        let cases = [
            (XdpAttached::Driver, true),
            (XdpAttached::Multiple, true),
            (XdpAttached::SocketBuffer, false),
            (XdpAttached::None, false),
        ];
        for (attached, native) in cases {
            let told = LinkAttribute::Xdp(vec![LinkXdp::Attached(attached), LinkXdp::ProgId(5)]);
            let message = link(2, "eth0", vec![told]);
            assert_eq!(xdp(&message), attached);
            assert_eq!(runs_native_xdp(&message), native, "{attached:?}");
        }
        assert_eq!(xdp(&link(2, "eth0", vec![])), XdpAttached::None);
    }

    #[test]
    fn a_veth_s_peer_is_not_taken_for_the_interface_below_a_vlan() {
        let message = link(2, "eth0", vec![LinkAttribute::Link(7)]);
        assert_eq!(new_link(message), Some(Change::Interface(ethernet(2, "eth0"))));
    }

    #[test]
    fn a_port_that_leaves_a_bridge_is_not_gone() {
        let mut message = link(2, "eth0", vec![]);
        let gone =
            |message: &LinkMessage| change(&RouteNetlinkMessage::DelLink(message.clone()), false);
        assert_eq!(gone(&message), Some(Change::InterfaceGone(2)));
        message.header.interface_family = AddressFamily::Bridge;
        assert_eq!(gone(&message), None);
    }

    #[test]
    fn routes_of_the_main_table_count_that_lead_somewhere_or_refuse() {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 24;
        message.header.kind = RouteType::Unicast;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet([192, 0, 2, 0].into())),
            RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap())),
            RouteAttribute::Oif(2),
            RouteAttribute::Priority(100),
        ];
        let gateway = Some(ip("fe80::1"));
        let expected = Route { prefix: net("192.0.2.0/24"), gateway, interface: 2, metric: 100 };
        assert_eq!(route(&message), Some(expected));

        let mut other_table = message.clone();
        other_table.attributes.push(RouteAttribute::Table(1000));
        assert_eq!(route(&other_table), None);
        for kind in [RouteType::BlackHole, RouteType::Unreachable, RouteType::Prohibit] {
            message.header.kind = kind;
            let refused = Route { gateway: None, interface: NOWHERE, ..expected };
            assert_eq!(route(&message), Some(refused), "{kind:?}");
        }
        message.header.kind = RouteType::Local;
        assert_eq!(route(&message), None);
    }

    #[test]
    fn a_neighbour_is_usable_failed_or_unknown_by_its_state() {
        use NeighbourState as S;
        let mac = [2, 0, 0, 0, 0, 1];
        let key = (2, ip("10.0.0.1"));
        let usable = |stale| Change::Neighbour(key, Neighbour::Usable { mac, stale });
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = 2;
        let address = NeighbourAddress::Inet([10, 0, 0, 1].into());
        message.attributes = vec![
            NeighbourAttribute::Destination(address),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        let cases = [
            (S::Reachable, usable(false)),
            (S::Delay, usable(false)),
            (S::Probe, usable(false)),
            (S::Permanent, usable(false)),
            (S::Noarp, usable(false)),
            (S::Stale, usable(true)),
            (S::Failed, Change::Neighbour(key, Neighbour::Failed)),
            (S::Incomplete, Change::NeighbourGone(key)),
            (S::None, Change::NeighbourGone(key)),
        ];
        for (state, expected) in cases {
            message.header.state = state;
            assert_eq!(neighbour(&message), Some(expected), "{state:?}");
        }
        message.header.flags = NeighbourFlags::Proxy;
        assert_eq!(neighbour(&message), None);
    }
}
