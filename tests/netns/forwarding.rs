//! Packets get to the servers and back, whatever they carry.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, UdpSocket},
    os::unix::fs::FileExt,
    thread,
    time::Duration,
};

use lb_tests::{Balancer, Configuration, Iperf, http_get, require_root, throughput, wait_until};
use serde_json::Value;

use crate::site::{
    SNAT, SOON, Site, URL, VIP, WEB, client, configuration, event, events, pool, pseudo_random,
    wait_logged,
};

const GIB: u64 = 1 << 30;

/// The configuration with another `attach_mode`.
fn attached(mode: &str, configuration: &str) -> String {
    let own = "attach_mode = \"native\"";
    assert!(configuration.contains(own));
    configuration.replace(own, &format!("attach_mode = \"{mode}\""))
}

fn three() -> String {
    format!("{WEB}{}", pool("web", 1..=3, 80))
}

#[test]
fn servers_take_turns_and_see_the_balancers_address() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let _balancer = site.balance(&three(), &[]);
    let mut turns = BTreeMap::new();
    for _ in 0..9 {
        let reply = http_get(&site.client, URL, None).unwrap();
        assert_eq!((reply.client.as_str(), &reply.body), (SNAT, &reply.server));
        *turns.entry(reply.server).or_insert(0) += 1;
    }
    assert_eq!(turns.into_values().collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn a_trace_tells_what_became_of_each_packet() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(1);
    let rest = format!("{WEB}{}", pool("web", [1], 80));
    let configuration = Configuration::new(&configuration(&rest), &[]).unwrap();
    let mut balancer = Balancer::run_with(&site.balancer, configuration, &["--trace"]).unwrap();
    http_get(&site.client, URL, None).unwrap();
    wait_until("the trace", SOON, || {
        let trace = balancer.process().stderr();
        Ok(trace.contains("punt_first_packet protocol 6")
            && trace.contains("redirect")
            && trace.contains(VIP))
    })
    .unwrap();
}

#[test]
fn a_flow_is_shown_while_it_lasts_and_logged_when_it_has_ended() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(1);
    let balancer = site.balance(&format!("{WEB}{}", pool("web", [1], 80)), &[]);
    let mut stream = site.connect(VIP).unwrap();
    let own = stream.local_addr().unwrap().to_string();

    let flows = balancer.flows_json().unwrap();
    let [flow] = &flows[..] else { panic!("{flows:#?}") };
    let expected = [
        ("protocol", "tcp"),
        ("client", &own),
        ("vip", VIP),
        ("virtual_service", "web"),
        ("pool", "web"),
        ("server", "10.0.0.11:80"),
        ("decided_by", "algorithm"),
    ];
    check(flow, &expected);
    assert_eq!(flow["state"], "established", "{flow:#}");
    let table = balancer.lb(&["flows"]).unwrap();
    assert!(table.contains(&own) && table.contains("10.0.0.11:80"), "{table}");
    let status = balancer.status_json().unwrap();
    assert_eq!(status["flows"]["now"], 1, "{status:#}");
    let text = balancer.lb(&["status"]).unwrap();
    for wanted in [VIP, "10.0.0.11:80", "clients (native, 1 queues)"] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }

    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    drop(stream);
    let record = wait_logged(&balancer, 1).remove(0);
    check(&record, &expected);
    assert_eq!(record["reason"], "finished", "{record:#}");
    assert_eq!(record["snat"], flow["snat"], "{record:#}");
    assert_eq!(record["significance"], Value::Array(vec![]), "{record:#}");
    for (count, least) in [("packets", 4), ("reply_packets", 3), ("bytes", 200), ("generation", 1)]
    {
        assert!(record[count].as_u64().unwrap() >= least, "{count}: {record:#}");
    }
    assert!(balancer.flows_json().unwrap().is_empty());
}

fn check(record: &Value, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(record[key], *value, "{key}: {record:#}");
    }
}

#[test]
fn dnat_servers_see_the_client_and_answer_through_the_balancer() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    site.servers.ip(&["route", "add", "default", "via", "10.0.0.1"]).unwrap();
    let _servers = site.web_servers(2);
    let pool = pool("web", 1..=2, 80).replace("servers =", "forwarding = \"dnat\"\nservers =");
    let balancer = site.balance(&format!("{WEB}{pool}"), &[]);
    let forwarding = balancer.run(&["cat", "/proc/sys/net/ipv4/ip_forward"]).unwrap();
    assert_eq!(forwarding.trim(), "0", "the kernel must have no part in it");
    for (host, server) in [(2, "1"), (3, "2"), (4, "1")] {
        let reply = http_get(&site.client, URL, Some(client(host))).unwrap();
        assert_eq!((reply.server.as_str(), reply.client), (server, client(host).to_string()));
    }
}

