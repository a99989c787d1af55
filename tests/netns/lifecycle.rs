//! Configurations and daemons come and go; established flows stay.

use std::{
    collections::BTreeSet,
    fs,
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use lb_tests::{Balancer, Configuration, Nginx, http_get, require_root, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use crate::site::{
    SOON, Site, URL, VIP, WEB, configuration, event, kernel_answers, pool, pseudo_random,
};

/// More than the sockets on the way can hold.
const LENGTH: usize = 64 << 20;

/// The service [`VIP`] over these servers.
fn over(servers: impl IntoIterator<Item = u8>) -> String {
    format!("{WEB}{}", pool("web", servers, 80))
}

/// A download that the test reads bit by bit, and compares.
struct Download {
    stream: TcpStream,
    content: Vec<u8>,
    read: usize,
}

impl Download {
    fn begin(site: &Site, servers: &[Nginx]) -> Self {
        let content = pseudo_random(LENGTH);
        for file in servers.iter().map(|server| server.files().join("file")) {
            // Written once: another download may be reading it.
            if !file.exists() {
                fs::write(file, &content).unwrap();
            }
        }
        let mut download = Self { stream: site.begin_download("file"), content, read: 0 };
        download.go_on();
        download
    }

    fn client(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }

    /// Reads a quarter.
    fn go_on(&mut self) {
        let mut got = vec![0; LENGTH / 4];
        self.stream.read_exact(&mut got).unwrap();
        assert!(got == self.content[self.read..][..got.len()], "bytes differ after {}", self.read);
        self.read += got.len();
    }

    fn finish(mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert!(rest == self.content[self.read..], "bytes differ after {}", self.read);
    }

    /// Its flow, as `lb flows` shows it.
    fn flow(&self, balancer: &Balancer) -> Value {
        let flows = balancer.flows_json().unwrap();
        let own = self.client();
        flows.into_iter().find(|flow| flow["client"] == *own).unwrap_or_else(|| panic!("no {own}"))
    }
}

/// What must not change in a flow that goes on.
fn identity(flow: &Value) -> Vec<Value> {
    let keys = ["client", "vip", "virtual_service", "pool", "server", "snat", "generation"];
    keys.iter().chain(&["bucket", "slot", "reply_bucket"]).map(|key| flow[*key].clone()).collect()
}

#[test]
fn a_new_configuration_decides_new_flows_and_leaves_old_ones_alone() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = site.web_servers(3);
    let mut balancer = site.balance(&over([1]), &[]);
    let mut download = Download::begin(&site, &servers);
    let before = download.flow(&balancer);

    balancer.reload(&configuration(&over([2]))).unwrap();
    assert_eq!(site.ask(), "2");
    download.go_on();
    assert_eq!(identity(&download.flow(&balancer)), identity(&before));

    balancer.configuration().replace(&configuration(&over([3]))).unwrap();
    balancer.process().signal(Signal::HUP).unwrap();
    let generation = || Ok(balancer.status_json()?["generation"] == 3);
    wait_until("the third generation", SOON, generation).unwrap();
    assert_eq!(site.ask(), "3");
    download.finish();
}

#[test]
fn a_service_that_comes_with_a_reload_has_its_address_and_one_that_goes_is_gone() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let balancer = site.balance(&over([1]), &[]);
    balancer.reload(&configuration(&over([1]).replace("192.0.2.10", "192.0.2.77"))).unwrap();
    assert_eq!(http_get(&site.client, "http://192.0.2.77/", None).unwrap().server, "1");
    assert!(!site.addresses().contains("192.0.2.10/"), "{}", site.addresses());
    http_get(&site.client, URL, None).unwrap_err();
}

#[test]
fn a_configuration_with_a_fault_is_refused_whole() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(2);
    let balancer = site.balance(&over([1]), &[]);
    let faults = [
        (over([2]).replace("pool = \"web\"", "pool = \"wed\""), "lb.toml:16:8"),
        (over([2]).replace("\n[[pool]]", "\ncolour = \"red\"\n[[pool]]"), "colour"),
    ];
    for (fault, place) in faults {
        balancer.configuration().replace(&configuration(&fault)).unwrap();
        let lb = |words: &[&str]| balancer.configuration().try_lb(&site.balancer, words).unwrap();
        let refused = lb(&["reload", "--instance", balancer.instance()]);
        assert!(!refused.status.success());
        assert!(refused.stderr.contains(place), "{place} is not in\n{}", refused.stderr);
        assert_eq!(site.ask(), "1");
        let status = lb(&["status", "--json", "--instance", balancer.instance()]);
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        assert_eq!(status["generation"], 1, "{status:#}");
    }
    let other = configuration(&over([2])).replace("8192", "4096");
    let error = balancer.reload(&other).unwrap_err().to_string();
    assert!(error.contains("flow_capacity cannot change"), "{error}");
    assert_eq!(site.ask(), "1");
    balancer.reload(&configuration(&over([2]))).unwrap();
    assert_eq!(site.ask(), "2");
}

