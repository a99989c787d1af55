//! Health monitors against real servers: which of them take new flows, and what is said of it.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt};

use lb_tests::{Balancer, Dnsmasq, Nginx, require_root, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use crate::site::{SOON, Site, VIP, WEB, configuration, pool};

/// Quick ones: two failures are a fifth of a second.
const QUICK: &str = "interval = \"100ms\"\ntimeout = \"80ms\"\n";

/// The service over these servers, watched by a monitor `it` of these keys.
fn watched(servers: u8, keys: &str) -> String {
    let pool = pool("web", 1..=servers, 80);
    format!("{WEB}{pool}health_monitors = [\"it\"]\n{}", monitor("it", keys))
}

fn monitor(name: &str, keys: &str) -> String {
    format!("[[health_monitor]]\nname = \"{name}\"\n{QUICK}{keys}\n")
}

/// What the admin API answers. Not by `lb`, which reads the configuration each time to find it.
fn get(balancer: &Balancer, path: &str) -> String {
    let socket = format!("/run/lb/{}.sock", balancer.instance());
    let url = format!("http://lb{path}");
    balancer.run(&["curl", "--silent", "--fail", "--unix-socket", &socket, &url]).unwrap()
}

fn status(balancer: &Balancer) -> Value {
    serde_json::from_str(&get(balancer, "/v1/status")).unwrap()
}

/// The state of the first pool's server with this number, and what the monitor says.
fn state(balancer: &Balancer, server: usize) -> (String, String) {
    let status = status(balancer);
    let server = &status["pools"][0]["servers"][server - 1];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&server["state"]), text(&server["health"]["monitors"][0]["answer"]))
}

/// Waits until a server has this state, and the monitor's answer begins so.
pub fn wait_state(balancer: &Balancer, server: usize, wanted: (&str, &str)) {
    let mut found = Default::default();
    let waited = wait_until("a server's state", SOON, || {
        found = state(balancer, server);
        Ok(found.0 == wanted.0 && found.1.starts_with(wanted.1))
    });
    waited.unwrap_or_else(|error| panic!("{error}: {found:?} is not {wanted:?}"));
}

/// The servers that answer several requests.
fn answering(site: &Site) -> BTreeSet<String> {
    (0..6).map(|_| site.ask()).collect()
}

fn named(servers: &[u8]) -> BTreeSet<String> {
    servers.iter().map(u8::to_string).collect()
}

const HTTP: &str = "type = \"http\"\nstatus = [\"2xx\"]";

#[test]
fn new_flows_avoid_a_server_that_is_down_until_it_is_up_again() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let mut servers = site.web_servers(2);
    let balancer = site.balance(&watched(2, HTTP), &[]);
    wait_state(&balancer, 1, ("up", "status 200"));
    wait_state(&balancer, 2, ("up", "status 200"));
    assert_eq!(answering(&site), named(&[1, 2]));

    drop(servers.pop());
    wait_state(&balancer, 2, ("down", "connection refused"));
    assert_eq!(answering(&site), named(&[1]));
    let shown = balancer.lb(&["status"]).unwrap();
    let line = shown.lines().find(|line| line.contains("10.0.0.12:80")).unwrap();
    assert!(line.contains("down") && line.contains("it: connection refused"), "{line}");
    let explained = balancer.lb(&["explain", "tcp", "192.0.2.2:1000", VIP]);
    assert!(explained.as_ref().is_ok_and(|text| text.contains("down")), "{explained:?}");

    // What is known stays when the configuration changes, and the server's state goes on with it.
    let reloaded = watched(2, HTTP).replace("port = 80 }]", "port = 80, ratio = 2 }]");
    balancer.reload(&configuration(&reloaded)).unwrap();
    assert_eq!(state(&balancer, 2).0, "down");
    assert_eq!(answering(&site), named(&[1]));
    servers.push(Nginx::start(&site.servers, "2", ([10, 0, 0, 12], 80).into()).unwrap());
    wait_state(&balancer, 2, ("up", "status 200"));
    assert_eq!(answering(&site), named(&[1, 2]));
}

#[test]
fn a_server_that_hangs_is_found_out_by_the_timeout() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let mut servers = site.web_servers(2);
    let balancer = site.balance(&watched(2, HTTP), &[]);
    wait_state(&balancer, 1, ("up", "status 200"));
    servers[0].process().signal(Signal::STOP).unwrap();
    wait_state(&balancer, 1, ("down", "timed out after 80ms waiting for an answer"));
    assert_eq!(answering(&site), named(&[2]));
    servers[0].process().signal(Signal::CONT).unwrap();
    wait_state(&balancer, 1, ("up", "status 200"));
}

#[test]
fn a_pool_whose_servers_are_all_down_refuses_flows_and_says_why() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = site.web_servers(1);
    let balancer = site.balance(&watched(2, "type = \"tcp\""), &[]);
    wait_state(&balancer, 1, ("up", "connected"));
    drop(servers);
    wait_state(&balancer, 1, ("down", "connection refused"));
    wait_state(&balancer, 2, ("down", "connection refused"));
    let error = site.connect(VIP).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
    let metrics = get(&balancer, "/metrics");
    let line = "lb_server_up{pool=\"web\",server=\"10.0.0.11:80\"} 0";
    assert!(metrics.contains(line), "{line} is not in\n{metrics}");
}

