//! Any segments, in any state: nothing panics, memory stays bounded, the script's bytes stay what
//! they were, and it ends in time.
//!
//! `cargo xtask fuzz` runs it longer.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::testing::cases;

/// A number near one that means something, or any.
fn number() -> impl Strategy<Value = SequenceNumber> {
    let near = prop_oneof![Just(CLIENT), Just(COOKIE), Just(SERVER), Just(CLIENT + 65_000)];
    let near = (near, -2000i32..4000).prop_map(|(number, by)| number.wrapping_add_signed(by));
    let exact = prop_oneof![Just(CLIENT), Just(COOKIE), Just(SERVER)].prop_map(|at| at + 1);
    prop_oneof![4 => exact, 4 => near, 1 => any::<u32>()].prop_map(SequenceNumber)
}

fn flags() -> impl Strategy<Value = Flags> {
    let any =
        any::<[bool; 5]>().prop_map(|[ack, psh, rst, syn, fin]| Flags { ack, psh, rst, syn, fin });
    prop_oneof![12 => Just(Flags::ACK), 2 => Just(FIN), 2 => Just(SYN_ACK), 1 => any]
}

#[derive(Clone, Debug)]
struct Arbitrary {
    sequence: SequenceNumber,
    acknowledgement: SequenceNumber,
    flags: Flags,
    window: u16,
    options: Options,
    length: usize,
}

impl Arbitrary {
    fn segment(&self) -> Segment<'static> {
        static PAYLOAD: [u8; 70_000] = [7; 70_000];
        Segment {
            sequence: self.sequence,
            acknowledgement: self.acknowledgement,
            flags: self.flags,
            window: self.window,
            options: self.options,
            payload: &PAYLOAD[..self.length],
        }
    }
}

fn segment() -> impl Strategy<Value = Arbitrary> {
    let length = prop_oneof![4 => Just(0), 8 => 1usize..1500, 1 => 0usize..70_000];
    let options = (any::<Option<u16>>(), any::<Option<u8>>(), any::<bool>()).prop_map(
        |(mss, window_scale, sack_permitted)| Options { mss, window_scale, sack_permitted },
    );
    (number(), number(), flags(), any::<u16>(), options, length).prop_map(
        |(sequence, acknowledgement, flags, window, options, length)| Arbitrary {
            sequence,
            acknowledgement,
            flags,
            window,
            options,
            length,
        },
    )
}

#[derive(Clone, Debug)]
enum Event {
    Client(Arbitrary),
    /// The next bytes of the stream, so that there is progress.
    InOrder(usize),
    Server(Arbitrary),
    /// What a server says that is well.
    Accept,
    Acknowledge(u16),
    Icmp(SequenceNumber, Option<u16>),
    Decided(Decision),
    Pass(Duration),
}

fn event() -> impl Strategy<Value = Event> {
    let decision = prop_oneof![
        3 => Just(Decision::Connect),
        3 => (0usize..70_000).prop_map(Decision::Collect),
        1 => Just(Decision::Refuse),
        1 => Just(Decision::Close),
    ];
    prop_oneof![
        8 => segment().prop_map(Event::Client),
        6 => (0usize..3000).prop_map(Event::InOrder),
        6 => segment().prop_map(Event::Server),
        2 => Just(Event::Accept),
        2 => any::<u16>().prop_map(Event::Acknowledge),
        1 => (number(), any::<Option<u16>>()).prop_map(|(quoted, mtu)| Event::Icmp(quoted, mtu)),
        4 => decision.prop_map(Event::Decided),
        4 => (0u64..3000).prop_map(|millis| Event::Pass(Duration::from_millis(millis))),
    ]
}

/// Follows an inspection and objects to what must not be.
struct Watch {
    inspection: Inspection,
    now: Duration,
    payload: Vec<u8>,
    ends: usize,
}

