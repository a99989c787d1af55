//! A case is data: what it shows, the packet, and all that must come of it.

use lb_common::{
    event::Event,
    flow::FlowKeyV4,
    path::Verdict,
    wire::{ETHERNET, IPV4},
};

use crate::{
    memory::Memory,
    observed::{self, Observed, Touch},
    packet::{Packet, checksums_hold},
    program::Program,
    setup::Setup,
};

/// One packet, and what must come of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The packet.
    pub input: Vec<u8>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The packet afterwards.
    pub output: Vec<u8>,
    /// Which slot it is counted in.
    pub touched: Option<(FlowKeyV4, Touch)>,
}

impl Case {
    /// One that ends as it came, and is counted as an event.
    fn kept(name: impl Into<String>, input: Vec<u8>, verdict: Verdict) -> Self {
        Self { name: name.into(), output: input.clone(), input, verdict, touched: None }
    }

    /// One that is passed to the kernel.
    pub fn pass(name: impl Into<String>, input: Vec<u8>, event: Event) -> Self {
        Self::kept(name, input, Verdict::Pass(event))
    }

    /// One that a worker decides about.
    pub fn punt(name: impl Into<String>, input: Vec<u8>, event: Event) -> Self {
        Self::kept(name, input, Verdict::Punt(event))
    }

    /// One that ends here.
    pub fn drop(name: impl Into<String>, input: Vec<u8>, event: Event) -> Self {
        Self::kept(name, input, Verdict::Drop(event))
    }

    /// One that leaves as `output` describes, and is counted in its flow's slot.
    pub fn forwarded(name: &str, input: &Packet, output: &Packet, verdict: Verdict) -> Self {
        let (bytes, flags) = (input.bytes(), input.tcp_flags());
        let touch = Touch {
            packets: 1,
            bytes: bytes.len() as u64,
            fin: flags.fin(),
            rst: flags.rst(),
            on_time: true,
        };
        Self {
            name: name.to_owned(),
            input: bytes,
            verdict,
            output: output.bytes(),
            touched: Some((input.key(), touch)),
        }
    }

    /// One that is made into an answer.
    pub fn answered(
        name: impl Into<String>,
        input: &Packet,
        output: &Packet,
        event: Event,
    ) -> Self {
        let output = output.bytes();
        Self { output, ..Self::kept(name, input.bytes(), Verdict::Answer(event)) }
    }

    fn expected(&self) -> Observed {
        let (action, events) = observed::consequence(self.verdict);
        let touched = self.touched.into_iter().collect();
        Observed { action, bytes: self.output.clone(), events, touched }
    }

    fn check(&self, memory: &Memory, program: Option<&mut Program>) {
        let expected = self.expected();
        let (verdict, observed) = memory.run(&self.input);
        assert_eq!(verdict, self.verdict, "{}: in memory", self.name);
        assert_eq!(observed, expected, "{}: in memory", self.name);
        if self.touched.is_some() || matches!(verdict, Verdict::Answer(_)) {
            assert_eq!(checksums_hold(&observed.bytes), Some(true), "{}: checksums", self.name);
        }
        if let Some(program) = program {
            assert_eq!(program.run(&self.input), expected, "{}: by the program", self.name);
        }
    }

    /// As a socket buffer: what is forwarded is so too, if no tag is in the way, and all else is passed or
    /// dropped as here, or punted.
    fn check_buffer(&self, memory: &Memory, program: Option<&mut Program>) {
        let (verdict, expected) = memory.run_buffer(&self.input);
        let tagged = [&self.input, &self.output].into_iter().any(|frame| is_tagged(frame));
        let forwards = matches!(self.verdict, Verdict::Transmit | Verdict::Redirect { .. });
        if forwards && !tagged {
            let all = (verdict, &expected.bytes, expected.touched.first());
            let wanted = (self.verdict, &self.output, self.touched.as_ref());
            assert_eq!(all, wanted, "{}: as a socket buffer", self.name);
        } else {
            let is_fine = verdict == self.verdict || matches!(verdict, Verdict::Punt(_)) || tagged;
            assert!(is_fine, "{}: as a socket buffer: {verdict:?}", self.name);
            assert_eq!(expected.bytes, self.input, "{}: as a socket buffer", self.name);
        }
        // The kernel makes no socket buffer of less than Ethernet, nor of a cut IPv4 header.
        let is_whole = self.input.len() >= ETHERNET + IPV4;
        if let Some(program) = program.filter(|_| is_whole) {
            let observed = program.run_buffer(&self.input);
            assert_eq!(observed, expected, "{}: by the program for socket buffers", self.name);
        }
    }
}

fn is_tagged(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x81, 0])
}

/// The runners, each with state of its own.
struct Runners {
    memories: [Memory; 2],
    programs: Option<[Program; 2]>,
}

impl Runners {
    fn new(setup: &Setup) -> Self {
        let programs = lb_tests::require_root()
            .then(|| [Program::load(setup, 1), Program::load_buffers(setup, 1)]);
        Self { memories: [(); 2].map(|()| Memory::new(setup)), programs }
    }

    fn check(&mut self, cases: &[Case]) {
        let (packets, buffers) = match &mut self.programs {
            Some([packets, buffers]) => (Some(packets), Some(buffers)),
            None => (None, None),
        };
        let (mut packets, mut buffers) = (packets, buffers);
        for case in cases {
            case.check(&self.memories[0], packets.as_deref_mut());
            case.check_buffer(&self.memories[1], buffers.as_deref_mut());
        }
    }
}

/// Sends the packets, one after the other, through all runners.
pub fn check(setup: &Setup, cases: &[Case]) {
    Runners::new(setup).check(cases);
}

/// The same after a configuration in which no address means anything.
pub fn check_after_removal(setup: &Setup, cases: &[Case]) {
    let mut runners = Runners::new(setup);
    runners.memories.iter_mut().for_each(Memory::forget_addresses);
    runners.programs.iter_mut().flatten().for_each(Program::forget_addresses);
    runners.check(cases);
}
