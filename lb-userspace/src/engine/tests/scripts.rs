//! What L4_REQUEST scripts decide, and what becomes of those that fail.

use lb_common::path::Verdict;

use super::{frames::*, world::*, *};
use crate::engine::log::{DecidedBy, EndReason};

const NEW: Verdict = Verdict::Punt(Event::PuntFirstPacket);
const CLOSED: Verdict = Verdict::Drop(Event::DropClosed);

const POOLS: &str = r#"
[[pool]]
name = "web"
servers = [
  { address = "10.0.0.11", port = 8080 },
  { address = "10.0.0.12", port = 8080, enabled = false },
]
[[pool]]
name = "resolvers"
servers = [{ address = "10.0.0.21", port = 53 }, { address = "10.0.0.22", port = 53 }]"#;

fn scripted(request: &str) -> Setup<'_> {
    Setup { request, pools: POOLS, ..Setup::default() }
}

fn syn(port: u16) -> Message {
    tcp(client(port), web(), SYN)
}

/// The record of the one flow that was begun, once it has timed out.
fn record(world: &mut World) -> FlowLog {
    world.wait(60 * SECOND).ended().clone()
}

#[test]
fn a_script_chooses_the_pool() {
    let mut world = scripted("\navi.vs.log('over')\navi.pool.select('resolvers')").world();
    assert_eq!(world.begin(&syn(1)).sent[0].0.interface, 2);
    let ended = record(&mut world);
    assert_eq!(
        (ended.pool.as_deref(), ended.decided_by),
        (Some("resolvers"), Some(DecidedBy::ScriptPool))
    );
    assert_eq!((ended.script.as_deref(), ended.line), (Some("/etc/lb/l4_request.lua"), Some(3)));
    assert_eq!(ended.ds_log, "over");
}

#[test]
fn a_script_chooses_the_server_and_the_port() {
    let request = "avi.pool.select('resolvers', '10.0.0.22', 5353)";
    let mut world = scripted(request).world();
    for port in 1..4 {
        assert_eq!(world.begin(&syn(port)).to(hop(22)).to, server(22, 5353));
    }
    let answer = tcp(server(22, 5353), snat(1024), SYN | ACK);
    assert_eq!(world.passes(&answer).to(ROUTER), answer.between(web(), client(1)));
    let step = world.wait(60 * SECOND);
    assert!(step.log.iter().all(|ended| ended.decided_by == Some(DecidedBy::ScriptServer)));
    assert_eq!(step.log[0].server, Some(server(22, 5353).into()));
}

#[test]
fn in_place_of_a_server_that_is_down_another_is_picked_and_the_log_says_so() {
    let request = "avi.vs.log('to 12 ') avi.pool.select('web', '10.0.0.12', 8080)";
    let mut world = scripted(request).world();
    world.begin(&syn(1)).to(hop(11));
    let ended = record(&mut world);
    assert_eq!(ended.decided_by, Some(DecidedBy::ScriptPool));
    assert_eq!(ended.ds_log, "to 12 [selected server 10.0.0.12:8080 is down]");
}

#[test]
fn a_connection_that_a_script_closes_is_reset() {
    let mut world = scripted("avi.vs.log('no')\navi.vs.close_conn()").world();
    let step = world.send(&syn(1), NEW, &[Event::DropScriptClosed]);
    let reset = Transport::Tcp { flags: RST | ACK, sequence: 0, acknowledgement: 1001 };
    assert_eq!(step.messages(), [Message { transport: reset, ..tcp(web(), client(1), RST) }]);
    let [ended] = &step.log[..] else { panic!("{:?}", step.log) };
    assert_eq!(
        (ended.reason, ended.line, &*ended.ds_log),
        (EndReason::ClosedByScript, Some(2), "no")
    );
    assert_eq!((ended.decided_by, ended.server), (Some(DecidedBy::ScriptClosed), None));
    assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 0)));
}

