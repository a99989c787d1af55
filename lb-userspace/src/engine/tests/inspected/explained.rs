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
        assert_eq!(waits.server, None);
        assert!(results(&waits).contains("waits for 4 bytes of payload"), "{waits:?}");
    }
    let decided = explain(&mut world, b"GET /");
    assert_eq!((decided.decision, &*decided.log), (Ruling::Server, "GET "));
    assert_eq!(decided.server, Some(server(11, 8080).into()));
    empty(&world);
}

#[test]
fn a_connection_in_earnest_is_explained_once_it_is_decided() {
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
    let [explanation] = &explanations[..] else { panic!("{explanations:?}") };
    assert_eq!((explanation.decision, &*explanation.log), (Ruling::Server, "GET "));
}
