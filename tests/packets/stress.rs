//! The real program reads the table while workers rewrite it. No packet may leave with parts of
//! two rewrites.
//!
//! Every rewrite has a number, and all of its parts tell it: addresses, ports, checksums, next
//! hop. Each flow has a reply that turns its packets back, so that one test run of many
//! repetitions sends a packet to and fro, through whatever is written meanwhile.

use std::{
    collections::HashSet,
    fmt, iter, mem,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::{
    address::{
        Address,
        Protocol::{Tcp, Udp},
    },
    flow::{Activity, FlowRecord},
    next_hop::NextHopId,
    rewrite::EndpointsV4,
    service::Roles,
};
use lb_userspace::{
    datapath::{AddressRoles, wait_for_grace_period},
    flow_table::{Direction, FlowTable, SlotId},
};

use crate::{
    packet::{Packet, checksums_hold, endpoints, read},
    program::Program,
    setup::{CLIENT, Flow, LOOPBACK, OWN, PORT, Setup, VIP, mac, next_hop},
};

/// Flows of each writer.
const FLOWS: u32 = 8;
/// Next hops of each direction.
const WAYS: u32 = 8;
const TTL: u8 = 64;
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers rewrites; each number once.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// How a writer gives slots back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    /// As workers do: after a grace period.
    Patient,
    /// At once. The version alone must keep readers from what is half written; only a count may
    /// reach the wrong flow.
    Hasty,
}

/// Packets of this flow, before any rewrite.
fn original(flow: u32) -> EndpointsV4 {
    let port = 1000 + u16::try_from(flow).unwrap();
    endpoints((CLIENT, port), (VIP, PORT))
}

/// A number for the next rewrite of a flow, from which the flow can be told.
fn next_number(flow: u32) -> u32 {
    NEXT.fetch_add(1, Ordering::Relaxed) * 2 * FLOWS + flow
}

/// What packets become by the rewrite of this number.
fn rewritten(number: u32) -> EndpointsV4 {
    let [a, b, c, d] = number.to_be_bytes();
    let ports = [u16::from_be_bytes([c, d]), u16::from_be_bytes([a, b])];
    endpoints(([a, b, c, d], ports[0]), ((!number).to_be_bytes(), ports[1]))
}

/// There, and back.
fn ways(number: u32) -> [NextHopId; 2] {
    [1 + number % WAYS, 1 + WAYS + number % WAYS].map(NextHopId)
}

fn directions(flow: u32, number: u32) -> [Direction; 2] {
    let protocol = if flow.is_multiple_of(2) { Tcp } else { Udp };
    let (from, to) = (original(flow), rewritten(number));
    let [there, back] = ways(number);
    let flows = [Flow::new(protocol, from, to).by(there), Flow::new(protocol, to, from).by(back)];
    flows.map(|flow| Direction {
        key: flow.key(),
        entry: flow.entry(),
        activity: Activity::default(),
    })
}

/// Replaces its flows' rewrites, one after the other, until told to stop.
fn write(
    (table, addresses): (&FlowTable, &AddressRoles),
    flows: impl Iterator<Item = u32>,
    manner: Manner,
    stop: &AtomicBool,
) {
    let mut flows: Vec<(u32, Option<SlotId>)> = flows.zip(iter::repeat(None)).collect();
    let mut retired = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for (flow, slot) in &mut flows {
            let old = slot.take().inspect(|old| assert!(table.retire(*old)));
            retired.extend(old);
            if manner == Manner::Hasty {
                mem::take(&mut retired).into_iter().for_each(|old| table.free(old));
            }
            // A full neighbourhood leaves the flow out for a round.
            let number = next_number(*flow);
            let server = Address::v4(rewritten(number).destination);
            addresses.expect(&server, Roles::DNAT_SERVER);
            let [there, back] = directions(*flow, number);
            *slot = table.insert(&there, Some(&back), &FlowRecord::default()).ok();
        }
        if manner == Manner::Patient {
            wait_for_grace_period();
            mem::take(&mut retired).into_iter().for_each(|old| table.free(old));
        }
    }
}