#[test]
fn datagrams_of_a_flow_that_a_script_closed_are_dropped_until_it_is_idle() {
    let mut world = scripted("avi.vs.log(avi.l4.read())\navi.vs.close_conn()").world();
    let query = udp(client(1), dns(), b"bad");
    world.send(&query, NEW, &[Event::DropScriptClosed]).nothing();
    world.send(&query, CLOSED, &[]).nothing();
    let frame = link_from(ROUTER).frame(&query.packet());
    world.punt(0, 1, &frame, &[Event::DropClosed]).nothing();
    assert_eq!((world.gauge().0, world.slots()), (1, (1, 0)));
    let ended = world.wait(31 * SECOND).ended().clone();
    assert_eq!((ended.reason, ended.packets, ended.bytes), (EndReason::ClosedByScript, 1, 45));
    assert_eq!((&*ended.ds_log, ended.server, ended.snat), ("bad", None, None));
    assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 0)));
    world.send(&query, NEW, &[Event::DropScriptClosed]).nothing();
}

fn failed(ended: &FlowLog, message: &str) {
    assert_eq!(ended.significance, ["ADF_DATASCRIPT_EXECUTION_FAILED"]);
    let error = ended.error.as_ref().unwrap();
    assert_eq!((error.event, &*error.script), ("L4_REQUEST", "/etc/lb/l4_request.lua"));
    assert!(error.message.contains(message), "{}", error.message);
}

const FAILS: &str = "avi.vs.log('x')\nerror('oh')";

#[test]
fn a_script_that_fails_closes_its_connection() {
    let mut world = scripted(FAILS).world();
    let step = world.send(&syn(1), NEW, &[Event::DropScriptError]);
    assert_eq!(step.messages().len(), 1);
    let [ended] = &step.log[..] else { panic!("{:?}", step.log) };
    failed(ended, "oh");
    assert_eq!((ended.reason, &*ended.ds_log), (EndReason::ScriptError, ""));
    let error = ended.error.as_ref().unwrap();
    assert_eq!(error.line, 2);
    assert!(error.traceback.contains("l4_request.lua:2: in main chunk"), "{}", error.traceback);
}

#[test]
fn datagrams_of_a_flow_whose_script_failed_are_dropped_and_logged_as_that() {
    let mut world = scripted(FAILS).world();
    let query = udp(client(1), dns(), b"");
    world.send(&query, NEW, &[Event::DropScriptError]).nothing();
    world.send(&query, CLOSED, &[]).nothing();
    let ended = world.wait(31 * SECOND).ended().clone();
    failed(&ended, "oh");
    assert_eq!(ended.reason, EndReason::ScriptError);
}

#[test]
fn a_set_may_send_flows_whose_script_fails_to_the_default_pool() {
    let mut world = Setup { on_error: "default-pool", ..scripted(FAILS) }.world();
    world.begin(&syn(1)).to(hop(11));
    let ended = record(&mut world);
    failed(&ended, "oh");
    assert_eq!((ended.decided_by, ended.reason), (Some(DecidedBy::OnError), EndReason::HalfOpen));
}

#[test]
fn a_script_that_loops_or_eats_memory_fails_alone() {
    let request = "
      if avi.vs.client_port() == '1' then while true do end end
      if avi.vs.client_port() == '2' then
        local s = 'x' while true do s = s .. s end
      end";
    let limits = "script = { instruction_budget = 100000, memory = \"4 MiB\" }";
    let mut world = Setup { instance: limits, ..scripted(request) }.world();
    for port in [1, 2] {
        let step = world.send(&syn(port), NEW, &[Event::DropScriptError]);
        assert_eq!((step.sent.len(), step.log.len()), (1, 1));
        assert_eq!(step.log[0].significance, ["ADF_DATASCRIPT_EXECUTION_FAILED"]);
        world.begin(&syn(port + 10)).to(hop(11));
    }
}

const PERSISTS: &str = "avi.vs.persist(avi.vs.client_ip(), 60, 'resolvers')";