impl Watch {
    fn step(&mut self, input: Input<'_>) -> Result<(), TestCaseError> {
        let was_over = self.inspection.is_over();
        let mut actions = Vec::new();
        self.inspection.step(self.now, input, &mut actions);
        prop_assert!(!was_over || actions.is_empty(), "after the end {actions:?}");
        actions.iter().try_for_each(|action| self.check(action))?;
        let to_client = |action: &&Action| matches!(action, Action::Send(Side::Client, _));
        prop_assert!(actions.iter().filter(to_client).count() <= 2, "{actions:?}");

        let memory = self.inspection.memory();
        prop_assert!(memory <= 2 * LIMIT + 4096, "{memory} bytes");
        prop_assert!(self.inspection.payload().starts_with(&self.payload));
        self.payload = self.inspection.payload().to_vec();
        let is_over = self.inspection.is_over();
        prop_assert_eq!(self.ends, usize::from(is_over));
        match self.inspection.wakes_at() {
            Some(at) => prop_assert!(!is_over && at > self.now, "{at:?} at {:?}", self.now),
            None => prop_assert!(is_over),
        }
        Ok(())
    }

    fn check(&mut self, action: &Action) -> Result<(), TestCaseError> {
        match action {
            Action::Send(side, segment) => {
                let bytes = self.inspection.payload().get(segment.payload.clone());
                prop_assert!(bytes.is_some_and(|bytes| bytes.len() <= 1460), "{segment:?}");
                let offset = segment.sequence.since(SequenceNumber(CLIENT + 1)) as usize;
                let is_client = *side == Side::Client && segment.payload.is_empty();
                let is_right = segment.payload.is_empty() || segment.payload.start == offset;
                prop_assert!(is_client || (*side == Side::Server && is_right), "{segment:?}");
            }
            Action::Splice(_) | Action::End(_) => self.ends += 1,
            Action::Decide(_) | Action::ServerFailed(_) | Action::Forward(..) => {}
        }
        Ok(())
    }

    fn happen(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match event {
            Event::Client(segment) => self.step(Input::Client(&segment.segment())),
            Event::InOrder(length) => {
                let payload = vec![1; *length];
                let offset = i32::try_from(self.payload.len()).unwrap();
                self.step(Input::Client(&from_client(offset, &payload)))
            }
            Event::Server(segment) => self.step(Input::Server(&segment.segment())),
            Event::Accept => self.step(Input::Server(&syn_ack())),
            Event::Acknowledge(count) => {
                let acknowledged =
                    u32::from(*count).min(u32::try_from(self.payload.len()).unwrap());
                self.step(Input::Server(&from_server(0, acknowledged, b"")))
            }
            Event::Icmp(quoted, None) => self.step(Input::Unreachable(*quoted)),
            Event::Icmp(quoted, Some(mtu)) => {
                self.step(Input::TooBig { quoted: *quoted, mtu: *mtu })
            }
            Event::Decided(decision) => self.step(Input::Decided(*decision)),
            Event::Pass(time) => {
                self.now += *time;
                self.step(Input::Timer)
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(128)))]

    #[test]
    fn arbitrary_segments_do_no_harm(
        scale: Option<u8>, sack: bool, mss: u16, need in 0usize..2000,
        silent in prop::option::of(0u64..5000),
        events in vec(event(), 1..200),
    ) {
        let agreed = agreed(mss.min(1460), scale, sack);
        let no_payload = silent.map(Duration::from_millis);
        let now = 100 * SECOND;
        let limits = Limits { no_payload, ..limits() };
        let inspection = Inspection::new(Start { agreed, need, ..start() }, limits, now);
        let mut watch = Watch { inspection, now, payload: Vec::new(), ends: 0 };
        for event in &events {
            watch.happen(event)?;
        }
        let last = watch.now;
        while let Some(at) = watch.inspection.wakes_at() {
            watch.now = at;
            watch.step(Input::Timer)?;
        }
        let most = limits.collecting.max(limits.opening).max(limits.delivering);
        prop_assert!(watch.now - last <= most, "it took {:?}", watch.now - last);
    }
}
