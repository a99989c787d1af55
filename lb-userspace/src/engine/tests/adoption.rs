//! A daemon that finds the flows of an earlier one.

use std::collections::HashSet;

use super::{frames::*, world::*, *};
use crate::{flow_table::Direction, pool::ServerStates};

const PORTS: &str = "snat_ports = \"2000-2009\"";

fn query(port: u16) -> Message {
    udp(client(port), dns(), b"")
}

/// A daemon of two workers that had five flows.
fn earlier() -> World {
    let mut world = Setup { instance: PORTS, workers: 2, ..Setup::default() }.world();
    for (worker, port) in [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5)] {
        let frame = link_from(ROUTER).frame(&query(port).packet());
        world.punt(worker, 1, &frame, &[]).to(hop(21));
    }
    world
}

/// Another daemon over the table that one left.
pub fn restart(world: World, workers: u16, states: ServerStates) -> (World, Vec<usize>) {
    let instance = world.generation.config.instance.clone();
    let World { shared, generation, workers: gone, .. } = world;
    drop(gone);
    let mut shared = Arc::into_inner(shared).expect("the earlier daemon is gone");
    shared.gauge = Gauge::new(instance.flow_capacity, instance.half_open_share);
    let config = Arc::clone(&generation.config);
    shared.servers = Arc::new(states);
    let generation = Arc::new(Generation::new(generation.number, config, &shared).unwrap());
    let flows = adopt(&shared, &instance, workers);
    let dealt = flows.iter().map(Vec::len).collect();
    (World::start(Arc::new(shared), generation, workers, &flows), dealt)
}

#[test]
fn flows_are_dealt_by_their_port_and_no_port_is_given_out_twice() {
    // How many workers, which flows they get, and whose share the five other ports are in.
    let cases = [
        (1, vec![5], [0; 5]),
        (2, vec![3, 2], [0, 0, 1, 1, 1]),
        (3, vec![3, 1, 1], [1, 1, 2, 2, 2]),
    ];
    for (workers, expected, owners) in cases {
        let (mut world, dealt) = restart(earlier(), workers, ServerStates::default());
        assert_eq!(dealt, expected, "{workers} workers");
        assert_eq!((world.gauge(), world.slots()), ((5, 5), (10, 0)));
        assert_eq!(world.connections("resolvers", 0), 5);
        let mut ports: HashSet<u16> =
            (1..6).map(|port| world.passes(&query(port)).to(hop(21)).from.port()).collect();
        for (worker, port) in owners.into_iter().zip(6..) {
            let frame = link_from(ROUTER).frame(&query(port).packet());
            let step = world.punt(worker, 1, &frame, &[]);
            assert!(ports.insert(step.to(hop(21)).from.port()), "a port twice");
        }
        assert_eq!(ports.len(), 10);
    }
}

#[test]
fn flows_from_an_address_that_has_left_the_configuration_are_adopted_too() {
    let (mut world, _) = {
        let earlier = earlier();
        let other = Setup { snat_addresses: "\"192.0.2.8\"", instance: PORTS, ..Setup::default() };
        let generation = Generation::new(2, other.config(), &earlier.shared).unwrap();
        let world = World { generation: Arc::new(generation), ..earlier };
        restart(world, 2, ServerStates::default())
    };
    let source = IpAddr::from([192, 0, 2, 9]);
    let in_use = PortCount { in_use: 5, resting: 0 };
    assert_eq!(world.shared.snat_ports.by_source().get(&source), Some(&in_use));
    assert_eq!(world.passes(&query(1)).to(hop(21)).from, snat(2000));
    assert_eq!(world.begin(&query(6)).to(hop(21)).from, at([192, 0, 2, 8], 2000));
    assert_eq!(world.wait(11 * SECOND).log.len(), 6);
    world.wait(SECOND).nothing();
    assert_eq!(world.shared.snat_ports.by_source().get(&source), None);
}

#[test]
fn adopted_flows_keep_their_generation_and_end_as_others_do() {
    let (mut world, _) = restart(earlier(), 3, ServerStates::default());
    world.generation =
        Arc::new(Generation::new(9, Arc::clone(&world.generation.config), &world.shared).unwrap());
    for port in [1, 2, 3, 4, 5] {
        let found = world.flow(&query(port)).unwrap();
        assert_eq!((found.record.generation, found.record.service != 0), (1, true));
    }
    let step = world.wait(11 * SECOND);
    let of = |ended: &FlowLog| (ended.generation, ended.virtual_service.clone());
    assert_eq!(step.log.iter().map(of).collect::<Vec<_>>(), vec![(1, "dns".to_owned()); 5]);
    let workers: HashSet<u16> = step.log.iter().map(|ended| ended.worker).collect();
    assert_eq!(workers, HashSet::from([0, 1, 2]), "each logs its own");
    assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 0)));
}

#[test]
fn an_established_flow_does_not_count_as_half_open_after_a_restart() {
    let mut world = earlier();
    world.passes(&udp(server(21, 53), snat(2000), b"")).to(ROUTER);
    world.wait(ROUND).nothing();
    let (world, _) = restart(world, 2, ServerStates::default());
    assert_eq!(world.gauge(), (5, 4));
}

#[test]
fn what_belongs_to_no_whole_flow_is_given_back() {
    let world = earlier();
    let table = &world.shared.flows;
    let key = |n| lb_common::flow::FlowKeyV4 { source: [n; 4], protocol: 17, ..Default::default() };
    let direction = |n, flags| Direction {
        key: key(n),
        entry: Entry { flags, ..Entry::default() },
        activity: lb_common::flow::Activity::default(),
    };
    // Its owner died before the grace period was over.
    let flow = world.flow(&query(1)).unwrap();
    assert!(table.retire(flow.id));
    // Died between hiding one direction and the other.
    assert!(table.slot(world.flow(&query(2)).unwrap().id).retire());
    // Died while filling a slot.
    let free = table.slots().find(|id| table.slot(*id).is_free()).unwrap();
    assert!(table.slot(free).claim());
    // A flow whose partner is nowhere, or outside of the table.
    let lonely = [(60, FlowRecord::ALONE), (61, 3), (62, u32::MAX - 1)];
    for (n, partner) in lonely {
        let record = FlowRecord::default();
        let id = table.insert(&direction(n, Flags::default()), None, &record).unwrap();
        table.record(id).store(&FlowRecord { partner, ..table.record(id).load() });
    }
    // One that a script closed has no partner, and is whole.
    table.insert(&direction(63, Flags::CLOSED), None, &FlowRecord::default()).unwrap();
    let (world, dealt) = restart(world, 2, ServerStates::default());
    assert_eq!(dealt.iter().sum::<usize>(), 4);
    assert_eq!((world.gauge(), world.slots()), ((4, 4), (7, 0)));
    assert!(world.shared.flows.find(&key(63)).is_some());
}
