//! What a run of a DataScript costs, and new flows a second of one worker.
//!
//! All cases run in turn, round after round, so that what disturbs the machine disturbs all of
//! them; medians are compared. The control is a call of an empty Lua function in a bare state.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Result, bail, ensure};
use lb_common::{
    address::Protocol,
    flow::Geometry,
    hash::HashSeed,
    next_hop::{NextHop, NextHopId},
    tcp::cookie::Secrets,
};
use lb_tests::{
    check_stopped,
    report::{Measured, Report},
};
use lb_userspace::{
    config::{Config, PoolIndex, ServerIndex},
    engine::{Counters, Effects, Engine, Generation, Neighbours, Now, Position, Shared, Toward},
    flow_table::{Catalog, FlowTable, OwnedMemory},
    script::{Event, Flow, Progress, Runtime, World},
    table::{Tables, Value},
};

const ROUNDS: usize = 15;
/// Runs of a script a round.
const RUNS: u32 = 20_000;
/// First packets a round; the flow table holds them all.
const FLOWS: u32 = 40_000;
/// Of which so many come at once, as a worker takes them.
const BATCH: usize = 64;
pub const NOW: Duration = Duration::from_secs(1000);
const CONTROL: &str = "control: empty Lua function";

const EMPTY: &str = "";
const TYPICAL: &str = r#"
local server = avi.vs.table_lookup("pins", avi.vs.client_ip(), 0)
if server then
  avi.pool.select("web", server, 8080)
end
"#;
const PERSISTS: &str = r#"avi.vs.persist(avi.vs.client_ip(), 600, "web")"#;

/// Measures them.
pub fn measure() -> Result<()> {
    let mut report = Report::new("script");
    runs(&mut report)?;
    flows(&mut report)?;
    report.write()
}

/// A configuration whose only service runs a script; none if there is no text.
fn config(script: Option<&'static str>) -> Result<Arc<Config>> {
    let (uses, set) = match script {
        None => ("", ""),
        Some(_) => (
            "datascripts = [\"set\"]",
            "[[datascript]]\nname = \"set\"\npools = [\"web\"]\nl4_request = \"request.lua\"\n",
        ),
    };
    let text = format!(
        r#"
[instance]
name = "bench"
interfaces = ["eth0"]
snat_addresses = ["192.0.2.8", "192.0.2.9"]
half_open_share = 100
[[virtual_service]]
name = "dns"
address = "192.0.2.10"
port = 53
protocol = "udp"
pool = "web"
{uses}
[[pool]]
name = "web"
servers = [{{ address = "10.0.0.11", port = 53 }}, {{ address = "10.0.0.12", port = 53 }}]
{set}"#
    );
    let read = |_: &Path| Ok(script.unwrap_or_default().to_owned());
    let config = Config::parse(Path::new("/bench/lb.toml"), &text, read);
    Ok(Arc::new(config.map_err(|problems| anyhow::anyhow!("{problems}"))?))
}

/// The client of a number; half of a million repeat before any client does.
fn client(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 100 + a, b, c)), 4000)
}

/// Tables in which every client's pin is.
fn tables(config: &Config, clients: u32) -> Arc<Tables> {
    let tables = Arc::new(Tables::new(config.instance.tables));
    let pins = tables.table_or_create("dns", b"pins").expect("there are no tables yet");
    for number in 0..clients {
        let key = client(number).ip().to_string();
        let value = Value::string("10.0.0.12");
        pins.insert(key.as_bytes(), value, Duration::from_secs(1 << 30), NOW);
    }
    tables
}

struct AllUp;

impl World for AllUp {
    fn server_up(&self, _: PoolIndex, _: ServerIndex) -> bool {
        true
    }
}

/// A script in a state of its own.
struct Script {
    runtime: Runtime,
    config: Arc<Config>,
    selects: bool,
    persists: bool,
}

impl Script {
    fn new(source: &'static str) -> Result<Self> {
        let config = config(Some(source))?;
        let tables = tables(&config, RUNS);
        let mut runtime = Runtime::new(config.instance.script, tables)?;
        runtime.load(&config)?;
        let (selects, persists) = (source.contains("select"), source.contains("persist"));
        Ok(Self { runtime, config, selects, persists })
    }

    /// Nanoseconds of one run.
    fn measure(&mut self, world: &Rc<dyn World>) -> Result<f64> {
        let sets = &self.config.virtual_services[0].datascripts;
        let vip = "192.0.2.10:53".parse()?;
        let start = Instant::now();
        for number in 0..RUNS {
            let flow = Flow {
                virtual_service: "dns",
                protocol: Protocol::Udp,
                client: client(number),
                vip,
                payload: &[0; 40],
                more: None,
                destination: None,
                server: None,
            };
            let wall = SystemTime::UNIX_EPOCH;
            let progress =
                self.runtime.run(Event::L4Request, sets, black_box(&flow), world, NOW, wall);
            let Progress::Decided(outcome) = progress else { bail!("{progress:?}") };
            ensure!(outcome.failure.is_none(), "{outcome:?}");
            ensure!(outcome.selection.is_some() == self.selects, "{outcome:?}");
            ensure!(outcome.persist.is_some() == self.persists, "{outcome:?}");
        }
        Ok(start.elapsed().as_nanos() as f64 / f64::from(RUNS))
    }
}

