//! The network around the balancer changes: MACs, gateways, links. Established flows go on.
//!
//! Both interfaces of the balancer are on a switch, and so all that it sends is seen there. On the
//! switch are a server and two routers; behind the routers are another server and the client. All
//! go by the first router, until a test says otherwise.

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use lb_tests::{
    Balancer, Connection, End, Kind, Load, Namespace, Nginx, Outcome, Plan, Report, bridge,
    http_get, require_root, veth, wait_until,
};

use crate::site::{SNAT, SOON, VIP, WEB, configuration, event};

/// Long connections of a load.
const LONG: usize = 10;
/// What an answer may take if packets were lost on its way: TCP repeats what was lost after
/// 200 ms, 400 ms and so on (RFC 6298).
const REPEATED: Duration = Duration::from_secs(8);
/// The MAC of the balancer's interface toward servers.
const BALANCER: &str = "02:00:00:00:00:09";
/// The MAC of the server on the segment.
const NEAR: &str = "02:00:00:00:00:11";

/// One of two routers between the segment and what is far.
struct Router {
    namespace: Namespace,
    port: &'static str,
    mac: &'static str,
    /// The last byte of all its addresses.
    host: u8,
}

struct Segment {
    switch: Namespace,
    balancer: Namespace,
    near: Namespace,
    far: Namespace,
    routers: [Router; 2],
    /// `near` and `far`.
    _servers: [Nginx; 2],
}

impl Segment {
    fn new() -> Self {
        let [switch, balancer, near, far] =
            ["switch", "balancer", "near", "far"].map(|role| Namespace::new(role).unwrap());
        // Each interface speaks for its own addresses, though both are on one segment.
        for setting in ["arp_ignore=1", "arp_announce=2"] {
            set(&balancer, &format!("net.ipv4.conf.all.{setting}"));
        }
        let clients = (&balancer, "clients", "02:00:00:00:00:02");
        join((&switch, "clients"), clients, &["192.0.2.1/24"]);
        join((&switch, "servers"), (&balancer, "servers", BALANCER), &["10.0.0.1/24"]);
        join((&switch, "near"), (&near, "eth0", NEAR), &["10.0.0.11/24"]);
        let routers = [
            Router::new("r1", "02:00:00:00:00:a1", 101),
            Router::new("r2", "02:00:00:00:00:a2", 102),
        ];
        routers.iter().for_each(|router| router.join(&switch, &far));
        bridge(&switch, &["clients", "servers", "near", "r1", "r2"]).unwrap();
        bridge(&far, &["r1", "r2"]).unwrap();
        for own in ["10.1.0.11/24", "10.2.0.50/24"] {
            far.ip(&["address", "add", own, "dev", "bridge"]).unwrap();
        }
        let start = |(host, name, ip)| Nginx::start(host, name, SocketAddr::new(ip, 80)).unwrap();
        let servers =
            [(&near, "near", [10, 0, 0, 11].into()), (&far, "far", [10, 1, 0, 11].into())];
        let _servers = servers.map(start);
        let segment = Self { switch, balancer, near, far, routers, _servers };
        segment.far_goes_by(0);
        segment.balancer_goes_by(0);
        segment
    }

    /// A pool of these servers behind [`VIP`].
    fn balance(&self, servers: &[&str], more: &str) -> Balancer {
        let servers: Vec<_> =
            servers.iter().map(|ip| format!("{{ address = \"{ip}\", port = 80 }}")).collect();
        let servers = servers.join(", ");
        let pool = format!("[[pool]]\nname = \"web\"\nservers = [{servers}]\n{more}");
        let whole = configuration(&format!("{WEB}{pool}"));
        Balancer::start(&self.balancer, &whole, &[]).unwrap()
    }

    /// From the far client, of which all long connections stand.
    fn load(&self) -> Load {
        let patience = Duration::from_secs(20);
        let plan = Plan { long: LONG, patience, ..Plan::http(VIP.parse().unwrap()) };
        let load = Load::start(&self.far, plan);
        load.wait_until("all long connections", SOON, |report| report.standing() == LONG).unwrap();
        load
    }