#[test]
fn a_gibibyte_arrives_as_it_was_and_troubles_no_worker() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = site.web_servers(1);
    let path = servers[0].files().join("large");
    let file = File::create(&path).unwrap();
    // Holes cost nothing; what is between them differs from place to place.
    file.set_len(GIB).unwrap();
    let noise = pseudo_random(256 << 10);
    for place in 0..1024 {
        let piece = &noise[place as usize * 256..][..256];
        file.write_all_at(piece, place * (1 << 20) + place * 1021).unwrap();
    }
    let balancer = site.balance(&format!("{WEB}{}", pool("web", [1], 80)), &[]);

    let mut stream = site.begin_download("large");
    let before = events(&balancer, "punt_");
    let whole = File::open(&path).unwrap();
    let (mut got, mut wanted) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for place in 0..1024 {
        stream.read_exact(&mut got).unwrap();
        whole.read_exact_at(&mut wanted, place << 20).unwrap();
        assert!(got == wanted, "MiB {place} differs");
    }
    assert_eq!(stream.read(&mut got).unwrap(), 0);
    assert_eq!(events(&balancer, "punt_"), before);
}

#[test]
fn a_thousand_connections_at_once_are_all_served() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let balancer = site.balance(&three(), &[]);
    let mut streams: Vec<_> = (0..1000).map(|_| site.connect(VIP).unwrap()).collect();
    assert_eq!(balancer.flows_json().unwrap().len(), 1000);
    for stream in &mut streams {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    }
    for stream in &mut streams {
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
    drop(streams);
    let records = wait_logged(&balancer, 1000);
    assert!(records.iter().all(|record| record["reason"] == "finished"));
    let mut ports: Vec<_> = records.iter().map(|record| record["snat"].to_string()).collect();
    ports.sort();
    ports.dedup();
    assert!(ports.len() >= 334, "three servers share a port at most: {}", ports.len());
}

#[test]
fn a_burst_of_short_connections_is_served_without_a_failure() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let _balancer = site.balance(&three(), &[]);
    let words = ["curl", "--silent", "--show-error", "--fail-early", "--fail", "--parallel"];
    let more = ["--parallel-max", "200", "--parallel-immediate", "--header", "Connection: close"];
    let urls = "http://192.0.2.10/?[1-1000]";
    let line =
        [&words[..], &more, &["--write-out", "%{http_code}\n", "--output", "/dev/null", urls]];
    let codes = site.client.run(&line.concat()).unwrap();
    assert_eq!(codes.lines().filter(|code| *code == "200").count(), 1000, "{codes}");
}

#[test]
fn iperf3_measures_through_the_balancer() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _iperf = Iperf::start(&site.servers, "10.0.0.11:5201".parse().unwrap()).unwrap();
    let service = |protocol: &str| {
        WEB.replace("80", "5201")
            .replace("\"tcp\"", &format!("\"{protocol}\""))
            .replace("\"web\"", &format!("\"{protocol}\""))
    };
    let rest = [service("tcp"), pool("tcp", [1], 5201), service("udp"), pool("udp", [1], 5201)];
    let balancer = site.balance(&rest.concat(), &[]);
    let measured = throughput(&site.client, "192.0.2.10:5201".parse().unwrap(), 1).unwrap();
    assert!(measured.bits_per_second > 1e7, "{measured:?}");
    let words = ["iperf3", "-J", "-c", "192.0.2.10", "-p", "5201", "-u", "-b", "20M", "-t", "1"];
    let report = site.client.run(&words).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let sum = &report["end"]["sum"];
    assert!(sum["packets"].as_u64().unwrap() > 100, "{sum:#}");
    assert!(sum["lost_percent"].as_f64().unwrap() < 5.0, "{sum:#}");
    let flows = balancer.flows_json().unwrap();
    assert!(flows.iter().any(|flow| flow["protocol"] == "udp"), "{flows:#?}");
}

#[test]
fn programs_are_attached_as_asked_and_by_themselves_to_socket_buffers_of_a_veth_of_one_queue() {
    if !require_root() {
        return;
    }
    let cases = [
        ("auto", 1, "tc"),
        ("auto", 2, "native"),
        ("tc", 2, "tc"),
        ("generic", 2, "generic"),
        ("native", 1, "native"),
    ];
    for (wanted, queues, mode) in cases {
        let site = Site::with_queues(queues);
        let _servers = site.web_servers(3);
        let text = attached(wanted, &configuration(&three()));
        let balancer = Balancer::start(&site.balancer, &text, &[]).unwrap();
        let status = balancer.status_json().unwrap();
        assert_eq!(status["interfaces"][0]["mode"], mode, "{wanted}: {status:#}");
        let answer = site.ask();
        assert!(["1", "2", "3"].contains(&answer.as_str()), "{wanted}: {answer}");
    }
}

