//! Servers by name, with a name server whose names change, that hangs and that ends.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, TcpStream},
};

use lb_tests::{Balancer, Dnsmasq, require_root, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use crate::site::{SOON, Site, VIP, WEB, configuration, event, pool};

/// On the servers' host, so its answers come in where XDP is attached.
const NAME_SERVER: &str = "10.0.0.13:53";

/// The service over a pool with these entries.
fn named(servers: &[&str], keys: &str) -> String {
    let entries = servers.join(", ");
    let pool = format!("[[pool]]\nname = \"web\"\nservers = [{entries}]\n{keys}\n");
    asking(&format!("{WEB}{pool}"))
}

fn asking(rest: &str) -> String {
    let instance = "[instance]\nname_servers = [\"10.0.0.13\"]\n";
    configuration(rest).replacen("[instance]\n", instance, 1)
}

const APP: &str = "{ address = \"app.test\", port = 80 }";

/// Records of names whose addresses are the servers' of these numbers.
fn records(names: &[(&'static str, &[u8])]) -> Vec<(&'static str, IpAddr)> {
    let of = |(name, servers): &(&'static str, &[u8])| {
        let name = *name;
        let records = servers.iter().map(move |it| (name, IpAddr::from([10, 0, 0, 10 + it])));
        records.collect::<Vec<_>>()
    };
    names.iter().flat_map(of).collect()
}

fn name_server(site: &Site, names: &[(&'static str, &[u8])]) -> Dnsmasq {
    let at = NAME_SERVER.parse().unwrap();
    Dnsmasq::start_changing(&site.servers, at, 1, &records(names)).unwrap()
}

fn start(site: &Site, configuration: &str) -> Balancer {
    Balancer::start(&site.balancer, configuration, &[]).unwrap()
}

/// The servers that answer several requests.
fn answering(site: &Site) -> BTreeSet<String> {
    (0..6).map(|_| site.ask()).collect()
}

fn numbered(servers: &[u8]) -> BTreeSet<String> {
    servers.iter().map(u8::to_string).collect()
}

fn wait_answering(site: &Site, servers: &[u8]) {
    let wanted = numbered(servers);
    wait_until("other servers", SOON, || Ok(answering(site) == wanted)).unwrap();
}

/// What is shown of the first pool's first name.
fn name(balancer: &Balancer) -> Value {
    balancer.status_json().unwrap()["pools"][0]["names"][0].clone()
}

fn wait_name(balancer: &Balancer, key: &str, fits: impl Fn(&Value) -> bool) {
    let mut found = Value::Null;
    let waited = wait_until("a name's state", SOON, || {
        found = name(balancer);
        Ok(fits(&found[key]))
    });
    waited.unwrap_or_else(|error| panic!("{error}: {found:#}"));
}

fn says(text: &str) -> impl Fn(&Value) -> bool {
    move |value| value.as_str().is_some_and(|value| value.contains(text))
}

fn metrics(balancer: &Balancer) -> String {
    let socket = format!("/run/lb/{}.sock", balancer.instance());
    let words = ["curl", "--silent", "--fail", "--unix-socket", &socket, "http://lb/metrics"];
    balancer.run(&words).unwrap()
}

/// A connection whose request is begun and not ended, so that it has its server.
fn begin(site: &Site) -> TcpStream {
    let mut stream = site.connect(VIP).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n").unwrap();
    stream
}

/// Ends it, and tells which server answers.
fn end(mut stream: TcpStream) -> String {
    stream.write_all(b"\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let server = reply.lines().find_map(|line| line.strip_prefix("X-Server: "));
    server.unwrap_or_else(|| panic!("no server in {reply}")).to_owned()
}

#[test]
fn addresses_of_a_name_are_servers_that_come_and_go_with_it() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let mut name_server = name_server(&site, &[("app.test", &[1, 2])]);
    let mut balancer = start(&site, &named(&[APP], ""));
    // The start has waited for it.
    assert_eq!(answering(&site), numbered(&[1, 2]));
    let status = balancer.status_json().unwrap();
    let servers = status["pools"][0]["servers"].as_array().unwrap();
    let addresses: Vec<_> = servers.iter().map(|server| &server["address"]).collect();
    assert_eq!(addresses, ["10.0.0.11:80", "10.0.0.12:80"]);
    let generation = status["generation"].as_u64().unwrap();

    let old = [begin(&site), begin(&site)];
    name_server.change(&records(&[("app.test", &[3, 2])])).unwrap();
    wait_answering(&site, &[2, 3]);
    assert_eq!(BTreeSet::from(old.map(end)), numbered(&[1, 2]), "flows go on at old servers");
    let shown = balancer.lb(&["status"]).unwrap();
    assert!(shown.contains("app.test:80  web   10.0.0.12, 10.0.0.13 "), "{shown}");
    assert!(shown.contains("2 of 2"), "{shown}");
    assert!(shown.contains("10.0.0.11:80  removed") || !shown.contains("10.0.0.11"), "{shown}");
    assert_eq!(balancer.status_json().unwrap()["generation"], generation + 1);
    assert!(event(&balancer, "pass_not_ours") > 0, "that is how answers come");

    // Gone from the zone: what was known last stays.
    name_server.change(&[]).unwrap();
    wait_name(&balancer, "error", says("there is no such name (NXDOMAIN)"));
    assert_eq!(answering(&site), numbered(&[2, 3]));
    // And comes back.
    name_server.change(&records(&[("app.test", &[1])])).unwrap();
    wait_name(&balancer, "error", Value::is_null);
    wait_answering(&site, &[1]);
    balancer.terminate().unwrap();
}

#[test]
fn flows_go_on_while_the_name_server_hangs_or_is_gone() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(2);
    let mut name_server = name_server(&site, &[("app.test", &[1, 2])]);
    let mut balancer = start(&site, &named(&[APP], ""));
    assert_eq!(answering(&site), numbered(&[1, 2]));
    let failing = "lb_name_failing{name=\"app.test\"}";
    assert!(metrics(&balancer).contains(&format!("{failing} 0")), "{}", metrics(&balancer));

    name_server.process().signal(Signal::STOP).unwrap();
    wait_name(&balancer, "error", says("no name server answers"));
    assert_eq!(answering(&site), numbered(&[1, 2]));
    let shown = balancer.lb(&["status"]).unwrap();
    let line = shown.lines().find(|line| line.starts_with("app.test:80")).unwrap();
    assert!(line.contains("no name server answers") && line.contains("addresses stay"), "{line}");
    assert!(metrics(&balancer).contains(&format!("{failing} 1")), "{}", metrics(&balancer));
    // A reload that waits for a name in vain takes a moment, and no longer.
    let more = named(&[APP, "{ address = \"more.test\", port = 80 }"], "");
    balancer.reload(&more).unwrap();
    assert_eq!(answering(&site), numbered(&[1, 2]));
    name_server.change(&records(&[("app.test", &[2]), ("more.test", &[2])])).unwrap();
    name_server.process().signal(Signal::CONT).unwrap();
    wait_answering(&site, &[2]);
    wait_name(&balancer, "error", Value::is_null);

    drop(name_server);
    wait_name(&balancer, "error", Value::is_string);
    assert_eq!(answering(&site), numbered(&[2]));
    // Nor does a new daemon need it.
    balancer.terminate().unwrap();
    balancer.start_again().unwrap();
    assert_eq!(answering(&site), numbered(&[2]));
    let kept = format!("/run/lb/{}.names.json", balancer.instance());
    assert!(std::fs::exists(&kept).unwrap());
    drop(balancer);
    assert!(!std::fs::exists(&kept).unwrap(), "`lb detach` leaves nothing");
}

#[test]
fn a_pool_without_a_server_yet_refuses_flows_and_says_why() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let balancer = start(&site, &named(&[APP], "algorithm = \"consistent-hash\""));
    let error = site.connect(VIP).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    wait_name(&balancer, "error", Value::is_string);
    let explained = balancer.lb(&["explain", "tcp", "192.0.2.2:1000", VIP]).unwrap();
    assert!(explained.contains("no server is up"), "{explained}");
    let shown = balancer.lb(&["status"]).unwrap();
    assert!(shown.contains("no servers"), "{shown}");

    let _name_server = name_server(&site, &[("app.test", &[1]), ("blue.test", &[1, 2])]);
    let here = || Ok(site.connect(VIP).is_ok());
    wait_until("the first server", SOON, here).unwrap();
    assert_eq!(answering(&site), numbered(&[1]));

    // A name that is new is known when its configuration comes into force; one of two pools, with
    // an address that is written out too.
    let both = format!(
        "{WEB}{}{}",
        pool("web", [3], 80).replace(" }]", " }, { address = \"blue.test\", port = 80 }]"),
        pool("other", [2], 80).replace(" }]", " }, { address = \"blue.test\", port = 80 }]"),
    );
    balancer.reload(&asking(&both)).unwrap();
    assert_eq!(answering(&site), numbered(&[1, 2, 3]));
    let status = balancer.status_json().unwrap();
    let servers = |pool: usize| status["pools"][pool]["servers"].as_array().unwrap().len();
    assert_eq!((servers(0), servers(1)), (3, 2));
    // One that is refused changes nothing.
    let refused = asking(&both).replace("8192", "4096").replace("blue.test", "app.test");
    assert!(balancer.reload(&refused).is_err());
    assert_eq!(answering(&site), numbered(&[1, 2, 3]));

    balancer.configuration().replace(&asking(&both)).unwrap();
    let checked = balancer.configuration().try_lb(&site.balancer, &["check", "{file}"]).unwrap();
    assert!(checked.status.success(), "{}", checked.stderr);
    assert!(
        checked.stderr.contains("1 name of servers is not resolved here"),
        "{}",
        checked.stderr
    );
}
