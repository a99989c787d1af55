//! Servers over reloads and restarts, with simulated time.

use std::{fs, path::Path, sync::Arc, time::Duration};

use lb_common::{flow::Geometry, hash::HashSeed, tcp::cookie::Secrets};
use tempfile::TempDir;

use super::{
    model_tests::at,
    orders::{Action, NewOrder, Patience, Refusal, Which},
    tenure::{Cause, Ordered, Tenure},
    *,
};
use crate::{
    config::Config,
    flow_table::{Catalog, FlowTable, OwnedMemory},
    pool::{Order, Takes},
};

/// A daemon's part of it.
struct Daemon {
    folder: TempDir,
    shared: Arc<Shared>,
    generation: Generation,
    servers: Servers,
    now: u64,
}

fn config(pools: &str) -> Arc<Config> {
    let text = format!(
        "[instance]\nname = \"test\"\ninterfaces = [\"eth0\"]\nsnat_addresses = [\"10.0.0.9\"]\n{pools}"
    );
    let read = |_: &Path| Ok(String::new());
    Arc::new(Config::parse(Path::new("lb.toml"), &text, read).unwrap_or_else(|it| panic!("{it}")))
}

fn pool(name: &str, servers: &[(u8, bool)], keys: &str) -> String {
    let server = |(host, enabled): &(u8, bool)| {
        format!("{{ address = \"10.0.0.{host}\", port = 80, enabled = {enabled} }}")
    };
    let servers: Vec<_> = servers.iter().map(server).collect();
    format!("[[pool]]\nname = {name:?}\nservers = [{}]\n{keys}\n", servers.join(", "))
}

impl Daemon {
    fn start(pools: &str) -> Self {
        let config = config(pools);
        let geometry = Geometry { buckets: Geometry::buckets_for(64), seed: HashSeed([1; 5]) };
        let flows = FlowTable::new(geometry, Box::new(OwnedMemory::new(&geometry)));
        let catalog = Catalog::new([], Box::new(()));
        let shared = Arc::new(Shared::new(
            flows,
            catalog,
            &config.instance,
            64,
            Arc::new(Secrets::default()),
        ));
        let generation = Generation::new(1, config, &shared).unwrap();
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("servers.json");
        let servers = Servers::start(&shared, &generation, &[], path, at(0));
        Self { folder, shared, generation, servers, now: 0 }
    }

    /// Another daemon, over what this one has left.
    fn restart(self, pools: &str, after: u64) -> Self {
        let Self { folder, shared, now, .. } = self;
        let now = now + after;
        let config = config(pools);
        let geometry = Geometry { buckets: Geometry::buckets_for(64), seed: HashSeed([1; 5]) };
        let flows = FlowTable::new(geometry, Box::new(OwnedMemory::new(&geometry)));
        let mut shared = Arc::into_inner(shared).unwrap();
        shared.flows = flows;
        shared.servers = Arc::default();
        let shared = Arc::new(shared);
        let generation = Generation::new(1, config, &shared).unwrap();
        let path = folder.path().join("servers.json");
        let servers = Servers::start(&shared, &generation, &[], path, at(now));
        Self { folder, shared, generation, servers, now }
    }

    fn reload(&mut self, pools: &str) {
        let number = self.generation.number + 1;
        self.generation = Generation::new(number, config(pools), &self.shared).unwrap();
        self.servers.follow(&self.generation, at(self.now));
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds;
        self.servers.forget_removed();
        self.servers.apply(at(self.now).monotonic);
    }

    fn number(&self, pool: &str, host: u8) -> u32 {
        self.servers.find(&which(pool, &format!("10.0.0.{host}:80"))).unwrap()
    }

    fn order(&mut self, host: u8, wanted: Ordered) -> Option<bool> {
        let number = self.number("web", host);
        let now = at(self.now);
        let rises = self.servers.known.get_mut(&number).unwrap().tenure.order(wanted, now);
        self.servers.apply(now.monotonic);
        self.servers.save(&self.generation);
        rises
    }

