//! A new configuration decides new flows; the old ones keep what decided them.

use super::{frames::*, world::*};

fn to(host: u8) -> String {
    Setup::default().pools.replace("10.0.0.11", &format!("10.0.0.{host}"))
}

#[test]
fn old_flows_keep_their_server_and_new_ones_get_the_new() {
    let mut world = Setup::default().world();
    world.begin(&tcp(client(1), web(), SYN)).to(hop(11));
    let pools = to(12);
    world.replace(&Setup { pools: &pools, ..Setup::default() }).unwrap();
    world.begin(&tcp(client(2), web(), SYN)).to(hop(12));
    world.passes(&tcp(client(1), web(), ACK)).to(hop(11));
    let step = world.wait(11 * SECOND);
    let of: Vec<_> = step.log.iter().map(|ended| (ended.generation, ended.server)).collect();
    assert_eq!(of, [(1, Some(server(11, 8080).into())), (2, Some(server(12, 8080).into()))]);
}

#[test]
fn a_configuration_whose_script_does_not_load_changes_nothing() {
    let request = "avi.vs.log('old')";
    let setup = Setup { request, ..Setup::default() };
    let mut world = setup.world();
    let pools = to(12);
    let broken = Setup { request: "this is not Lua", pools: &pools, ..setup };
    // With other limits a new Lua state is made, which must not stay either.
    let limits = "script = { memory = \"8 MiB\" }";
    for broken in [broken, Setup { instance: limits, ..broken }] {
        world.replace(&broken).unwrap_err();
        assert_eq!(world.workers[0].engine.generation().number, 1);
    }
    world.begin(&tcp(client(1), web(), SYN)).to(hop(11));
    let step = world.wait(11 * SECOND);
    assert_eq!((&*step.ended().ds_log, step.ended().generation), ("old", 1));
}

#[test]
fn a_port_in_use_is_not_given_out_when_the_shares_change() {
    let ports = |range: &'static str| Setup { instance: range, ..Setup::default() };
    let mut world = ports("snat_ports = \"2000-2001\"").world();
    let query = |port| udp(client(port), dns(), b"");
    assert_eq!(world.begin(&query(1)).to(hop(21)).from, snat(2000));
    world.replace(&ports("snat_ports = \"1999-2001\"")).unwrap();
    let next: Vec<_> = [2, 3].map(|port| world.begin(&query(port)).to(hop(21)).from.port()).into();
    assert_eq!(next, [2001, 1999]);
}
