//! One capture with all kinds of flows, and what must be said of it.

use super::{
    shots::{Shot, pcap, pcapng, tcp, udp},
    *,
};

pub(crate) const CONFIG: &str = r#"
[instance]
name = "test"
interfaces = ["eth0"]
snat_addresses = ["10.0.0.9"]

[[virtual_service]]
name = "dns"
address = "192.0.2.10"
port = 53
protocol = "udp"
pool = "public"
datascripts = ["by-name"]

[[virtual_service]]
name = "web"
address = "192.0.2.10"
port = 80
protocol = "tcp"
datascripts = ["sticky"]
pool = "web"

[[virtual_service]]
name = "refused"
address = "192.0.2.10"
port = 81
protocol = "tcp"
datascripts = ["faulty"]
pool = "web"

[[virtual_service]]
name = "closed"
address = "192.0.2.10"
port = 7
protocol = "udp"
datascripts = ["close"]
pool = "web"

[[pool]]
name = "public"
servers = [{ address = "10.0.0.21", port = 53 }, { address = "10.0.0.22", port = 53 }]
[[pool]]
name = "internal"
servers = [{ address = "10.0.0.31", port = 53 }]
[[pool]]
name = "web"
servers = [{ address = "10.0.0.11", port = 8080 }, { address = "10.0.0.12", port = 8080 }]

[[datascript]]
name = "by-name"
pools = ["internal"]
l4_request = "by-name.lua"
l4_response = "answer.lua"
[[datascript]]
name = "sticky"
pools = ["web"]
l4_request = "sticky.lua"
[[datascript]]
name = "faulty"
l4_request = "faulty.lua"
[[datascript]]
name = "close"
l4_request = "close.lua"
"#;

pub(crate) const SCRIPTS: [(&str, &str); 5] = [
    (
        "by-name.lua",
        "local name = avi.l4.read()
avi.vs.table_insert('names', name, avi.vs.client_ip(), 600)
avi.vs.log(os.date('%H:%M:%S', os.time()), ' ', name)
if string.endswith(name, 'corp') then avi.pool.select('internal') end",
    ),
    (
        "answer.lua",
        "avi.vs.log(' -> ', avi.l4.read(), ' of ', avi.pool.server_ip())
avi.vs.table_lookup('names', 'www.corp', 0)",
    ),
    ("sticky.lua", "avi.vs.persist(avi.vs.client_ip(), 600)"),
    ("faulty.lua", "local function fail() error('no\\27[2Jthing') end\n\nfail()"),
    ("close.lua", "avi.vs.log('not today')\navi.vs.close_conn()"),
];

const SECOND: u64 = 1_000_000;
const DNS: &str = "192.0.2.10:53";
const WEB: &str = "192.0.2.10:80";
const CLIENT: &str = "198.51.100.7:40000";

/// In the order of time.
pub(crate) fn shots() -> Vec<Shot> {
    let (query, answer) = ((CLIENT, DNS), (DNS, CLIENT));
    let (request, reply) = ((CLIENT, WEB), (WEB, CLIENT));
    let other = ("198.51.100.7:40001", WEB);
    let frames = [
        (0, udp(query, b"www.corp")),
        (900, udp(answer, b"10.1.1.1")),
        (1_500, udp(query, b"www.corp")),
        (10_000, udp(("198.51.100.8:40000", DNS), b"example.org")),
        (20_000, tcp(request, "S", b"")),
        (20_100, tcp(reply, "SA", b"")),
        (20_200, tcp(request, "A", b"")),
        (20_300, tcp(request, "A", b"GET / HTTP/1.0\r\n\r\n")),
        (20_900, tcp(reply, "A", b"HTTP/1.0 200 OK\r\n\r\n")),
        (21_000, tcp(reply, "FA", b"")),
        (21_100, tcp(request, "FA", b"")),
        (21_200, tcp(reply, "A", b"")),
        (30_000, tcp(("198.51.100.7:40002", "192.0.2.10:81"), "S", b"")),
        (40_000, udp(("198.51.100.7:40003", "192.0.2.10:7"), b"echo")),
        (40_100, udp(("198.51.100.7:40003", "192.0.2.10:7"), b"echo")),
        // Of no concern: foreign, an answer that nobody waits for, ARP, another port.
        (50_000, udp(("198.51.100.7:5353", "198.51.100.8:53"), b"?")),
        (50_100, udp((DNS, "198.51.100.99:4000"), b"!")),
        (50_200, [&[0xff; 12][..], &[8, 6], &[0; 46]].concat()),
        (50_300, tcp(("198.51.100.7:40004", "192.0.2.10:22"), "S", b"")),
        // Out of order.
        (45_000, tcp(other, "S", b"")),
        // Two days later the same client asks from the same port, and opens a connection.
        (2 * 86_400 * SECOND, udp(query, b"example.net")),
        (2 * 86_400 * SECOND + 500, tcp(request, "S", b"")),
    ];
    frames.into()
}

pub(crate) fn story() -> Vec<u8> {
    pcap(&shots())
}

fn told() -> Replayed {
    replayed(&config(CONFIG, &SCRIPTS), &story()).unwrap()
}

#[test]
fn every_flow_is_told_in_json() {
    let flows = told().flows;
    let lines = flows.iter().map(|flow| serde_json::to_string(flow).unwrap() + "\n");
    similar(&lines.collect::<String>(), include_str!("story.jsonl"));
}

#[test]
fn the_packets_are_summed_up() {
    similar(&told().summary.to_string(), include_str!("story.summary"));
}

#[test]
fn it_is_the_same_every_time_and_in_every_format() {
    let (first, second) = (told(), told());
    assert_eq!(first.flows, second.flows);
    assert_eq!(first.summary.to_string(), second.summary.to_string());
    let config = config(CONFIG, &SCRIPTS);
    let other = replayed(&config, &pcapng(&shots())).unwrap();
    assert_eq!(first.flows, other.flows);
    assert_eq!(first.summary.to_string(), other.summary.to_string());
}

/// Shows what a test has got where it is not what is expected.
pub(crate) fn similar(got: &str, expected: &str) {
    assert!(got == expected, "got:\n{got}\nexpected:\n{expected}");
}