    /// Whose new flows a server takes, and whether its flows end.
    fn standing(&self, host: u8) -> (Takes, bool) {
        let number = self.number("web", host);
        let standing = self.shared.servers.standing(number);
        let known = &self.servers.known[&number];
        let enabled = known.tenure.enabled().unwrap_or_default();
        (standing.takes(enabled, known.tenure.policy().disable_type), standing.is_gone())
    }

    fn is_rising(&self, host: u8) -> bool {
        self.shared.servers.standing(self.number("web", host)).is_rising()
    }
}

fn which(pool: &str, server: &str) -> Which {
    Which { pool: pool.to_owned(), server: server.to_owned() }
}

const FOREVER: Ordered = Ordered::Disable { persistent: false, patience: None };

const TWO: [(u8, bool); 2] = [(11, true), (12, true)];

#[test]
fn a_disabled_server_keeps_its_flows_for_as_long_as_the_pool_says() {
    let keys = "graceful_disable_timeout = \"10s\"";
    let mut daemon = Daemon::start(&pool("web", &TWO, keys));
    assert_eq!(daemon.standing(11), (Takes::All, false));
    daemon.reload(&pool("web", &[(11, false), (12, true)], keys));
    assert_eq!(daemon.standing(11), (Takes::None, false));
    daemon.wait(9);
    assert_eq!(daemon.standing(11), (Takes::None, false));
    daemon.wait(1);
    assert_eq!(
        (daemon.standing(11), daemon.standing(12)),
        ((Takes::None, true), (Takes::All, false))
    );
    daemon.reload(&pool("web", &TWO, keys));
    assert_eq!((daemon.standing(11), daemon.is_rising(11)), ((Takes::All, false), true));
    assert!(!daemon.is_rising(12));
}

#[test]
fn flows_end_at_once_with_zero_and_never_with_minus_one() {
    for (timeout, gone) in [("0", true), ("-1", false)] {
        let keys = format!("graceful_disable_timeout = {timeout}");
        let mut daemon = Daemon::start(&pool("web", &TWO, &keys));
        daemon.reload(&pool("web", &[(11, false), (12, true)], &keys));
        daemon.wait(0);
        assert_eq!(daemon.standing(11), (Takes::None, gone));
        daemon.wait(1_000_000);
        assert_eq!(daemon.standing(11), (Takes::None, gone));
    }
}

#[test]
fn a_removed_server_stays_known_as_long_as_it_has_flows() {
    let keys = "graceful_disable_timeout = \"10s\"";
    let mut daemon = Daemon::start(&pool("web", &TWO, keys));
    let number = daemon.number("web", 11);
    daemon.shared.servers.begun(number);
    daemon.reload(&pool("other", &[(13, true)], ""));
    assert_eq!(daemon.servers.known[&number].tenure.out().unwrap().cause, Cause::Removed);
    assert!(daemon.servers.find(&which("web", "10.0.0.12")).is_err(), "it had no flows");
    let order = NewOrder { order: Action::Enable, timeout: None, persistent: false };
    assert_eq!(daemon.servers.known[&number].tenure.enabled(), None);
    assert_eq!(order.wanted(&daemon.servers.known[&number]), Ok(Ordered::Enable));
    daemon.wait(10);
    assert!(daemon.shared.servers.standing(number).is_gone(), "the timeout that its pool had");
    daemon.shared.servers.ended(number);
    daemon.wait(1);
    assert!(!daemon.servers.known.contains_key(&number));
    assert!(!daemon.shared.servers.standing(number).is_gone(), "for a server that comes back");
    daemon.reload(&pool("web", &TWO, keys));
    assert_eq!(daemon.standing(11), (Takes::All, false));
    assert!(!daemon.is_rising(11), "the pool as a whole is new");
}

#[test]
fn a_server_that_joins_a_pool_rises_and_at_the_start_none_does() {
    let mut daemon = Daemon::start(&pool("web", &TWO, ""));
    assert!(!daemon.is_rising(11) && !daemon.is_rising(12));
    daemon.reload(&pool("web", &[(11, true), (12, true), (13, true), (14, false)], ""));
    assert_eq!([11, 12, 13, 14].map(|it| daemon.is_rising(it)), [false, false, true, false]);
}

