//! Whole connections, from the SYN to the end.

use super::*;

#[test]
fn a_connection_is_collected_decided_opened_delivered_spliced_and_ended() {
    let mut world = inspecting(FOUR).world();
    let connection = shake(&mut world, 40_000);
    assert_eq!((world.gauge(), world.slots(), inspections(&world)), ((1, 1), (1, 0), 1));
    // A byte is enough to ask the script, and four for the script.
    world.send(&connection.client(ACK, 0, 0, b"GE"), INSPECTED, &[]).nothing();
    world.time += Duration::from_millis(40);
    let acknowledged = world.tick().to(ROUTER);
    let ours = connection.cookie.wrapping_add(1);
    assert_eq!(numbers(&acknowledged), (ACK, ours, C.wrapping_add(3)));

    // The SYN bears the client's own number.
    let step = world.send(&connection.client(ACK, 2, 0, b"T "), INSPECTED, &[]);
    let connection = asked(connection, &step);
    assert_eq!(connection.snat, snat(1024));
    assert_eq!((world.slots(), world.connections("web", 0)), ((2, 0), 1));

    let step = world.send(&connection.syn_ack(), INSPECTED, &[]);
    let [to_client, to_server] = &step.messages()[..] else { panic!("{step:?}") };
    assert_eq!(numbers(to_client), (ACK, ours, C.wrapping_add(5)));
    assert_eq!(numbers(to_server), (ACK, C.wrapping_add(1), S.wrapping_add(1)));
    assert_eq!((to_server.from, to_server.to), (connection.snat, server(11, 8080)));
    assert_eq!(to_server.payload, b"GET ");

    // The acknowledgement is on its way to the client what splices them.
    let acknowledgement = connection.server(ACK, 0, 4, b"");
    let step = world.send(&acknowledgement, INSPECTED, &[]).to(ROUTER);
    assert_eq!(numbers(&step), (ACK, ours, C.wrapping_add(5)));
    assert_eq!(inspections(&world), 0);

    // From here on it is the program's, with numbers translated both ways.
    let answer = world.passes(&connection.server(ACK, 0, 4, b"200 OK")).to(ROUTER);
    assert_eq!(numbers(&answer), (ACK, ours, C.wrapping_add(5)));
    assert_eq!((answer.from, answer.to), (web(), client(40_000)));
    assert_eq!(answer.payload, b"200 OK");
    let more = world.passes(&connection.client(ACK, 4, 6, b"more")).to(hop(11));
    assert_eq!(numbers(&more), (ACK, C.wrapping_add(5), S.wrapping_add(7)));
    assert_eq!((more.from, &more.payload[..]), (connection.snat, &b"more"[..]));
    world.wait(ROUND).nothing();
    assert_eq!(world.gauge(), (1, 0));

    world.passes(&connection.client(FIN | ACK, 8, 6, b"")).to(hop(11));
    world.passes(&connection.server(FIN | ACK, 6, 9, b"")).to(ROUTER);
    let step = world.wait(11 * SECOND);
    let ended = step.ended();
    assert_eq!((&*ended.ds_log, ended.reason), ("GET ", EndReason::Finished));
    assert_eq!((ended.packets, ended.reply_packets), (5, 4));
    assert_eq!(ended.server, Some(server(11, 8080).into()));
    empty(&world);
}

/// Numbers of a SYN's or a segment's answer do not depend on where the bytes stand in it.
#[test]
fn pieces_come_in_any_order_and_more_than_once() {
    let orders: [&[(u32, &[u8])]; 4] = [
        &[(0, b"GET ")],
        &[(2, b"T "), (0, b"GE")],
        &[(1, b"E"), (0, b"GE"), (0, b"GET"), (3, b" ")],
        &[(0, b"GE"), (0, b"xxT ")],
    ];
    for pieces in orders {
        let mut world = inspecting(FOUR).world();
        let connection = shake(&mut world, 1);
        let mut syns = Vec::new();
        for (at, piece) in pieces {
            let step = world.send(&connection.client(ACK, *at, 0, piece), INSPECTED, &[]);
            syns.extend(step.messages().into_iter().filter(|sent| numbers(sent).0 == SYN));
        }
        let [syn] = &syns[..] else { panic!("{pieces:?}: {syns:?}") };
        let connection = Connection { snat: syn.from, ..connection };
        let step = world.send(&connection.syn_ack(), INSPECTED, &[]);
        let delivered = step.messages().pop().unwrap();
        assert_eq!(delivered.payload, b"GET ", "{pieces:?}");
    }
}

#[test]
fn the_acknowledgement_may_bring_the_first_payload() {
    let mut world = inspecting(FOUR).world();
    let connection = ask(&mut world, 1);
    let step = world.send(&connection.client(ACK, 0, 0, b"GET "), COOKIE, &[]);
    asked(connection, &step);
}

