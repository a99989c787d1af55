//! Source addresses and ports toward servers: at rest while a server keeps TIME_WAIT, used early
//! if they must be, exhausted, and taken out of the configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use lb_tests::{Balancer, require_root, wait_until};
use serde_json::Value;

use crate::site::{INSTANCE, SOON, Site, VIP, WEB, pool};

/// Ports of each of two addresses.
const PORTS: usize = 8;
const ALL: usize = 2 * PORTS;
/// The kernel sends a SYN again after a second: whoever waits less has waited for nothing else.
const AT_ONCE: Duration = Duration::from_millis(900);

fn configuration(addresses: &str, protocol: &str) -> String {
    let instance = INSTANCE.replace("\"10.0.0.9\"", addresses);
    let service = WEB.replace("\"tcp\"", &format!("{protocol:?}"));
    let idle = if protocol == "udp" { "5s" } else { "1h" };
    let keys = format!("snat_ports = \"2000-{}\"\n", 2000 + PORTS - 1);
    format!("{instance}{keys}{service}idle_timeout = \"{idle}\"\n{}", pool("web", [1], 80))
}

fn both_addresses() -> String {
    configuration("\"10.0.0.8\", \"10.0.0.9\"", "tcp")
}

/// A server that says whom it sees. Asked to `close`, it closes the connection first; else it
/// waits for the client.
fn serve(site: &Site) {
    let bind = || TcpListener::bind("10.0.0.11:80");
    let listener = site.servers.enter(bind).unwrap().unwrap();
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer(stream.unwrap()));
        }
    });
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let peer = stream.peer_addr()?;
    let mut closes = [0];
    stream.read_exact(&mut closes)?;
    writeln!(stream, "{peer}")?;
    if closes == *b"h" {
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

/// A connection, and the source that the server sees.
fn connect(site: &Site, kind: &[u8; 1]) -> std::io::Result<(TcpStream, SocketAddr)> {
    let mut stream = site.connect(VIP)?;
    stream.write_all(kind)?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok((stream, String::from_utf8(line).unwrap().trim().parse().unwrap()))
}

/// A whole connection that the server closes first.
fn closed_by_the_server(site: &Site) -> SocketAddr {
    let (mut stream, source) = connect(site, b"c").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it closes first");
    source
}

fn ports(balancer: &Balancer) -> Value {
    balancer.status_json().unwrap()["snat_ports"].clone()
}

fn wait_for(balancer: &Balancer, key: &str, wanted: usize) {
    let mut last = Value::Null;
    let waited = wait_until("SNAT ports", SOON, || {
        last = balancer.status_json()?["snat_ports"].clone();
        Ok(last[key] == wanted)
    });
    assert!(waited.is_ok(), "{key} is not {wanted} in {last:#}");
}

/// Remote ends that the servers' host keeps in TIME_WAIT.
fn time_waits(site: &Site) -> BTreeSet<SocketAddr> {
    let listed = site.servers.run(&["ss", "-Htan", "state", "time-wait"]).unwrap();
    let remote = listed.lines().filter_map(|line| line.split_whitespace().last());
    remote.map(|end| end.parse().unwrap()).collect()
}

#[test]
fn ports_rest_while_the_server_keeps_time_wait_and_are_used_early_if_they_must_be() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    serve(&site);
    let balancer = Balancer::start(&site.balancer, &both_addresses(), &[]).unwrap();
    let mut given = Vec::new();
    for count in 1..=ALL {
        let began = Instant::now();
        given.push(closed_by_the_server(&site));
        assert!(began.elapsed() < AT_ONCE, "{:?} for {given:?}", began.elapsed());
        // Its flow is gone, and the server still has the connection.
        wait_for(&balancer, "resting", count);
        assert!(time_waits(&site).contains(&given[given.len() - 1]));
    }
    assert_eq!(time_waits(&site), given.iter().copied().collect());
    assert_eq!(time_waits(&site).len(), ALL, "{given:?}");
    let now = ports(&balancer);
    assert_eq!((&now["in_use"], &now["reused_early"]), (&0.into(), &0.into()), "{now:#}");

    // None is left. Whether the server lets the first SYN in now is chance: it compares initial
    // sequence numbers and timestamps, which kernels make up anew for each client's port.
    for early in 1..=3 {
        assert!(given.contains(&closed_by_the_server(&site)));
        assert!(ports(&balancer)["reused_early"].as_u64().unwrap() >= early);
    }
    let shown = balancer.lb(&["status"]).unwrap();
    let line = shown.lines().find(|line| line.starts_with("snat ports ")).unwrap();
    assert!(line.contains(" reused early, 0 flows refused for want of one"), "{line}");
}

