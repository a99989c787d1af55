//! Any bytes at all: nothing panics, and the table stays whole.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{frames::*, world::*, *};
use crate::flow_table::SlotId;

fn small() -> World {
    let request = "avi.vs.log(#avi.l4.read()) if avi.vs.client_port() == '7' then error('x') end";
    let response = "avi.vs.log(avi.l4.read())";
    Setup { request, response, instance: "flow_capacity = 64", ..Setup::default() }.world()
}

/// Frames from both sides that mean something.
fn valid() -> Vec<(u32, Vec<u8>)> {
    let query = udp(client(1), dns(), &[b'q'; 100]);
    let answer = udp(server(21, 53), snat(1024), &[b'a'; 100]);
    let large = udp(client(2), dns(), &[b'l'; 1000]);
    let unreachable = icmp_error([10, 0, 0, 21], [192, 0, 2, 9], &answer.packet());
    let quoting = query.between(snat(1024), server(21, 53)).packet();
    let mut packets = vec![
        (ROUTER, query.packet()),
        (hop(21), answer.packet()),
        (ROUTER, udp(client(7), dns(), b"").packet()),
        (ROUTER, tcp(client(3), web(), SYN).packet()),
        (ROUTER, tcp(client(3), web(), ACK).with_payload(b"data").packet()),
        (ROUTER, tcp(neighbour(3), web(), SYN).packet()),
        (hop(11), tcp(server(11, 8080), snat(1024), SYN | ACK).packet()),
        (hop(11), tcp(server(11, 8080), snat(1024), RST).packet()),
        (hop(21), unreachable),
        (hop(21), icmp_error([10, 0, 9, 9], [192, 0, 2, 9], &quoting)),
    ];
    packets.extend(large.fragments(400).into_iter().map(|fragment| (ROUTER, fragment)));
    let frame = |(from, packet): (NextHopId, Vec<u8>)| {
        let link = link_from(from);
        (link.interface, link.frame(&packet))
    };
    packets.into_iter().map(frame).collect()
}

/// Each entry has its partner, and flows are counted right.
fn check(world: &World) -> Result<(), TestCaseError> {
    let table = &world.shared.flows;
    let mut flows = 0;
    for id in table.slots() {
        let Some((key, entry, _)) = table.slot(id).snapshot() else { continue };
        prop_assert_eq!(table.find(&key).map(|(found, _)| found), Some(id), "a key twice");
        let partner = table.record(id).load().partner;
        if entry.flags.has(Flags::REPLY) {
            prop_assert_eq!(table.record(SlotId(partner)).load().partner, id.0);
        } else {
            flows += 1;
            prop_assert_eq!(partner == FlowRecord::ALONE, entry.flags.has(Flags::CLOSED));
        }
    }
    prop_assert_eq!(world.gauge().0, flows);
    Ok(())
}

/// What is done to a valid frame: some bytes changed, and cut at a length.
type Mutation = (Index, Vec<(Index, u8)>, Option<Index>, u16);

fn mutation() -> impl Strategy<Value = Mutation> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..4);
    (any::<Index>(), changes, proptest::option::weighted(0.2, any::<Index>()), 0u16..2000)
}

fn feed(world: &mut World, interface: u32, frame: &[u8]) {
    let (now, mut effects) = (world.now(), Effects::default());
    let engine = &mut world.workers[0].engine;
    engine.receive(now, interface, frame, &world.net, &mut effects);
    engine.tick(now, &world.net, &mut effects);
    world.shared.grace.pass(|| ());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::testing::cases(64)))]

    #[test]
    fn mutated_frames_do_no_harm(mutations in vec(mutation(), 1..100)) {
        let mut world = small();
        let frames = valid();
        for (which, changes, cut, milliseconds) in mutations {
            let (interface, mut frame) = which.get(&frames).clone();
            for (at, byte) in changes {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            if let Some(cut) = cut {
                frame.truncate(cut.index(frame.len()));
            }
            world.time += Duration::from_millis(milliseconds.into());
            feed(&mut world, interface, &frame);
        }
        check(&world)?;
        // Whatever came, everything ends, and all of it is given back.
        for _ in 0..3 {
            world.time += 700 * SECOND;
            feed(&mut world, 1, &[]);
        }
        feed(&mut world, 1, &[]);
        prop_assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 0)));
    }

    #[test]
    fn random_bytes_do_no_harm(frames in vec(vec(any::<u8>(), 0..120), 1..50), ipv4: bool) {
        let mut world = small();
        for mut frame in frames {
            if ipv4 && frame.len() > 40 {
                frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
                frame[16..18].copy_from_slice(&[0, 30]);
            }
            feed(&mut world, 1, &frame);
        }
        check(&world)?;
    }
}
