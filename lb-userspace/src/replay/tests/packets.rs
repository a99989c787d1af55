//! What becomes of packets: tags, fragments, short captures, and those that leave.

use super::{
    shots::{BEGINNING, Shot, pcap, record, tagged, tcp, udp},
    *,
};
use crate::engine::{Ruling, State, log::EndReason};

/// A service over UDP without a script, one with, and one over TCP; servers by dnat and snat.
const PLAIN: &str = r#"
[instance]
name = "test"
interfaces = ["eth0"]
snat_addresses = ["10.0.0.9"]
[[virtual_service]]
name = "plain"
address = "192.0.2.10"
port = 53
protocol = "udp"
pool = "servers"
[[virtual_service]]
name = "read"
address = "192.0.2.10"
port = 54
protocol = "udp"
pool = "servers"
datascripts = ["read"]
[[virtual_service]]
name = "web"
address = "192.0.2.10"
port = 80
protocol = "tcp"
pool = "direct"
[[pool]]
name = "servers"
servers = [{ address = "10.0.0.21", port = 5353 }]
[[pool]]
name = "direct"
forwarding = "dnat"
servers = [{ address = "10.0.0.22", port = 8080 }]
[[datascript]]
name = "read"
l4_request = "request.lua"
l4_response = "response.lua"
"#;

const READ: [(&str, &str); 2] = [
    ("request.lua", "avi.vs.log(#avi.l4.read())"),
    ("response.lua", "avi.vs.log('<', #avi.l4.read())"),
];

const CLIENT: &str = "198.51.100.7:4000";
const PLAIN_VIP: &str = "192.0.2.10:53";
const READ_VIP: &str = "192.0.2.10:54";

fn run(shots: &[Shot]) -> Replayed {
    replayed(&config(PLAIN, &READ), &pcap(shots)).unwrap()
}

#[test]
fn one_tag_is_read_and_more_are_not() {
    let frame = udp((CLIENT, PLAIN_VIP), b"?");
    let once = tagged(&frame, [0x81, 0]);
    let cases = [
        (frame.clone(), 1),
        (once.clone(), 1),
        (tagged(&once, [0x81, 0]), 0),
        (tagged(&once, [0x88, 0xa8]), 0),
        (tagged(&frame, [0x88, 0xa8]), 0),
    ];
    for (frame, flows) in cases {
        let told = run(&[(0, frame)]);
        assert_eq!((told.flows.len(), told.summary.not_ipv4), (flows, 1 - flows as u64));
    }
}

