//! Cookies that are good, and what is none; and connections that use a port again.

use super::*;

const RESET: Verdict = Verdict::Answer(Event::AnswerReset);

/// The client's acknowledgement of something that it has been sent.
fn acknowledging(connection: &Connection, sequence: u32, acknowledgement: u32) -> Message {
    let message = connection.client(ACK, 0, 0, b"GET ");
    let transport = Transport::Tcp { flags: ACK, sequence, acknowledgement };
    Message { transport, ..message }
}

#[test]
fn what_returns_no_cookie_is_reset_by_the_program_and_by_workers() {
    let mut world = inspecting(FOUR).world();
    let given = ask(&mut world, 1);
    let (first, cookie) = (C.wrapping_add(1), given.cookie.wrapping_add(1));
    let other_client = Connection { port: 2, ..given };
    let wrong = [
        ("a cookie of nobody's", acknowledging(&given, first, cookie ^ 0x8000_0000)),
        ("one that was given to another client", acknowledging(&other_client, first, cookie)),
        ("no handshake at all", tcp(client(3), web(), ACK)),
    ];
    for (what, message) in wrong {
        let reset = world.send(&message, RESET, &[]).to(ROUTER);
        assert_eq!(numbers(&reset), (RST, numbers(&message).2, 0), "{what}");
        // With options in its header it is a worker's.
        let irregular = Message { options: vec![7, 4, 4, 0], ..message };
        let punted = Verdict::Punt(Event::PuntIrregular);
        let step = world.send(&irregular, punted, &[Event::DropNoFlow]);
        assert_eq!(numbers(&step.to(ROUTER)).0, RST, "{what}");
    }
    empty(&world);
}

#[test]
fn a_cookie_is_good_for_a_while_only() {
    let mut world = inspecting(FOUR).world();
    let given = ask(&mut world, 1);
    world.wait(140 * SECOND).nothing();
    world.send(&given.client(ACK, 0, 0, b"GET "), RESET, &[]).to(ROUTER);
    empty(&world);
    let given = ask(&mut world, 1);
    world.wait(60 * SECOND).nothing();
    let step = world.send(&given.client(ACK, 0, 0, b"GET "), COOKIE, &[]);
    asked(given, &step);
}

/// An old acknowledgement that is said again begins a connection of its own; it is not the old one,
/// and gets what any other gets.
#[test]
fn a_cookie_that_is_returned_twice_begins_a_connection_once_at_a_time() {
    let mut world = inspecting(FOUR).world();
    let connection = shake(&mut world, 1);
    world.send(&connection.client(ACK, 0, 0, b""), INSPECTED, &[]).nothing();
    assert_eq!((world.gauge().0, inspections(&world)), (1, 1));
    world.send(&connection.client(RST, 0, 0, b""), INSPECTED, &[]).nothing();
    assert_eq!(world.wait(ROUND).ended().reason, EndReason::Reset);
    world.send(&connection.client(ACK, 0, 0, b""), COOKIE, &[]).nothing();
    assert_eq!((world.gauge().0, inspections(&world)), (1, 1));
}

/// The second segment may be there before the first, which is lost and comes again.
#[test]
fn what_follows_a_cookie_is_neither_answered_nor_begins_anything() {
    let mut world = inspecting(FOUR).world();
    world.tick().nothing();
    let given = ask(&mut world, 1);
    let early = Verdict::Punt(Event::PuntEarly);
    let second = given.client(ACK, 2, 0, b"T ");
    world.send(&second, early, &[Event::DropEarly]).nothing();
    empty(&world);
    let step = world.send(&given.client(ACK, 0, 0, b"GET "), COOKIE, &[]);
    asked(given, &step);
}

/// A daemon that has just begun knows nothing of what an earlier one has inspected.
#[test]
fn what_follows_a_cookie_of_an_earlier_daemons_is_reset() {
    let mut world = inspecting(FOUR).world();
    let given = ask(&mut world, 1);
    world.send(&given.client(ACK, 0, 0, b""), COOKIE, &[]).nothing();
    let (mut world, dealt) = adoption::restart(world, 1, crate::pool::ServerStates::default());
    assert_eq!(dealt, [0]);
    world.tick().nothing();
    world.wait(9 * SECOND).nothing();
    let given = ask(&mut world, 1);
    let early = Verdict::Punt(Event::PuntEarly);
    let second = given.client(ACK, 2, 0, b"T ");
    assert_eq!(numbers(&world.send(&second, early, &[Event::DropNoFlow]).to(ROUTER)).0, RST);
    world.wait(11 * SECOND).nothing();
    let given = ask(&mut world, 1);
    let second = given.client(ACK, 2, 0, b"T ");
    world.send(&second, early, &[Event::DropEarly]).nothing();
}

