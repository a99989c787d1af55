//! A new configuration comes while a connection is inspected.

use super::*;
use crate::config::Config;

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

fn come_into_force(world: &mut World, config: Config) {
    let generation = Generation::new(2, Arc::new(config), &world.shared).unwrap();
    world.workers[0].engine.replace(Arc::new(generation)).unwrap();
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
    come_into_force(&mut world, config);
    let none = [Event::DropNoFlow];
    let step = world.send(&connection.client(ACK, 0, 0, GET), INSPECTED, &none);
    let reset = (RST | ACK, connection.cookie.wrapping_add(1), C.wrapping_add(5));
    assert_eq!(numbers(&step.to(ROUTER)), reset);
    assert_eq!(world.wait(ROUND).ended().reason, EndReason::Refused);
    empty(&world);
}

/// The pools of a configuration whose servers are at these hosts; the pool of the service is the last,
/// not the first as it was.
fn at_hosts(name: &str, hosts: &[u8]) -> String {
    let server = |host| format!("{{ address = \"10.0.0.{host}\", port = 8080 }}");
    let servers: Vec<_> = hosts.iter().map(server).collect();
    let resolver = "servers = [{ address = \"10.0.0.21\", port = 53 }]";
    format!(
        "[[pool]]\nname = \"resolvers\"\n{resolver}\n[[pool]]\nname = \"{name}\"\nservers = [{}]",
        servers.join(", ")
    )
}

/// A connection whose server, the first of two, fails by a reset after another configuration has
/// come.
fn fails_after(new: &Setup<'_>, counts: &[Event]) -> (World, Connection, Step) {
    let mut world = Setup { pools: TWO, ..inspecting(FOUR) }.world();
    let connection = opening(&mut world, 1);
    assert_eq!(connection.host, 11);
    world.replace(new).unwrap();
    let step = world.send(&connection.reset_by_server(), INSPECTED, counts);
    (world, connection, step)
}

#[test]
fn a_server_that_fails_after_a_change_is_followed_by_one_of_its_pool_as_it_is_now() {
    for (hosts, next) in [(&[11, 12][..], 12), (&[12, 11], 12), (&[14, 11], 14), (&[13], 13)] {
        let pools = at_hosts("web", hosts);
        let new = Setup { pools: &pools, ..inspecting(FOUR) };
        let (mut world, connection, step) = fails_after(&new, &[]);
        let connection = asked(connection, &step);
        assert_eq!(connection.host, next, "{hosts:?}");
        let step = world.send(&connection.syn_ack(), INSPECTED, &[]);
        assert_eq!(step.messages().pop().unwrap().payload, GET);
        world.send(&connection.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
        world.passes(&connection.client(RST, 4, 0, b"")).to(hop(next));
        let step = world.wait(11 * SECOND);
        let ended = step.ended();
        assert_eq!((ended.pool.as_deref(), ended.generation), (Some("web"), 1), "{hosts:?}");
        assert_eq!(ended.server, Some(server(next, 8080).into()));
        assert_eq!((inspections(&world), world.gauge(), world.snat_ports().0), (0, (0, 0), 0));
    }
}

#[test]
fn a_server_that_is_silent_is_followed_after_a_change_too() {
    let mut world = Setup { pools: TWO, ..inspecting(FOUR) }.world();
    let first = opening(&mut world, 1);
    let pools = at_hosts("web", &[12, 11]);
    world.replace(&Setup { pools: &pools, ..inspecting(FOUR) }).unwrap();
    world.time += 4 * SECOND;
    let messages = world.tick().messages();
    let of = |flags| messages.iter().find(|sent| numbers(sent).0 == flags).map(|sent| sent.to);
    assert_eq!((of(RST), of(SYN)), (Some(server(first.host, 8080)), Some(server(12, 8080))));
}

#[test]
fn a_server_whose_pool_is_gone_or_has_nobody_else_is_followed_by_none() {
    for (name, hosts) in [("other", &[11, 12][..]), ("web", &[11])] {
        let pools = at_hosts("web", hosts);
        let mut config = (*Setup { pools: &pools, ..inspecting(FOUR) }.config()).clone();
        config.pools.iter_mut().filter(|pool| pool.name == "web").for_each(|pool| {
            pool.name = name.to_owned();
        });
        let mut world = Setup { pools: TWO, ..inspecting(FOUR) }.world();
        let connection = opening(&mut world, 1);
        come_into_force(&mut world, config);
        let none_left = [Event::DropNoServer];
        let step = world.send(&connection.reset_by_server(), INSPECTED, &none_left);
        assert_eq!(numbers(&step.to(ROUTER)).0, RST | ACK, "{name}");
        assert_eq!(world.wait(ROUND).ended().reason, EndReason::Refused);
        empty(&world);
    }
}