    /// Sets the router by which the far client and server send to the segment.
    fn far_goes_by(&self, router: usize) {
        let host = self.routers[router].host;
        for (to, own, via) in [("10.0.0.0/24", "10.1.0.11", 1), ("192.0.2.0/24", "10.2.0.50", 2)] {
            let via = format!("10.{via}.0.{host}");
            self.far.ip(&["route", "replace", to, "via", &via, "src", own]).unwrap();
        }
    }

    /// Sets the router by which the balancer sends to the far client and server.
    fn balancer_goes_by(&self, router: usize) {
        let host = self.routers[router].host;
        for (to, via) in [("10.1.0.0/24", "10.0.0"), ("10.2.0.0/24", "192.0.2")] {
            let via = format!("{via}.{host}");
            self.balancer.ip(&["route", "replace", to, "via", &via]).unwrap();
        }
    }

    /// Pulls both plugs of a router, which can tell nobody.
    fn unplug(&self, router: usize) {
        for host in [&self.switch, &self.far] {
            host.ip(&["link", "set", self.routers[router].port, "down"]).unwrap();
        }
    }

    /// The MACs to which the balancer's next frames to these servers are addressed.
    fn macs_to_servers(&self, prefix: &str) -> Vec<String> {
        self.macs("servers", &format!("tcp and src host {SNAT} and dst net {prefix}"))
    }

    /// The same of frames to the client.
    fn macs_to_client(&self) -> Vec<String> {
        self.macs("clients", "tcp and src host 192.0.2.10")
    }

    fn macs(&self, port: &str, filter: &str) -> Vec<String> {
        let words = ["tcpdump", "-i", port, "-Q", "in", "-e", "-n", "-q", "-c", "20", filter];
        let seen = self.switch.run(&words).unwrap();
        // Time, source, `>`, destination and more.
        let destination = |line: &str| Some(line.split_whitespace().nth(3)?.replace(',', ""));
        let mut macs: Vec<_> = seen.lines().filter_map(destination).collect();
        macs.sort();
        macs.dedup();
        macs
    }
}

impl Router {
    fn new(port: &'static str, mac: &'static str, host: u8) -> Self {
        Self { namespace: Namespace::new(port).unwrap(), port, mac, host }
    }

    fn join(&self, switch: &Namespace, far: &Namespace) {
        let Self { namespace, port, mac, host } = self;
        let near = ["10.0.0", "192.0.2"].map(|net| format!("{net}.{host}/24"));
        join((switch, port), (namespace, "eth0", mac), &near.each_ref().map(String::as_str));
        let beyond = ["10.1.0", "10.2.0"].map(|net| format!("{net}.{host}/24"));
        let mac = mac.replace("02:00", "02:01");
        join((far, port), (namespace, "eth1", &mac), &beyond.each_ref().map(String::as_str));
        set(namespace, "net.ipv4.ip_forward=1");
    }
}

/// Plugs a host into a port.
fn join(
    (switch, port): (&Namespace, &str),
    (host, device, mac): (&Namespace, &str, &str),
    addresses: &[&str],
) {
    let far = End { namespace: switch, device: port, addresses: &[] };
    veth(&End { namespace: host, device, addresses }, &far, 1).unwrap();
    host.ip(&["link", "set", device, "address", mac]).unwrap();
}

fn set(host: &Namespace, setting: &str) {
    host.run(&["sysctl", "-q", "-w", setting]).unwrap();
}

/// Waits until each connection that is open now has been answered again.
fn wait_all_answered(load: &Load) {
    let now = Instant::now();
    load.wait_until("an answer on each connection", SOON, |report| {
        let mut open = report.connections().iter().filter(|c| c.end.is_none() && c.began < now);
        open.all(|c| c.answered.is_some_and(|at| at > now))
    })
    .unwrap();
}

/// Waits until no long connection has been answered for a while.
fn wait_silence(load: &Load) {
    load.wait_until("silence", SOON, |report| {
        let mut long = report.connections().iter().filter(|c| c.end.is_none() && c.exchanges > 0);
        long.all(|c| c.answered.is_some_and(|at| at.elapsed() > Duration::from_millis(500)))
    })
    .unwrap();
}