#[test]
fn servers_are_pinged_and_asked_by_dns_and_by_a_program() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let answers = [("corp.test", [198, 51, 100, 1].into())];
    let dns = Dnsmasq::start(&site.servers, ([10, 0, 0, 11], 53).into(), &answers).unwrap();
    let monitors = [
        monitor("ping", "type = \"ping\""),
        monitor("dns", "type = \"dns\"\nport = 53\nquery_name = \"corp.test\""),
        monitor("program", "type = \"external\"\ncommand = [\"check\", \"corp.test\"]")
            .replace("80ms", "100ms"),
    ];
    let listed = "health_monitors = [\"ping\", \"dns\", \"program\"]\nmin_health_monitors_up = 1\n";
    let rest = [WEB.to_owned(), pool("web", [1], 80), listed.to_owned(), monitors.concat()];
    let rest = rest.concat();
    let configuration = lb_tests::Configuration::new(&configuration(&rest), &[]).unwrap();
    let script =
        "#!/bin/sh\n[ \"$1 $2 $3\" = \"$IP $PORT corp.test\" ] && echo $HM_NAME of $POOL\n";
    configuration.write("check", script).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(configuration.beside("check"), executable).unwrap();
    let balancer = Balancer::run_with(&site.balancer, configuration, &[]).unwrap();
    let said = |monitor: usize| {
        let status = status(&balancer);
        let found = &status["pools"][0]["servers"][0]["health"]["monitors"][monitor];
        found["answer"].as_str().unwrap_or_default().to_owned()
    };
    let wait_said = |monitor, wanted: &str| {
        let mut found = String::new();
        let waited = wait_until("an answer", SOON, || {
            found = said(monitor);
            Ok(found.starts_with(wanted))
        });
        waited.unwrap_or_else(|error| panic!("{error}: {found:?} is not {wanted:?}"));
    };
    wait_said(0, "answered after ");
    wait_said(1, "answered noerror, 1 records");
    wait_said(2, "printed \"program of web\"");
    // Of three that are to hold it up one is enough.
    drop(dns);
    wait_said(1, "port unreachable");
    assert_eq!(state(&balancer, 1).0, "up");
    balancer.reload(&crate::site::configuration(&rest.replace("up = 1", "up = 0"))).unwrap();
    wait_state(&balancer, 1, ("down", "answered after "));
}

/// A pool of servers that are nowhere, behind a host that does not forward.
fn nowhere(servers: u16, monitor: &str) -> String {
    let server = |number: u16| {
        let [high, low] = number.to_be_bytes();
        format!("{{ address = \"10.1.{high}.{low}\", port = 80 }}")
    };
    let list: Vec<_> = (1..=servers).map(server).collect();
    let list = list.join(", ");
    format!("[[pool]]\nname = \"nowhere\"\nservers = [{list}]\nhealth_monitors = [\"{monitor}\"]\n")
}

#[test]
fn five_thousand_servers_that_say_nothing_hold_up_nobody_while_configurations_change() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(1);
    site.balancer.ip(&["route", "add", "10.1.0.0/16", "via", "10.0.0.13"]).unwrap();
    let slow = "[[health_monitor]]\nname = \"slow\"\ntype = \"tcp\"\ninterval = \"5s\"\ntimeout = \"1s\"\n";
    let rest = format!("{}{}{slow}", watched(1, HTTP), nowhere(5000, "slow"));
    let mut balancer = site.balance(&rest, &[]);
    for generation in 2..4 {
        // Every check of the silent ones is begun anew.
        let changed = configuration(&format!("{rest}port = {generation}\n"));
        balancer.configuration().replace(&changed).unwrap();
        balancer.process().signal(Signal::HUP).unwrap();
        let is_in_force = || Ok(status(&balancer)["generation"] == generation);
        wait_until("the configuration", SOON, is_in_force).unwrap();
        wait_state(&balancer, 1, ("up", "status 200"));
        assert_eq!(site.ask(), "1");
    }
    let all_are_down = || {
        let status = status(&balancer);
        let servers = status["pools"][1]["servers"].as_array().unwrap();
        Ok(servers.iter().all(|server| server["state"] == "down"))
    };
    wait_until("all that say nothing to be down", SOON, all_are_down).unwrap();
    let shown = balancer.lb(&["status"]).unwrap();
    let line = shown.lines().find(|line| line.contains("10.1.19.136:80")).unwrap();
    assert!(line.contains("slow: timed out after 1s while connecting"), "{line}");
    assert_eq!(site.ask(), "1");
}

#[test]
fn servers_are_watched_from_an_address_that_flows_use_too() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(2);
    // Packets of servers of `dnat` pools are the balancer's to forward, but for those to itself.
    let behind = pool("behind", [1], 80).replace("servers", "forwarding = \"dnat\"\nservers");
    let rest = format!("{}{behind}health_monitors = [\"it\"]\n", watched(2, HTTP));
    let text = configuration(&rest).replace("10.0.0.9", "10.0.0.1");
    let text = text.replace("flow_capacity", "snat_ports = \"1024-32767\"\nflow_capacity");
    let balancer = Balancer::start(&site.balancer, &text, &[]).unwrap();
    wait_state(&balancer, 1, ("up", "status 200"));
    wait_state(&balancer, 2, ("up", "status 200"));
    assert_eq!(answering(&site), named(&[1, 2]));
    let behind = || Ok(status(&balancer)["pools"][1]["servers"][0]["state"] == "up");
    wait_until("the server behind the balancer to be up", SOON, behind).unwrap();
}
