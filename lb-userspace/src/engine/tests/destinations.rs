//! Pool groups, policy rules, and explanations of what they decide.

use lb_common::path::Verdict;

use super::{frames::*, world::*, *};
use crate::engine::{
    explanation::{Explanation, Query, Ruling},
    log::DecidedBy,
};

const NEW: Verdict = Verdict::Punt(Event::PuntFirstPacket);

/// Two pools in a group, the second for when the first has nobody; and a policy for one client.
const POOLS: &str = r#"
[[pool]]
name = "web"
servers = [
  { address = "10.0.0.11", port = 8080, ratio = 2 },
  { address = "10.0.0.12", port = 8080 },
  { address = "10.0.0.13", port = 8080, enabled = false },
]
[[pool]]
name = "resolvers"
servers = [{ address = "10.0.0.21", port = 53 }]
[[pool]]
name = "gone"
servers = [{ address = "10.0.0.31", port = 53, enabled = false }]
[[pool_group]]
name = "tiers"
members = [
  { pool = "resolvers", priority = 1 },
  { pool = "web", priority = 2 },
  { pool = "gone", priority = 3 },
]
[[pool_group]]
name = "empty"
members = [{ pool = "gone" }]
[[l4_policy]]
name = "by-client"
rules = [
  { name = "other-port", ports = ["81-90"], pool = "gone" },
  { name = "branch", clients = ["198.51.100.0/29"], protocol = "tcp", pool = "resolvers" },
  { name = "shadowed", clients = ["198.51.100.7"], pool = "gone" },
]"#;

fn setup<'a>(web: &'a str, request: &'a str) -> Setup<'a> {
    Setup { web, request, pools: POOLS, ..Setup::default() }
}

const POLICY: &str = "l4_policies = [\"by-client\"]";

fn syn(port: u16) -> Message {
    tcp(client(port), web(), SYN)
}

fn query() -> Query<'static> {
    Query {
        protocol: Protocol::Tcp,
        client: client(1).into(),
        vip: web().into(),
        payload: b"",
        stream: None,
    }
}

fn explain(world: &mut World) -> Explanation {
    let now = world.now();
    world.workers[0].engine.explain(now, query()).expect("a service listens there")
}

fn steps(explanation: &Explanation) -> Vec<(u8, &str, &str)> {
    let steps = explanation.steps.iter();
    steps.map(|step| (step.number, step.what.as_str(), step.result.as_str())).collect()
}

fn reasons(candidates: &[explanation::Candidate]) -> Vec<(&str, bool, &str)> {
    candidates.iter().map(|found| (&*found.name, found.chosen, &*found.why)).collect()
}

#[test]
fn the_first_rule_that_holds_sends_the_flow_elsewhere() {
    let mut world = setup(POLICY, "").world();
    world.begin(&syn(1)).to(hop(21));
    let flow = world.flow(&syn(1)).unwrap();
    let view = flow.view(&world.shared.catalog, log::Note::default(), world.time);
    assert_eq!((view.decided_by, view.script), (Some(DecidedBy::PolicyRule), None));
    assert_eq!(view.rule.as_deref(), Some("by-client/branch"));
    let ended = world.wait(60 * SECOND).ended().clone();
    assert_eq!(
        (ended.rule.as_deref(), ended.pool.as_deref()),
        (view.rule.as_deref(), Some("resolvers"))
    );
}

#[test]
fn no_rule_holds_and_the_service_s_own_pool_takes_the_flow() {
    let mut world = setup(POLICY, "").world();
    let other = tcp(at([198, 51, 100, 9], 1), web(), SYN);
    world.begin(&other).to(hop(11));
    assert_eq!(world.wait(60 * SECOND).ended().decided_by, Some(DecidedBy::Algorithm));
}

#[test]
fn a_script_runs_after_the_rules_and_may_overrule_them() {
    let request = "avi.vs.log(avi.pool.get_servers())\navi.pool.select('web', '10.0.0.12')";
    let mut world = setup(POLICY, request).world();
    world.begin(&syn(1)).to(hop(12));
    let ended = world.wait(60 * SECOND).ended().clone();
    assert_eq!((ended.decided_by, ended.rule), (Some(DecidedBy::ScriptServer), None));
    // One of one: of the pool that the rule chose.
    assert_eq!(ended.ds_log, "11");
}

