use super::*;
use crate::control::network::{
    testing::{apply, interface, ip, net, topology, vlan},
    topology::Change,
};

const SERVER: Mac = [2, 0, 0, 0, 0, 0x11];
const OTHER: Mac = [2, 0, 0, 0, 0, 0x22];
const OURS: [Attached; 1] = [attached(2)];

const fn attached(index: u32) -> Attached {
    Attached { index, bounces: false }
}

fn on_link(prefix: &str, interface: u32) -> Change {
    Change::Route(Route { prefix: net(prefix), gateway: None, interface, metric: 0 })
}

fn gateway(prefix: &str, gateway: &str) -> Change {
    Change::RouteReplaced(Route {
        prefix: net(prefix),
        gateway: Some(ip(gateway)),
        interface: 2,
        metric: 0,
    })
}

fn neighbour(interface: u32, address: &str, mac: Mac) -> Change {
    Change::Neighbour((interface, ip(address)), Neighbour::Usable { mac, stale: false })
}

/// Interface 2 is the balancer's, with a subnet and a neighbour in it; 3 is another one; 4 is
/// VLAN 100 over 2; 5 is VLAN 100 over 3.
fn network() -> Topology {
    topology([
        Change::Interface(interface(2, "eth0")),
        Change::Interface(interface(3, "eth1")),
        Change::Interface(vlan(4, 100, 2)),
        Change::Interface(vlan(5, 100, 3)),
        Change::Address(2, net("10.0.0.9/24")),
        on_link("10.0.0.0/24", 2),
        on_link("10.1.0.0/24", 3),
        on_link("10.2.0.0/24", 4),
        on_link("10.3.0.0/24", 5),
        neighbour(2, "10.0.0.11", SERVER),
    ])
}

fn to(interface: u32, vlan: u16, source: u8, destination: Mac) -> NextHop {
    let source = [2, 0, 0, 0, 1, source];
    NextHop { vlan, ..NextHop::new(interface, destination, source) }
}

fn state(next_hops: &NextHops, id: NextHopId) -> State {
    next_hops.view().slot(id).unwrap().state.clone()
}

#[test]
fn an_entry_says_whether_its_interface_bounces_and_is_written_anew_when_that_changes() {
    let topology = network();
    let mut next_hops = NextHops::default();
    let id = next_hops.add_host(ip("10.0.0.11"), Role::Server).unwrap();
    let tagged = next_hops.add_host(ip("10.2.0.11"), Role::Server).unwrap();
    assert_eq!(next_hops.update(&topology, &OURS).len(), 2);
    let bounces = |next_hops: &NextHops| next_hops.view().entry(id).bounces;
    assert_eq!(bounces(&next_hops), 0);
    let trusted = [Attached { index: 2, bounces: true }];
    let expected = NextHop { bounces: 1, ..to(2, 0, 2, SERVER) };
    assert_eq!(next_hops.update(&topology, &trusted), [(id, expected)]);
    assert_eq!(next_hops.view().entry(tagged), NextHop::default(), "not resolved");
    assert_eq!(next_hops.update(&topology, &OURS), [(id, to(2, 0, 2, SERVER))]);
}

#[test]
fn a_host_s_entry_follows_its_mac_and_is_written_only_when_it_changes() {
    let mut topology = network();
    let mut next_hops = NextHops::default();
    let id = next_hops.add_host(ip("10.0.0.11"), Role::Server).unwrap();
    assert_ne!(id, NextHopId(0));
    assert_eq!(next_hops.add_host(ip("10.0.0.11"), Role::Client), Ok(id));

    assert_eq!(next_hops.update(&topology, &OURS), [(id, to(2, 0, 2, SERVER))]);
    assert_eq!(next_hops.update(&topology, &OURS), []);
    apply(&mut topology, [neighbour(2, "10.0.0.11", OTHER)]);
    assert_eq!(next_hops.update(&topology, &OURS), [(id, to(2, 0, 2, OTHER))]);
    assert_eq!(state(&next_hops, id), State::Resolved);
    assert_eq!(next_hops.view().entry(id), to(2, 0, 2, OTHER));
}

