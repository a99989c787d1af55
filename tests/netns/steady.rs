//! Servers die and come back under a steady load: only connections that were theirs may fail.

use std::{collections::HashMap, net::SocketAddr, ops::Range, time::Instant};

use lb_tests::{Balancer, Connection, Dnsmasq, Load, Nginx, Plan, Process, Report, require_root};
use rustix::process::Signal;

use crate::{
    dns::service,
    health::wait_state,
    site::{SOON, Site, VIP, WEB, connection_log, pool},
};

/// Three servers whose monitor needs a fifth of a second to find one dead.
fn three() -> String {
    let monitor = "[[health_monitor]]\nname = \"page\"\ntype = \"http\"\n";
    let often = "interval = \"100ms\"\ntimeout = \"100ms\"\n";
    let pool = pool("web", 1..=3, 80);
    format!("{WEB}{pool}health_monitors = [\"page\"]\n{monitor}{often}")
}

/// What was done to a server, and when.
struct Fault {
    server: &'static str,
    /// From before it was done until nothing of it is left.
    during: Range<Instant>,
    /// From when the server is known to be down until it comes back.
    down: Range<Instant>,
}

/// A load on three servers, by what they call themselves.
struct Steady<'a> {
    load: &'a Load,
    balancer: &'a Balancer,
    names: [&'static str; 3],
}

impl Steady<'_> {
    /// Does `harm` to a server by what is its, and undoes it again, while the load goes on.
    fn fault<T>(
        &self,
        number: usize,
        what: &mut T,
        harm: impl FnOnce(&mut T),
        undo: impl FnOnce(&mut T),
    ) -> Fault {
        let Self { load, balancer, names } = self;
        let server = names[number - 1];
        load.wait_until("all long connections", SOON, |report| report.standing() == LONG).unwrap();
        assert_ne!(load.so_far(|report| report.open_on(server)), 0);
        let begin = Instant::now();
        harm(what);
        wait_state(balancer, number, ("down", ""));
        let down = Instant::now();
        for other in names.iter().filter(|other| **other != server) {
            load.wait_answers(other, 50, SOON).unwrap();
        }
        load.wait_until("the end of its connections", SOON, |report| report.open_on(server) == 0)
            .unwrap();
        // Those that it never answered began before it was down.
        load.wait_until("the end of what began before", SOON, |report| {
            report
                .connections()
                .iter()
                .all(|c| c.began >= down || c.end.is_some() || c.exchanges > 0)
        })
        .unwrap();
        let back = Instant::now();
        undo(what);
        wait_state(balancer, number, ("up", ""));
        load.wait_answers(server, 50, SOON).unwrap();
        Fault { server, during: begin..Instant::now(), down: down..back }
    }
}

const LONG: usize = 20;

#[test]
fn only_connections_on_a_dead_server_fail() {
    if !require_root() {
        return;
    }
    let site = Site::with_queues(2);
    let mut servers: Vec<Option<Nginx>> = site.web_servers(3).into_iter().map(Some).collect();
    let balancer = site.balance(&three(), &[]);
    (1..=3).for_each(|server| wait_state(&balancer, server, ("up", "status 200")));
    let load = Load::start(&site.client, Plan { long: LONG, ..Plan::http(VIP.parse().unwrap()) });
    let steady = Steady { load: &load, balancer: &balancer, names: ["1", "2", "3"] };

    let start = || Nginx::start(&site.servers, "1", ([10, 0, 0, 11], 80).into()).unwrap();
    let stop = |servers: &mut Vec<Option<Nginx>>| servers[0] = None;
    let stopped = steady.fault(1, &mut servers, stop, |servers| servers[0] = Some(start()));
    let process = servers[1].as_mut().unwrap().process();
    let paused = steady.fault(2, process, signal(Signal::STOP), signal(Signal::CONT));
    let site = &mut &site;
    let walled = steady.fault(3, site, |site| wall(site, "10.0.0.13"), |site| tear_down(site));
    let names = steady.names;
    account(load, &balancer, names, &[stopped, paused, walled]);
}

