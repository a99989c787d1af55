//! Servers that fail an inspected connection, and what is left of them.

use super::*;

const BOTH: u8 = RST | ACK;

fn two(request: &str) -> World {
    Setup { pools: TWO, ..inspecting(request) }.world()
}

/// Nothing has an end but the connection, and it is refused.
fn is_refused(world: &mut World) {
    let step = world.wait(ROUND);
    let ended = step.ended();
    assert_eq!((ended.reason, ended.server), (EndReason::Refused, None));
    empty(world);
    assert_eq!(world.snat_ports(), (0, 0));
}

#[test]
fn the_next_server_is_asked_after_a_reset_and_gets_what_was_collected() {
    let mut world = two(FOUR);
    let first = opening(&mut world, 1);
    let step = world.send(&first.reset_by_server(), INSPECTED, &[]);
    let second = asked(first, &step);
    assert_eq!((first.host, second.host), (11, 12));
    assert_eq!((world.connections("web", 0), world.connections("web", 1)), (0, 1));
    assert_eq!((world.slots(), world.snat_ports().0), ((2, 0), 1));
    let service = world.generation.service_number(0);
    let of_service = (world.shared.services.now(service), world.shared.services.total(service));
    assert_eq!(of_service, (1, 1), "it is one flow of the service's");
    // What the first says now belongs to nothing.
    let frame = link_from(hop(11)).frame(&first.syn_ack().packet());
    world.punt(0, 2, &frame, &[Event::DropNoFlow]).nothing();
    let step = world.send(&second.syn_ack(), INSPECTED, &[]);
    assert_eq!(step.messages().pop().unwrap().payload, b"GET ");
    world.send(&second.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
    world.passes(&second.client(ACK, 4, 0, b"more")).to(hop(12));
}

#[test]
fn the_next_server_is_asked_after_silence() {
    let mut world = two(FOUR);
    let first = opening(&mut world, 1);
    world.time += SECOND;
    let again = world.tick().messages();
    assert!(again.iter().any(|sent| numbers(sent) == (SYN, C, 0)), "{again:?}");
    world.time += 3 * SECOND;
    let step = world.tick();
    let [to_first, to_second] = &step.messages()[..] else { panic!("{step:?}") };
    assert_eq!((numbers(to_first).0, to_first.to), (RST, server(11, 8080)), "it may have half");
    assert_eq!((numbers(to_second), to_second.to), ((SYN, C, 0), server(12, 8080)));
    let number = |at| {
        let pool = world.generation.pools.find("web").unwrap();
        world.generation.server_number(pool, crate::config::ServerIndex(at))
    };
    assert!(world.shared.servers.standing(number(0)).is_failing());
    assert!(!world.shared.servers.standing(number(1)).is_failing());
    let second = Connection { host: 12, snat: to_second.from, ..first };
    world.send(&second.syn_ack(), INSPECTED, &[]);
    world.send(&second.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
}

#[test]
fn where_all_servers_have_failed_the_client_is_reset() {
    let mut world = two(FOUR);
    let first = opening(&mut world, 1);
    let step = world.send(&first.reset_by_server(), INSPECTED, &[]);
    let second = asked(first, &step);
    let none_left = [Event::DropNoServer];
    let step = world.send(&second.reset_by_server(), INSPECTED, &none_left);
    let expected = (BOTH, second.cookie.wrapping_add(1), C.wrapping_add(5));
    assert_eq!(numbers(&step.to(ROUTER)), expected);
    is_refused(&mut world);
}

/// The time for all servers together ends while the last is still asked: that has failed too.
#[test]
fn the_server_that_was_asked_last_has_failed_too() {
    let pools = TWO.replace(
        "port = 8080 }]",
        "port = 8080 }, { address = \"10.0.0.13\", port = 8080 }, \
         { address = \"10.0.0.14\", port = 8080 }]",
    );
    let mut world = Setup { pools: &pools, ..inspecting(FOUR) }.world();
    opening(&mut world, 1);
    for _ in 0..2 {
        world.time += 4 * SECOND;
        world.tick();
    }
    world.time += 4 * SECOND;
    let step = world.tick_counting(&[Event::DropNoServer]);
    assert_eq!(step.sent[0].0, link_to(hop(13)));
    let pool = world.generation.pools.find("web").unwrap();
    let failing = |at| {
        let number = world.generation.server_number(pool, crate::config::ServerIndex(at));
        world.shared.servers.standing(number).is_failing()
    };
    assert_eq!([0, 1, 2, 3].map(failing), [true, true, true, false]);
    world.wait(ROUND);
    empty(&world);
}

#[test]
fn a_server_that_never_acknowledges_the_payload_ends_the_connection() {
    let mut world = inspecting(FOUR).world();
    let connection = delivering(&mut world, 1);
    for _ in 0..29 {
        world.time += SECOND;
        world.tick();
    }
    world.time += SECOND;
    let step = world.tick_counting(&[Event::DropNoServer]);
    let resets: Vec<_> = step.messages().iter().map(|sent| (numbers(sent).0, sent.to)).collect();
    assert_eq!(resets, [(RST, server(11, 8080)), (BOTH, client(connection.port))]);
    assert_eq!(world.wait(ROUND).ended().reason, EndReason::Refused);
    empty(&world);
}

#[test]
fn ports_do_not_leak_however_connections_end() {
    let instance = "flow_capacity = 256\nsnat_ports = \"1024-1025\"";
    let mut world = Setup { instance, pools: TWO, ..inspecting(FOUR) }.world();
    for port in 1..50 {
        let first = opening(&mut world, port);
        let step = world.send(&first.reset_by_server(), INSPECTED, &[]);
        let second = asked(first, &step);
        if port % 2 == 0 {
            world.send(&second.client(RST, 4, 0, b""), INSPECTED, &[]).to(hop(second.host));
        } else {
            let step = world.send(&second.reset_by_server(), INSPECTED, &[Event::DropNoServer]);
            step.to(ROUTER);
        }
        assert_eq!(world.wait(11 * SECOND).log.len(), 1);
        empty(&world);
        assert_eq!(world.snat_ports(), (0, 0), "connection {port}");
    }
}

#[test]
fn without_a_free_port_the_client_is_reset_and_it_is_told() {
    let instance = "snat_ports = \"1024-1024\"";
    let mut world = Setup { instance, ..inspecting(FOUR) }.world();
    opening(&mut world, 1);
    let second = shake(&mut world, 2);
    let exhausted = [Event::DropSnatPortsExhausted];
    let step = world.send(&second.client(ACK, 0, 0, b"GET "), INSPECTED, &exhausted);
    assert_eq!(step.out_of_ports.len(), 1);
    assert_eq!(numbers(&step.to(ROUTER)).0, BOTH);
    assert_eq!(world.wait(ROUND).log[0].reason, EndReason::Refused);
    assert_eq!((world.gauge(), world.slots(), world.snat_ports()), ((1, 1), (2, 0), (1, 0)));
}

#[test]
fn a_server_that_keeps_the_clients_address_is_opened_from_it() {
    let pools = TWO.replace(
        "servers = [{ address = \"10.0.0.11\"",
        "forwarding = \"dnat\"\nservers = [{ address = \"10.0.0.11\"",
    );
    let mut world = Setup { pools: &pools, ..inspecting(FOUR) }.world();
    let connection = opening(&mut world, 7);
    assert_eq!(connection.snat, client(7));
    world.send(&connection.syn_ack(), INSPECTED, &[]);
    world.send(&connection.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
    let more = world.passes(&connection.client(ACK, 4, 0, b"more")).to(hop(11));
    assert_eq!(more.from, client(7));
}
