//! What `lb explain` says of services that inspect.

use super::*;

fn explain(world: &mut World, payload: &[u8]) -> Explanation {
    let (protocol, client, vip) = (Protocol::Tcp, client(999).into(), web().into());
    let (now, query) = (world.now(), Query { protocol, client, vip, payload, stream: None });
    world.workers[0].engine.explain(now, query).unwrap()
}

#[test]
fn a_script_that_waits_is_said_to_wait_and_decides_once_it_can() {
    let mut world = inspecting(FOUR).world();
    let results = |explanation: &Explanation| {
        explanation.steps.iter().map(|step| step.result.clone()).collect::<Vec<_>>().join("; ")
    };
    for payload in [&b""[..], b"GE"] {
        let waits = explain(&mut world, payload);
        assert_eq!((waits.decision, waits.waits_for), (Ruling::Waits, Some(4)));
        assert_eq!((waits.server, waits.decided_by, waits.line), (None, None, Some(1)));
        assert!(results(&waits).contains("waits for 4 bytes of payload"), "{waits:?}");
    }
    let decided = explain(&mut world, b"GET /");
    assert_eq!((decided.decision, &*decided.log), (Ruling::Server, "GET "));
    assert_eq!(decided.server, Some(server(11, 8080).into()));
    empty(&world);
}

/// The rule stands while a script waits: it decides if the script does not.
#[test]
fn the_rule_that_holds_is_told_while_a_script_waits() {
    let pools = format!(
        "{TWO}\n[[l4_policy]]\nname = \"by-client\"\nrules = [{{ name = \"web\", clients = [\
         \"198.51.100.0/29\"], pool = \"resolvers\" }}]"
    );
    let web = format!("{INSPECT}\nl4_policies = [\"by-client\"]");
    let mut world = Setup { pools: &pools, web: &web, ..inspecting(FOUR) }.world();
    let waits = explain(&mut world, b"");
    let told: Vec<_> = waits.steps.iter().map(|step| (step.number, &*step.result)).collect();
    let wait = "waits for 4 bytes of payload at line 1";
    assert_eq!(told, [(5, "holds: to pool \"resolvers\""), (6, wait)]);
    assert_eq!((waits.rule, waits.pool), (None, None), "nothing is decided");
}

#[test]
fn a_connection_in_earnest_is_explained_at_each_run_of_its_scripts() {
    let mut world = inspecting(FOUR).world();
    world.workers[0].engine.keep_explanations();
    let connection = shake(&mut world, 1);
    let mut explanations = Vec::new();
    for (at, piece) in [(0, &b"GE"[..]), (2, b"T ")] {
        let frame = link_from(ROUTER).frame(&connection.client(ACK, at, 0, piece).packet());
        let (now, mut effects) = (world.now(), Effects::default());
        world.workers[0].engine.receive(now, 1, &frame, &world.net, &mut effects);
        explanations.extend(effects.explanations);
    }
    let [waits, explanation] = &explanations[..] else { panic!("{explanations:?}") };
    assert_eq!(waits.decision, Ruling::Waits);
    assert_eq!((explanation.decision, &*explanation.log), (Ruling::Server, "GET "));
}

#[test]
fn a_connection_for_which_there_is_no_port_is_explained_as_refused() {
    let instance = "snat_ports = \"1024-1024\"";
    let mut world = Setup { instance, ..inspecting(FOUR) }.world();
    world.workers[0].engine.keep_explanations();
    opening(&mut world, 1);
    let connection = shake(&mut world, 2);
    let frame = link_from(ROUTER).frame(&connection.client(ACK, 0, 0, b"GET ").packet());
    let (now, mut effects) = (world.now(), Effects::default());
    world.workers[0].engine.receive(now, 1, &frame, &world.net, &mut effects);
    let [explanation] = &effects.explanations[..] else { panic!("{:?}", effects.explanations) };
    let why = Event::DropSnatPortsExhausted.description().trim();
    assert_eq!((explanation.decision, explanation.reason.as_deref()), (Ruling::Refused, Some(why)));
}