/// A SYN to the service that nobody answers: not even with a reset.
fn assert_silence(site: &Site) {
    let address: SocketAddr = VIP.parse().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
    let error = site.client.enter(connect).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[test]
fn flows_outlive_a_killed_daemon_and_are_adopted_by_the_next() {
    if !require_root() {
        return;
    }
    let site = Site::with_queues(2);
    let servers = site.web_servers(1);
    let mut balancer = site.balance(&over([1]), &[]);
    let [mut one, mut two] = [(); 2].map(|()| Download::begin(&site, &servers));
    let before = two.flow(&balancer);
    let answers = kernel_answers(&site.balancer);

    balancer.kill_9();
    one.go_on();
    two.go_on();
    assert_eq!(identity(&two.flow(&balancer)), identity(&before));
    assert_silence(&site);
    one.finish();

    balancer.start_again().unwrap();
    assert!(event(&balancer, "drop_no_worker") > 0);
    assert_eq!(kernel_answers(&site.balancer), answers);
    assert!(balancer.status_json().unwrap()["adopted_flows"].as_u64().unwrap() > 0);
    two.go_on();
    assert_eq!(identity(&two.flow(&balancer)), identity(&before));
    let new: Vec<_> = (0..200).map(|_| site.connect(VIP).unwrap()).collect();
    let mut live = Vec::new();
    wait_until("all flows to stand", SOON, || {
        live = balancer.flows_json()?;
        live.retain(|flow| flow["state"] == "established");
        Ok(live.len() == 1 + new.len())
    })
    .unwrap();
    let ports: BTreeSet<_> = live.iter().map(|flow| flow["snat"].to_string()).collect();
    assert_eq!(ports.len(), live.len(), "a port was given out twice");
    assert!(live.iter().any(|flow| flow["generation"] != before["generation"]));
    two.finish();
}

#[test]
fn adopted_flows_end_as_others_do() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = site.web_servers(1);
    let mut balancer = site.balance(&over([1]), &[]);
    let download = Download::begin(&site, &servers);
    let client = download.client();
    balancer.kill_9();
    balancer.start_again().unwrap();
    download.finish();
    let mut record = Value::Null;
    wait_until("the adopted flow's record", SOON, || {
        let log = crate::site::connection_log(&balancer);
        record = log.into_iter().find(|record| record["client"] == *client).unwrap_or_default();
        Ok(!record.is_null())
    })
    .unwrap();
    assert_eq!(record["reason"], "finished", "{record:#}");
    assert!(record["reply_bytes"].as_u64().unwrap() > LENGTH as u64, "{record:#}");
}

#[test]
fn a_stopped_daemon_leaves_flows_and_detach_leaves_nothing() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = site.web_servers(1);
    // Somebody else's: the balancer uses it, and leaves it.
    site.balancer.ip(&["address", "add", "192.0.2.10/32", "dev", "clients"]).unwrap();
    let before = site.addresses();
    let mut balancer = site.balance(&over([1]), &[]);
    assert!(site.addresses().contains("10.0.0.9/32"));
    let mut download = Download::begin(&site, &servers);
    balancer.terminate().unwrap();
    assert!(!beside_the_lock(balancer.configuration(), "sock").exists());
    download.go_on();
    assert_silence(&site);
    download.finish();

    let said = balancer.lb(&["detach"]).unwrap();
    assert!(said.contains("removed"), "{said}");
    assert_nothing_left(&site, balancer.configuration());
    assert_eq!(site.addresses(), before);
    let again = balancer.lb(&["detach"]).unwrap();
    assert!(again.contains("nothing to remove"), "{again}");
}

/// A file of the instance under /run/lb.
fn beside_the_lock(configuration: &Configuration, kind: &str) -> PathBuf {
    Path::new("/run/lb").join(format!("{}.{kind}", configuration.instance()))
}

/// No pins, no program on an interface, no files of the instance but the lock.
fn assert_nothing_left(site: &Site, configuration: &Configuration) {
    assert!(!configuration.pins().exists());
    let links = site.balancer.run(&["ip", "link"]).unwrap();
    assert!(!links.contains("xdp"), "{links}");
    for kind in ["sock", "addresses.json"] {
        let path = beside_the_lock(configuration, kind);
        assert!(!path.exists(), "{} is left", path.display());
    }
}

#[test]
fn detach_stops_a_running_daemon_too() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let before = site.addresses();
    let mut balancer = site.balance(&over([1]), &[]);
    let said = balancer.lb(&["detach"]).unwrap();
    assert!(said.contains("stopped"), "{said}");
    assert!(balancer.process().wait(SOON).unwrap().success());
    assert_nothing_left(&site, balancer.configuration());
    assert_eq!(site.addresses(), before);
}

#[test]
fn a_daemon_started_with_detach_takes_all_with_it() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let before = site.addresses();
    let configuration = Configuration::new(&configuration(&over([1])), &[]).unwrap();
    let mut balancer = Balancer::run_with(&site.balancer, configuration, &["--detach"]).unwrap();
    assert_ne!(site.addresses(), before);
    balancer.terminate().unwrap();
    assert_nothing_left(&site, balancer.configuration());
    assert_eq!(site.addresses(), before);
}