/// What the reader has seen.
#[derive(Default)]
struct Seen {
    runs: u32,
    untouched: u32,
    turned_back: u32,
    /// Numbers of rewrites, by the writer's manner.
    patient: HashSet<u32>,
    hasty: HashSet<u32>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, untouched, turned_back, patient, hasty } = self;
        let [patient, hasty] = [patient, hasty].map(HashSet::len);
        write!(f, "{runs} runs, {untouched} untouched, {turned_back} turned back; ")?;
        write!(f, "{patient} rewrites of the patient and {hasty} of the hasty writer")
    }
}

impl Seen {
    fn enough(&self) -> bool {
        let numbers = self.patient.len() >= 20 && self.hasty.len() >= 200;
        self.runs >= 20_000 && numbers && self.turned_back > 0
    }

    /// Fails unless every part of the packet is of one rewrite.
    fn judge(&mut self, flow: u32, sent: &Packet, repeat: u8, frame: &[u8]) {
        self.runs += 1;
        let (endpoints, ttl) = read(frame).expect("headers stay headers");
        let hops = TTL - ttl;
        assert!(hops <= repeat, "{hops} hops in {repeat} runs");
        if hops == 0 {
            self.untouched += 1;
            assert_eq!(frame, sent.bytes(), "neither rewritten nor as it came");
            return;
        }
        let there = hops % 2 == 1;
        let (becomes, destination) = if there {
            let number = u32::from_be_bytes(endpoints.source);
            assert_eq!(number % (2 * FLOWS), flow, "another flow's rewrite");
            if flow < FLOWS { &mut self.patient } else { &mut self.hasty }.insert(number);
            (rewritten(number), mac(ways(number)[0]))
        } else {
            self.turned_back += 1;
            let hop = frame.first_chunk().copied().unwrap();
            assert!((0..WAYS).any(|number| mac(ways(number)[1]) == hop), "{hop:?} leads there");
            (original(flow), hop)
        };
        let macs = [destination, OWN];
        let whole = Packet { macs, ttl, endpoints: becomes, ..sent.clone() };
        assert_eq!(frame, whole.bytes(), "parts of two rewrites");
        assert_eq!(checksums_hold(frame), Some(true));
    }
}

fn forward(program: &Xdp, packet: &[u8], repeat: u8) -> Vec<u8> {
    let mut output = vec![0; packet.len()];
    let options = TestRunOptions {
        data_in: Some(packet),
        data_out: Some(&mut output),
        repeat: repeat.into(),
        ..TestRunOptions::default()
    };
    let result = program.test_run(options).unwrap();
    assert_eq!(result.data_size_out as usize, packet.len());
    output
}

fn read_along(program: &Xdp, seen: &mut Seen) {
    let start = Instant::now();
    while !seen.enough() {
        assert!(start.elapsed() < PATIENCE, "too little was seen: {seen}");
        for flow in 0..2 * FLOWS {
            let protocol = if flow.is_multiple_of(2) { Tcp } else { Udp };
            let packet = Packet::of(protocol, original(flow)).ttl(TTL);
            // The kernel waits for its RCU around every run that repeats: few of these.
            for repeat in iter::repeat_n(1, 200).chain([30, 31]) {
                let frame = forward(program, &packet.bytes(), repeat);
                seen.judge(flow, &packet, repeat, &frame);
            }
        }
    }
}

/// Sets the flag when dropped, so that writers stop also when a reader's assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_packet_leaves_with_parts_of_two_rewrites() {
    if !lb_tests::require_root() {
        return;
    }
    let ways = (1..=2 * WAYS).map(NextHopId);
    let next_hops = ways.map(|id| (id, next_hop(id, LOOPBACK, 0))).collect();
    let mut program = Program::load(&Setup { next_hops, ..Setup::new([]) }, 1);
    let (program, table, addresses) = program.parts();
    let maps = (table, addresses);
    let (stop, mut seen) = (AtomicBool::new(false), Seen::default());
    thread::scope(|scope| {
        scope.spawn(|| write(maps, 0..FLOWS, Manner::Patient, &stop));
        scope.spawn(|| write(maps, FLOWS..2 * FLOWS, Manner::Hasty, &stop));
        let _stop = Stop(&stop);
        read_along(program, &mut seen);
    });
    println!("{seen}");
}