#[test]
fn without_a_request_script_the_handshake_is_all_that_is_waited_for() {
    let mut world = inspecting("").world();
    let connection = ask(&mut world, 1);
    let step = world.send(&connection.client(ACK, 0, 0, b""), COOKIE, &[]);
    let connection = asked(connection, &step);
    let step = world.send(&connection.syn_ack(), INSPECTED, &[]).to(hop(11));
    assert_eq!(numbers(&step), (ACK, C.wrapping_add(1), S.wrapping_add(1)));
    let greeting = world.passes(&connection.server(ACK, 0, 0, b"220 hello")).to(ROUTER);
    assert_eq!(numbers(&greeting), (ACK, connection.cookie.wrapping_add(1), C.wrapping_add(1)));
}

/// Both handshakes are complete, whoever says nothing then.
#[test]
fn a_connection_that_is_silent_after_its_handshakes_is_established() {
    let mut world = inspecting("").world();
    let connection = ask(&mut world, 1);
    let step = world.send(&connection.client(ACK, 0, 0, b""), COOKIE, &[]);
    let connection = asked(connection, &step);
    world.send(&connection.syn_ack(), INSPECTED, &[]).to(hop(11));
    world.wait(ROUND).nothing();
    assert_eq!(world.gauge(), (1, 0));
    world.wait(500 * SECOND).nothing();
    assert_eq!(world.wait(101 * SECOND).ended().reason, EndReason::Idle);
    empty(&world);
}

#[test]
fn a_client_that_waits_for_the_server_to_speak_is_decided_without_payload() {
    let web = "tcp_mode = \"inspect\"\ninspect_timeout = \"300ms\"";
    let request = "avi.vs.log(#avi.l4.read())";
    let mut world = Setup { web, ..inspecting(request) }.world();
    let connection = shake(&mut world, 1);
    world.time += Duration::from_millis(299);
    world.tick().nothing();
    world.time += Duration::from_millis(1);
    let step = world.tick();
    asked(connection, &step);
}

#[test]
fn what_a_server_says_before_all_is_delivered_is_not_lost() {
    let mut world = inspecting(FOUR).world();
    let connection = delivering(&mut world, 1);
    // It acknowledges two of four bytes, and speaks.
    let step = world.send(&connection.server(ACK, 0, 2, b"early"), INSPECTED, &[]);
    let early = step.messages().into_iter().find(|sent| sent.payload == b"early").unwrap();
    assert_eq!(numbers(&early).1, connection.cookie.wrapping_add(1));
    // The client acknowledges that, and says more: both go on to the server at once.
    let more = world.send(&connection.client(ACK, 4, 5, b"more"), INSPECTED, &[]).to(hop(11));
    assert_eq!(numbers(&more), (ACK, C.wrapping_add(5), S.wrapping_add(6)));
    world.send(&connection.server(ACK, 5, 8, b""), INSPECTED, &[]).to(ROUTER);
    world.passes(&connection.client(ACK, 8, 5, b"")).to(hop(11));
}

#[test]
fn what_the_server_does_not_acknowledge_is_sent_again() {
    let mut world = inspecting(FOUR).world();
    let connection = delivering(&mut world, 1);
    world.time += SECOND;
    let again = world.tick().to(hop(11));
    assert_eq!((numbers(&again).1, &again.payload[..]), (C.wrapping_add(1), &b"GET "[..]));
    world.send(&connection.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
}

/// A server's packets come by the queue that their ports lead to, not the client's.
#[test]
fn servers_packets_at_another_worker_reach_the_connections_own() {
    let mut world = Setup { workers: 3, ..inspecting(FOUR) }.world();
    let connection = opening(&mut world, 1);
    let from_server = |message: &Message| link_from(hop(11)).frame(&message.packet());
    world.punt(2, 2, &from_server(&connection.syn_ack()), &[]).nothing();
    assert_eq!(world.tick().sent.len(), 2, "for both sides");
    let answer = connection.server(ACK, 0, 4, b"answer");
    world.punt(1, 2, &from_server(&answer), &[]).nothing();
    assert_eq!(world.tick().to(ROUTER).payload, b"answer");
    // What was left after the connection was spliced is forwarded all the same.
    world.punt(2, 2, &from_server(&answer), &[]).to(ROUTER);
    world.passes(&answer).to(ROUTER);
}

#[test]
fn a_letter_for_a_connection_that_was_spliced_meanwhile_is_forwarded() {
    let mut world = Setup { workers: 2, ..inspecting(FOUR) }.world();
    let connection = delivering(&mut world, 1);
    let left = connection.server(ACK, 0, 4, b"late");
    world.punt(1, 2, &link_from(hop(11)).frame(&left.packet()), &[]).nothing();
    world.send(&connection.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
    assert_eq!(world.tick().to(ROUTER).payload, b"late");
}

#[test]
fn a_packet_at_its_last_hop_goes_no_further() {
    let mut world = inspecting(FOUR).world();
    let connection = delivering(&mut world, 1);
    let last = Message { ttl: 1, ..connection.server(ACK, 0, 2, b"early") };
    world.send(&last, INSPECTED, &[Event::DropTtlExpired]).nothing();
    let last = Message { ttl: 1, ..connection.client(ACK, 4, 0, b"more") };
    world.send(&last, INSPECTED, &[Event::DropTtlExpired]).nothing();
}
