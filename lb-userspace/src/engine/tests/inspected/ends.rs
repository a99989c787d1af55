//! How inspected connections end without a server, and that nothing is left of them.

use super::*;

const BOTH: u8 = RST | ACK;

fn reset_of(connection: &Connection, got: u32) -> (u8, u32, u32) {
    (BOTH, connection.cookie.wrapping_add(1), C.wrapping_add(1).wrapping_add(got))
}

/// Time goes on until the flow is logged; nothing is left of it.
fn ends(world: &mut World, reason: EndReason) -> FlowLog {
    let step = world.wait(ROUND);
    let ended = step.ended();
    assert_eq!(ended.reason, reason);
    empty(world);
    ended.clone()
}

#[test]
fn a_script_resets_or_closes_in_order() {
    let refusals = [
        ("avi.vs.close_conn(true)", EndReason::ClosedByScript, Event::DropScriptClosed),
        ("error('oh')", EndReason::ScriptError, Event::DropScriptError),
        ("avi.l4.collect(70000)", EndReason::ScriptError, Event::DropScriptError),
    ];
    for (request, reason, event) in refusals {
        let mut world = inspecting(request).world();
        let connection = shake(&mut world, 1);
        let step = world.send(&connection.client(ACK, 0, 0, b"GET "), INSPECTED, &[event]);
        assert_eq!(numbers(&step.to(ROUTER)), reset_of(&connection, 4), "{request}");
        let ended = ends(&mut world, reason);
        assert_eq!((ended.server, ended.packets), (None, 2), "{request}");
    }
}

#[test]
fn a_connection_that_a_script_closes_ends_by_fin_and_its_acknowledgement() {
    let mut world = inspecting("avi.vs.log('no') avi.vs.close_conn()").world();
    let connection = shake(&mut world, 1);
    let step = world.send(&connection.client(ACK, 0, 0, b"GET "), INSPECTED, &[]);
    let fin = (FIN | ACK, connection.cookie.wrapping_add(1), C.wrapping_add(5));
    assert_eq!(numbers(&step.to(ROUTER)), fin);
    // It is said again until it is heard.
    world.time += SECOND;
    assert_eq!(numbers(&world.tick().to(ROUTER)), fin);
    world.send(&connection.client(ACK, 4, 1, b""), INSPECTED, &[]).nothing();
    let closed = [Event::DropScriptClosed];
    let step = world.send(&connection.client(FIN | ACK, 4, 1, b""), INSPECTED, &closed);
    assert_eq!(numbers(&step.to(ROUTER)), (ACK, fin.1.wrapping_add(1), C.wrapping_add(6)));
    let ended = ends(&mut world, EndReason::ClosedByScript);
    assert_eq!(&*ended.ds_log, "no");
}

#[test]
fn a_client_that_does_not_answer_the_fin_is_reset() {
    let mut world = inspecting("avi.vs.close_conn()").world();
    let connection = shake(&mut world, 1);
    world.send(&connection.client(ACK, 0, 0, b"x"), INSPECTED, &[]).to(ROUTER);
    world.time += 10 * SECOND;
    let step = world.tick_counting(&[Event::DropScriptClosed]);
    assert_eq!(numbers(&step.to(ROUTER)).0, BOTH);
    ends(&mut world, EndReason::ClosedByScript);
}

#[test]
fn payload_that_does_not_come_in_time_ends_the_connection() {
    let mut world = inspecting(FOUR).world();
    let silent = shake(&mut world, 1);
    world.time += 5 * SECOND;
    let step = world.tick_counting(&[Event::DropNoPayload]);
    assert_eq!(numbers(&step.to(ROUTER)), reset_of(&silent, 0));
    ends(&mut world, EndReason::NoPayload);
    // A byte a second is not enough either.
    let slow = shake(&mut world, 2);
    for sent in 0..3 {
        world.time += SECOND;
        world.send(&slow.client(ACK, sent, 0, b"x"), INSPECTED, &[]).nothing();
        world.time += Duration::from_millis(40);
        world.tick().to(ROUTER);
    }
    world.time += 2 * SECOND;
    let step = world.tick_counting(&[Event::DropNoPayload]);
    assert_eq!(numbers(&step.to(ROUTER)), reset_of(&slow, 3));
    ends(&mut world, EndReason::NoPayload);
}

#[test]
fn a_client_that_closes_before_enough_is_there_is_decided_on_what_is_there() {
    let mut world = inspecting(FOUR).world();
    let connection = shake(&mut world, 1);
    let fin = connection.client(FIN | ACK, 0, 0, b"GET");
    // The script asks for a byte more than can come: an error, which closes.
    let step = world.send(&fin, INSPECTED, &[Event::DropScriptError]);
    assert_eq!(numbers(step.messages().last().unwrap()), reset_of(&connection, 4));
    ends(&mut world, EndReason::ScriptError);
}