#[test]
fn a_forgotten_neighbour_serves_on_while_it_is_asked_for_and_a_failed_one_does_not() {
    let mut topology = network();
    let mut next_hops = NextHops::default();
    let id = next_hops.add_host(ip("10.0.0.11"), Role::Server).unwrap();
    let key = (2, ip("10.0.0.11"));
    assert_eq!(next_hops.update(&topology, &OURS).len(), 1);
    assert_eq!(next_hops.wanted().count(), 0);

    apply(&mut topology, [Change::NeighbourGone(key)]);
    assert_eq!(next_hops.update(&topology, &OURS), []);
    assert_eq!(state(&next_hops, id), State::Remembered);
    assert_eq!(next_hops.wanted().collect::<Vec<_>>(), [key]);

    apply(&mut topology, [Change::Neighbour(key, Neighbour::Failed)]);
    assert_eq!(next_hops.update(&topology, &OURS), [(id, NextHop::default())]);
    assert_eq!(state(&next_hops, id), State::Resolving);
    apply(&mut topology, [Change::NeighbourGone(key)]);
    assert_eq!(next_hops.update(&topology, &OURS), []);
    assert_eq!(next_hops.wanted().collect::<Vec<_>>(), [key]);
}

#[test]
fn all_clients_behind_a_gateway_share_an_entry_that_follows_the_gateway() {
    let mut topology = network();
    apply(&mut topology, [gateway("192.0.2.0/24", "10.0.0.11"), neighbour(2, "10.0.0.12", OTHER)]);
    let mut next_hops = NextHops::default();
    let changed = next_hops.update(&topology, &OURS);
    let [(id, entry)] = changed[..] else { panic!("{changed:?}") };
    assert_eq!(entry, to(2, 0, 2, SERVER));
    let view = next_hops.view();
    assert_eq!(view.toward(ip("192.0.2.1")), Toward::Known(id));
    assert_eq!(view.toward(ip("192.0.2.254")), Toward::Known(id));

    apply(&mut topology, [gateway("192.0.2.0/24", "10.0.0.12")]);
    assert_eq!(next_hops.update(&topology, &OURS), [(id, to(2, 0, 2, OTHER))]);
}

#[test]
fn flows_behind_a_removed_route_follow_the_wider_one() {
    let mut topology = network();
    let narrow = gateway("192.0.2.0/24", "10.0.0.11");
    let wide = gateway("0.0.0.0/0", "10.0.0.12");
    apply(&mut topology, [narrow.clone(), wide, neighbour(2, "10.0.0.12", OTHER)]);
    let mut next_hops = NextHops::default();
    assert_eq!(next_hops.update(&topology, &OURS).len(), 2);
    let Toward::Known(id) = next_hops.view().toward(ip("192.0.2.1")) else { panic!() };

    let Change::RouteReplaced(route) = narrow else { unreachable!() };
    apply(&mut topology, [Change::RouteGone(route)]);
    assert_eq!(next_hops.update(&topology, &OURS), [(id, to(2, 0, 2, OTHER))]);
    let Toward::Known(wide) = next_hops.view().toward(ip("192.0.2.1")) else { panic!() };
    assert_ne!(wide, id);
    assert_eq!(next_hops.view().entry(wide), to(2, 0, 2, OTHER));
}

#[test]
fn a_vlan_device_s_neighbour_is_reached_by_the_interface_below_with_the_tag() {
    let mut topology = network();
    apply(&mut topology, [neighbour(4, "10.2.0.11", SERVER)]);
    let mut next_hops = NextHops::default();
    let id = next_hops.add_host(ip("10.2.0.11"), Role::Server).unwrap();
    assert_eq!(next_hops.update(&topology, &[attached(2)]), [(id, to(2, 100, 4, SERVER))]);
    // XDP on the VLAN device itself sees no tags.
    assert_eq!(next_hops.update(&topology, &[attached(4)]), [(id, to(4, 0, 4, SERVER))]);
}

#[test]
fn what_cannot_be_reached_says_why() {
    let mut topology = network();
    let down = Interface { up: false, ..interface(6, "eth2") };
    apply(&mut topology, [Change::Interface(down), on_link("10.4.0.0/24", 6)]);
    apply(&mut topology, [on_link("10.0.0.64/26", NOWHERE)]);
    let not_ours = |name: &str| Unreachable::NotOurInterface { interface: name.into() };
    let cases = [
        ("198.51.100.1", Unreachable::NoRoute),
        ("10.0.0.77", Unreachable::Refused),
        ("10.1.0.11", not_ours("eth1")),
        ("10.3.0.11", not_ours("eth1.100")),
        ("10.0.0.9", Unreachable::Local),
        ("10.4.0.1", Unreachable::InterfaceUnusable { interface: "eth2".into() }),
    ];
    for (host, reason) in cases {
        let mut next_hops = NextHops::default();
        let id = next_hops.add_host(ip(host), Role::Client).unwrap();
        assert_eq!(
            next_hops.update(&topology, &[attached(2), attached(6)]),
            [(id, NextHop::default())],
            "{host}"
        );
        assert_eq!(state(&next_hops, id), State::Unreachable(reason), "{host}");
        assert_eq!(next_hops.view().toward(ip(host)), Toward::Unreachable, "{host}");
        assert_eq!(next_hops.wanted().count(), 0, "{host}");
    }
}