#[test]
fn workers_agree_on_the_server_that_a_key_persists_at() {
    let mut world = Setup { workers: 2, ..scripted(PERSISTS) }.world();
    let mut by = |worker, port| {
        let frame = link_from(ROUTER).frame(&syn(port).packet());
        world.punt(worker, 1, &frame, &[]).messages()[0].to
    };
    let first = by(0, 1);
    assert_eq!([by(1, 2), by(1, 3), by(0, 4), by(0, 5)], [first; 4]);
    let step = world.wait(20 * SECOND);
    let new = |ended: &&FlowLog| ended.decided_by == Some(DecidedBy::PersistenceNew);
    assert_eq!((step.log.len(), step.log.iter().filter(new).count()), (5, 1));
}

#[test]
fn a_key_whose_server_is_gone_gets_another_for_good() {
    let mut world = scripted(PERSISTS).world();
    let first = world.begin(&syn(1)).messages()[0].to;
    let gone = format!("{{ address = \"{}\", port = 53", first.ip());
    let pools = POOLS.replace(&gone, &format!("{gone}, enabled = false"));
    world.replace(&Setup { pools: &pools, ..scripted(PERSISTS) }).unwrap();
    let second = world.begin(&syn(2)).messages()[0].to;
    assert_ne!(second, first);
    world.replace(&scripted(PERSISTS)).unwrap();
    for port in 3..8 {
        assert_eq!(world.begin(&syn(port)).messages()[0].to, second, "stored in place of the old");
    }
}

#[test]
fn persist_stores_address_and_port_in_the_default_table_and_renews_the_lifetime() {
    let mut world = scripted(PERSISTS).world();
    let first = world.begin(&syn(1)).messages()[0].to;
    let table = world.shared.tables.table("web", b"").unwrap();
    let stored = |world: &World| {
        table.entries(b"", usize::MAX, world.time).pop().map(|it| (it.key, it.value, it.remaining))
    };
    let value = crate::table::Value::string(format!("{}-{}", first.ip(), first.port()));
    let entry = |remaining| Some((b"198.51.100.7".as_slice().into(), value.clone(), remaining));
    assert_eq!(stored(&world), entry(60));
    world.time += 50 * SECOND;
    assert_eq!(stored(&world), entry(10));
    assert_eq!(world.begin(&syn(2)).messages()[0].to, first);
    assert_eq!(stored(&world), entry(60));
}

#[test]
fn what_one_worker_inserts_every_other_looks_up() {
    let request = "avi.vs.log((avi.vs.table_lookup('k', 0))) avi.vs.table_insert('k', 'v')";
    let mut world = Setup { workers: 2, ..scripted(request) }.world();
    for (worker, port) in [(0, 1), (1, 2)] {
        let frame = link_from(ROUTER).frame(&syn(port).packet());
        world.punt(worker, 1, &frame, &[]);
    }
    let logs: Vec<_> = world.wait(60 * SECOND).log.iter().map(|it| it.ds_log.clone()).collect();
    assert!(logs.contains(&"nil".into()) && logs.contains(&"v".into()), "{logs:?}");
}

#[test]
fn chash_gives_a_consistent_hash_pool_its_key() {
    let pools = POOLS
        .replace("name = \"resolvers\"", "name = \"resolvers\"\nalgorithm = \"consistent-hash\"");
    let request = "avi.pool.chash(avi.l4.read()) avi.pool.select('resolvers')";
    let mut world = Setup { pools: &pools, ..scripted(request) }.world();
    let mut by = |port, key: &[u8]| world.begin(&udp(client(port), dns(), key)).messages()[0].to;
    let keys: Vec<_> = (0..16u8).map(|key| [key]).collect();
    let servers: Vec<_> = keys.iter().map(|key| by(u16::from(key[0]) + 1, key)).collect();
    for (key, server) in keys.iter().zip(&servers) {
        assert_eq!(by(u16::from(key[0]) + 100, key), *server);
    }
    assert!(servers.iter().any(|server| *server != servers[0]), "one client, many keys");
}
