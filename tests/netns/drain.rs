//! Servers that are taken out of service while they have connections, and taken in again.

use std::{fs, io::ErrorKind, io::Read as _, net::TcpStream};

use lb_tests::{Balancer, Nginx, http_get, require_root, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use crate::site::{SOON, Site, URL, VIP, WEB, client, configuration, pool};

/// More than buffers between client and server hold, so that the download lasts until it is read.
const LENGTH: usize = 32 << 20;

/// The service over two servers.
fn two(keys: &str) -> String {
    format!("{WEB}{}{keys}\n", pool("web", [1, 2], 80))
}

fn server(number: &str) -> String {
    format!("10.0.0.1{number}:80")
}

fn other(number: &str) -> &'static str {
    if number == "1" { "2" } else { "1" }
}

/// The number of the server that a connection is with.
fn server_of(balancer: &Balancer, stream: &TcpStream) -> String {
    let own = stream.local_addr().unwrap().to_string();
    let flows = balancer.flows_json().unwrap();
    let flow = flows.iter().find(|flow| flow["client"] == *own).unwrap();
    let server = flow["server"].as_str().unwrap();
    server.strip_prefix("10.0.0.1").and_then(|it| it.strip_suffix(":80")).unwrap().to_owned()
}

/// What `lb status` says of a server; null if it is not there.
fn status(balancer: &Balancer, number: &str) -> Value {
    let status = balancer.status_json().unwrap();
    let servers = status["pools"].as_array().unwrap().iter();
    let mut servers = servers.flat_map(|pool| pool["servers"].as_array().unwrap().clone());
    servers.find(|it| it["address"] == *server(number)).unwrap_or_default()
}

fn wait_state(balancer: &Balancer, number: &str, wanted: &str) {
    let mut found = Value::Null;
    let waited = wait_until("a server's state", SOON, || {
        found = status(balancer, number);
        Ok(found["state"] == *wanted)
    });
    waited.unwrap_or_else(|error| panic!("{error}: not {wanted}: {found:#}"));
}

/// The connection is reset though it has never sent anything.
fn is_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

/// All of these go to one server.
fn all_go_to(site: &Site, number: &str) {
    for _ in 0..6 {
        assert_eq!(site.ask(), number);
    }
}

/// Connections that say nothing, one with each server.
fn silent_with_each(site: &Site, balancer: &Balancer) -> [TcpStream; 2] {
    let streams = [VIP, VIP].map(|vip| site.connect(vip).unwrap());
    let [one, two] = streams;
    match (&*server_of(balancer, &one), &*server_of(balancer, &two)) {
        ("1", "2") => [one, two],
        ("2", "1") => [two, one],
        same => panic!("not one with each: {same:?}"),
    }
}

/// Connections that a host has, as `ss` sees them.
fn connections(site: &Site, number: &str) -> usize {
    let filter = format!("src {}", server(number));
    let text = site.servers.run(&["ss", "-Htn", "state", "established", &filter]).unwrap();
    text.lines().count()
}

#[test]
fn a_drained_server_finishes_what_it_has_while_new_flows_go_elsewhere() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = site.web_servers(2);
    for server in &servers {
        fs::write(server.files().join("long"), vec![7; LENGTH]).unwrap();
    }
    let balancer = site.balance(&two(""), &[]);
    let mut download = site.begin_download("long");
    let number = server_of(&balancer, &download);
    let words = ["drain", "web", &server(&number), "--wait", "--config", "{file}"];
    let words = balancer.configuration().command(&words).unwrap();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let mut drain = site.balancer.spawn(&words).unwrap();
    wait_state(&balancer, &number, "draining");
    all_go_to(&site, other(&number));
    assert_eq!(drain.status().unwrap(), None, "flows are left");
    assert_eq!(status(&balancer, &number)["until"], Value::Null);

    let mut rest = Vec::new();
    download.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), LENGTH);
    drop(download);
    let finished = drain.finish(SOON).unwrap();
    let said = finished.success("lb drain --wait").unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].ends_with("draining; its 1 flow goes on as long as they last"), "{said}");
    assert!(lines.last().unwrap().ends_with("no flow is left"), "{said}");
    wait_state(&balancer, &number, "disabled");
    let again = balancer.lb(&["drain", "web", &server(&number), "--wait"]).unwrap();
    assert!(again.contains("disabled already") && again.contains("no flow is left"), "{again}");

    let told = balancer.lb(&["enable", "web", &server(&number)]).unwrap();
    assert_eq!(told.trim(), format!("web {}: enabled", server(&number)));
    let answers = || Ok((0..4).any(|_| site.ask() == number));
    wait_until("a flow to the enabled server", SOON, answers).unwrap();
    let told = balancer.lb(&["enable", "web", &format!("10.0.0.1{number}")]).unwrap();
    assert_eq!(told.trim(), format!("web {}: enabled already", server(&number)));
}

