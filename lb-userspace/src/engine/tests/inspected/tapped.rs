//! L4_RESPONSE on spliced connections: scripts see what the server says, and the client gets it.

use super::*;

const RESPONSE: Verdict = Verdict::Punt(Event::PuntResponse);
const SIX: &str = "avi.l4.collect(6) avi.vs.log('|', avi.l4.read(6))";

fn answering(response: &str) -> World {
    Setup { response, ..inspecting(FOUR) }.world()
}

fn taps(world: &World) -> usize {
    world.workers[0].engine.taps.len()
}

/// The connection's log record.
fn log(world: &mut World, connection: &Connection) -> FlowLog {
    world.send_any(&connection.client(RST, 4, 0, b""));
    let step = world.wait(11 * SECOND);
    assert_eq!(taps(world), 0);
    empty(world);
    step.ended().clone()
}

#[test]
fn scripts_see_the_first_payload_not_the_first_packet() {
    let mut world = answering("avi.vs.log('|', avi.l4.read())");
    let connection = spliced(&mut world, 1);
    world.send(&connection.server(ACK, 0, 4, b""), RESPONSE, &[]).to(ROUTER);
    let answer = connection.server(ACK, 0, 4, b"200");
    let sent = world.send(&answer, RESPONSE, &[]).to(ROUTER);
    assert_eq!(numbers(&sent).1, connection.cookie.wrapping_add(1));
    // From then on it is the program's.
    world.passes(&connection.server(ACK, 3, 4, b" OK")).to(ROUTER);
    assert_eq!(&*log(&mut world, &connection).ds_log, "GET |200");
}

#[test]
fn packets_go_on_while_a_script_waits_for_more_of_them() {
    let orders: [&[(u32, &[u8])]; 4] = [
        &[(0, b"200"), (3, b" OK")],
        &[(0, b"200"), (4, b"OK"), (3, b" OK")],
        &[(3, b" OK"), (0, b"200")],
        &[(0, b"200"), (0, b"200"), (2, b"0 OK more")],
    ];
    for pieces in orders {
        let mut world = answering(SIX);
        let connection = spliced(&mut world, 1);
        for (at, piece) in pieces {
            let message = connection.server(ACK, *at, 4, piece);
            let sent = world.send(&message, RESPONSE, &[]).to(ROUTER);
            assert_eq!(sent.payload, *piece, "{pieces:?}");
        }
        world.passes(&connection.server(ACK, 9, 4, b"x")).to(ROUTER);
        assert_eq!(&*log(&mut world, &connection).ds_log, "GET |200 OK", "{pieces:?}");
    }
}

#[test]
fn what_comes_before_the_splice_or_with_it_is_seen_too() {
    let mut world = answering(SIX);
    let connection = delivering(&mut world, 1);
    let step = world.send(&connection.server(ACK, 0, 2, b"200"), INSPECTED, &[]);
    assert!(step.messages().iter().any(|sent| sent.payload == b"200"), "{step:?}");
    let sent = world.send(&connection.server(ACK, 3, 4, b" OK"), INSPECTED, &[]);
    assert_eq!(sent.to(ROUTER).payload, b" OK");
    world.passes(&connection.server(ACK, 6, 4, b"x")).to(ROUTER);
    assert_eq!(&*log(&mut world, &connection).ds_log, "GET |200 OK");
}

#[test]
fn a_script_that_waits_for_too_long_is_given_up() {
    let mut world = answering(SIX);
    let connection = spliced(&mut world, 1);
    world.send(&connection.server(ACK, 0, 4, b"200"), RESPONSE, &[]).to(ROUTER);
    assert_eq!(taps(&world), 1);
    world.wait(10 * SECOND).nothing();
    assert_eq!(taps(&world), 0);
    world.passes(&connection.server(ACK, 3, 4, b" OK")).to(ROUTER);
    let log = log(&mut world, &connection).ds_log;
    assert_eq!(&*log, "GET [L4_RESPONSE left undone: 6 bytes wanted, 3 came in 10 s]");
}