#[test]
fn a_failed_script_falls_back_to_where_the_rules_send_the_flow() {
    let request = "error('no')";
    let setup = Setup { on_error: "default-pool", ..setup(POLICY, request) };
    let mut world = setup.world();
    world.begin(&syn(1)).to(hop(21));
    let ended = world.wait(60 * SECOND).ended().clone();
    assert_eq!((ended.decided_by, ended.rule), (Some(DecidedBy::OnError), None));
}

#[test]
fn persist_keeps_to_the_group_s_server_whichever_pool_has_it() {
    let request = "avi.vs.persist(avi.vs.client_ip())";
    let mut world = setup("", request).with_group("tiers").world();
    let first = world.begin(&syn(1)).sent[0].0;
    for port in 2..6 {
        assert_eq!(world.begin(&syn(port)).sent[0].0, first);
    }
}

#[test]
fn a_group_gives_the_pool_of_the_highest_priority_that_has_a_server() {
    let mut world = setup("", "").with_group("tiers").world();
    let servers: Vec<_> = (1..4).map(|port| world.begin(&syn(port)).sent[0].0).collect();
    assert_eq!(servers, [hop(11), hop(12), hop(11)].map(link_to));
}

#[test]
fn a_group_without_any_server_refuses_the_flow() {
    let mut world = setup("", "avi.poolgroup.select('empty')").with_group("tiers").world();
    world.workers[0].engine.keep_explanations();
    let step = world.send(&syn(1), NEW, &[Event::DropNoServer]);
    assert_eq!(step.log.len(), 1);
    let explanation = explain(&mut world);
    assert_eq!(explanation.decision, Ruling::Refused);
    let reason = "pool group \"empty\" has no server that can take the flow";
    assert_eq!(explanation.reason.as_deref(), Some(reason));
    assert_eq!(reasons(&explanation.members), [("gone", false, "down")]);
}

#[test]
fn an_explanation_tells_every_step_and_why_others_were_passed_over() {
    let request = "local t = avi.vs.table_lookup('seen', 'x')\n\
                   avi.vs.log('hm')\navi.poolgroup.select('tiers')";
    let mut world = setup(POLICY, request).world();
    let explanation = explain(&mut world);
    let expected = [
        (5, "rule by-client/other-port", "does not hold"),
        (5, "rule by-client/branch", "holds: to pool \"resolvers\""),
        (6, "script /etc/lb/l4_request.lua", "chose pool group \"tiers\" at line 3"),
        (8, "pool group \"tiers\"", "pool \"web\""),
        (8, "pool \"web\", round-robin", "10.0.0.11:8080"),
    ];
    assert_eq!(steps(&explanation), expected);
    assert_eq!(
        (explanation.decision, explanation.decided_by),
        (Ruling::Server, Some(DecidedBy::ScriptPoolGroup))
    );
    assert_eq!((explanation.line, &*explanation.log), (Some(3), "hm"));
    let members = [
        ("resolvers", false, "priority 1: another's is higher"),
        ("web", true, "its turn"),
        ("gone", false, "down"),
    ];
    assert_eq!(reasons(&explanation.members), members);
    let candidates = [
        ("10.0.0.11:8080", true, "its turn"),
        ("10.0.0.12:8080", false, "not its turn"),
        ("10.0.0.13:8080", false, "disabled"),
    ];
    assert_eq!(reasons(&explanation.candidates), candidates);
    let [lookup] = &explanation.tables[..] else { panic!("{:?}", explanation.tables) };
    assert_eq!((&*lookup.action, lookup.success, lookup.line), ("table_lookup", false, 1));
}

#[test]
fn explaining_changes_nothing_and_says_what_then_happens() {
    let request = "avi.vs.table_insert('n', 'x', 1)\navi.vs.persist(avi.vs.client_ip())";
    let mut world = setup("", request).with_group("tiers").world();
    let first = explain(&mut world);
    assert_eq!(explain(&mut world), first);
    assert!(world.shared.tables.list().is_empty());
    assert_eq!(world.gauge(), (0, 0));
    assert_eq!(first.decided_by, Some(DecidedBy::PersistenceNew));
    let actions: Vec<_> = first.tables.iter().map(|access| &*access.action).collect();
    assert_eq!(actions, ["table_insert", "table_lookup", "table_insert"]);
    world.workers[0].engine.keep_explanations();
    let mut effects = Effects::default();
    let (now, frame) = (world.now(), link_from(ROUTER).frame(&syn(1).packet()));
    world.workers[0].engine.receive(now, 1, &frame, &world.net, &mut effects);
    assert_eq!(effects.explanations, [first]);
    let again = explain(&mut world);
    assert_eq!(again.decided_by, Some(DecidedBy::Persistence));
    let value = serde_json::json!("10.0.0.11-8080");
    assert_eq!(again.tables[1].value.as_ref(), Some(&value));
}