#[test]
fn a_client_that_only_waits_is_reset_when_its_server_is_disabled_at_once() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(2);
    let balancer = site.balance(&two(""), &[]);
    let [mut one, two] = silent_with_each(&site, &balancer);
    balancer.lb(&["disable", "web", &server("1"), "--timeout", "0"]).unwrap();
    is_reset(&mut one);
    assert_eq!(server_of(&balancer, &two), "2", "others go on");
    let socket = format!("/run/lb/{}.sock", balancer.instance());
    let curl = ["curl", "--silent", "--fail", "--unix-socket", &socket, "http://lb/metrics"];
    let metrics = balancer.run(&curl).unwrap();
    for line in [
        "lb_server_up{pool=\"web\",server=\"10.0.0.11:80\"} 0",
        "lb_server_connections{pool=\"web\",server=\"10.0.0.12:80\"} 1",
        "lb_server_flows_total{pool=\"web\",server=\"10.0.0.11:80\"} 1",
        "lb_service_connections{virtual_service=\"web\"} 1",
        "lb_service_flows_total{virtual_service=\"web\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    two.set_nonblocking(true).unwrap();
    assert_eq!((&two).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    wait_state(&balancer, "1", "disabled");
    // It is told too, and is not left with half a connection.
    let told = || Ok(connections(&site, "1") == 0);
    wait_until("the server to know", SOON, told).unwrap();
    assert_eq!(connections(&site, "2"), 1);
    let logged = crate::site::wait_logged(&balancer, 1);
    assert_eq!(logged[0]["reason"], "server_gone");
    all_go_to(&site, "2");
}

#[test]
fn flows_of_a_server_that_hangs_are_reset_if_the_pool_says_so() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let mut servers = site.web_servers(2);
    let monitor = "server_down = \"reset\"\nhealth_monitors = [\"it\"]\n[[health_monitor]]\nname = \"it\"\n\
                   type = \"http\"\ninterval = \"200ms\"\ntimeout = \"150ms\"\n";
    let balancer = site.balance(&two(monitor), &[]);
    let [mut one, two] = silent_with_each(&site, &balancer);
    servers[0].process().signal(Signal::STOP).unwrap();
    is_reset(&mut one);
    wait_state(&balancer, "1", "down");
    assert_eq!(server_of(&balancer, &two), "2");
    servers[0].process().signal(Signal::CONT).unwrap();
    wait_state(&balancer, "1", "up");
    let again = || Ok(site.ask() == "1");
    wait_until("a flow to the server", SOON, again).unwrap();
}

#[test]
fn an_order_outlives_a_reload_and_the_daemon_and_persistent_clients_are_still_taken() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(2);
    let keys = "[[persistence_profile]]\nname = \"stay\"\n";
    let service = WEB.replace("pool =", "persistence_profile = \"stay\"\npool =");
    let rest = two(keys).replace(WEB, &service);
    let mut balancer = site.balance(&rest, &[]);
    let ask = |host| http_get(&site.client, URL, Some(client(host))).unwrap().server;
    let number = ask(2);
    balancer.lb(&["disable", "web", &server(&number), "--persistent"]).unwrap();
    let others_go_elsewhere = |hosts: std::ops::Range<u8>| {
        for host in hosts {
            assert_eq!(ask(host), other(&number));
        }
    };
    assert_eq!(ask(2), number);
    others_go_elsewhere(3..5);
    balancer.reload(&configuration(&rest.replace("stay", "remain"))).unwrap();
    assert_eq!(ask(2), number);
    others_go_elsewhere(5..7);
    balancer.terminate().unwrap();
    balancer.start_again().unwrap();
    // Tables are the daemon's: nobody is persistent any more.
    others_go_elsewhere(2..8);
    let why = status(&balancer, &number);
    assert!(why["why"].as_str().unwrap().starts_with("by order; takes persistent"), "{why:#}");
    // What the file says of it changes: the order is over.
    let list = format!("10.0.0.1{number}\", port = 80");
    let disabled = rest.replace(&list, &format!("{list}, enabled = false"));
    balancer.reload(&configuration(&disabled)).unwrap();
    assert_eq!(status(&balancer, &number)["why"], "by the configuration");
    balancer.reload(&configuration(&rest)).unwrap();
    assert_eq!(status(&balancer, &number)["why"], "no monitor");
}

