//! What every test has: a client, the balancer and servers, each a host, on two networks.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use lb_tests::{Balancer, End, Namespace, Nginx, http_get, veth, wait_until};
use serde_json::Value;

use crate::road::{Impairment, Road};

/// What nothing takes that works.
pub const SOON: Duration = Duration::from_secs(30);

/// The virtual service of most tests.
pub const VIP: &str = "192.0.2.10:80";
/// Its URL.
pub const URL: &str = "http://192.0.2.10/";
/// The balancer's address toward servers.
pub const SNAT: &str = "10.0.0.9";

/// `[instance]` of every test; flows that have ended are logged at once. The program runs in the
/// driver, as on hardware.
pub const INSTANCE: &str = r#"
[instance]
name = "{instance}"
interfaces = ["clients", "servers"]
attach_mode = "native"
snat_addresses = ["10.0.0.9"]
flow_capacity = 8192
connection_log = "connections.jsonl"
tcp_closing_timeout = "100ms"
"#;

/// A virtual service `web` at [`VIP`] over a pool `web`.
pub const WEB: &str = r#"
[[virtual_service]]
name = "web"
address = "192.0.2.10"
port = 80
protocol = "tcp"
pool = "web"
"#;

/// Three hosts, of which the last is all servers.
pub struct Site {
    pub client: Namespace,
    pub balancer: Namespace,
    pub servers: Namespace,
}

impl Site {
    /// The client has 192.0.2.2 to .9, the servers 10.0.0.11 to .13; the balancer's interfaces
    /// `clients` and `servers` have one queue each.
    pub fn new() -> Self {
        Self::with_queues(1)
    }

    /// The same with more queues.
    pub fn with_queues(queues: u32) -> Self {
        Self::joined(|near, far| veth(near, far, queues).unwrap()).0
    }

    /// The same with impaired links on both sides, the clients' first.
    pub fn on_roads(impairment: Impairment) -> (Self, [Road; 2]) {
        Self::joined(|near, far| Road::join(near, far, 1, impairment))
    }

    fn joined<L>(mut join: impl FnMut(&End, &End) -> L) -> (Self, [L; 2]) {
        let [client, balancer, servers] =
            ["client", "balancer", "servers"].map(|role| Namespace::new(role).unwrap());
        let own: Vec<String> = (2..10).map(|host| format!("192.0.2.{host}/24")).collect();
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let near = End { namespace: &client, device: "eth0", addresses: &own };
        let far = End { namespace: &balancer, device: "clients", addresses: &["192.0.2.1/24"] };
        let clients = join(&near, &far);
        let own = ["10.0.0.11/24", "10.0.0.12/24", "10.0.0.13/24"];
        let near = End { namespace: &servers, device: "eth0", addresses: &own };
        let far = End { namespace: &balancer, device: "servers", addresses: &["10.0.0.1/24"] };
        let links = [clients, join(&near, &far)];
        (Self { client, balancer, servers }, links)
    }

    /// Web servers at port 80 of the first addresses, named `1`, `2` and `3`.
    pub fn web_servers(&self, count: u8) -> Vec<Nginx> {
        (1..=count)
            .map(|number| {
                let address = SocketAddr::from(([10, 0, 0, 10 + number], 80));
                Nginx::start(&self.servers, &number.to_string(), address).unwrap()
            })
            .collect()
    }

    /// A balancer with [`INSTANCE`] and the rest of its configuration.
    pub fn balance(&self, rest: &str, scripts: &[(&str, &str)]) -> Balancer {
        Balancer::start(&self.balancer, &configuration(rest), scripts).unwrap()
    }

    /// The addresses of the balancer's host, as `ip` shows them.
    pub fn addresses(&self) -> String {
        self.balancer.run(&["ip", "-brief", "address"]).unwrap()
    }

    /// The name of the server that answers a GET.
    pub fn ask(&self) -> String {
        http_get(&self.client, URL, None).unwrap().server
    }

    /// Connects from the client's host; an error is the kernel's, such as a refused connection.
    pub fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let address: SocketAddr = address.parse().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(10));
        let stream = self.client.enter(connect).unwrap()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Ok(stream)
    }

    /// Asks for a file and reads the reply's head; the body is the test's to read, when it likes.
    pub fn begin_download(&self, file: &str) -> TcpStream {
        let mut stream = self.connect(VIP).unwrap();
        write!(stream, "GET /{file} HTTP/1.0\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        stream
    }
}

/// A pool in TOML with so many servers at this port, of the servers' addresses in order.
pub fn pool(name: &str, servers: impl IntoIterator<Item = u8>, port: u16) -> String {
    let servers: Vec<String> = servers
        .into_iter()
        .map(|server| format!("{{ address = \"10.0.0.{}\", port = {port} }}", 10 + server))
        .collect();
    format!("[[pool]]\nname = \"{name}\"\nservers = [{}]\n", servers.join(", "))
}

/// A whole configuration.
pub fn configuration(rest: &str) -> String {
    format!("{INSTANCE}{rest}")
}

/// How often something has happened to a packet, by the event's name.
pub fn event(balancer: &Balancer, name: &str) -> u64 {
    let status = balancer.status_json().unwrap();
    status["events"][name].as_u64().unwrap_or_else(|| panic!("no event {name} in {status:#}"))
}

/// All events of a kind, such as `punt_`, with their counts.
pub fn events(balancer: &Balancer, prefix: &str) -> Vec<(String, u64)> {
    let status = balancer.status_json().unwrap();
    let all = status["events"].as_object().unwrap();
    let chosen = all.iter().filter(|(name, _)| name.starts_with(prefix));
    chosen.map(|(name, count)| (name.clone(), count.as_u64().unwrap())).collect()
}

/// The connection log so far.
pub fn connection_log(balancer: &Balancer) -> Vec<Value> {
    let path = balancer.configuration().beside("connections.jsonl");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be half written.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits for the first so many records of the connection log.
pub fn wait_logged(balancer: &Balancer, count: usize) -> Vec<Value> {
    let mut records = Vec::new();
    wait_until("records in the connection log", SOON, || {
        records = connection_log(balancer);
        Ok(records.len() >= count)
    })
    .unwrap();
    records
}

/// Bytes that do not repeat: in regular ones a piece that came twice would go unseen.
pub fn pseudo_random(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut content = vec![0; bytes];
    for word in content.chunks_mut(8) {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_ne_bytes()[..word.len()]);
    }
    content
}

/// Packets that the kernel of a host itself has answered with: resets and ICMP.
pub fn kernel_answers(host: &Namespace) -> [u64; 2] {
    let snmp = host.run(&["cat", "/proc/net/snmp"]).unwrap();
    [counter(&snmp, "Tcp:", "OutRsts"), counter(&snmp, "Icmp:", "OutMsgs")]
}

/// A counter of `/proc/net/snmp`: a line of names, then one of numbers.
fn counter(snmp: &str, group: &str, name: &str) -> u64 {
    let mut lines = snmp.lines().filter(|line| line.starts_with(group));
    let (names, numbers) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split_whitespace().zip(numbers.split_whitespace());
    both.find(|(found, _)| *found == name).unwrap().1.parse().unwrap()
}

/// An address of the client's host.
pub fn client(host: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, host).into()
}
