//! What the XDP program costs per packet, by `BPF_PROG_TEST_RUN`, beside controls.
//!
//! All cases run in turn, round after round, so that what disturbs the machine disturbs all of
//! them; medians are compared. Flows vary from packet to packet, or caches would hide what many
//! flows cost; `control: vary` is what the varying itself costs, and is in every `hit`.

mod report;

use std::{env, fs, net::Ipv4Addr};

use anyhow::{Context as _, Result};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::{
    address::{Address, Port, Protocol},
    flow::{Activity, Entry, FlowKeyV4, FlowRecord},
    next_hop::{NextHop, NextHopId, NextHopTarget},
    rewrite::{EndpointsV4, RewriteV4},
    service::{Roles, Service, ServiceKey},
};
use lb_userspace::{
    datapath::{Datapath, Options, check_environment},
    flow_table::{Direction, FlowTable},
};
use report::{Measured, Report};

const PROGRAMS: [&str; 5] =
    ["control_transmit", "control_swap", "control_vary", "forward_varied", "forward_fixed"];
const ROUNDS: usize = 11;
const REPEAT: u32 = 1_000_000;
const VIP: [u8; 4] = [192, 0, 2, 10];
/// The loopback interface: test runs come in by it, so a next hop there means `XDP_TX`.
const LOOPBACK: u32 = 1;

/// One thing that is measured.
struct Case {
    program: &'static str,
    /// Index of the datapath that it runs over.
    flows: usize,
    frame: Vec<u8>,
    /// What the program must return: a case that measures something else is worth nothing.
    returns: u32,
    nanos: Measured,
}

fn main() -> Result<()> {
    check_environment()?;
    let object = env::var_os("LB_EBPF_BENCH_OBJECT")
        .context("LB_EBPF_BENCH_OBJECT is not set: run `cargo xtask bench`")?;
    let object = fs::read(&object).with_context(|| format!("{}", object.display()))?;
    let sizes = [1u32, 1 << 10, 1 << 16, 1 << 20];
    let mut worlds =
        sizes.iter().map(|flows| World::new(&object, *flows)).collect::<Result<Vec<_>>>()?;
    let mut cases = controls();
    for (index, flows) in sizes.iter().enumerate() {
        cases.extend(hits(index, *flows));
    }
    cases.extend(others());
    for _ in 0..ROUNDS {
        for case in &mut cases {
            case.measure(&mut worlds[case.flows])?;
        }
    }
    let forward = program(&mut worlds[0].datapath, "forward_varied")?;
    let verified = forward.info()?.verified_instruction_count();
    println!("\nverifier: {} instructions looked at\n", verified.unwrap_or_default());
    report(&cases)
}

/// The programs over a table with a number of flows.
struct World {
    datapath: Datapath,
    // Keeps the maps' entries reachable for as long as the programs run.
    _table: FlowTable,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.datapath.pins().remove();
    }
}

impl World {
    fn new(object: &[u8], flows: u32) -> Result<Self> {
        let options = Options {
            instance: format!("bench-{}-{flows}", std::process::id()),
            flow_capacity: flows.max(64),
            replace_pins: false,
            trace: false,
        };
        let mut datapath = Datapath::load_object(&options, object, &[("FLOW_MASK", flows - 1)])?;
        // Before any map is taken out: programs refer to maps by their open files.
        for name in PROGRAMS {
            program(&mut datapath, name)?.load()?;
        }
        let table = FlowTable::new(datapath.geometry(), Box::new(datapath.map_flow_table()?));
        for number in 0..flows {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                // Two entries a flow, as in the field: here two protocols instead of directions.
                table.insert(&direction(number, protocol), None, &FlowRecord::default())?;
            }
        }
        let next_hop = NextHop { interface: LOOPBACK, ..NextHop::default() };
        let target = NextHopTarget {
            address: Address::v4([10, 0, 0, 1]),
            prefix_length: 32,
            kind: NextHopTarget::HOST,
            reserved: [0; 6],
        };
        datapath.take_next_hops()?.set(NextHopId(1), &target, &next_hop)?;
        let service = ServiceKey::new(Address::v4(VIP), Port::new(80), Protocol::Tcp);
        datapath.take_services()?.replace(&[(service, Service { id: 1, ..Service::default() })])?;
        datapath.take_addresses()?.replace(&[(Address::v4(VIP), Roles::VIRTUAL_SERVICE)].into())?;
        Ok(Self { datapath, _table: table })
    }
}

fn program<'a>(datapath: &'a mut Datapath, name: &str) -> Result<&'a mut Xdp> {
    let program = datapath.ebpf().program_mut(name).context("no such program")?;
    Ok(program.try_into()?)
}

