//! A new configuration comes while a connection is inspected.

use super::*;

const GET: &[u8] = b"GET ";

/// A connection that has said two bytes of four when the configuration changes, and then the rest.
fn across(new: &Setup<'_>, counts: &[Event]) -> (World, Connection, Step) {
    let mut world = inspecting(FOUR).world();
    let connection = shake(&mut world, 1);
    world.send(&connection.client(ACK, 0, 0, &GET[..2]), INSPECTED, &[]).nothing();
    world.replace(new).unwrap();
    let step = world.send(&connection.client(ACK, 2, 0, &GET[2..]), INSPECTED, counts);
    (world, connection, step)
}

#[test]
fn the_new_configuration_decides() {
    let pools = Setup::default().pools.replace("10.0.0.11", "10.0.0.12");
    let other_pool = Setup { pools: &pools, ..inspecting("avi.vs.log('new')") };
    let (mut world, connection, step) = across(&other_pool, &[]);
    let syn = step.messages().into_iter().find(|sent| numbers(sent).0 == SYN).unwrap();
    assert_eq!(syn.to, server(12, 8080));
    let connection = Connection { snat: syn.from, host: 12, ..connection };
    world.send(&connection.syn_ack(), INSPECTED, &[]);
    world.send(&connection.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
    world.passes(&connection.client(RST, 4, 0, b"")).to(hop(12));
    let step = world.wait(11 * SECOND);
    assert_eq!((&*step.ended().ds_log, step.ended().generation), ("new", 2));
    empty(&world);
}

#[test]
fn a_service_that_inspects_no_longer_takes_the_connection_with_what_it_has_said() {
    let fast_path = Setup { request: "avi.vs.log(#avi.l4.read())", ..Setup::default() };
    let (mut world, connection, step) = across(&fast_path, &[]);
    let syn = step.messages().into_iter().find(|sent| numbers(sent).0 == SYN).unwrap();
    let connection = Connection { snat: syn.from, ..connection };
    let step = world.send(&connection.syn_ack(), INSPECTED, &[]);
    assert_eq!(step.messages().pop().unwrap().payload, GET);
    world.send(&connection.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
    world.passes(&connection.client(RST, 4, 0, b"")).to(hop(11));
    assert_eq!(&*world.wait(11 * SECOND).ended().ds_log, "0", "it decides as at a SYN");
    empty(&world);
}

#[test]
fn a_service_that_is_gone_resets_its_connection() {
    let gone = inspecting(FOUR);
    let mut config = (*gone.config()).clone();
    config.virtual_services.retain(|service| service.name != "web");
    let mut world = inspecting(FOUR).world();
    let connection = shake(&mut world, 1);
    let generation = Generation::new(2, Arc::new(config), &world.shared).unwrap();
    let generation = Arc::new(generation);
    world.workers[0].engine.replace(Arc::clone(&generation)).unwrap();
    let none = [Event::DropNoFlow];
    let step = world.send(&connection.client(ACK, 0, 0, GET), INSPECTED, &none);
    let reset = (RST | ACK, connection.cookie.wrapping_add(1), C.wrapping_add(5));
    assert_eq!(numbers(&step.to(ROUTER)), reset);
    assert_eq!(world.wait(ROUND).ended().reason, EndReason::Refused);
    empty(&world);
}

/// Numbers of pools and servers are another configuration's by then.
#[test]
fn a_server_that_fails_after_a_change_is_followed_by_none() {
    let mut world = Setup { pools: TWO, ..inspecting(FOUR) }.world();
    let connection = opening(&mut world, 1);
    world.replace(&Setup { pools: TWO, ..inspecting(FOUR) }).unwrap();
    let acknowledgement = C.wrapping_add(1);
    let transport = Transport::Tcp { flags: RST | ACK, sequence: 0, acknowledgement };
    let reset = Message { transport, ..connection.syn_ack() };
    let none_left = [Event::DropNoServer];
    assert_eq!(numbers(&world.send(&reset, INSPECTED, &none_left).to(ROUTER)).0, RST | ACK);
    assert_eq!(world.wait(ROUND).ended().reason, EndReason::Refused);
    empty(&world);
}
