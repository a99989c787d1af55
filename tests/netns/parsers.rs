//! Scripts that read protocols through parsers, ours and a user's.

use std::{
    io::{ErrorKind, Write},
    net::{SocketAddr, UdpSocket},
    process::{Command, Stdio},
};

use lb_tests::{Namespace, require_root, wait_until};

use crate::site::{SOON, Site, WEB, pool, wait_logged};

const SECRET: &str = "testing123";
const ACCESS_ACCEPT: u8 = 2;

/// A service over UDP at this port, of a pool with as many servers, with the set `by`.
fn service(port: u16, servers: u8, set: &str) -> String {
    let service = WEB.replace("port = 80", &format!("port = {port}")).replace("\"tcp\"", "\"udp\"");
    let rest = "datascripts = [\"by\"]\nidle_timeout = \"200ms\"\n";
    [&service, rest, "[[datascript]]\nname = \"by\"\n", set, &pool("web", 1..=servers, port)]
        .concat()
}

/// Sockets of the servers' host that take what the balancer sends them, the first at .11.
fn sockets(host: &Namespace, port: u16, count: u8) -> Vec<UdpSocket> {
    let bind = |server| {
        let socket = UdpSocket::bind(SocketAddr::from(([10, 0, 0, 10 + server], port))).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    host.enter(|| (1..=count).map(bind).collect()).unwrap()
}

/// Waits for a datagram at one of these, and says at which.
fn receive(sockets: &[UdpSocket]) -> (usize, Vec<u8>, SocketAddr) {
    let mut received = None;
    wait_until("a datagram at a server", SOON, || {
        for (index, socket) in sockets.iter().enumerate() {
            let mut buffer = [0; 2048];
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => received = Some((index, buffer[..length].to_vec(), from)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(received.is_some())
    })
    .unwrap();
    received.unwrap()
}

/// The answer that a client believes to come from one who knows the secret (RFC 2865 §3).
fn accept(request: &[u8]) -> Vec<u8> {
    let head = [ACCESS_ACCEPT, request[1], 0, 20];
    let signed = [&head, &request[4..20], SECRET.as_bytes()].concat();
    [&head[..], &md5(&signed)].concat()
}

fn md5(bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new("md5sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    let digits = str::from_utf8(&output.stdout[..32]).unwrap();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..32).step_by(2).map(byte).collect()
}

/// Lets radclient ask for access for a station, and answers. Says which server it was.
fn authenticate(site: &Site, servers: &[UdpSocket], station: &str) -> usize {
    let attributes = format!("User-Name = alice, Calling-Station-Id = \"{station}\"");
    let line =
        format!("echo '{attributes}' | radclient -x -t 20 -r 1 192.0.2.10:1812 auth {SECRET}");
    let radclient = site.client.spawn(&["sh", "-c", &line]).unwrap();
    let (server, request, from) = receive(servers);
    servers[server].send_to(&accept(&request), from).unwrap();
    let said = radclient.finish(SOON).unwrap().success("radclient").unwrap();
    assert!(said.contains("Received Access-Accept"), "{said}");
    server
}

#[test]
fn radius_requests_of_one_station_go_to_one_server() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = sockets(&site.servers, 1812, 2);
    let script = include_str!("../../scripts/datascripts/radius-by-station.lua");
    let set = "protocol_parsers = [\"Default-Radius\"]\nl4_request = \"by.lua\"\n";
    let balancer = site.balance(&service(1812, 2, set), &[("by.lua", script)]);
    let stations = ["02-00-5E-10-00-01", "02-00-5E-10-00-02"];
    let turns = [0, 1, 0, 0, 1].map(|station| authenticate(&site, &servers, stations[station]));
    assert_eq!(turns, [0, 1, 0, 0, 1]);
    let records = wait_logged(&balancer, 5);
    let log_of = |station: usize| format!("station 02005e10000{}", station + 1);
    let mut logged: Vec<_> = records.iter().map(|record| record["ds_log"].clone()).collect();
    logged.sort_by_key(ToString::to_string);
    assert_eq!(logged, [0, 0, 0, 1, 1].map(log_of));
    let persisted = |by: &str| records.iter().filter(|record| record["decided_by"] == by).count();
    assert_eq!((persisted("persistence_new"), persisted("persistence")), (2, 3));

    let client = site.client.enter(|| UdpSocket::bind("192.0.2.2:0")).unwrap().unwrap();
    client.send_to(b"no RADIUS", "192.0.2.10:1812").unwrap();
    assert_eq!(receive(&servers).1, b"no RADIUS");
    let record = wait_logged(&balancer, 6).remove(5);
    assert_eq!(record["ds_log"], "not RADIUS", "{record:#}");
    assert_eq!(record["decided_by"], "algorithm", "{record:#}");
}

/// A parser of a user's, on top of ours.
const LEASES: &str = "local dhcp = require 'Default-DHCP'
local leases = {}
function leases.client(payload)
  local params, options = dhcp.getDHCPParamsAndOptions(payload)
  local interface, mac = dhcp.getOption61(options)
  return interface, mac, params and params.xid
end
return leases";

#[test]
fn a_users_parser_reads_what_a_dhcp_client_has_sent() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = sockets(&site.servers, 67, 2);
    let script = "local leases = require 'Leases'
local interface, mac, xid = leases.client(avi.l4.read())
avi.vs.log(interface, ' ', mac, ' ', xid)
avi.vs.persist(mac)";
    let set = "protocol_parsers = [\"Leases\", \"Default-DHCP\"]\nl4_request = \"by.lua\"\n\
               [[protocol_parser]]\nname = \"Leases\"\nfile = \"leases.lua\"\n";
    let scripts = [("by.lua", script), ("leases.lua", LEASES)];
    let balancer = site.balance(&service(67, 2, set), &scripts);
    let discover: &[u8] =
        include_bytes!("../../lb-userspace/src/script/tests/packets/dhcp-dhclient-discover.bin");
    let request: &[u8] =
        include_bytes!("../../lb-userspace/src/script/tests/packets/dhcp-dhclient-request.bin");
    for payload in [discover, request] {
        let client = site.client.enter(|| UdpSocket::bind("192.0.2.2:0")).unwrap().unwrap();
        client.send_to(payload, "192.0.2.10:67").unwrap();
        let (server, received, from) = receive(&servers);
        assert_eq!((server, received.as_slice()), (0, payload));
        servers[server].send_to(b"reply", from).unwrap();
        let mut reply = [0; 8];
        client.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(client.recv(&mut reply).unwrap(), 5);
    }
    let xid = u32::from_be_bytes(*discover[4..].first_chunk().unwrap());
    for record in wait_logged(&balancer, 2) {
        assert_eq!(record["ds_log"], format!("1 02:00:5e:10:00:01 {xid}"), "{record:#}");
    }

    let client = site.client.enter(|| UdpSocket::bind("192.0.2.2:0")).unwrap().unwrap();
    client.send_to(b"no DHCP", "192.0.2.10:67").unwrap();
    let record = wait_logged(&balancer, 3).remove(2);
    let error = &record["error"];
    assert_eq!(error["line"], 4, "{record:#}");
    assert!(error["script"].as_str().unwrap().ends_with("by.lua"), "{record:#}");
    assert!(error["message"].as_str().unwrap().contains("avi.vs.persist"), "{record:#}");
}
