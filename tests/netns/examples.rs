//! Shipped examples, as they are, with real connections.

use std::{fs, io::ErrorKind, path::PathBuf};

use lb_tests::{Balancer, http_get, require_root};

use crate::site::{Site, URL, VIP, client, wait_logged};

/// A file of the examples.
pub fn example(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/datascripts");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// An example with its script, on the site's interfaces.
pub fn balance(site: &Site, name: &str, script: &str) -> Balancer {
    let instance = "name = \"{instance}\"
connection_log = \"connections.jsonl\"
tcp_closing_timeout = \"100ms\"
interfaces";
    let configuration = example(&format!("{name}.toml"))
        .replace(&format!("name = \"{name}\"\ninterfaces"), instance)
        .replace("[\"eth0\"]", "[\"clients\", \"servers\"]");
    let script = (&*format!("{name}.lua"), script);
    Balancer::start(&site.balancer, &configuration, &[script]).unwrap()
}

#[test]
fn the_rate_guard_resets_an_abuser_and_nobody_else() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(2);
    let balancer = balance(&site, "rate-guard", &example("rate-guard.lua"));
    for number in 1..=20 {
        site.connect(VIP).unwrap_or_else(|error| panic!("connection {number}: {error}"));
    }
    for _ in 0..3 {
        assert_eq!(site.connect(VIP).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    http_get(&site.client, URL, Some(client(3))).unwrap();
    let records = wait_logged(&balancer, 24);
    let closed = records.iter().filter(|record| record["reason"] == "closed_by_script");
    let said: Vec<_> = closed.map(|record| record["ds_log"].as_str().unwrap()).collect();
    assert_eq!(
        said,
        ["too fast: 21 connections in 10 s", "still too fast", "still too fast"],
        "{records:#?}"
    );
}

#[test]
fn blue_and_green_go_by_prefix_and_stand_in_for_each_other() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let tester = example("blue-green.lua").replace("192.0.2.128", "192.0.2.4");
    let balancer = balance(&site, "blue-green", &tester);
    let ask = |host| http_get(&site.client, URL, Some(client(host))).unwrap().server;
    assert_eq!([2, 3, 4, 4].map(ask), ["1", "2", "3", "3"]);
    let configuration = fs::read_to_string(balancer.configuration().path()).unwrap();
    let up = "{ address = \"10.0.0.13\", port = 80 }";
    let down = configuration.replace(up, &up.replace(" }", ", enabled = false }"));
    balancer.reload(&down).unwrap();
    let stand_in = ask(4);
    assert!(["1", "2"].contains(&&*stand_in), "{stand_in}");
    balancer.reload(&configuration).unwrap();
    assert_eq!([2, 4].map(ask).map(|server| server == "3"), [false, true]);
}