#[test]
fn a_client_that_has_closed_after_all_was_said_gets_its_server_and_its_fin_arrives() {
    let mut world = inspecting(FOUR).world();
    let connection = shake(&mut world, 1);
    let step = world.send(&connection.client(FIN | ACK, 0, 0, b"GET "), INSPECTED, &[]);
    let syn = step.messages().into_iter().find(|sent| numbers(sent).0 == SYN).unwrap();
    let connection = Connection { snat: syn.from, ..connection };
    let step = world.send(&connection.syn_ack(), INSPECTED, &[]);
    let delivered = step.messages().pop().unwrap();
    assert_eq!((numbers(&delivered).0, &delivered.payload[..]), (FIN | ACK, &b"GET "[..]));
    world.send(&connection.server(ACK, 0, 5, b""), INSPECTED, &[]).to(ROUTER);
    world.passes(&connection.server(FIN | ACK, 0, 5, b"")).to(ROUTER);
    assert_eq!(world.wait(11 * SECOND).ended().reason, EndReason::Finished);
    empty(&world);
}

#[test]
fn a_client_resets_while_it_is_collected_opened_and_delivered() {
    let mut world = inspecting(FOUR).world();
    let connection = shake(&mut world, 1);
    world.send(&connection.client(RST, 0, 0, b""), INSPECTED, &[]).nothing();
    ends(&mut world, EndReason::Reset);

    let connection = opening(&mut world, 2);
    let step = world.send(&connection.client(RST, 4, 0, b""), INSPECTED, &[]);
    assert_eq!(numbers(&step.to(hop(11))), (RST, C.wrapping_add(1), 0), "the server's half");
    ends(&mut world, EndReason::Reset);

    let connection = delivering(&mut world, 3);
    let step = world.send(&connection.client(RST, 4, 0, b""), INSPECTED, &[]);
    let reset = step.to(hop(11));
    assert_eq!((numbers(&reset).0, numbers(&reset).1), (RST, C.wrapping_add(5)));
    assert_eq!(world.wait(11 * SECOND).ended().reason, EndReason::Reset);
    empty(&world);
    assert_eq!(world.snat_ports(), (0, 0), "nobody lingers where a reset was seen");
}

/// RFC 5961 §3: a reset that is not exactly where it should be is asked about, and means nothing:
/// neither now nor later, when what was counted of it is looked at.
#[test]
fn a_reset_beside_the_mark_ends_nothing() {
    let mut world = inspecting(FOUR).world();
    let connection = shake(&mut world, 1);
    let step = world.send(&connection.client(RST, 100, 0, b""), INSPECTED, &[]);
    assert_eq!(numbers(&step.to(ROUTER)).0, ACK);
    let step = world.send(&connection.client(ACK, 0, 0, b"GET "), INSPECTED, &[]);
    let connection = asked(connection, &step);
    // Anybody could have sent this in the server's name.
    world.send(&connection.server(RST, 0, 0, b""), INSPECTED, &[]).nothing();
    world.send(&connection.syn_ack(), INSPECTED, &[]);
    world.send(&connection.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
    world.passes(&connection.client(ACK, 4, 0, b"")).to(hop(11));
    world.wait(60 * SECOND).nothing();
    assert_eq!(world.gauge(), (1, 0), "established, not about to end");
}

/// Of a connection that a stray reset has marked, a SYN is no new one: its inspection goes on.
#[test]
fn a_syn_does_not_end_what_is_inspected() {
    let mut world = inspecting(FOUR).world();
    let connection = opening(&mut world, 1);
    world.send(&connection.client(RST, 100, 0, b""), INSPECTED, &[]).to(ROUTER);
    world.time += SECOND / 2;
    let syn = tcp(client(1), web(), SYN);
    let step = world.send(&syn, INSPECTED, &[]);
    assert_eq!(numbers(&step.to(ROUTER)).0, ACK, "asked whether it means it");
    assert_eq!((inspections(&world), world.slots()), (1, (2, 0)));
    world.send(&connection.syn_ack(), INSPECTED, &[]);
    world.send(&connection.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
}

#[test]
fn a_worker_whose_memory_is_used_up_takes_no_more_and_ends_who_wants_more() {
    let mut world = inspecting("avi.l4.collect(60000)").world();
    world.workers[0].engine.inspections = Inspections::within(20_000);
    let first = shake(&mut world, 1);
    let mut sent = 0;
    let reset = loop {
        let more = first.client(ACK, sent, 0, &[b'x'; 1000]);
        let step = world.send_any(&more);
        sent += 1000;
        let last = step.messages().pop().filter(|last| numbers(last).0 == BOTH);
        if let Some(reset) = last {
            break reset;
        }
        assert!(sent < 30_000, "20,000 bytes are all there is");
    };
    assert_eq!(numbers(&reset), reset_of(&first, sent));
    assert_eq!(world.workers[0].counters.get(Event::DropInspectMemory), 1);
    ends(&mut world, EndReason::Refused);
    // Where all is taken, no other begins.
    world.workers[0].engine.inspections = Inspections::within(0);
    let second = ask(&mut world, 2);
    let full = [Event::DropInspectMemory];
    let step = world.send(&second.client(ACK, 0, 0, b""), COOKIE, &full);
    assert_eq!(numbers(&step.to(ROUTER)).0, RST);
    empty(&world);
}
