//! Inspected TCP: the balancer shakes hands, collects what scripts want to see, and steps aside.

mod browsers;
mod capture;
mod captured;
mod cookies;
mod echo;
mod flood;
mod hostile;
mod loss;
mod netem;
mod odd_servers;
mod queues;
mod restart;
mod servers;
mod sni;
mod splice;

use std::io::{Read as _, Write as _};

use lb_tests::{Balancer, http_get, require_root};

use crate::site::{Site, URL, WEB, event, events, pool, wait_logged};

/// A script that waits for some payload, and leaves the choice to the pool.
const WAITS: &str = "avi.l4.collect(4)";

/// How often workers were handed a packet.
fn punted(balancer: &Balancer) -> u64 {
    events(balancer, "punt_").iter().map(|(_, count)| count).sum()
}

/// The service of [`WEB`], inspected, with a script.
fn inspected(script: &str, more: &str) -> String {
    format!(
        "{WEB}tcp_mode = \"inspect\"\n{more}datascripts = [\"by\"]\n[[datascript]]\nname = \"by\"\n\
         pools = [\"web\", \"other\"]\nl4_request = \"{script}\"\n{}{}",
        pool("web", [1], 80),
        pool("other", [2], 80),
    )
}

/// Chooses a pool by the path that is asked for.
const BY_PATH: &str = "avi.l4.collect(16)
local payload = avi.l4.read()
if string.contains(payload, 'GET /other') then
  avi.pool.select('other')
end
";

#[test]
fn a_request_is_read_before_a_server_is_chosen() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = site.web_servers(2);
    for server in &servers {
        std::fs::write(server.files().join("other"), "another").unwrap();
    }
    let balancer = site.balance(&inspected("by.lua", ""), &[("by.lua", BY_PATH)]);
    assert_eq!(site.ask(), "1");
    let other = http_get(&site.client, &format!("{URL}other"), None).unwrap();
    assert_eq!((other.server.as_str(), other.body.as_str()), ("2", "another"));
    let records = wait_logged(&balancer, 2);
    for (record, pool) in records.iter().zip(["web", "other"]) {
        assert_eq!(record["pool"], pool, "{record:#}");
        assert_eq!(record["reason"], "finished", "{record:#}");
    }
    assert_eq!(event(&balancer, "answer_cookie"), 2);
    // A request may be here before its worker has made the flow.
    assert!(event(&balancer, "punt_cookie") >= 2);
    assert_eq!(events(&balancer, "drop_").iter().map(|(_, count)| count).sum::<u64>(), 0);
}

#[test]
fn a_long_answer_is_forwarded_by_the_program_alone() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = site.web_servers(1);
    let content = crate::site::pseudo_random(64 << 20);
    std::fs::write(servers[0].files().join("large"), &content).unwrap();
    let balancer = site.balance(&inspected("by.lua", ""), &[("by.lua", BY_PATH)]);
    let mut stream = site.connect(crate::site::VIP).unwrap();
    write!(stream, "GET /large HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(&content), "{} bytes", answer.len());
    assert!(punted(&balancer) < 20, "{:?}", events(&balancer, "punt_"));
}
