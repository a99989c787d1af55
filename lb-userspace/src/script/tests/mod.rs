//! A configuration with three pools, and a bench to run scripts on.

mod api;
mod arguments;
mod chain;
mod check;
mod fuzz;
mod library;
mod limits;
mod parsers;
mod reference;
mod sandbox;
mod stream;
mod tables;

use std::{cell::RefCell, collections::HashSet, time::Duration, time::SystemTime};

use super::*;
use crate::{
    config::{
        Algorithm, AttachMode, DataScriptSet, FailAction, Forwarding, HashBy, Instance, Member,
        Pool, PoolGroup, ScriptLimits, Server, ServerPolicy, TableLimits, Transport,
        VirtualService,
    },
    table::Tables,
};

const MEMORY: usize = 4 << 20;
const BUDGET: u64 = 100_000;

/// Every server is up but these.
#[derive(Default)]
struct Down(RefCell<HashSet<(usize, usize)>>);

impl World for Down {
    fn server_up(&self, pool: PoolIndex, server: ServerIndex) -> bool {
        !self.0.borrow().contains(&(pool.0, server.0))
    }
}

/// What came of scripts that had nothing to wait for.
fn decided(progress: Progress) -> Outcome {
    match progress {
        Progress::Decided(outcome) => outcome,
        Progress::Waits(wait) => panic!("{wait:?}"),
    }
}

/// A runtime with scripts loaded, and the flow that they run for.
struct Bench {
    runtime: Runtime,
    config: Arc<Config>,
    tables: Arc<Tables>,
    down: std::rc::Rc<Down>,
    protocol: Protocol,
    client: SocketAddr,
    payload: Vec<u8>,
    server: Option<SocketAddr>,
    now: Duration,
}

impl Bench {
    /// One set a script, named `s0`, `s1` …; each references the pools `web` and `api`.
    fn new(requests: &[&str]) -> Self {
        Self::with(config(requests, None), BUDGET)
    }

    /// One set with a script for the response.
    fn response(source: &str) -> Self {
        let mut bench = Self::with(config(&[], Some(source)), BUDGET);
        bench.server = Some("10.0.0.11:8080".parse().unwrap());
        bench
    }

    fn with(config: Config, instruction_budget: u64) -> Self {
        let limits = ScriptLimits { instruction_budget, memory: MEMORY };
        let tables =
            Arc::new(Tables::new(TableLimits { entries: 8, key_size: 32, value_size: 32 }));
        let mut runtime = Runtime::new(limits, Arc::clone(&tables)).unwrap();
        let config = Arc::new(config);
        runtime.load(&config).unwrap();
        Self {
            runtime,
            config,
            tables,
            down: std::rc::Rc::default(),
            protocol: Protocol::Udp,
            client: "192.0.2.7:5353".parse().unwrap(),
            payload: b"hello".to_vec(),
            server: None,
            now: Duration::from_secs(1_000),
        }
    }

    fn run_on(&mut self, service: &str) -> Outcome {
        let sets: Vec<_> = (0..self.config.datascripts.len()).map(SetIndex).collect();
        let flow = Flow {
            virtual_service: service,
            protocol: self.protocol,
            client: self.client,
            vip: "192.0.2.10:53".parse().unwrap(),
            payload: &self.payload,
            more: None,
            destination: (service == "dns").then_some(Destination::Pool(PoolIndex(0))),
            server: self.server,
        };
        let event = self.event();
        let world: std::rc::Rc<dyn World> = self.down.clone();
        decided(self.runtime.run(event, &sets, &flow, &world, self.now, wall()))
    }

    fn event(&self) -> Event {
        match self.server {
            None => Event::L4Request,
            Some(_) => Event::L4Response,
        }
    }

    fn rehearse(&mut self) -> (Outcome, crate::table::Transaction) {
        let sets: Vec<_> = (0..self.config.datascripts.len()).map(SetIndex).collect();
        let flow = Flow {
            virtual_service: "dns",
            protocol: self.protocol,
            client: self.client,
            vip: "192.0.2.10:53".parse().unwrap(),
            payload: &self.payload,
            more: None,
            destination: Some(Destination::Pool(PoolIndex(0))),
            server: None,
        };
        let world: std::rc::Rc<dyn World> = self.down.clone();
        let event = Event::L4Request;
        let (progress, transaction) =
            self.runtime.rehearse(event, &sets, &flow, &world, self.now, wall());
        (decided(progress), transaction)
    }

    fn run(&mut self) -> Outcome {
        self.run_on("dns")
    }

    /// Runs, expects no error, and gives what was logged.
    fn log(&mut self) -> String {
        let outcome = self.run();
        assert_eq!(outcome.failure, None);
        outcome.log
    }