#[test]
fn a_flow_for_which_there_is_no_room_is_explained_as_refused() {
    let mut world = setup("", "").world();
    world.net.toward.insert(std::net::Ipv4Addr::new(10, 0, 0, 11), Toward::Unreachable);
    world.workers[0].engine.keep_explanations();
    let mut effects = Effects::default();
    let (now, frame) = (world.now(), link_from(ROUTER).frame(&syn(1).packet()));
    world.workers[0].engine.receive(now, 1, &frame, &world.net, &mut effects);
    let [explanation] = &effects.explanations[..] else { panic!("{effects:?}") };
    assert_eq!(explanation.decision, Ruling::Refused);
    assert!(explanation.reason.as_ref().unwrap().starts_with("No route to the server"));
}

const PROFILE: &str = "persistence_profile = \"by-network\"";

fn sticky<'a>(request: &'a str, pools: &'a str) -> Setup<'a> {
    Setup { pools, ..setup(PROFILE, request) }
}

#[test]
fn a_profile_keeps_a_network_of_clients_at_its_server_for_a_while() {
    let profile = "[[persistence_profile]]\nname = \"by-network\"\nprefix_length = 29\n\
                   timeout = \"2m\"\n";
    let pools = format!("{profile}{POOLS}");
    let mut world = sticky("", &pools).world();
    let from = |host, port| tcp(at([198, 51, 100, host], port), web(), SYN);
    let first = world.begin(&from(1, 1)).sent[0].0;
    for (host, port) in [(1, 2), (6, 1), (7, 1), (2, 9)] {
        assert_eq!(world.begin(&from(host, port)).sent[0].0, first);
    }
    assert_ne!(world.begin(&from(8, 1)).sent[0].0, first);
    let table = world.shared.tables.table("web", b"").unwrap();
    let keys = |world: &World| {
        let entries = table.entries(b"", 10, world.time).into_iter();
        entries.map(|entry| String::from_utf8(entry.key.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&world), ["198.51.100.0/29", "198.51.100.8/29"]);
    let step = explain(&mut world).steps.into_iter().find(|step| step.number == 7).unwrap();
    assert_eq!(step.result, "198.51.100.0/29 leads to the server that it led to before");
    world.time += 121 * SECOND;
    assert!(keys(&world).is_empty());
}

#[test]
fn a_profile_is_asked_within_the_pool_that_a_script_chose_and_not_about_its_server() {
    let pools = format!("[[persistence_profile]]\nname = \"by-network\"\n{POOLS}");
    let request = "if avi.vs.client_port() == '9' then avi.pool.select('web', '10.0.0.12') \
                   elseif avi.vs.client_port() == '8' then avi.pool.select('resolvers') end";
    let mut world = sticky(request, &pools).world();
    let link = |world: &mut World, port| world.begin(&syn(port)).sent[0].0;
    let first = link(&mut world, 1);
    assert_eq!([link(&mut world, 2), link(&mut world, 9)], [first, link_to(hop(12))]);
    // Another pool: what is stored is no server of it, and is replaced.
    assert_eq!(link(&mut world, 8), link_to(hop(21)));
    let other = Query { client: client(8).into(), ..query() };
    let now = world.now();
    let explanation = world.workers[0].engine.explain(now, other).unwrap();
    assert_eq!(explanation.decided_by, Some(DecidedBy::Persistence));
    let numbers: Vec<_> = explanation.steps.iter().map(|step| step.number).collect();
    assert_eq!(numbers, [6, 7, 8]);
}

#[test]
fn steps_come_in_the_order_of_evaluation() {
    let pools = format!(
        "[[network_security_policy]]\nname = \"all\"\ndeny = [\"203.0.113.0/24\"]\n\
         [[persistence_profile]]\nname = \"by-network\"\n{POOLS}"
    );
    let web = "network_security_policy = \"all\"\nconnection_rate_limit = 9\n\
               persistence_profile = \"by-network\"\nl4_policies = [\"by-client\"]";
    let request = "avi.poolgroup.select('tiers')";
    let setup = Setup { web, pools: &pools, request, ..Setup::default() };
    let explanation = explain(&mut setup.world());
    let numbers: Vec<_> = explanation.steps.iter().map(|step| step.number).collect();
    assert_eq!(numbers, [1, 2, 5, 5, 6, 7, 8, 8]);
}