impl Case {
    fn measure(&mut self, world: &mut World) -> Result<()> {
        let program = program(&mut world.datapath, self.program)?;
        let options = || TestRunOptions {
            data_in: Some(&self.frame),
            repeat: REPEAT,
            ..TestRunOptions::default()
        };
        let result = program.test_run(options())?;
        // The kernel's own figure, which leaves its preparations out (tens of milliseconds a
        // call), cut to whole nanoseconds: half of one is what the cut takes on average.
        let nanos = result.duration.as_nanos() as f64 + 0.5;
        anyhow::ensure!(
            result.return_value == self.returns,
            "{}: returned {} and not {}",
            self.nanos.case,
            result.return_value,
            self.returns
        );
        self.nanos.values.push(nanos);
        Ok(())
    }
}

fn controls() -> Vec<Case> {
    let control = |name: &str, program| Case {
        program,
        flows: 0,
        frame: frame(Protocol::Tcp, VIP, 80),
        returns: TX,
        nanos: Measured::new(format!("control: {name}"), "ns"),
    };
    vec![
        control("return XDP_TX", "control_transmit"),
        control("swap MACs", "control_swap"),
        control("vary", "control_vary"),
    ]
}

fn hits(flows: usize, count: u32) -> Vec<Case> {
    let hit = |protocol: Protocol| Case {
        program: "forward_varied",
        flows,
        frame: frame(protocol, VIP, 80),
        returns: TX,
        nanos: Measured::new(format!("hit: {protocol}, snat, {} flows", grouped(count)), "ns"),
    };
    vec![hit(Protocol::Tcp), hit(Protocol::Udp)]
}

/// What the program leaves as it is needs no varying.
fn others() -> Vec<Case> {
    let other = |name: &str, frame, returns| Case {
        program: "forward_fixed",
        flows: 1,
        frame,
        returns,
        nanos: Measured::new(name, "ns"),
    };
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    vec![
        other("miss: not ours", frame(Protocol::Tcp, [198, 51, 100, 1], 80), PASS),
        other("miss: virtual service", frame(Protocol::Tcp, VIP, 80), DROP),
        other("not IPv4: ARP", arp, PASS),
    ]
}

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;

/// The entry of the flow that `vary` in lb-ebpf/src/bench.rs makes packets of.
fn direction(number: u32, protocol: Protocol) -> Direction {
    let [_, a, b, c] = number.to_be_bytes();
    let from = EndpointsV4 {
        source: [10, a, b, c],
        destination: VIP,
        source_port: Port::new(1024),
        destination_port: Port::new(80),
    };
    let to = EndpointsV4 {
        source: [192, 0, 2, 9],
        destination: [172, 16, b, c],
        source_port: Port::new(5000),
        destination_port: Port::new(8080),
    };
    let entry =
        Entry { next_hop: NextHopId(1), rewrite: RewriteV4::new(&from, &to), ..Entry::default() };
    Direction { key: FlowKeyV4::new(&from, protocol), entry, activity: Activity::default() }
}

/// A frame of 64 bytes to `destination`.
fn frame(protocol: Protocol, destination: [u8; 4], port: u16) -> Vec<u8> {
    let mut frame = vec![0; 64];
    frame[12] = 8;
    frame[14] = 0x45;
    frame[17] = 50;
    frame[22] = 64;
    frame[23] = protocol.number();
    frame[26..30].copy_from_slice(&Ipv4Addr::new(203, 0, 113, 7).octets());
    frame[30..34].copy_from_slice(&destination);
    frame[34..36].copy_from_slice(&1024u16.to_be_bytes());
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    match protocol {
        Protocol::Tcp => (frame[46], frame[47]) = (5 << 4, 0x10),
        Protocol::Udp => frame[39] = 30,
    }
    // Not zero: a UDP checksum of zero is left alone, which costs less.
    frame[40..42].copy_from_slice(&[0x12, 0x34]);
    frame
}

fn grouped(number: u32) -> String {
    match number {
        n if n >= 1 << 20 => format!("{} Mi", n >> 20),
        n if n >= 1 << 10 => format!("{} Ki", n >> 10),
        n => n.to_string(),
    }
}

fn report(cases: &[Case]) -> Result<()> {
    let [control, _, vary, ..] = cases else { return Ok(()) };
    let (control, vary) = (control.nanos.median(), vary.nanos.median());
    let mut report = Report::new("program");
    Report::heading("ns a packet");
    for case in cases {
        // A hit's ratio is that of the program alone.
        let varied = case.program == "forward_varied";
        let own = case.nanos.median() - if varied { vary - control } else { 0.0 };
        report.add(&case.nanos, "control: return XDP_TX", own / control);
    }
    println!(
        "\nRatio: to returning XDP_TX. The ratio of a hit is without what varying the packet \
         costs ({:.1} ns).",
        vary - control
    );
    report.write()
}
