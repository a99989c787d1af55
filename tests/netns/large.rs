//! A pool of thousands of servers, all of which are checked: the balancer stays responsive.

use std::time::{Duration, Instant};

use lb_tests::{Balancer, Load, Nginx, Plan, require_root, wait_until};

use crate::site::{SOON, Site, VIP, WEB, configuration};

const SERVERS: u32 = 5000;
/// What a command may take beside all that, on a busy machine and in a debug build.
const PROMPT: Duration = Duration::from_secs(8);
/// The same for an answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// So many servers of 10.50.0.0/16, each asked every two seconds.
fn large(servers: u32) -> String {
    let address = |number: u32| format!("10.50.{}.{}", number >> 8, number & 255);
    let servers: Vec<_> = (0..servers)
        .map(|number| format!("{{ address = \"{}\", port = 80 }}", address(number)))
        .collect();
    let servers = servers.join(",\n");
    let monitor = "[[health_monitor]]\nname = \"it\"\ntype = \"tcp\"\ninterval = \"2s\"\n";
    let pool = format!("[[pool]]\nname = \"web\"\nservers = [{servers}]\n");
    configuration(&format!("{WEB}{pool}health_monitors = [\"it\"]\n{monitor}"))
}

/// How many servers are in this state.
fn in_state(balancer: &Balancer, state: &str) -> usize {
    let status = balancer.status_json().unwrap();
    let servers = status["pools"][0]["servers"].as_array().unwrap();
    servers.iter().filter(|server| server["state"] == state).count()
}

#[test]
fn five_thousand_servers_are_checked_and_nobody_waits_for_it() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    // One host is all of them.
    site.servers.ip(&["route", "add", "local", "10.50.0.0/16", "dev", "lo"]).unwrap();
    site.balancer.ip(&["route", "add", "10.50.0.0/16", "via", "10.0.0.11"]).unwrap();
    let _server = Nginx::start(&site.servers, "all", ([0, 0, 0, 0], 80).into()).unwrap();
    let balancer = Balancer::start(&site.balancer, &large(SERVERS), &[]).unwrap();
    let plan = Plan { short_per_second: 50, long: 10, ..Plan::http(VIP.parse().unwrap()) };
    let plan = Plan { patience: PATIENCE, ..plan };
    let load = Load::start(&site.client, plan);
    wait_until("all to be up", SOON, || Ok(in_state(&balancer, "up") == SERVERS as usize)).unwrap();

    let begin = Instant::now();
    balancer.lb(&["status"]).unwrap();
    assert!(begin.elapsed() < PROMPT, "status took {:?}", begin.elapsed());
    load.wait_answers("all", 100, SOON).unwrap();
    let begin = Instant::now();
    balancer.reload(&large(SERVERS - 1)).unwrap();
    assert!(begin.elapsed() < PROMPT, "the reload took {:?}", begin.elapsed());
    assert_eq!(in_state(&balancer, "up"), SERVERS as usize - 1, "what is known stays");
    load.wait_answers("all", 100, SOON).unwrap();
    let report = load.finish().unwrap();
    assert_eq!(report.failures().count(), 0, "{report}");
}