#[test]
fn an_order_stands_until_the_configurations_own_word_changes() {
    let mut daemon = Daemon::start(&pool("web", &TWO, ""));
    assert_eq!(daemon.order(11, FOREVER), Some(false));
    assert_eq!(daemon.order(11, FOREVER), None, "already");
    assert_eq!(daemon.standing(11), (Takes::None, false));
    // Other changes do not matter.
    daemon.reload(&pool("web", &[(11, true), (12, false)], "min_servers_up = 1"));
    assert_eq!(daemon.standing(11), (Takes::None, false));
    // By order against the configuration, with a ramp.
    assert_eq!(daemon.order(12, Ordered::Enable), Some(true));
    assert_eq!(daemon.standing(12), (Takes::All, false));
    daemon.reload(&pool("web", &[(11, false), (12, true)], ""));
    assert_eq!((daemon.standing(11).0, daemon.standing(12).0), (Takes::None, Takes::All));
    daemon.reload(&pool("web", &[(11, true), (12, false)], ""));
    assert_eq!((daemon.standing(11).0, daemon.standing(12).0), (Takes::All, Takes::None));
    // What was ordered of a server that left is forgotten.
    daemon.order(11, FOREVER);
    daemon.reload(&pool("web", &[(12, true)], ""));
    daemon.reload(&pool("web", &TWO, ""));
    assert_eq!(daemon.standing(11), (Takes::All, false));
}

#[test]
fn an_order_to_do_what_the_configuration_says_is_none() {
    let keys = "graceful_disable_timeout = \"10s\"";
    let mut daemon = Daemon::start(&pool("web", &[(11, true), (12, false)], keys));
    assert_eq!(daemon.order(11, Ordered::Enable), None);
    let disabled = daemon.servers.known[&daemon.number("web", 12)].tenure.disabled();
    assert_eq!(daemon.order(12, disabled), None);
    assert_eq!(daemon.order(12, Ordered::Enable), Some(true));
    assert_eq!(daemon.order(12, disabled), Some(false));
    assert_eq!(daemon.servers.known[&daemon.number("web", 12)].tenure.ordered(), None);
    let persistent = Ordered::Disable { persistent: true, patience: None };
    assert_eq!(daemon.order(12, persistent), Some(false), "as it is, but for clients that stay");
    assert_eq!(daemon.standing(12), (Takes::Persistent, false));
}

#[test]
fn orders_and_deadlines_outlive_the_daemon() {
    let text = pool("web", &TWO, "graceful_disable_timeout = \"1m\"");
    let mut daemon = Daemon::start(&text);
    let soon = Ordered::Disable { persistent: true, patience: Some(Duration::from_secs(30)) };
    daemon.order(11, soon);
    daemon.wait(10);
    let mut daemon = daemon.restart(&text, 10);
    assert_eq!(daemon.standing(11), (Takes::Persistent, false));
    assert_eq!(
        daemon.shared.servers.standing(daemon.number("web", 11)).order(),
        Some(Order::Disable(crate::config::DisableType::AllowPersistent))
    );
    assert!(!daemon.is_rising(12));
    daemon.wait(9);
    assert_eq!(daemon.standing(11), (Takes::Persistent, false));
    daemon.wait(1);
    assert_eq!(daemon.standing(11), (Takes::None, true));
    // Edited while no daemon ran: the file's word, but time goes on.
    let edited = pool("web", &[(11, false), (12, false)], "graceful_disable_timeout = \"1m\"");
    let mut daemon = daemon.restart(&edited, 1);
    assert_eq!(
        (daemon.standing(11), daemon.standing(12)),
        ((Takes::None, true), (Takes::None, false))
    );
    daemon.wait(60);
    assert_eq!(daemon.standing(12), (Takes::None, true));
}

#[test]
fn a_state_file_that_cannot_be_read_stops_nobody() {
    let text = pool("web", &TWO, "");
    let mut daemon = Daemon::start(&text);
    daemon.order(11, FOREVER);
    fs::write(daemon.folder.path().join("servers.json"), "{ \"servers\": [{").unwrap();
    let mut daemon = daemon.restart(&text, 1);
    assert_eq!(daemon.standing(11), (Takes::All, false));
    daemon.order(12, FOREVER);
    let daemon = daemon.restart(&text, 1);
    assert_eq!(daemon.standing(12), (Takes::None, false));
}