#[test]
fn a_syn_that_the_program_cannot_read_is_answered_by_a_worker_with_the_same_cookie() {
    let mut world = inspecting(FOUR).world();
    let given = ask(&mut world, 1);
    let transport = Transport::Tcp { flags: SYN, sequence: C, acknowledgement: 0 };
    let syn = Message { transport, options: vec![7, 4, 4, 0], ..tcp(client(1), web(), SYN) };
    let punted = Verdict::Punt(Event::PuntIrregular);
    let answer = world.send(&syn, punted, &[Event::AnswerCookie]).to(ROUTER);
    assert_eq!(numbers(&answer), (SYN | ACK, given.cookie, C.wrapping_add(1)));
    assert_eq!(world.slots(), (0, 0));
}

#[test]
fn a_syn_on_a_connection_that_is_over_is_answered_with_a_cookie() {
    let mut world = inspecting(FOUR).world();
    let old = spliced(&mut world, 1);
    world.passes(&old.client(FIN | ACK, 4, 0, b"")).to(hop(11));
    world.passes(&old.server(FIN | ACK, 0, 5, b"")).to(ROUTER);
    let transport = Transport::Tcp { flags: SYN, sequence: 7000, acknowledgement: 0 };
    let syn = Message { transport, ..tcp(client(1), web(), SYN) };
    let again = Verdict::Punt(Event::PuntSyn);
    let answer = world.send(&syn, again, &[Event::AnswerCookie]).to(ROUTER);
    let (flags, cookie, acknowledged) = numbers(&answer);
    assert_eq!((flags, acknowledged), (SYN | ACK, 7001));
    assert_eq!(world.wait(ROUND).ended().reason, EndReason::Reused);
    empty(&world);
    let transport = Transport::Tcp { flags: ACK, sequence: 7001, acknowledgement: cookie + 1 };
    let first = Message { transport, ..tcp(client(1), web(), ACK) }.with_payload(b"GET ");
    let syn = world.send(&first, COOKIE, &[]).to(hop(11));
    assert_eq!(numbers(&syn), (SYN, 7000, 0));
}

#[test]
fn a_syn_on_a_spliced_connection_that_goes_on_is_the_servers_to_judge() {
    let mut world = inspecting(FOUR).world();
    let connection = spliced(&mut world, 1);
    let syn = connection.client(SYN, 50, 0, b"");
    let again = Verdict::Punt(Event::PuntSyn);
    assert_eq!(numbers(&world.send(&syn, again, &[]).to(hop(11))).0, SYN);
}

#[test]
fn a_full_table_takes_no_more_connections() {
    let instance = "flow_capacity = 64\nhalf_open_share = 50";
    let mut world = Setup { instance, ..inspecting(FOUR) }.world();
    let most = u16::try_from(world.shared.gauge.most_half_open()).unwrap();
    for port in 1..=most {
        shake(&mut world, port);
    }
    let one_more = ask(&mut world, most + 1);
    let full = [Event::DropHalfOpenLimit];
    let step = world.send(&one_more.client(ACK, 0, 0, b""), COOKIE, &full);
    assert_eq!(numbers(&step.to(ROUTER)).0, RST);
    assert_eq!(inspections(&world), usize::from(most));
}

/// On the link somebody has to ask for the client's MAC: the acknowledgement waits.
#[test]
fn a_client_whose_next_hop_is_not_known_begins_when_it_is() {
    let mut world = inspecting(FOUR).world();
    let from = neighbour(1);
    let transport = Transport::Tcp { flags: SYN, sequence: C, acknowledgement: 0 };
    let syn = Message { transport, ..tcp(from, web(), SYN) };
    let cookie = numbers(&world.send(&syn, COOKIE_GIVEN, &[]).to(ROUTER)).1;
    let acknowledgement = cookie.wrapping_add(1);
    let sequence = C.wrapping_add(1);
    let transport = Transport::Tcp { flags: ACK, sequence, acknowledgement };
    let first = Message { transport, ..tcp(from, web(), ACK) }.with_payload(b"GET ");
    assert_eq!(world.send(&first, COOKIE, &[]).resolve.len(), 1);
    world.net.toward.insert(*from.ip(), Toward::Known(NextHopId(7)));
    assert_eq!(numbers(&world.tick().to(hop(11))), (SYN, C, 0));
}
