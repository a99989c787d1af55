//! Connections that are decided at their payload: the capture has another's handshake.

use etherparse::PacketBuilder;

use super::{
    shots::{Shot, pcap},
    *,
};
use crate::engine::State;

const CONFIG: &str = r#"
[instance]
name = "test"
interfaces = ["eth0"]
snat_addresses = ["10.0.0.9"]
[[virtual_service]]
name = "web"
address = "192.0.2.10"
port = 80
protocol = "tcp"
tcp_mode = "inspect"
pool = "one"
datascripts = ["by"]
[[pool]]
name = "one"
servers = [{ address = "10.0.0.21", port = 8080 }]
[[pool]]
name = "two"
servers = [{ address = "10.0.0.22", port = 8080 }]
[[datascript]]
name = "by"
pools = ["one", "two"]
l4_request = "request.lua"
l4_response = "response.lua"
"#;

const SCRIPTS: [(&str, &str); 2] = [
    (
        "request.lua",
        "avi.l4.collect(8) if avi.l4.read(8) == 'GET /two' then avi.pool.select('two') end",
    ),
    ("response.lua", ""),
];

/// Initial numbers of client and whoever served when the capture was made.
const CLIENT: u32 = 0xffff_fff0;
const SERVED: u32 = 77_000;

/// A segment: whose, flags, numbers behind the initial ones, payload.
type Segment<'a> = (bool, &'a str, u32, u32, &'a [u8]);

fn frame((from_client, flags, sequence, acknowledgement, payload): Segment<'_>) -> Vec<u8> {
    let (client, vip) = (([198, 51, 100, 7], 4000), ([192, 0, 2, 10], 80));
    let (from, to) = if from_client { (client, vip) } else { (vip, client) };
    let (own, other) = if from_client { (CLIENT, SERVED) } else { (SERVED, CLIENT) };
    let packet = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from.0, to.0, 60);
    let mut packet = packet.tcp(from.1, to.1, own.wrapping_add(sequence), 512);
    for flag in flags.chars() {
        packet = match flag {
            'S' => packet.syn(),
            'A' => packet.ack(other.wrapping_add(acknowledgement)),
            'F' => packet.fin(),
            _ => packet.psh(),
        };
    }
    let mut frame = Vec::new();
    packet.write(&mut frame, payload).unwrap();
    frame
}

const EXCHANGE: [Segment<'static>; 11] = [
    (true, "S", 0, 0, b""),
    (false, "SA", 0, 1, b""),
    (true, "A", 1, 1, b""),
    (true, "PA", 1, 1, b"GET /"),
    (false, "A", 1, 6, b""),
    (true, "PA", 6, 1, b"two\r\n"),
    (false, "A", 1, 11, b""),
    (false, "PA", 1, 11, b"an answer"),
    (true, "A", 11, 10, b""),
    (true, "FA", 11, 10, b""),
    (false, "FA", 10, 12, b""),
];

fn told(segments: impl Iterator<Item = Vec<u8>>) -> Replayed {
    let shots: Vec<Shot> = (0..).step_by(1000).zip(segments).collect();
    replayed(&config(CONFIG, &SCRIPTS), &pcap(&shots)).unwrap()
}

#[test]
fn a_connection_is_decided_at_its_payload_and_goes_on_to_its_server() {
    let told = told(EXCHANGE.into_iter().map(frame));
    let [flow] = &told.flows[..] else { panic!("{:?}", told.flows) };
    let explanation = &flow.explanation;
    assert_eq!(explanation.pool.as_deref(), Some("two"));
    assert_eq!(explanation.server, Some("10.0.0.22:8080".parse().unwrap()));
    assert_eq!(flow.packet, 6, "the segment that was waited for");
    assert_eq!(flow.state, Some(State::Finished), "{flow:?}");
    // The SYN was answered before there was a flow.
    assert_eq!((flow.packets, flow.reply_packets), (5, 4));
    // One acknowledged what the balancer has collected now.
    assert_eq!((told.summary.answers, told.summary.unasked_answers), (4, 1));
}

#[test]
fn checksums_that_a_card_was_to_compute_do_not_matter() {
    let shots = EXCHANGE.into_iter().map(|segment| {
        let mut frame = frame(segment);
        frame[50..52].copy_from_slice(&[0xbe, 0xef]);
        frame
    });
    assert_eq!(told(shots).flows, told(EXCHANGE.into_iter().map(frame)).flows);
}

#[test]
fn of_what_the_client_sent_alone_the_decision_is_seen() {
    let told = told(EXCHANGE.into_iter().filter(|segment| segment.0).map(frame));
    let [flow] = &told.flows[..] else { panic!("{:?}", told.flows) };
    assert_eq!(flow.explanation.pool.as_deref(), Some("two"));
    assert_eq!(flow.state, Some(State::Inspected));
}