#[test]
fn a_server_that_leaves_the_configuration_is_drained_for_as_long_as_it_was_to() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(2);
    let keys = "graceful_disable_timeout = \"5s\"";
    let balancer = site.balance(&two(keys), &[]);
    let [mut one, two] = silent_with_each(&site, &balancer);
    let without = format!("{WEB}{}{keys}", pool("web", [2], 80));
    balancer.reload(&configuration(&without)).unwrap();
    let removed = status(&balancer, "1");
    assert_eq!((&removed["state"], &removed["connections"]), (&"removed".into(), &1.into()));
    let shown = balancer.lb(&["status"]).unwrap();
    let line = shown.lines().find(|line| line.contains(&server("1"))).unwrap();
    assert!(line.contains("removed") && line.contains("flows end in "), "{line}");
    let refused = balancer.try_lb(&["enable", "web", &server("1")]).unwrap();
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("not in the configuration any more"), "{}", refused.stderr);
    is_reset(&mut one);
    assert_eq!(server_of(&balancer, &two), "2");
    wait_until("the server to be forgotten", SOON, || Ok(status(&balancer, "1").is_null()))
        .unwrap();
}

#[test]
fn a_server_that_is_enabled_again_rises_slowly() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers: Vec<Nginx> = site.web_servers(2);
    let balancer = site.balance(&two("connection_ramp_duration = \"1h\""), &[]);
    balancer.lb(&["disable", "web", "10.0.0.11"]).unwrap();
    all_go_to(&site, "2");
    let told = balancer.lb(&["enable", "web", "10.0.0.11"]).unwrap();
    assert!(told.contains("it ramps up, and gets 7 % of its share now"), "{told}");
    let first = (0..48).filter(|_| site.ask() == "1").count();
    assert!((1..=8).contains(&first), "{first} of 48, instead of three");
    let shown = status(&balancer, "1");
    assert_eq!((&shown["state"], &shown["share"]), (&"ramping".into(), &7.into()));
}

#[test]
fn whoever_orders_what_cannot_be_is_told_what_can() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let mut balancer = site.balance(&two(""), &[]);
    let refused = |balancer: &Balancer, arguments: &[&str]| {
        let finished = balancer.try_lb(arguments).unwrap();
        assert!(!finished.status.success(), "{arguments:?}");
        finished.stderr
    };
    let said = refused(&balancer, &["drain", "wbe", "10.0.0.11"]);
    assert!(said.contains("did you mean \"web\"?"), "{said}");
    let said = refused(&balancer, &["drain", "web", "10.0.0.19"]);
    assert!(said.contains("it has 10.0.0.11:80, 10.0.0.12:80"), "{said}");
    let said = refused(&balancer, &["drain", "web", "10.0.0.11", "--timeout", "soon"]);
    assert!(said.contains("write \"30s\" or \"5m\", 0 for at once, -1 for ever"), "{said}");
    let json = balancer.lb(&["disable", "web", "10.0.0.11", "--timeout", "5m", "--json"]).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["changed"], &json["server"]["state"]), (&true.into(), &"disabled".into()));
    balancer.terminate().unwrap();
    let said = refused(&balancer, &["drain", "web", "10.0.0.11"]);
    assert!(said.contains("no daemon listens on"), "{said}");
    balancer.start_again().unwrap();
}
