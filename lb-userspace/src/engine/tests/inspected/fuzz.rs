//! Segments of any kind in any order: nothing panics, nothing leaks.

use proptest::{collection::vec, prelude::*};

use super::*;

const MEMORY: usize = 100_000;

/// Who sends what, with numbers near those that count; and how long after.
type Move = (bool, u8, i32, i32, usize, u16, u8);

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let near = || prop_oneof![4 => 0..6i32, 2 => -3..3000i32, 1 => any::<i32>()];
    let flags = prop_oneof![4 => Just(ACK), 1 => Just(SYN | ACK), 1 => 0..32u8];
    let wait = prop_oneof![3 => 0..50u16, 1 => 0..6000u16];
    vec((any::<bool>(), flags, near(), near(), 0..1400usize, wait, 0..3u8), 1..60)
}

fn numbered(message: Message, flags: u8) -> Message {
    let (_, sequence, acknowledgement) = numbers(&message);
    let transport = Transport::Tcp { flags, sequence, acknowledgement };
    Message { transport, ..message }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::testing::cases(64)))]

    #[test]
    fn any_segments_do_no_harm(moves in vec(moves(), 1..4), request in 0..4usize) {
        let scripts = [
            "avi.l4.collect(2000)",
            "if #avi.l4.read() > 9 then avi.vs.close_conn() end",
            FOUR,
            "",
        ];
        let response = "avi.l4.collect(3000)";
        let setup = Setup { pools: TWO, response, workers: 2, ..inspecting(scripts[request]) };
        let mut world = setup.world();
        world.workers[0].engine.inspections = Inspections::within(MEMORY);
        for (port, moves) in (1..).zip(moves) {
            let mut connection = ask(&mut world, port);
            world.send_any(&connection.client(ACK, 0, 0, b""));
            for (from_client, flags, sent, got, length, wait, turns) in moves {
                // What the server is known by, as soon as there is one.
                if let Some(found) = world.flow(&connection.client(ACK, 0, 0, b""))
                    && let (Some(std::net::SocketAddr::V4(snat)),
                            Some(std::net::SocketAddr::V4(server))) = (found.snat(), found.server())
                {
                    connection.snat = snat;
                    connection.host = server.ip().octets()[3];
                }
                let payload = vec![b'x'; length / 2];
                let (sent, got) = (sent.cast_unsigned(), got.cast_unsigned());
                let message = match (from_client, flags) {
                    (true, _) => connection.client(flags, sent, got, &payload),
                    (false, 18) => connection.syn_ack(),
                    (false, _) => connection.server(flags, sent, got, &payload),
                };
                // What the server says comes by any queue.
                let worker = usize::from(!from_client && wait % 2 == 1);
                world.send_any_by(worker, &numbered(message, flags));
                if wait > 5900 {
                    world.replace(&setup).unwrap();
                }
                world.time += Duration::from_millis(wait.into());
                for _ in 0..turns {
                    world.tick_any();
                }
                let engine = &world.workers[0].engine;
                let (memory, clock) = engine.inspections.weight();
                prop_assert!(memory < MEMORY + 70_000, "{memory}");
                prop_assert!(clock <= engine.inspections.len());
            }
        }
        for _ in 0..4 {
            world.time += 700 * SECOND;
            world.tick_any();
            world.shared.grace.pass(|| ());
            world.tick_any();
        }
        empty(&world);
        for Member { engine, .. } in &world.workers {
            prop_assert_eq!(engine.taps.len(), 0);
            prop_assert_eq!(engine.inspections.weight(), (0, 0));
        }
    }
}