    fn failure(&mut self) -> Failure {
        *self.run().failure.expect("the script should fail")
    }
}

fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// What a script logs.
fn log_of(source: &str) -> String {
    Bench::new(&[source]).log()
}

/// The message a script fails with.
fn error_of(source: &str) -> String {
    Bench::new(&[source]).failure().message
}

/// Asserts that `expression` is an error, one that `pcall` catches, with this text in it.
fn assert_error(expression: &str, text: &str) {
    let message = error_of(expression);
    assert!(message.contains(text), "{expression}: {message}");
    let caught = log_of(&format!(
        "local ok, e = pcall(function() {expression} end) avi.vs.log(ok, ' ', type(e))"
    ));
    assert_eq!(caught, "false string", "{expression}");
}

fn config(requests: &[&str], response: Option<&str>) -> Config {
    let script = |name: String, source: &str| {
        Some(Arc::new(Script { path: name.into(), source: source.to_owned() }))
    };
    let set = |(index, request): (usize, &&str)| DataScriptSet {
        name: format!("s{index}"),
        pools: vec![PoolIndex(0), PoolIndex(1)],
        pool_groups: vec![PoolGroupIndex(0)],
        protocol_parsers: Vec::new(),
        l4_request: script(format!("scripts/s{index}.lua"), request),
        l4_response: None,
        on_error: OnError::Close,
    };
    let mut datascripts: Vec<_> = requests.iter().enumerate().map(set).collect();
    datascripts.extend(response.map(|source| DataScriptSet {
        name: "response".to_owned(),
        pools: vec![PoolIndex(0)],
        pool_groups: Vec::new(),
        protocol_parsers: Vec::new(),
        l4_request: None,
        l4_response: script("scripts/response.lua".to_owned(), source),
        on_error: OnError::DefaultPool,
    }));
    Config {
        path: "lb.toml".into(),
        instance: instance(),
        virtual_services: vec![service("dns", Some(PoolIndex(0))), service("bare", None)],
        pool_groups: vec![group("all"), group("unreferenced")],
        network_security_policies: Vec::new(),
        persistence_profiles: Vec::new(),
        l4_policies: Vec::new(),
        pools: vec![
            pool("web", &["10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.12:8081"]),
            pool("api", &["[2001:db8::1]:443"]),
            pool("other", &["10.0.0.99:80"]),
        ],
        datascripts,
        protocol_parsers: Vec::new(),
        health_monitors: Vec::new(),
    }
}

fn pool(name: &str, servers: &[&str]) -> Pool {
    let server =
        |address: &&str| Server { address: address.parse().unwrap(), ratio: 1, enabled: true };
    Pool {
        name: name.to_owned(),
        algorithm: Algorithm::RoundRobin,
        hash_by: HashBy::default(),
        forwarding: Forwarding::Snat,
        servers: servers.iter().map(server).collect(),
        names: Vec::new(),
        health_monitors: Vec::new(),
        min_health_monitors_up: 0,
        server_policy: ServerPolicy::default(),
        min_servers_up: 1,
        fail_action: FailAction::Close,
    }
}

fn group(name: &str) -> PoolGroup {
    let members = vec![Member { pool: PoolIndex(0), priority: 1, ratio: 1 }];
    PoolGroup { name: name.to_owned(), members, min_servers: 1 }
}

fn service(name: &str, pool: Option<PoolIndex>) -> VirtualService {
    VirtualService {
        name: name.to_owned(),
        address: "192.0.2.10:53".parse().unwrap(),
        transport: Transport::Udp,
        destination: pool.map(Destination::Pool),
        l4_policies: Vec::new(),
        network_security_policy: None,
        persistence_profile: None,
        connection_rate_limit: 0,
        client_connection_rate_limit: 0,
        max_concurrent_connections: 0,
        datascripts: Vec::new(),
        idle_timeout: Duration::from_secs(30),
    }
}

fn instance() -> Instance {
    Instance {
        name: "test".to_owned(),
        interfaces: vec!["eth0".to_owned()],
        attach_mode: AttachMode::Auto,
        flow_capacity: 1024,
        snat_addresses: Vec::new(),
        snat_ports: 1024..=65535,
        server_time_wait: Duration::ZERO,
        manage_addresses: false,
        connection_log: None,
        admin_socket: "lb.sock".into(),
        cores: Vec::new(),
        tcp_half_open_timeout: Duration::from_secs(5),
        tcp_closing_timeout: Duration::from_secs(5),
        udp_one_way_timeout: Duration::from_secs(5),
        half_open_share: 50,
        name_servers: Vec::new(),
        script: ScriptLimits { instruction_budget: BUDGET, memory: MEMORY },
        tables: TableLimits { entries: 8, key_size: 32, value_size: 32 },
    }
}