/// An IPv4 packet in two, cut behind this many bytes of its payload.
fn fragments(frame: &[u8], at: usize) -> [Vec<u8>; 2] {
    let (header, payload) = (&frame[..34], &frame[34..]);
    [(&payload[..at], 0x2000), (&payload[at..], at as u16 / 8)].map(|(part, place): (_, u16)| {
        let mut fragment = [header, part].concat();
        fragment[16..18].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        fragment[20..22].copy_from_slice(&place.to_be_bytes());
        let header = etherparse::Ipv4Header::from_slice(&fragment[14..34]).unwrap().0;
        fragment[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
        fragment
    })
}

#[test]
fn fragments_are_one_packet_in_both_directions() {
    let [first, rest] = fragments(&udp((CLIENT, READ_VIP), &[7; 64]), 24);
    let [answer, answer_rest] = fragments(&udp((READ_VIP, CLIENT), &[8; 80]), 40);
    let told = run(&[(0, first), (10, rest), (20, answer), (30, answer_rest)]);
    let [flow] = &told.flows[..] else { panic!("{:?}", told.flows) };
    assert_eq!(flow.explanation.log, "64<80");
    assert_eq!((flow.packet, flow.packets, flow.reply_packets), (2, 2, 2));
    assert_eq!((told.summary.answers, told.summary.sent), (2, 4));
}

#[test]
fn packets_that_are_cut_count_whole_where_nobody_reads_them() {
    let (frame, answer) =
        (udp((CLIENT, PLAIN_VIP), &[7; 500]), udp((PLAIN_VIP, CLIENT), &[8; 900]));
    let whole = run(&[(0, frame.clone()), (10, answer.clone())]);
    let cut = |frame: &[u8], at| record(at, 1, &frame[..42], frame.len());
    let bytes = [pcap(&[]), cut(&frame, 0), cut(&answer, 10)].concat();
    let told = replayed(&config(PLAIN, &READ), &bytes).unwrap();
    assert_eq!(told.flows, whole.flows);
    assert_eq!((told.summary.cut, told.flows[0].bytes, told.flows[0].reply_bytes), (2, 542, 942));
}

#[test]
fn a_script_is_given_no_packet_that_is_not_whole() {
    let config = config(PLAIN, &READ);
    let query = udp((CLIENT, READ_VIP), &[7; 100]);
    let answer = udp((READ_VIP, CLIENT), &[8; 100]);
    let syn = tcp((CLIENT, "192.0.2.10:80"), "S", b"");
    let cut = |frame: &[u8], length| record(0, 1, &frame[..length], frame.len());
    let reads = "bytes were captured, and a script may read more";
    let needs = "bytes were captured, and the balancer needs more";
    let cases = [
        (vec![cut(&query, 96)], Some(format!("packet 1: only 96 of its 142 {reads}"))),
        (
            vec![cut(&query, 142), cut(&answer, 96)],
            Some(format!("packet 2: only 96 of its 142 {reads}")),
        ),
        (vec![cut(&query, 142), cut(&query, 96)], None),
        (vec![cut(&query, 38)], Some(format!("packet 1: only 38 of its 142 {needs}"))),
        (vec![cut(&syn, 50)], Some(format!("packet 1: only 50 of its 54 {needs}"))),
        (
            vec![cut(&fragments(&query, 24)[0], 50)],
            Some(format!("packet 1: only 50 of its 58 {needs}")),
        ),
        // None of ours.
        (vec![cut(&udp((CLIENT, "192.0.2.99:53"), &[0; 50]), 38)], None),
    ];
    for (records, expected) in cases {
        let bytes = [vec![pcap(&[])], records].concat().concat();
        let error = replayed(&config, &bytes).err();
        let matches = match (&error, &expected) {
            (Some(error), Some(expected)) => error.contains(expected.as_str()),
            (error, expected) => error.is_none() && expected.is_none(),
        };
        assert!(matches, "{error:?}, expected {expected:?}");
    }
}

/// Replays and reads what was written.
fn written(shots: &[Shot]) -> Vec<Shot> {
    let (file, folder) = (file(&pcap(shots)), tempfile::tempdir().unwrap());
    let path = folder.path().join("out.pcap");
    replay(config(PLAIN, &READ), file.path(), Some(&path)).unwrap();
    let (mut capture, mut packet) =
        (Capture::begin(&File::open(&path).unwrap()).unwrap(), Packet::default());
    let mut shots = Vec::new();
    while capture.read(&mut packet).unwrap() {
        let since = packet.time - Duration::from_secs(BEGINNING);
        shots.push((since.as_micros() as u64, packet.frame.clone()));
    }
    shots
}

/// Source and destination, payload, and whether all checksums are right.
fn read(frame: &[u8]) -> (String, Vec<u8>) {
    let packet = etherparse::PacketHeaders::from_ethernet_slice(frame).unwrap();
    let Some(etherparse::NetHeaders::Ipv4(ip, _)) = packet.net else { panic!("{packet:?}") };
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    let payload = packet.payload.slice();
    let (from, to) = match packet.transport.unwrap() {
        etherparse::TransportHeader::Udp(udp) => {
            assert_eq!(udp.checksum, udp.calc_checksum_ipv4(&ip, payload).unwrap());
            (udp.source_port, udp.destination_port)
        }
        etherparse::TransportHeader::Tcp(tcp) => {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(&ip, payload).unwrap());
            (tcp.source_port, tcp.destination_port)
        }
        other => panic!("{other:?}"),
    };
    let [source, destination] = [ip.source, ip.destination].map(std::net::Ipv4Addr::from);
    let text = format!("{source}:{from} > {destination}:{to} ttl {}", ip.time_to_live);
    (text, payload.to_vec())
}