fn runs(report: &mut Report) -> Result<()> {
    let lua = mlua::Lua::new();
    let empty = lua.load("").into_function().expect("nothing is a valid chunk");
    let mut control = Measured::new(CONTROL, "ns");
    let world: Rc<dyn World> = Rc::new(AllUp);
    let cases = [("run: empty", EMPTY), ("run: typical", TYPICAL), ("run: persist", PERSISTS)];
    let mut cases = cases
        .into_iter()
        .map(|(name, source)| Ok((Script::new(source)?, Measured::new(name, "ns"))))
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..ROUNDS {
        check_stopped()?;
        let start = Instant::now();
        for _ in 0..RUNS {
            empty.call::<()>(()).expect("it does nothing");
        }
        control.values.push(start.elapsed().as_nanos() as f64 / f64::from(RUNS));
        for (script, measured) in &mut cases {
            measured.values.push(script.measure(&world)?);
        }
    }
    Report::heading("ns a run");
    for measured in [&control].into_iter().chain(cases.iter().map(|(_, measured)| measured)) {
        report.add(measured, &control);
    }
    Ok(())
}

/// Clients behind one next hop, servers behind another.
pub struct Net;

impl Neighbours for Net {
    fn toward(&self, destination: IpAddr) -> Toward {
        let is_server = matches!(destination, IpAddr::V4(v4) if v4.octets()[..3] == [10, 0, 0]);
        Toward::Known(NextHopId(if is_server { 2 } else { 1 }))
    }

    fn entry(&self, id: NextHopId) -> NextHop {
        NextHop::new(id.0, [2; 6], [4; 6])
    }
}

/// A worker's engine over an empty flow table.
fn engine(config: &Arc<Config>) -> Result<Engine> {
    let mut shared = shared(config);
    shared.tables = tables(config, FLOWS);
    worker(config, &Arc::new(shared), Position { worker: 0, workers: 1 })
}

/// What workers share, around an empty flow table.
pub fn shared(config: &Config) -> Shared {
    let instance = &config.instance;
    let seed = HashSeed([11, 22, 33, 44, 55].map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let geometry = Geometry { buckets: Geometry::buckets_for(instance.flow_capacity), seed };
    let table = FlowTable::new(geometry, Box::new(OwnedMemory::new(&geometry)));
    let (catalog, cookies) = (Catalog::new([], Box::new(())), Arc::new(Secrets::default()));
    Shared::new(table, catalog, instance, instance.flow_capacity, cookies)
}

/// One of the workers.
pub fn worker(config: &Arc<Config>, shared: &Arc<Shared>, position: Position) -> Result<Engine> {
    let generation = Arc::new(Generation::new(1, Arc::clone(config), shared)?);
    Ok(Engine::new(position, Arc::clone(shared), Arc::new(Counters::default()), generation)?)
}

/// A datagram of 40 bytes to the service.
pub fn frame() -> Vec<u8> {
    let mut frame = vec![0; 14 + 20 + 8 + 40];
    frame[12] = 8;
    frame[14] = 0x45;
    frame[17] = 68;
    frame[22] = 64;
    frame[23] = Protocol::Udp.number();
    frame[30..34].copy_from_slice(&[192, 0, 2, 10]);
    frame[34..36].copy_from_slice(&4000u16.to_be_bytes());
    frame[36..38].copy_from_slice(&53u16.to_be_bytes());
    frame[39] = 48;
    frame
}

/// New flows a second: each frame is another client's first, and is sent on.
fn measure_flows(config: &Arc<Config>) -> Result<f64> {
    let (mut engine, mut effects) = (engine(config)?, Effects::default());
    let mut batch = vec![frame(); BATCH];
    let now = Now { monotonic: NOW, wall: SystemTime::UNIX_EPOCH };
    let start = Instant::now();
    for first in (0..FLOWS).step_by(BATCH) {
        for (number, frame) in (first..).zip(&mut batch) {
            let [_, a, b, c] = number.to_be_bytes();
            frame[26..30].copy_from_slice(&[10, 100 + a, b, c]);
        }
        effects.clear();
        batch.iter().for_each(|frame| engine.expect(frame));
        for frame in &batch {
            engine.receive(now, 1, frame, &Net, &mut effects);
        }
        ensure!(effects.frames().len() == BATCH, "flow {first}: {:?}", effects.log);
    }
    Ok(f64::from(FLOWS) / start.elapsed().as_secs_f64())
}

fn flows(report: &mut Report) -> Result<()> {
    let cases = [
        ("flows: no script", None),
        ("flows: empty", Some(EMPTY)),
        ("flows: typical", Some(TYPICAL)),
    ];
    let mut cases = cases
        .into_iter()
        .map(|(name, script)| Ok((config(script)?, Measured::new(name, "flows/s"))))
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..ROUNDS {
        check_stopped()?;
        for (config, measured) in &mut cases {
            measured.values.push(measure_flows(config)?);
        }
    }
    Report::heading("new flows a second, one worker");
    for (_, measured) in &cases {
        report.add(measured, &cases[0].1);
    }
    Ok(())
}