#[test]
fn workers_learn_whom_to_ask_the_control_thread_for() {
    let topology = network();
    let mut next_hops = NextHops::default();
    assert_eq!(next_hops.update(&topology, &OURS), []);
    let view = next_hops.view();
    assert_eq!(view.toward(ip("10.0.0.77")), Toward::Unknown);
    assert_eq!(view.toward(ip("10.1.0.77")), Toward::Unreachable);
    assert_eq!(view.toward(ip("198.51.100.1")), Toward::Unreachable);
    assert_eq!(view.entry(NextHopId(7)), NextHop::default());

    let id = next_hops.add_host(ip("10.0.0.77"), Role::Client).unwrap();
    assert_eq!(next_hops.update(&topology, &OURS), [(id, NextHop::default())]);
    assert_eq!(next_hops.view().toward(ip("10.0.0.77")), Toward::Known(id));
    assert_eq!(state(&next_hops, id), State::Resolving);
    assert_eq!(view.toward(ip("10.0.0.77")), Toward::Unknown, "a view does not change");
}

#[test]
fn clients_cannot_keep_servers_out() {
    let mut next_hops = NextHops::default();
    let client = |number: u32| IpAddr::from(number.to_be_bytes());
    let room = NEXT_HOPS - RESERVED_FOR_SERVERS;
    for number in 1..room {
        assert_eq!(next_hops.add_host(client(number), Role::Client), Ok(NextHopId(number)));
    }
    let target = Target::Host(client(room));
    assert_eq!(next_hops.add_host(client(room), Role::Client), Err(Full { target }));
    assert_eq!(next_hops.add_host(client(1), Role::Client), Ok(NextHopId(1)));
    let mut topology = network();
    apply(&mut topology, [gateway("192.0.2.0/24", "10.0.0.11")]);
    next_hops.update(&topology, &OURS);
    assert_eq!(next_hops.refused_gateways(), 1);
    assert_eq!(next_hops.view().toward(ip("192.0.2.1")), Toward::Unreachable);

    for number in room..NEXT_HOPS {
        assert_eq!(next_hops.add_host(client(number), Role::Server), Ok(NextHopId(number)));
    }
    let target = Target::Host(client(NEXT_HOPS));
    assert_eq!(next_hops.add_host(client(NEXT_HOPS), Role::Server), Err(Full { target }));
}

#[test]
fn ids_of_an_earlier_run_are_kept_and_their_entries_written_anew() {
    let server = Target::Host(ip("10.0.0.11"));
    let prefix = Target::Gateway(net("192.0.2.0/24"));
    let earlier = [
        (NextHopId(5), server),
        (NextHopId(3), prefix),
        (NextHopId(3), Target::Host(ip("10.0.0.12"))),
        (NextHopId(0), Target::Host(ip("10.0.0.13"))),
        (NextHopId(NEXT_HOPS), Target::Host(ip("10.0.0.14"))),
    ];
    let mut next_hops = NextHops::restored(earlier);
    assert_eq!(
        next_hops.assigned().collect::<Vec<_>>(),
        [(NextHopId(3), prefix), (NextHopId(5), server)]
    );
    assert_eq!(next_hops.add_host(ip("10.0.0.11"), Role::Server), Ok(NextHopId(5)));
    assert_eq!(next_hops.add_host(ip("10.0.0.15"), Role::Server), Ok(NextHopId(6)));
    let written = next_hops.update(&network(), &OURS);
    let resolved = to(2, 0, 2, SERVER);
    let unresolved = NextHop::default();
    assert_eq!(
        written,
        [(NextHopId(3), unresolved), (NextHopId(5), resolved), (NextHopId(6), unresolved)]
    );
}

#[test]
fn only_lasting_neighbours_are_kept_confirmed() {
    let mut topology = network();
    let stale = |address: &str| {
        Change::Neighbour((2, ip(address)), Neighbour::Usable { mac: OTHER, stale: true })
    };
    apply(
        &mut topology,
        [
            stale("10.0.0.11"),
            stale("10.0.0.12"),
            stale("10.0.0.13"),
            gateway("192.0.2.0/24", "10.0.0.13"),
        ],
    );
    let mut next_hops = NextHops::default();
    next_hops.add_host(ip("10.0.0.11"), Role::Server).unwrap();
    next_hops.add_host(ip("10.0.0.12"), Role::Client).unwrap();
    next_hops.update(&topology, &OURS);
    let expected = [(2, ip("10.0.0.11")), (2, ip("10.0.0.13"))].into();
    assert_eq!(next_hops.unconfirmed(&topology), expected);
}
