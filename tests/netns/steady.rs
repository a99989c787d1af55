//! Servers die and come back under a steady load: only connections that were theirs may fail.

use std::{collections::HashMap, net::SocketAddr, ops::Range, time::Instant};

use lb_tests::{Balancer, Connection, Load, Nginx, Plan, Process, Report, require_root};
use rustix::process::Signal;

use crate::{
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

/// Does `harm` to a server by what is its, and undoes it again, while the load goes on.
fn fault<T>(
    (load, balancer): (&Load, &Balancer),
    server: &'static str,
    what: &mut T,
    harm: impl FnOnce(&mut T),
    undo: impl FnOnce(&mut T),
) -> Fault {
    load.wait_until("all long connections", SOON, |report| report.standing() == LONG).unwrap();
    assert_ne!(load.so_far(|report| report.open_on(server)), 0);
    let number = server.parse().unwrap();
    let begin = Instant::now();
    harm(what);
    wait_state(balancer, number, ("down", ""));
    let down = Instant::now();
    for other in ["1", "2", "3"].into_iter().filter(|other| *other != server) {
        load.wait_answers(other, 50, SOON).unwrap();
    }
    load.wait_until("the end of its connections", SOON, |report| report.open_on(server) == 0)
        .unwrap();
    // Those that it never answered began before it was down.
    load.wait_until("the end of what began before", SOON, |report| {
        report.connections().iter().all(|c| c.began >= down || c.end.is_some() || c.exchanges > 0)
    })
    .unwrap();
    let back = Instant::now();
    undo(what);
    wait_state(balancer, number, ("up", "status 200"));
    load.wait_answers(server, 50, SOON).unwrap();
    Fault { server, during: begin..Instant::now(), down: down..back }
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
    let both = (&load, &balancer);

    let start = || Nginx::start(&site.servers, "1", ([10, 0, 0, 11], 80).into()).unwrap();
    let stop = |servers: &mut Vec<Option<Nginx>>| servers[0] = None;
    let stopped = fault(both, "1", &mut servers, stop, |servers| servers[0] = Some(start()));
    let process = servers[1].as_mut().unwrap().process();
    let signal = |signal| move |process: &mut Process| process.signal(signal).unwrap();
    let paused = fault(both, "2", process, signal(Signal::STOP), signal(Signal::CONT));
    let site = &mut &site;
    let walled = fault(both, "3", site, |site| wall(site, "10.0.0.13"), |site| tear_down(site));

    let mut report = load.finish().unwrap();
    attribute(&mut report, &balancer);
    let faults = [stopped, paused, walled];
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
fn attribute(report: &mut Report, balancer: &Balancer) {
    let mut servers = HashMap::new();
    let records = connection_log(balancer).into_iter().chain(balancer.flows_json().unwrap());
    for record in records {
        let client: SocketAddr = record["client"].as_str().unwrap().parse().unwrap();
        let server: SocketAddr = record["server"].as_str().unwrap().parse().unwrap();
        let SocketAddr::V4(server) = server else { panic!("{record:#}") };
        servers.insert(client, (server.ip().octets()[3] - 10).to_string());
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