#[test]
fn what_leaves_is_written_with_right_checksums_at_the_right_time() {
    let web = "192.0.2.10:80";
    let shots = [
        (0, udp((CLIENT, PLAIN_VIP), b"question")),
        (1_000_700, udp((PLAIN_VIP, CLIENT), b"answer")),
        (1_000_800, tcp((CLIENT, web), "S", b"")),
        (1_000_900, tcp((web, CLIENT), "SA", b"")),
        (1_001_000, tcp((CLIENT, web), "A", b"data")),
        // Nothing that began here: it is reset.
        (1_001_100, tcp(("198.51.100.9:1", web), "A", b"")),
    ];
    let written = written(&shots);
    let times: Vec<u64> = written.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, shots.iter().map(|(at, _)| *at).collect::<Vec<_>>());
    let read: Vec<_> = written.iter().map(|(_, frame)| read(frame)).collect();
    let expected: [(&str, &[u8]); 6] = [
        ("10.0.0.9:1024 > 10.0.0.21:5353 ttl 59", b"question"),
        ("192.0.2.10:53 > 198.51.100.7:4000 ttl 60", b"answer"),
        ("198.51.100.7:4000 > 10.0.0.22:8080 ttl 59", b""),
        ("192.0.2.10:80 > 198.51.100.7:4000 ttl 60", b""),
        ("198.51.100.7:4000 > 10.0.0.22:8080 ttl 59", b"data"),
        ("192.0.2.10:80 > 198.51.100.9:1 ttl 64", b""),
    ];
    for ((text, payload), expected) in read.iter().zip(expected) {
        assert_eq!((text.as_str(), &payload[..]), expected);
    }
    // An answer leaves as it was captured, to the bit.
    assert_eq!(written[1].1[14..], shots[1].1[14..]);
}

#[test]
fn a_replay_that_fails_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pcap");
    let query = udp((CLIENT, READ_VIP), &[7; 100]);
    let file = file(&[pcap(&[]), record(0, 1, &query[..96], 142)].concat());
    replay(config(PLAIN, &READ), file.path(), Some(&path)).unwrap_err();
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    let nowhere = folder.path().join("none/out.pcap");
    let error = replay(config(PLAIN, &READ), file.path(), Some(&nowhere)).unwrap_err().to_string();
    assert!(error.starts_with("cannot write") && error.contains("none/out.pcap"), "{error}");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let error = replay(config(PLAIN, &READ), file.path(), Some(&path)).unwrap_err().to_string();
    assert!(error.contains("not a file"), "{error}");
}

#[test]
fn what_was_captured_behind_the_balancer_is_left_out() {
    let told = run(&[
        (0, udp((CLIENT, PLAIN_VIP), b"?")),
        // The same ports as in the replay, by chance.
        (10, udp(("10.0.0.9:1024", "10.0.0.21:5353"), b"?")),
        (20, udp(("10.0.0.21:5353", "10.0.0.9:1024"), b"!")),
        (30, udp((PLAIN_VIP, CLIENT), b"!")),
    ]);
    let [flow] = &told.flows[..] else { panic!("{:?}", told.flows) };
    assert_eq!((flow.packets, flow.reply_packets, told.summary.foreign), (1, 1, 2));
    assert_eq!((flow.end, flow.state), (None, Some(State::Established)));
}

#[test]
fn timeouts_are_those_of_the_capture() {
    let minute = 60_000_000;
    let query = || udp((CLIENT, PLAIN_VIP), b"?");
    let answer = || udp((PLAIN_VIP, CLIENT), b"!");
    // Idle for 30 s; with an answer at 20 s it goes on.
    let told =
        run(&[(0, query()), (1, answer()), (minute / 3, query()), (minute * 2 / 3, query())]);
    assert_eq!(told.flows.len(), 1);
    let days = 86_400_000_000 * 3;
    let told = run(&[(0, query()), (1, answer()), (minute, query()), (days, query())]);
    let ends: Vec<_> =
        told.flows.iter().map(|flow| (flow.packet, flow.end, flow.packets)).collect();
    let ended = [(1, Some(EndReason::Idle), 1), (3, Some(EndReason::OneWay), 1), (4, None, 1)];
    assert_eq!(ends, ended);
}

#[test]
fn a_flow_is_forgotten_however_long_the_gap() {
    // The time in a flow's slot counts to 2^52 ns, and begins anew.
    let around = (1u64 << 52) / 1000;
    let query = || udp((CLIENT, PLAIN_VIP), b"?");
    for gap in [around - 1_000_000, around, around + 1_000_000, around * 3, 2_000_000_000_000_000] {
        let told = run(&[(0, query()), (gap, query())]);
        assert_eq!(told.flows.len(), 2, "{gap}");
        assert_eq!(told.flows[0].end, Some(EndReason::OneWay), "{gap}");
    }
}

