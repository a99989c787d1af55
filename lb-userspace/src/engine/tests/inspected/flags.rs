//! What FIN and RST leave behind of connections that are inspected: only what counts does.

use super::*;

/// Both directions' state, once the connection is the program's.
fn state(world: &World, connection: &Connection) -> State {
    let syn = tcp(client(connection.port), web(), SYN);
    world.flow(&syn).expect("it goes on").state()
}

/// Segments of a server that has not accepted yet, with any numbers.
fn stray(connection: &Connection) -> Vec<Message> {
    let with = |flags, sequence, acknowledgement| {
        let transport = Transport::Tcp { flags, sequence, acknowledgement };
        Message { transport, ..connection.syn_ack() }
    };
    let right = C.wrapping_add(1);
    vec![
        with(FIN, 7, 0),
        with(FIN | ACK, 7, right),
        with(FIN | ACK, 7, right.wrapping_add(9)),
        with(RST, 7, 0),
        with(RST | ACK, 7, right.wrapping_add(9)),
    ]
}

#[test]
fn what_a_server_says_before_it_accepts_is_nothing_to_the_connection() {
    for at in 0..5 {
        let mut world = inspecting(FOUR).world();
        let connection = opening(&mut world, 1);
        let stray = stray(&connection).swap_remove(at);
        world.send_any(&stray);
        world.time += SECOND / 10;
        world.send(&connection.syn_ack(), INSPECTED, &[]);
        world.send(&connection.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
        assert_eq!(state(&world, &connection), State::Established, "{stray:?}");
        let pool = world.generation.pools.find("web").unwrap();
        let number = world.generation.server_number(pool, crate::config::ServerIndex(0));
        let time = world.shared.servers.response_time(number).expect("it has answered");
        assert!(time >= SECOND / 10, "the time until it accepted, not {time:?} to {stray:?}");
        // Idle, not finished or reset.
        world.wait(11 * SECOND).nothing();
    }
}

#[test]
fn what_a_client_says_with_wrong_numbers_is_nothing_to_the_connection() {
    for flags in [FIN | ACK, RST, RST | ACK] {
        let mut world = inspecting(FOUR).world();
        let connection = shake(&mut world, 1);
        world.send_any(&connection.client(flags, 90_000, 0, b""));
        world.send(&connection.client(ACK, 0, 0, b"GET "), INSPECTED, &[]);
        let connection = Connection { snat: snat(1024), ..connection };
        world.send(&connection.syn_ack(), INSPECTED, &[]);
        world.send(&connection.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
        assert_eq!(state(&world, &connection), State::Established, "{flags}");
    }
}

#[test]
fn a_side_that_closes_while_it_is_inspected_has_closed() {
    // The client, with what is collected.
    let mut world = inspecting(FOUR).world();
    let connection = shake(&mut world, 1);
    world.send(&connection.client(FIN | ACK, 0, 0, b"GET "), INSPECTED, &[]);
    let connection = Connection { snat: snat(1024), ..connection };
    world.send(&connection.syn_ack(), INSPECTED, &[]);
    world.send(&connection.server(ACK, 0, 5, b""), INSPECTED, &[]).to(ROUTER);
    assert_eq!(state(&world, &connection), State::HalfClosed);

    // The client behind that, and the server, while it is delivered.
    for by_client in [true, false] {
        let mut world = inspecting(FOUR).world();
        let connection = delivering(&mut world, 1);
        if by_client {
            world.send(&connection.client(FIN | ACK, 4, 0, b""), INSPECTED, &[]).to(hop(11));
        } else {
            world.send(&connection.server(FIN | ACK, 0, 0, b""), INSPECTED, &[]).to(ROUTER);
        }
        let sent = u32::from(!by_client);
        world.send(&connection.server(ACK, sent, 4, b""), INSPECTED, &[]).to(ROUTER);
        assert_eq!(state(&world, &connection), State::HalfClosed, "{by_client}");
    }
}