#[test]
fn exhaustion_is_counted_told_once_and_over_when_a_port_comes_back() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    serve(&site);
    let mut balancer = Balancer::start(&site.balancer, &both_addresses(), &[]).unwrap();
    let mut held: BTreeMap<SocketAddr, TcpStream> = BTreeMap::new();
    for _ in 0..ALL {
        let (stream, source) = connect(&site, b"h").unwrap();
        assert!(held.insert(source, stream).is_none(), "{source} twice");
    }
    for _ in 0..5 {
        assert_eq!(connect(&site, b"h").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    let now = ports(&balancer);
    assert_eq!((&now["in_use"], &now["exhausted"]), (&ALL.into(), &5.into()), "{now:#}");
    let each = now["addresses"].as_array().unwrap().iter().map(|it| it["in_use"].clone());
    assert_eq!(each.collect::<Vec<_>>(), [PORTS, PORTS]);
    let shown = balancer.lb(&["status"]).unwrap();
    let wanted = format!("{ALL} in use, 0 resting; 0 reused early, 5 flows refused");
    assert!(shown.contains(&wanted), "{wanted} is not in\n{shown}");
    let socket = format!("/run/lb/{}.sock", balancer.instance());
    let get = ["curl", "--silent", "--fail", "--unix-socket", &socket, "http://lb/metrics"];
    let metrics = balancer.run(&get).unwrap();
    for line in ["lb_snat_ports_in_use 16\n", "lb_snat_ports_exhausted_total 5\n"] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    wait_until("a line in the log", SOON, || Ok(!told(&mut balancer).is_empty())).unwrap();
    let lines = told(&mut balancer);
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["10.0.0.11:80", "tcp", "add snat_addresses or widen snat_ports"] {
        assert!(lines[0].contains(part), "{part} is not in {lines:?}");
    }

    // The client closes first, so the server keeps nothing.
    let (source, stream) = held.pop_first().unwrap();
    drop(stream);
    wait_for(&balancer, "resting", 1);
    assert_eq!(connect(&site, b"h").unwrap().1, source);
}

/// What the daemon's log says of exhaustion.
fn told(balancer: &mut Balancer) -> Vec<String> {
    let log = balancer.process().stdout() + &balancer.process().stderr();
    let lines = log.lines().filter(|line| line.contains("no SNAT port is left"));
    lines.map(str::to_owned).collect()
}

#[test]
fn an_address_that_leaves_the_configuration_stays_until_its_last_flow_has_ended() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let server = site.servers.enter(|| UdpSocket::bind("10.0.0.11:80")).unwrap().unwrap();
    // In fragments, which reach a worker only if they are for one of the balancer's addresses.
    thread::spawn(move || {
        while let Ok((_, from)) = server.recv_from(&mut [0; 64]) {
            let mut datagram = from.to_string().into_bytes();
            datagram.resize(3000, b' ');
            if server.send_to(&datagram, from).is_err() {
                break;
            }
        }
    });
    let balancer =
        Balancer::start(&site.balancer, &configuration("\"10.0.0.9\"", "udp"), &[]).unwrap();
    let socket = || {
        let socket = UdpSocket::bind("192.0.2.2:0")?;
        socket.set_read_timeout(Some(SOON))?;
        socket.connect(VIP)?;
        std::io::Result::Ok(socket)
    };
    let [old, new] = [(); 2].map(|()| site.client.enter(socket).unwrap().unwrap());
    let ask = |socket: &UdpSocket| {
        socket.send(b"?").unwrap();
        let mut answer = [0; 4000];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(length, 3000);
        String::from_utf8_lossy(&answer[..length]).trim().to_owned()
    };
    let source = ask(&old);
    assert!(source.starts_with("10.0.0.9:"), "{source}");

    balancer.reload(&configuration("\"10.0.0.8\"", "udp")).unwrap();
    assert!(ask(&new).starts_with("10.0.0.8:"));
    assert!(site.addresses().contains("10.0.0.9/32"), "{}", site.addresses());
    // The server has to ask for its MAC again.
    site.servers.ip(&["neighbour", "flush", "dev", "eth0"]).unwrap();
    assert_eq!(ask(&old), source);

    let is_gone = || Ok(!site.addresses().contains("10.0.0.9/32"));
    wait_until("the end of the address", SOON, is_gone).unwrap();
    let now = ports(&balancer);
    let left: Vec<_> =
        now["addresses"].as_array().unwrap().iter().map(|it| &it["address"]).collect();
    assert_eq!(left, ["10.0.0.8"]);
    assert!(ask(&old).starts_with("10.0.0.8:"), "a new flow by now");
}