/// Name servers over UDP. Their long flows are to leave a dead one, as datagrams are answered by
/// nobody else: there is no connection that could break.
#[test]
fn only_queries_at_a_dead_name_server_fail() {
    if !require_root() {
        return;
    }
    let site = Site::with_queues(2);
    let names = ["10.9.0.1", "10.9.0.2", "10.9.0.3"];
    let start = |number: usize| {
        let address = ([10, 0, 0, 10 + u8::try_from(number).unwrap()], 53).into();
        let answers = [("whoami.test", names[number - 1].parse().unwrap())];
        Dnsmasq::start(&site.servers, address, &answers).unwrap()
    };
    let mut servers: Vec<_> = (1..=3).map(|number| Some(start(number))).collect();
    let monitor = "health_monitors = [\"names\"]\nserver_down = \"reset\"\n\
                   [[health_monitor]]\nname = \"names\"\ntype = \"dns\"\n\
                   query_name = \"whoami.test\"\ninterval = \"100ms\"\ntimeout = \"100ms\"\n";
    let services = service("\"udp\"", "idle_timeout = \"5s\"\n");
    let balancer = site.balance(&[services, pool("web", 1..=3, 53), monitor.into()].concat(), &[]);
    (1..=3).for_each(|server| wait_state(&balancer, server, ("up", "")));
    let at = "192.0.2.10:53".parse().unwrap();
    let load = Load::start(&site.client, Plan { long: LONG, ..Plan::dns(at, "whoami.test") });
    let steady = Steady { load: &load, balancer: &balancer, names };

    let stop = |servers: &mut Vec<Option<Dnsmasq>>| servers[0] = None;
    let stopped = steady.fault(1, &mut servers, stop, |servers| servers[0] = Some(start(1)));
    let process = servers[1].as_mut().unwrap().process();
    let paused = steady.fault(2, process, signal(Signal::STOP), signal(Signal::CONT));
    account(load, &balancer, names, &[stopped, paused]);
}

fn signal(signal: Signal) -> impl Fn(&mut Process) {
    move |process| process.signal(signal).unwrap()
}

/// Ends the load, and holds what failed against what was done.
fn account(load: Load, balancer: &Balancer, names: [&str; 3], faults: &[Fault]) {
    let mut report = load.finish().unwrap();
    attribute(&mut report, balancer, names);
    faults.iter().for_each(|fault| check(&report, fault));
    let other = |c: &&Connection| {
        let within =
            |fault: &Fault| c.end.as_ref().is_some_and(|(at, _)| fault.during.contains(at));
        !faults.iter().any(within)
    };
    assert_eq!(report.failures().filter(other).count(), 0, "{report}");
}

/// Lets nothing pass to or from a server, as a firewall that was set up wrongly does.
fn wall(site: &Site, server: &str) {
    let rules = format!(
        "table ip wall {{
            chain in {{ type filter hook input priority 0; ip daddr {server} drop; }}
            chain out {{ type filter hook output priority 0; ip saddr {server} drop; }}
        }}"
    );
    site.servers.run(&["nft", &rules]).unwrap();
}

fn tear_down(site: &Site) {
    site.servers.run(&["nft", "delete table ip wall"]).unwrap();
}

/// Has the report know from the balancer's log where the connections went that nobody answered.
fn attribute(report: &mut Report, balancer: &Balancer, names: [&str; 3]) {
    let mut servers = HashMap::new();
    let records = connection_log(balancer).into_iter().chain(balancer.flows_json().unwrap());
    for record in records {
        let client: SocketAddr = record["client"].as_str().unwrap().parse().unwrap();
        let server: SocketAddr = record["server"].as_str().unwrap().parse().unwrap();
        let SocketAddr::V4(server) = server else { panic!("{record:#}") };
        let name = names[usize::from(server.ip().octets()[3]) - 11];
        servers.insert(client, name.to_owned());
    }
    report.attribute(|local| servers.get(&local).cloned());
}

fn check(report: &Report, fault: &Fault) {
    let Fault { server, during, down } = fault;
    let ended = |c: &&Connection| c.end.as_ref().is_some_and(|(at, _)| during.contains(at));
    let failed: Vec<_> = report.failures().filter(ended).collect();
    assert!(!failed.is_empty(), "nobody noticed that {server} was dead\n{report}");
    assert!(failed.iter().all(|c| c.was_on(server)), "not all were on {server}\n{report}");
    let late = failed.iter().filter(|c| c.began >= down.start);
    assert_eq!(late.count(), 0, "some failed that began with {server} down\n{report}");
    let new: Vec<_> = report.since(down.start).filter(|c| c.began < down.end).collect();
    assert!(new.len() > 50, "only {} began meanwhile", new.len());
    assert!(!new.iter().any(|c| c.was_on(server)), "{server} was given some\n{report}");
    assert!(report.servers_since(down.end).contains(server));
}
