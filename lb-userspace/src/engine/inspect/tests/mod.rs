//! The machine on a bench: the client's numbers start at 1000, our cookie is 5000, the server's
//! start at 9000. What it does is told in lines.

mod closing;
mod collecting;
mod deciding;
mod delivering;
mod exchange;
mod hostile;
mod opening;
mod segments;
mod streams;

use lb_common::{splice::Sender, tcp::options::SynOptions as Options};

use super::{segment::Flags, *};

const CLIENT: u32 = 1000;
const COOKIE: u32 = 5000;
const SERVER: u32 = 9000;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

const SYN_ACK: Flags = Flags { syn: true, ..Flags::ACK };
const FIN: Flags = Flags { fin: true, ..Flags::ACK };
const RST_ACK: Flags = Flags { rst: true, ..Flags::ACK };

fn limits() -> Limits {
    Limits {
        idle: 10 * SECOND,
        collecting: 30 * SECOND,
        no_payload: None,
        server: 5 * SECOND,
        opening: 12 * SECOND,
        delivering: 20 * SECOND,
        closing: 8 * SECOND,
    }
}

/// As a cookie keeps it.
fn agreed(mss: u16, window_scale: Option<u8>, sack_permitted: bool) -> Data {
    Data::new(&Options { mss: Some(mss), window_scale, sack_permitted })
}

fn start() -> Start {
    Start {
        client: SequenceNumber(CLIENT),
        cookie: SequenceNumber(COOKIE),
        agreed: agreed(1460, Some(8), true),
        need: 1,
    }
}

/// A segment of the client's, at an offset of its stream.
fn from_client(offset: i32, payload: &[u8]) -> Segment<'_> {
    Segment {
        sequence: SequenceNumber(CLIENT + 1).plus(offset.cast_unsigned()),
        acknowledgement: SequenceNumber(COOKIE + 1),
        flags: Flags::ACK,
        window: 500,
        options: Options::default(),
        payload,
    }
}

/// A segment of the server's, at an offset of its stream, that acknowledges so much of the client's.
fn from_server<'a>(offset: u32, acknowledged: u32, payload: &'a [u8]) -> Segment<'a> {
    Segment {
        sequence: SequenceNumber(SERVER + 1 + offset),
        acknowledgement: SequenceNumber(CLIENT + 1 + acknowledged),
        flags: Flags::ACK,
        window: 1000,
        options: Options::default(),
        payload,
    }
}

fn syn_ack() -> Segment<'static> {
    Segment {
        sequence: SequenceNumber(SERVER),
        flags: SYN_ACK,
        window: 64_000,
        options: Options { mss: Some(1460), window_scale: Some(7), sack_permitted: true },
        ..from_server(0, 0, b"")
    }
}

struct Bench {
    inspection: Inspection,
    now: Duration,
}

impl Bench {
    fn new() -> Self {
        Self::with(start(), limits())
    }

    fn with(start: Start, limits: Limits) -> Self {
        let now = 100 * SECOND;
        Self { inspection: Inspection::new(start, limits, now), now }
    }

    /// With a payload that is decided for a server.
    fn opening(payload: &[u8]) -> Self {
        let mut bench = Self::new();
        bench.client(&from_client(0, payload));
        bench.decide(Decision::Connect);
        bench
    }

    fn step(&mut self, input: Input<'_>) -> Vec<String> {
        let mut actions = Vec::new();
        self.inspection.step(self.now, input, &mut actions);
        actions.iter().map(|action| tell(action, self.inspection.payload())).collect()
    }

    fn client(&mut self, segment: &Segment<'_>) -> Vec<String> {
        self.step(Input::Client(segment))
    }

    fn server(&mut self, segment: &Segment<'_>) -> Vec<String> {
        self.step(Input::Server(segment))
    }

    fn decide(&mut self, decision: Decision) -> Vec<String> {
        self.step(Input::Decided(decision))
    }

    /// Goes on to the time that it wants to wake at; how long that took, and what it did.
    fn wake(&mut self) -> (Duration, Vec<String>) {
        let at = self.inspection.wakes_at().expect("it is not over");
        let after = at - self.now;
        self.now = at;
        (after, self.step(Input::Timer))
    }

    /// Wakes until it does something: after how long in all, and what.
    fn wait(&mut self) -> (Duration, Vec<String>) {
        let began = self.now;
        loop {
            let (_, told) = self.wake();
            if !told.is_empty() {
                return (self.now - began, told);
            }
        }
    }
}

fn tell(action: &Action, payload: &[u8]) -> String {
    match action {
        Action::Send(side, segment) => {
            format!("to {} {}", format!("{side:?}").to_lowercase(), tell_segment(segment, payload))
        }
        Action::Decide(because) => format!("decide: {because:?}"),
        Action::ServerFailed(failure) => format!("failed: {failure:?}"),
        Action::Forward(side) => format!("forward to {}", format!("{side:?}").to_lowercase()),
        Action::Splice(handshakes) => {
            let [client, server] = [Sender::Client, Sender::Server].map(|s| handshakes.splice(s));
            format!("splice {} {} {}", client.delta, server.shift, client.shift)
        }
        Action::End(end) => format!("end: {end:?}"),
    }
}

fn tell_segment(segment: &Outgoing, payload: &[u8]) -> String {
    let Flags { ack, psh, rst, syn, fin } = segment.flags;
    let letters = [(syn, 'S'), (fin, 'F'), (rst, 'R'), (psh, 'P')];
    let mut told: String =
        letters.iter().filter(|(set, _)| *set).map(|(_, letter)| *letter).collect();
    told += &format!(". {}", segment.sequence.0);
    if ack {
        told += &format!(" ack {}", segment.acknowledgement.0);
    }
    if !rst {
        told += &format!(" win {}", segment.window);
    }
    for (first, end) in &segment.blocks {
        told += &format!(" sack {}:{}", first.0, end.0);
    }
    if segment.options != Options::default() {
        let Options { mss, window_scale, sack_permitted } = segment.options;
        told += &format!(" mss {mss:?} scale {window_scale:?} sack {sack_permitted}");
    }
    match &payload[segment.payload.clone()] {
        [] => told,
        bytes if bytes.len() > 20 => told + &format!(" {} bytes", bytes.len()),
        bytes => told + &format!(" '{}'", String::from_utf8_lossy(bytes)),
    }
}