/// However it ends: nothing is for the scripts to see, and the log says so.
#[test]
fn scripts_do_not_run_where_the_server_says_nothing_or_too_little_and_the_log_says_so() {
    const UNDONE: &str = "GET [L4_RESPONSE left undone: the server has sent too little]";
    for (response, said) in [(SIX, &b""[..]), (SIX, b"200"), ("error('ran')", b"")] {
        for by_client in [false, true] {
            let mut world = answering(response);
            let connection = spliced(&mut world, 1);
            if !said.is_empty() {
                world.send(&connection.server(ACK, 0, 4, said), RESPONSE, &[]).to(ROUTER);
            }
            if by_client {
                world.passes(&connection.client(RST, 4, 0, b"")).to(hop(11));
            } else {
                let reset = connection.server(RST, said.len() as u32, 4, b"");
                world.send(&reset, RESPONSE, &[]).to(ROUTER);
            }
            let step = world.wait(11 * SECOND);
            let ended = step.ended();
            assert_eq!((ended.reason, &*ended.ds_log), (EndReason::Reset, UNDONE), "{response}");
            empty(&world);
        }
    }
    // Closed in order, by both sides.
    let mut world = answering(SIX);
    let connection = spliced(&mut world, 1);
    world.passes(&connection.client(FIN | ACK, 4, 0, b"")).to(hop(11));
    world.send(&connection.server(FIN | ACK, 0, 5, b""), RESPONSE, &[]).to(ROUTER);
    let step = world.wait(11 * SECOND);
    assert_eq!((step.ended().reason, &*step.ended().ds_log), (EndReason::Finished, UNDONE));
}

#[test]
fn a_response_that_was_seen_leaves_nothing_undone() {
    let mut world = answering("avi.vs.log('|', avi.l4.read())");
    let connection = spliced(&mut world, 1);
    world.send(&connection.server(ACK, 0, 4, b"200"), RESPONSE, &[]).to(ROUTER);
    assert_eq!(&*log(&mut world, &connection).ds_log, "GET |200");
}

/// What the server says comes by the queue of its own direction, which may be another worker's than
/// the client's.
#[test]
fn scripts_see_what_comes_by_several_workers_as_one_stream() {
    for order in [[0, 0], [0, 1], [1, 0], [1, 1]] {
        let setup = Setup { response: SIX, workers: 2, ..inspecting(FOUR) };
        let mut world = setup.world();
        let connection = spliced(&mut world, 1);
        for (worker, (at, piece)) in order.into_iter().zip([(0, b"200"), (3, b" OK")]) {
            let message = connection.server(ACK, at, 4, piece);
            let frame = link_from(hop(11)).frame(&message.packet());
            let step = world.punt(worker, 2, &frame, &[]);
            let step = if worker == 0 { step } else { world.tick() };
            assert_eq!(step.to(ROUTER).payload, piece, "{order:?}");
        }
        assert_eq!(world.workers[1].engine.taps.len(), 0, "{order:?}");
        assert_eq!(&*log(&mut world, &connection).ds_log, "GET |200 OK", "{order:?}");
    }
}

#[test]
fn a_script_that_fails_resets_both_sides_with_their_own_numbers() {
    let mut world = answering("error('oh')");
    let failed = [Event::DropScriptError];
    let connection = spliced(&mut world, 1);
    let step = world.send(&connection.server(ACK, 0, 4, b"200"), RESPONSE, &failed);
    let [to_client, to_server] = &step.messages()[..] else { panic!("{step:?}") };
    assert_eq!(numbers(to_client).1, connection.cookie.wrapping_add(1));
    assert_eq!((numbers(to_server).0, numbers(to_server).1), (RST, C.wrapping_add(5)));
    assert_eq!(world.wait(ROUND).ended().reason, EndReason::ScriptError);
    empty(&world);

    // With the packet that would have spliced them, and with one before.
    for (port, got) in [(2, 4), (3, 2)] {
        let connection = delivering(&mut world, port);
        let answer = connection.server(ACK, 0, got, b"200");
        let step = world.send(&answer, INSPECTED, &failed);
        let sent = step.messages();
        assert!(sent.iter().all(|sent| numbers(sent).0 & RST != 0), "{sent:?}");
        let to: Vec<_> = sent.iter().map(|sent| sent.to).collect();
        assert!(to.contains(&client(port)) && to.contains(&server(11, 8080)), "{to:?}");
        assert_eq!(world.wait(ROUND).ended().reason, EndReason::ScriptError);
        empty(&world);
    }
}

#[test]
fn a_server_that_closes_before_enough_is_there_fails_the_script_that_waits() {
    let mut world = answering(SIX);
    let connection = spliced(&mut world, 1);
    world.send(&connection.server(ACK, 0, 4, b"200"), RESPONSE, &[]).to(ROUTER);
    let failed = [Event::DropScriptError];
    world.send(&connection.server(FIN | ACK, 3, 4, b""), RESPONSE, &failed);
    assert_eq!(world.wait(ROUND).ended().reason, EndReason::ScriptError);
    empty(&world);
}
