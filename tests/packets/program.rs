//! The loaded program as a runner, by `BPF_PROG_TEST_RUN`.

use std::{
    collections::HashMap,
    iter, process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use lb_common::{address::Address, event::Event, next_hop::NextHopTarget};
use lb_userspace::{
    datapath::{AddressRoles, Datapath, EventCounts, Options, Pins},
    flow_table::FlowTable,
};

use crate::{
    observed::{self, Observed},
    setup::{LOOPBACK, SECRETS, Setup},
};

static NEXT: AtomicU32 = AtomicU32::new(0);
/// The folder of all instances goes with the last one: not while another is being made.
static LOADING: Mutex<()> = Mutex::new(());

/// Removes an instance's pins, also when loading fails or panics. Once loaded, the program and
/// the maps live by their file descriptors: a test that is killed leaves nothing.
struct Unpin(Pins);

impl Drop for Unpin {
    fn drop(&mut self) {
        let removed = self.0.remove();
        assert!(removed.is_ok() || std::thread::panicking(), "pins are left: {removed:?}");
    }
}

/// What a packet comes in with.
#[derive(Clone, Copy, Default, Debug)]
pub struct Arrival {
    /// Interface index; 0 stands for the loopback interface.
    pub interface: u32,
    /// Receive queue.
    pub queue: u32,
    /// Bytes in front of the packet that are taken up by metadata.
    pub metadata: u32,
}

impl Arrival {
    /// `struct xdp_md` of linux/bpf.h: data, data_end, data_meta, interface, queue, way out.
    fn context(self, length: usize) -> [u8; 24] {
        let data_end = u32::try_from(length).unwrap();
        let words = [self.metadata, data_end, 0, self.interface, self.queue, 0];
        words.map(u32::to_ne_bytes).concat().try_into().unwrap()
    }
}

/// The program over maps that hold a [`Setup`].
pub struct Program {
    datapath: Datapath,
    table: FlowTable,
    events: EventCounts,
    addresses: AddressRoles,
}

impl Program {
    /// Loads it.
    pub fn load(setup: &Setup, flow_capacity: u32) -> Self {
        Self::new(setup, flow_capacity, |datapath| datapath.program().unwrap().load())
    }

    /// Loads the one for socket buffers.
    pub fn load_buffers(setup: &Setup, flow_capacity: u32) -> Self {
        Self::new(setup, flow_capacity, |datapath| datapath.buffers().unwrap().load())
    }

    fn new(
        setup: &Setup,
        flow_capacity: u32,
        load_program: impl FnOnce(&mut Datapath) -> Result<(), ProgramError>,
    ) -> Self {
        // The table's seed is made at random, and a flow's two buckets may be one.
        let mut datapath = iter::repeat_with(|| load(flow_capacity))
            .find(|datapath| setup.fits(&datapath.geometry()))
            .expect("an endless iterator");
        load_program(&mut datapath).unwrap();
        let memory = datapath.map_flow_table().unwrap();
        let table = FlowTable::new(datapath.geometry(), Box::new(memory));
        setup.fill(&table);
        let mut next_hops = datapath.take_next_hops().unwrap();
        for (id, next_hop) in &setup.next_hops {
            next_hops.set(*id, &host(), next_hop).unwrap();
        }
        datapath.take_services().unwrap().replace(&setup.services()).unwrap();
        datapath.take_client_prefixes().unwrap().replace(&Setup::prefixes()).unwrap();
        let roles = Setup::roles().into_iter().collect();
        let mut addresses = datapath.take_addresses().unwrap();
        addresses.replace(&roles).unwrap();
        let handshakes = datapath.handshakes();
        handshakes.secrets().replace(0, SECRETS.even);
        handshakes.secrets().replace(1, SECRETS.odd);
        handshakes.pressure().set(setup.pressed);
        let events = datapath.take_events().unwrap();
        Self { datapath, table, events, addresses }
    }

    /// As after a configuration in which no address means anything.
    pub fn forget_addresses(&mut self) {
        self.addresses.replace(&HashMap::new()).unwrap();
    }

    /// The program itself, the table that it reads, and the addresses that it looks up.
    pub fn parts(&mut self) -> (&Xdp, &FlowTable, &AddressRoles) {
        (self.datapath.program().unwrap(), &self.table, &self.addresses)
    }

    /// Sends a packet in by the loopback interface.
    pub fn run(&mut self, packet: &[u8]) -> Observed {
        self.run_from(packet, Arrival::default()).unwrap()
    }

    /// Sends a packet in as a socket buffer, by the loopback interface.
    pub fn run_buffer(&mut self, packet: &[u8]) -> Observed {
        let program =
            |datapath: &mut Datapath| test_run_buffer(datapath.buffers().unwrap(), packet);
        self.observe(program).unwrap()
    }

    /// Sends a packet in. Fails if the kernel cannot make it arrive so.
    pub fn run_from(&mut self, packet: &[u8], from: Arrival) -> Result<Observed, ProgramError> {
        self.observe(|datapath| test_run(datapath.program().unwrap(), packet, from))
    }

    fn observe(
        &mut self,
        run: impl FnOnce(&mut Datapath) -> Result<(u32, Vec<u8>), ProgramError>,
    ) -> Result<Observed, ProgramError> {
        let before = self.events.read().unwrap();
        let (ran, touched) = observed::watch(&self.table, || run(&mut self.datapath));
        let (action, bytes) = ran?;
        let after = self.events.read().unwrap();
        let moved =
            after.into_iter().zip(before).map(|((event, after), (_, b))| (event, after - b));
        let events: Vec<(Event, u64)> = moved.filter(|(_, count)| *count != 0).collect();
        Ok(Observed { action, bytes, events, touched })
    }
}

fn load(flow_capacity: u32) -> Datapath {
    let _alone = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let instance = format!("packets-{}-{number}", process::id());
    let _unpin = Unpin(Pins::new(&instance));
    Datapath::prepare(&Options::new(instance, flow_capacity)).unwrap()
}

fn test_run(program: &Xdp, packet: &[u8], from: Arrival) -> Result<(u32, Vec<u8>), ProgramError> {
    let metadata = from.metadata as usize;
    let input = [vec![0; metadata], packet.to_vec()].concat();
    let mut output = vec![0; input.len() + 64];
    let context = from.context(input.len());
    let result = program.test_run(TestRunOptions {
        data_in: Some(&input),
        data_out: Some(&mut output),
        ctx_in: Some(&context),
        ..TestRunOptions::default()
    })?;
    output.truncate(result.data_size_out as usize);
    Ok((result.return_value, output.split_off(metadata)))
}

/// `struct __sk_buff` of linux/bpf.h, as far as the interface.
fn buffer_context() -> [u8; 44] {
    const INTERFACE: usize = 10;
    let mut words = [0; 11];
    words[INTERFACE] = LOOPBACK;
    words.map(u32::to_ne_bytes).concat().try_into().unwrap()
}

fn test_run_buffer(
    program: &SchedClassifier,
    packet: &[u8],
) -> Result<(u32, Vec<u8>), ProgramError> {
    let mut output = vec![0; packet.len() + 64];
    let result = program.test_run(TestRunOptions {
        data_in: Some(packet),
        data_out: Some(&mut output),
        ctx_in: Some(&buffer_context()),
        ..TestRunOptions::default()
    })?;
    output.truncate(result.data_size_out as usize);
    Ok((result.return_value, output))
}

fn host() -> NextHopTarget {
    NextHopTarget {
        address: Address::v4([10, 0, 0, 1]),
        prefix_length: 32,
        kind: NextHopTarget::HOST,
        reserved: [0; 6],
    }
}

#[test]
fn the_verifier_has_little_to_do() {
    if !lb_tests::require_root() {
        return;
    }
    let mut program = Program::load(&Setup::new([]), 1);
    let info = program.datapath.program().unwrap().info().unwrap();
    let verified = info.verified_instruction_count().expect("kernels since 5.16 say it");
    println!("{verified} instructions verified");
    // The kernel's own limit is a million (`BPF_COMPLEXITY_LIMIT_INSNS`).
    assert!(verified < 100_000, "{verified} instructions verified");
}