/// No connection failed, and none waited longer than this for an answer.
fn assert_unharmed(report: &Report, longest: Duration) {
    assert_eq!(report.failures().count(), 0, "{report}");
    let slowest = report.connections().iter().map(|c| c.slowest).max().unwrap();
    assert!(slowest < longest, "an answer took {slowest:?}");
}

/// What `lb status` says of the way to each server.
fn next_hops(balancer: &Balancer) -> Vec<String> {
    let status = balancer.status_json().unwrap();
    let servers = status["pools"][0]["servers"].as_array().unwrap();
    servers.iter().map(|server| server["next_hop"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn servers_on_the_link_and_behind_a_router_share_a_pool() {
    if !require_root() {
        return;
    }
    let segment = Segment::new();
    let balancer = segment.balance(&["10.0.0.11", "10.1.0.11"], "");
    let load = segment.load();
    let router = segment.routers[0].mac;
    load.wait_answers("near", 100, SOON).unwrap();
    load.wait_answers("far", 100, SOON).unwrap();
    assert_eq!(segment.macs_to_servers("10.0.0.0/24"), [NEAR]);
    assert_eq!(segment.macs_to_servers("10.1.0.0/24"), [router]);
    assert_eq!(segment.macs_to_client(), [router]);
    assert_eq!(next_hops(&balancer), [NEAR, router]);
    assert_unharmed(&load.finish().unwrap(), REPEATED);
}

#[test]
fn flows_follow_a_gateway_that_is_replaced() {
    if !require_root() {
        return;
    }
    let segment = Segment::new();
    let balancer = segment.balance(&["10.0.0.11", "10.1.0.11"], "");
    let load = segment.load();
    let [first, second] = segment.routers.each_ref().map(|router| router.mac);
    segment.balancer_goes_by(1);
    wait_all_answered(&load);
    assert_eq!(segment.macs_to_servers("10.1.0.0/24"), [second]);
    assert_eq!(segment.macs_to_client(), [second]);
    assert_eq!(next_hops(&balancer), [NEAR, second]);

    // The router dies, and only then the routes change.
    segment.far_goes_by(1);
    wait_all_answered(&load);
    segment.unplug(1);
    wait_silence(&load);
    segment.balancer_goes_by(0);
    segment.far_goes_by(0);
    wait_all_answered(&load);
    assert_eq!(segment.macs_to_servers("10.1.0.0/24"), [first]);
    assert_eq!(segment.macs_to_client(), [first]);
    assert_unharmed(&load.finish().unwrap(), REPEATED);
}

#[test]
fn flows_follow_a_mac_that_changes_with_and_without_a_word() {
    if !require_root() {
        return;
    }
    let segment = Segment::new();
    // Its checks have the kernel find out that nobody has the old address any more. That takes as
    // long as the kernel trusts a neighbour (30 s) and then asks for it.
    let monitor = "[[health_monitor]]\nname = \"it\"\ntype = \"tcp\"\ninterval = \"200ms\"\n";
    let more = format!("health_monitors = [\"it\"]\n{monitor}failed_checks = 50\n");
    for setting in ["base_reachable_time_ms=1000", "delay_first_probe_time=1"] {
        set(&segment.balancer, &format!("net.ipv4.neigh.servers.{setting}"));
    }
    let balancer = segment.balance(&["10.0.0.11"], &more);
    let load = segment.load();
    let change_to = |mac| segment.near.ip(&["link", "set", "eth0", "address", mac]).unwrap();

    // The kernel announces an interface's new address by gratuitous ARP when it is told to.
    set(&segment.near, "net.ipv4.conf.eth0.arp_notify=1");
    change_to("02:00:00:00:00:b1");
    wait_all_answered(&load);
    assert_eq!(segment.macs_to_servers("10.0.0.0/24"), ["02:00:00:00:00:b1"]);

    // Without need to ask for the balancer it does not show its new address by that either.
    set(&segment.near, "net.ipv4.conf.eth0.arp_notify=0");
    for address in [SNAT, "10.0.0.1"] {
        let words = ["neigh", "replace", address, "lladdr", BALANCER, "dev", "eth0"];
        segment.near.ip(&[&words[..], &["nud", "permanent"]].concat()).unwrap();
    }
    change_to("02:00:00:00:00:b2");
    wait_all_answered(&load);
    assert_eq!(segment.macs_to_servers("10.0.0.0/24"), ["02:00:00:00:00:b2"]);
    assert_eq!(next_hops(&balancer), ["02:00:00:00:00:b2"]);
    assert_unharmed(&load.finish().unwrap(), Duration::from_secs(15));
}

#[test]
fn flows_outlive_links_that_go_down_and_up() {
    if !require_root() {
        return;
    }
    let segment = Segment::new();
    let balancer = segment.balance(&["10.0.0.11", "10.1.0.11"], "");
    let load = segment.load();
    let begin = Instant::now();
    flap(&segment, &balancer, &load, "servers", "unreachable: no route");
    let end = Instant::now();
    flap(&segment, &balancer, &load, "clients", "02:00");

    // The server's own link, of which its neighbours notice nothing but silence.
    segment.near.ip(&["link", "set", "eth0", "down"]).unwrap();
    load.wait_answers("far", 50, SOON).unwrap();
    segment.near.ip(&["link", "set", "eth0", "up"]).unwrap();
    wait_all_answered(&load);

    // While no server can be reached, new connections are refused at once.
    let report = load.finish().unwrap();
    let refused = |c: &&Connection| {
        let (at, outcome) = c.end.as_ref().unwrap();
        *at > begin && *at < end && *outcome == Outcome::Refused
    };
    assert!(report.failures().all(|c| refused(&c)), "{report}");
    let long = report.connections().iter().filter(|c| c.kind == Kind::Long);
    assert_eq!(long.count(), LONG, "none had to be replaced");
}

/// Takes a link of the balancer's down until it knows and nobody is answered, and up again.
fn flap(segment: &Segment, balancer: &Balancer, load: &Load, device: &str, servers: &str) {
    segment.balancer.ip(&["link", "set", device, "down"]).unwrap();
    wait_until("the balancer to know", SOON, || {
        Ok(next_hops(balancer).iter().all(|hop| hop.starts_with(servers)))
    })
    .unwrap();
    wait_silence(load);
    segment.balancer.ip(&["link", "set", device, "up"]).unwrap();
    // The kernel has dropped the routes by gateways; whoever had set them sets them anew.
    segment.balancer_goes_by(0);
    wait_all_answered(load);
}

/// A service `other` at port 81 of [`VIP`]'s address, over a pool of this server.
fn other(server: &str) -> String {
    let service = WEB.replace("port = 80", "port = 81").replace("\"web\"", "\"other\"");
    let servers = format!("servers = [{{ address = \"{server}\", port = 80 }}]");
    format!("{service}[[pool]]\nname = \"other\"\n{servers}\n")
}

const OTHER: &str = "192.0.2.10:81";

fn other_next_hop(balancer: &Balancer) -> String {
    let status = balancer.status_json().unwrap();
    status["pools"][1]["servers"][0]["next_hop"].as_str().unwrap().to_owned()
}

#[test]
fn who_waits_for_a_mac_is_dropped_in_time_and_delays_nobody_else() {
    if !require_root() {
        return;
    }
    let segment = Segment::new();
    let balancer = segment.balance(&["10.0.0.11"], &other("10.0.0.12"));
    let load = segment.load();
    let waiting = Plan { long: 20, ..Plan::http(OTHER.parse().unwrap()) };
    let waiting = Load::start(&segment.far, Plan { patience: SOON, ..waiting });
    wait_until("drops", SOON, || Ok(event(&balancer, "drop_next_hop_unresolved") > 100)).unwrap();
    assert_eq!(other_next_hop(&balancer), "resolving");

    // A client on the link, whose own MAC the balancer does not know yet, waits for that alone. A
    // drop would have it send its SYN again.
    segment.near.ip(&["address", "add", "192.0.2.77/24", "dev", "eth0"]).unwrap();
    let before = syns_sent_again(&segment.near);
    let source = Some([192, 0, 2, 77].into());
    let reply = http_get(&segment.near, "http://192.0.2.10/", source).unwrap();
    assert_eq!((reply.server.as_str(), syns_sent_again(&segment.near)), ("near", before));
    assert_unharmed(&load.finish().unwrap(), Duration::from_secs(1));

    // It listens before it answers ARP, else those who waited would be refused.
    set(&segment.near, "net.ipv4.ip_nonlocal_bind=1");
    let _late = Nginx::start(&segment.near, "late", ([10, 0, 0, 12], 80).into()).unwrap();
    let there = Instant::now();
    segment.near.ip(&["address", "add", "10.0.0.12/24", "dev", "eth0"]).unwrap();
    waiting.wait_until("all who waited", SOON, |report| report.standing() == 20).unwrap();
    assert_eq!(other_next_hop(&balancer), NEAR);
    let report = waiting.finish().unwrap();
    assert!(report.connections().iter().any(|c| c.began < there && c.was_on("late")), "{report}");
    assert_eq!(report.failures().count(), 0, "{report}");
}

#[test]
fn all_who_waited_for_a_mac_leave_when_it_is_known() {
    if !require_root() {
        return;
    }
    let segment = Segment::new();
    // The server is there, and does not answer ARP.
    set(&segment.near, "net.ipv4.conf.eth0.arp_ignore=8");
    segment.near.ip(&["address", "add", "10.0.0.12/24", "dev", "eth0"]).unwrap();
    let bind = |address: &'static str| move || UdpSocket::bind(address).unwrap();
    let server = segment.near.enter(bind("10.0.0.12:80")).unwrap();
    let client = segment.far.enter(bind("10.2.0.50:0")).unwrap();
    server.set_read_timeout(Some(SOON)).unwrap();
    let other = other("10.0.0.12").replace("\"tcp\"", "\"udp\"");
    let balancer = segment.balance(&["10.0.0.11"], &other);
    for number in 0..100 {
        client.send_to(&[number], OTHER).unwrap();
    }
    wait_until("all to wait", SOON, || {
        let punted = [event(&balancer, "punt_first_packet"), event(&balancer, "punt_next_hop")];
        Ok(punted.iter().sum::<u64>() == 100)
    })
    .unwrap();
    let words = ["neigh", "replace", "10.0.0.12", "lladdr", NEAR, "dev", "servers"];
    segment.balancer.ip(&[&words[..], &["nud", "permanent"]].concat()).unwrap();
    // Nothing more is sent that could push them.
    for number in 0..100 {
        let mut got = [0; 2];
        assert_eq!((server.recv(&mut got).unwrap(), got[0]), (1, number));
    }
    assert_eq!(event(&balancer, "drop_next_hop_unresolved"), 0);
}

/// How often a host has repeated a SYN.
fn syns_sent_again(host: &Namespace) -> String {
    let counter = host.run(&["nstat", "-a", "-z", "-s", "TcpExtTCPSynRetrans"]).unwrap();
    counter.lines().last().unwrap().to_owned()
}

#[test]
fn a_server_without_a_way_is_refused_and_said_why() {
    if !require_root() {
        return;
    }
    let segment = Segment::new();
    let balancer = segment.balance(&["10.0.0.11"], &other("10.9.0.11"));
    let refused = || {
        let before = event(&balancer, "drop_unreachable");
        let address: SocketAddr = OTHER.parse().unwrap();
        let connect = || TcpStream::connect_timeout(&address, SOON);
        let error = segment.far.enter(connect).unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
        assert_eq!(event(&balancer, "drop_unreachable"), before + 1);
    };
    let wait_hop = |wanted: &str| {
        wait_until(wanted, SOON, || Ok(other_next_hop(&balancer).starts_with(wanted))).unwrap();
    };
    assert_eq!(other_next_hop(&balancer), "unreachable: no route in the main table leads to it");
    refused();

    let default = ["route", "add", "default", "via", "10.0.0.101"];
    segment.balancer.ip(&default).unwrap();
    wait_hop(segment.routers[0].mac);
    // A wider route is none where a narrower one refuses.
    segment.balancer.ip(&["route", "add", "unreachable", "10.9.0.0/24"]).unwrap();
    wait_hop("unreachable: a `blackhole`, `unreachable` or `prohibit` route");
    refused();
    segment.balancer.ip(&["route", "del", "unreachable", "10.9.0.0/24"]).unwrap();
    wait_hop(segment.routers[0].mac);
    let url = "http://192.0.2.10/";
    assert_eq!(http_get(&segment.far, url, None).unwrap().server, "near");
}