/// Most far ends do not poll: without GRO there, a veth takes no frames of native XDP.
#[test]
fn a_veth_whose_far_end_has_no_gro_serves_as_well() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(1);
    for host in [&site.client, &site.servers] {
        host.run(&["ethtool", "-K", "eth0", "gro", "off"]).unwrap();
    }
    let text = attached("auto", &configuration(&format!("{WEB}{}", pool("web", [1], 80))));
    let _balancer = Balancer::start(&site.balancer, &text, &[]).unwrap();
    assert_eq!(site.ask(), "1");
}

#[test]
fn a_servers_new_mac_address_is_followed_during_a_flow() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = site.web_servers(1);
    let content = pseudo_random(16 << 20);
    std::fs::write(servers[0].files().join("file"), &content).unwrap();
    let balancer = site.balance(&format!("{WEB}{}", pool("web", [1], 80)), &[]);
    let mut stream = site.begin_download("file");
    let mut got = vec![0; 1 << 20];
    stream.read_exact(&mut got).unwrap();

    // The kernel announces an interface's new address by gratuitous ARP when it is told to.
    let announce = "echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_notify";
    site.servers.run(&["sh", "-c", announce]).unwrap();
    site.servers.ip(&["link", "set", "eth0", "address", "02:00:00:00:00:99"]).unwrap();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == content);
    let status = balancer.status_json().unwrap();
    let next_hop = &status["pools"][0]["servers"][0]["next_hop"];
    assert_eq!(next_hop, "02:00:00:00:00:99", "{status:#}");
    assert_eq!(site.ask(), "1");
}

/// A UDP service at [`VIP`] whose server sends everything back.
fn echo(site: &Site) -> (Balancer, UdpSocket, UdpSocket) {
    let address = SocketAddr::from(([10, 0, 0, 11], 80));
    let server = site.servers.enter(|| UdpSocket::bind(address)).unwrap().unwrap();
    let client = site.client.enter(|| UdpSocket::bind("192.0.2.2:0")).unwrap().unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    client.connect(VIP).unwrap();
    let service = WEB.replace("\"tcp\"", "\"udp\"");
    (site.balance(&format!("{service}{}", pool("web", [1], 80)), &[]), client, server)
}

#[test]
fn datagrams_in_fragments_go_through_and_back() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let (balancer, client, server) = echo(&site);
    let mut buffer = vec![0; 65536];
    for bytes in [4000, 100, 9000, 1473] {
        let sent = pseudo_random(bytes);
        client.send(&sent).unwrap();
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(from.ip().to_string(), SNAT);
        assert!(buffer[..length] == sent, "{bytes} bytes to the server");
        server.send_to(&sent, from).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        assert!(buffer[..length] == sent, "{bytes} bytes to the client");
    }
    assert!(event(&balancer, "punt_irregular") > 0);
    assert_eq!(balancer.flows_json().unwrap().len(), 1);
}

#[test]
fn packets_with_ip_options_go_through() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(1);
    let balancer = site.balance(&format!("{WEB}{}", pool("web", [1], 80)), &[]);
    // Eight no-operation options (RFC 791 §3.1) on every packet of the connection.
    let script = "import socket
s = socket.socket()
s.settimeout(10)
s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b'\\1' * 8)
s.connect(('192.0.2.10', 80))
s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
print(s.makefile().read())";
    let reply = site.client.run(&["python3", "-c", script]).unwrap();
    assert!(reply.contains("X-Server: 1"), "{reply}");
    assert!(event(&balancer, "punt_irregular") >= 4);
}

#[test]
fn a_client_hears_that_the_servers_port_is_closed() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let (balancer, client, server) = echo(&site);
    drop(server);
    client.send(b"anybody?").unwrap();
    let error = client.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    assert_eq!(event(&balancer, "punt_icmp_error"), 1);
}

#[test]
fn both_directions_carry_data_at_once() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let listen = || std::net::TcpListener::bind("10.0.0.11:80");
    let listener = site.servers.enter(listen).unwrap().unwrap();
    let _balancer = site.balance(&format!("{WEB}{}", pool("web", [1], 80)), &[]);
    let stream = site.connect(VIP).unwrap();
    let (mut echo, _) = listener.accept().unwrap();
    echo.set_read_timeout(Some(SOON)).unwrap();
    let content = pseudo_random(8 << 20);
    thread::scope(|scope| {
        scope.spawn(|| std::io::copy(&mut echo.try_clone().unwrap(), &mut echo).unwrap());
        scope.spawn(|| {
            (&stream).write_all(&content).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        let mut reader = stream.try_clone().unwrap().take(content.len() as u64);
        reader.read_to_end(&mut got).unwrap();
        assert!(got == content);
    });
}
