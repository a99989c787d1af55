//! A case is data: what it shows, the packet, and all that must come of it.

use lb_common::{event::Event, flow::FlowKeyV4, path::Verdict};

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
}

/// Sends the packets, one after the other, through both runners.
pub fn check(setup: &Setup, cases: &[Case]) {
    let memory = Memory::new(setup);
    let mut program = lb_tests::require_root().then(|| Program::load(setup, 1));
    for case in cases {
        case.check(&memory, program.as_mut());
    }
}

/// The same after a configuration in which no address means anything.
pub fn check_after_removal(setup: &Setup, cases: &[Case]) {
    let mut memory = Memory::new(setup);
    memory.forget_addresses();
    let mut program = lb_tests::require_root().then(|| Program::load(setup, 1));
    program.iter_mut().for_each(Program::forget_addresses);
    for case in cases {
        case.check(&memory, program.as_mut());
    }
}
