//! L4_RESPONSE scripts: shown a server's first packet, and only that.

use lb_common::path::Verdict;

use super::{frames::*, world::*, *};
use crate::engine::log::EndReason;

const RESPONSE: Verdict = Verdict::Punt(Event::PuntResponse);

fn answering(response: &str) -> Setup<'_> {
    Setup { response, ..Setup::default() }
}

fn query() -> Message {
    udp(client(1), dns(), b"?")
}

fn answer() -> Message {
    udp(server(21, 53), snat(1024), b"answer")
}

#[test]
fn the_first_answer_is_shown_and_the_next_are_not() {
    let response = "avi.vs.log(avi.l4.read(), ' from ', avi.pool.server_ip())";
    let mut world = answering(response).world();
    world.begin(&query()).to(hop(21));
    let expected = answer().between(dns(), client(1));
    assert_eq!(world.send(&answer(), RESPONSE, &[]).to(ROUTER), expected);
    assert_eq!(world.passes(&answer()).to(ROUTER), expected);
    // One more that was punted before the flag was taken.
    let frame = link_from(hop(21)).frame(&answer().packet());
    assert_eq!(world.punt(0, 2, &frame, &[]).to(ROUTER), expected);
    let step = world.wait(31 * SECOND);
    assert_eq!(&*step.ended().ds_log, "answer from 10.0.0.21");
    assert_eq!(step.ended().reply_packets, 3);
}

const FAILS: &str = "error('oh')";

#[test]
fn a_script_that_fails_resets_both_sides_of_a_connection() {
    let mut world = answering(FAILS).world();
    world.begin(&tcp(client(1), web(), SYN)).to(hop(11));
    let answer = tcp(server(11, 8080), snat(1024), SYN | ACK);
    let step = world.send(&answer, RESPONSE, &[Event::DropScriptError]);
    let to_client = Transport::Tcp { flags: RST | ACK, sequence: 1000, acknowledgement: 5000 };
    let to_server = Transport::Tcp { flags: RST, sequence: 5000, acknowledgement: 0 };
    let expected = [
        Message { transport: to_client, ttl: 63, ..tcp(web(), client(1), RST) },
        Message { transport: to_server, ..tcp(snat(1024), server(11, 8080), RST) },
    ];
    assert_eq!(step.messages(), expected);
    assert_eq!([step.sent[0].0, step.sent[1].0], [link_to(ROUTER), link_to(hop(11))]);
    let step = world.wait(ROUND);
    let ended = step.ended();
    assert_eq!(
        (ended.reason, ended.error.as_ref().unwrap().event),
        (EndReason::ScriptError, "L4_RESPONSE")
    );
    assert_eq!(ended.significance, ["ADF_DATASCRIPT_EXECUTION_FAILED"]);
    assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 0)));
}

#[test]
fn a_script_that_fails_with_a_default_pool_lets_the_answer_through() {
    let mut world = Setup { on_error: "default-pool", ..answering(FAILS) }.world();
    world.begin(&query()).to(hop(21));
    world.send(&answer(), RESPONSE, &[]).to(ROUTER);
    let step = world.wait(31 * SECOND);
    assert_eq!(step.ended().reason, EndReason::Idle);
    assert!(step.ended().error.is_some());
}

/// The receive queue of an answer need not be that of the query. The flow is its owner's to end,
/// who alone knows the port to give back.
#[test]
fn a_script_that_fails_on_another_worker_closes_the_flow_and_its_port_comes_back() {
    let instance = "snat_ports = \"1024-1025\"";
    let mut world = Setup { instance, workers: 2, ..answering(FAILS) }.world();
    for round in 1..4 {
        world.begin(&query()).to(hop(21));
        let frame = link_from(hop(21)).frame(&answer().packet());
        world.punt(1, 2, &frame, &[Event::DropScriptError]).nothing();
        let step = world.wait(ROUND);
        assert_eq!((step.ended().reason, step.ended().worker), (EndReason::ScriptError, 0));
        assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 0)), "round {round}");
    }
}