#[test]
fn flows_of_a_server_that_is_down_end_if_the_pool_says_so() {
    let mut daemon = Daemon::start(&pool("web", &TWO, "server_down = \"reset\""));
    let number = daemon.number("web", 11);
    daemon.shared.servers.set_down(number, true);
    daemon.wait(0);
    assert_eq!(daemon.standing(11), (Takes::None, true));
    daemon.shared.servers.set_down(number, false);
    assert_eq!(daemon.standing(11), (Takes::None, true), "nobody comes who would be sent away");
    daemon.wait(0);
    assert_eq!(daemon.standing(11), (Takes::All, false));
    daemon.reload(&pool("web", &TWO, "server_down = \"keep\""));
    daemon.shared.servers.set_down(number, true);
    daemon.wait(0);
    assert_eq!(daemon.standing(11), (Takes::None, false));
}

#[test]
fn a_server_is_found_by_its_address_if_that_tells() {
    let several = "[[pool]]\nname = \"api v2/é\"\nservers = [{ address = \"10.0.0.1\", port = 80 }, \
                   { address = \"10.0.0.1\", port = 81 }]\n";
    let daemon = Daemon::start(&(pool("web", &TWO, "") + several));
    let find = |pool: &str, server: &str| daemon.servers.find(&which(pool, server));
    assert_eq!(find("web", "10.0.0.11"), find("web", "10.0.0.11:80"));
    assert!(find("api v2/é", "10.0.0.1:81").is_ok());
    let said = |pool, server| find(pool, server).unwrap_err().to_string();
    assert_eq!(said("wbe", "10.0.0.11"), "there is no pool \"wbe\"; did you mean \"web\"?");
    let message = said("mail", "10.0.0.11");
    assert_eq!(message, "there is no pool \"mail\"; there are api v2/é, web");
    assert_eq!(
        said("web", "10.0.0.11:81"),
        "pool \"web\" has no server \"10.0.0.11:81\"; it has 10.0.0.11:80, 10.0.0.12:80"
    );
    assert!(said("web", "nonsense").contains("no server \"nonsense\""));
    assert_eq!(
        said("api v2/é", "10.0.0.1"),
        "pool \"api v2/é\" has several servers at 10.0.0.1: say which of 10.0.0.1:80, 10.0.0.1:81"
    );
}

#[test]
fn orders_are_read_as_people_and_programs_write_them() {
    let order = |text: &str| serde_json::from_str::<NewOrder>(text);
    let patience = |text: &str| order(text).unwrap().timeout.map(|Patience(it)| it);
    assert_eq!(patience(r#"{"order": "disable"}"#), None);
    assert_eq!(patience(r#"{"order": "drain", "timeout": -1}"#), Some(None));
    assert_eq!(patience(r#"{"order": "drain", "timeout": "-1"}"#), Some(None));
    assert_eq!(patience(r#"{"order": "drain", "timeout": 0}"#), Some(Some(Duration::ZERO)));
    let minutes = Some(Some(Duration::from_secs(300)));
    assert_eq!(patience(r#"{"order": "drain", "timeout": "5m"}"#), minutes);
    for wrong in [
        r#"{"order": "drain", "timeout": 5}"#,
        r#"{"order": "drain", "timeout": "soon"}"#,
        r#"{"order": "drain", "timeout": "-5m"}"#,
        r#"{"order": "stop"}"#,
        r#"{"order": "drain", "wait": true}"#,
    ] {
        assert!(order(wrong).is_err(), "{wrong}");
    }
    let again = |text: &str| String::from(text.parse::<Patience>().unwrap());
    assert_eq!(["0", "-1", "5m"].map(again), ["0", "-1", "5m"]);
    let tenure = Tenure::new(true, ServerPolicy::default(), at(0));
    let server = Server { address: ([10, 0, 0, 1], 80).into(), ratio: 1, enabled: true };
    let known = Known::new("web", &server, tenure);
    let senseless = order(r#"{"order": "enable", "timeout": 0}"#).unwrap().wanted(&known);
    assert!(matches!(senseless, Err(Refusal::Senseless(_))), "{senseless:?}");
}