#[test]
fn an_error_about_an_answer_goes_to_the_server() {
    use etherparse::{Icmpv4Type, PacketBuilder, icmpv4::DestUnreachableHeader};
    let answer = udp((PLAIN_VIP, CLIENT), b"answer");
    let port = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
    let error = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let error = error.ipv4([198, 51, 100, 7], [192, 0, 2, 10], 60).icmpv4(port);
    let mut frame = Vec::new();
    error.write(&mut frame, &answer[14..14 + 28]).unwrap();
    let told = run(&[(0, udp((CLIENT, PLAIN_VIP), b"?")), (10, answer), (20, frame)]);
    let punted = told.summary.events.get(&lb_common::event::Event::PuntIcmpError);
    assert_eq!((punted, told.summary.sent, told.flows.len()), (Some(&1), 3, 1));
}

#[test]
fn an_empty_capture_has_no_flows() {
    let told = run(&[]);
    assert_eq!((told.flows.len(), told.summary.packets), (0, 0));
    let shown = told.summary.to_string();
    assert!(shown.starts_with("0 packets in 0.000 s, 0 flows\nno packet is for"), "{shown}");
}

#[test]
fn more_flows_than_are_visited_at_once_end_in_a_long_gap() {
    let query = |n: u16| udp((&format!("198.51.{}.{}:4000", n >> 8, n & 255), PLAIN_VIP), b"?");
    let mut shots: Vec<Shot> = (0..9_000).map(|n| (0, query(n))).collect();
    shots.push((86_400_000_000, query(0)));
    let told = run(&shots);
    let ended = told.flows.iter().filter(|flow| flow.end == Some(EndReason::OneWay)).count();
    assert_eq!((told.flows.len(), ended), (9_001, 9_000));
}

#[test]
fn a_reused_port_is_another_flow() {
    let web = "192.0.2.10:80";
    let (there, back) = ((CLIENT, web), (web, CLIENT));
    let told = run(&[
        (0, tcp(there, "S", b"")),
        (10, tcp(back, "SA", b"")),
        (20, tcp(there, "RA", b"")),
        (30, tcp(there, "S", b"")),
    ]);
    let ends: Vec<_> = told.flows.iter().map(|flow| (flow.packet, flow.end)).collect();
    assert_eq!(ends, [(1, Some(EndReason::Reused)), (4, None)]);
    assert!(told.flows.iter().all(|flow| flow.explanation.decision == Ruling::Server));
}

#[test]
fn a_capture_of_something_else_is_explained() {
    let foreign = (0..3).map(|n| (n, udp((CLIENT, "203.0.113.5:53"), b"?")));
    // The right address, but another port.
    let other = (3, tcp((CLIENT, "192.0.2.10:443"), "S", b""));
    let told = run(&foreign.chain([other]).collect::<Vec<_>>());
    let expected = "4 packets in 0.000 s, 0 flows
  1  to the addresses of virtual services
  3  neither to nor from a virtual service's address: left out
  1  pass_not_ours: No virtual service and no flow: left to the kernel
no packet is for a virtual service of the configuration, which has
  udp 192.0.2.10:53 (plain)
  udp 192.0.2.10:54 (read)
  tcp 192.0.2.10:80 (web)
most packets of the capture are for
  udp 203.0.113.5:53: 3
  tcp 192.0.2.10:443: 1
";
    similar(&told.summary.to_string(), expected);
    assert!(told.flows.is_empty());
}

#[test]
fn queries_that_tcpdump_has_captured_are_decided_by_the_example_script() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/datascripts");
    let config = Config::load(&folder.join("dns-by-name.toml")).unwrap();
    let told = replay(Arc::new(config), &folder.join("dns-by-name.pcap"), None).unwrap();
    let decided = told.flows.iter().map(|flow| {
        let told = &flow.explanation;
        (told.log.as_str(), told.pool.as_deref(), told.line.unwrap(), flow.reply_packets)
    });
    let expected = [
        ("www.corp.test", Some("internal"), 33, 1),
        ("example.org", Some("public"), 36, 1),
        ("example.org", Some("public"), 36, 1),
        ("mail.corp.test", Some("internal"), 33, 1),
        ("not a DNS query", None, 30, 0),
    ];
    assert_eq!(decided.collect::<Vec<_>>(), expected);
}
