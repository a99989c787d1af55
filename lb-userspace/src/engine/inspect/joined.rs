//! Both sides are there, and what was collected is on its way to the server.
//!
//! This is the splice already, but for the client's numbers up to the end of what is delivered:
//! those are answered here and never forwarded.

use std::time::Duration;

use lb_common::splice::{Handshakes, Sender};

use super::{
    Action, Side, Start,
    collector::Collector,
    delivery::{Carried, Delivery},
    opening::Connected,
    segment::{Flags, Outgoing, Segment, SequenceNumber, number},
};

/// Windows are no wider than this (RFC 7323 §2.3): numbers farther away belong to nobody.
const FARTHEST: u32 = 1 << 30;

/// Numbers are those of the side that sends them, the server's own for the server.
#[derive(Clone, Debug)]
pub struct Joined {
    handshakes: Handshakes,
    delivery: Delivery,
    /// Behind the last that the server has sent.
    server_end: SequenceNumber,
    /// What the client has acknowledged of that.
    acknowledged: SequenceNumber,
    /// Behind the last that the client has sent.
    client_end: SequenceNumber,
    /// Window field of the client's last segment.
    client_window: u16,
    until: Duration,
}

type Actions = Vec<Action>;

impl Joined {
    /// The server has answered. What is in the collector now is what is delivered.
    pub fn new(
        start: &Start,
        collector: &Collector,
        connected: &Connected,
        now: Duration,
        until: Duration,
    ) -> Self {
        let stream = collector.stream();
        let first = start.client.plus(1);
        let (length, fin) = (number(stream.prefix().len()), stream.is_complete());
        let handshakes = Handshakes {
            cookie: start.cookie.0,
            server: connected.initial.0,
            client_scales: start.agreed.scales(),
            server_scale: connected.scale,
        };
        Self {
            handshakes,
            delivery: Delivery::new(first, length, fin, connected, now),
            server_end: connected.initial.plus(1),
            acknowledged: connected.initial.plus(1),
            client_end: collector.next(),
            client_window: collector.offered(),
            until,
        }
    }

    /// Completes the handshake with the server, and begins to deliver.
    pub fn begin(&mut self, actions: &mut Actions) {
        let before = actions.len();
        self.deliver(actions, Delivery::send);
        if actions.len() == before {
            self.acknowledge_server(actions);
        }
    }

    /// Whether nothing is left to do but to forward.
    pub fn is_done(&self) -> bool {
        self.delivery.is_done()
    }

    /// What says how both sides' packets are translated.
    pub fn handshakes(&self) -> Handshakes {
        self.handshakes
    }

    /// When there is something to do.
    pub fn due(&self) -> Duration {
        self.delivery.due().min(self.until)
    }

    /// Whether the time is over.
    pub fn is_late(&self, now: Duration) -> bool {
        now >= self.until
    }

    /// Repeats what is due.
    pub fn tick(&mut self, now: Duration, actions: &mut Actions) {
        self.deliver(actions, |delivery, carried, segments| {
            delivery.tick(now, carried, segments);
        });
    }

    /// A router on the way to the server takes smaller packets only.
    pub fn too_big(&mut self, quoted: SequenceNumber, mtu: u16, actions: &mut Actions) {
        if quoted.since(self.delivery.start()) < self.delivery.end().since(self.delivery.start()) {
            self.deliver(actions, |delivery, carried, segments| {
                delivery.too_big(mtu, carried, segments);
            });
        }
    }

    /// Takes a segment from the client. True if it ends the connection.
    pub fn client(
        &mut self,
        segment: &Segment<'_>,
        collector: &mut Collector,
        now: Duration,
        actions: &mut Actions,
    ) -> bool {
        let flags = segment.flags;
        if flags.syn {
            collector.challenge(now);
            return false;
        }
        if segment.sequence.is_before(self.delivery.end()) {
            self.answer_old(segment, collector, now);
            return false;
        }
        let ends = flags.rst && segment.sequence.is_within(self.delivery.end(), self.client_end);
        if !flags.rst {
            self.follow_client(segment);
        }
        self.forward(Side::Server, ends, actions);
        ends
    }

    /// Data again that was acknowledged, or a segment from before: the acknowledgement was lost.
    fn answer_old(&self, segment: &Segment<'_>, collector: &mut Collector, now: Duration) {
        if segment.flags.rst {
            return;
        }
        if segment.length() > 0 {
            collector.acknowledge(now);
        } else {
            collector.challenge(now);
        }
    }

    fn follow_client(&mut self, segment: &Segment<'_>) {
        if segment.sequence.since(self.delivery.end()) < FARTHEST {
            self.client_end = later(self.client_end, segment.end());
        }
        let acknowledged = self.translated(Sender::Client, segment.acknowledgement);
        if segment.flags.ack && acknowledged.is_within(self.acknowledged, self.server_end) {
            self.acknowledged = acknowledged;
            self.client_window = segment.window;
        }
    }

    /// Takes a segment from the server. True if it ends the connection.
    pub fn server(&mut self, segment: &Segment<'_>, now: Duration, actions: &mut Actions) -> bool {
        let flags = segment.flags;
        if flags.syn {
            // Our acknowledgement was lost, and nothing since has told it.
            self.acknowledge_server(actions);
            return false;
        }
        if flags.rst {
            let ends = segment.sequence.is_within(self.acknowledged, self.server_end);
            self.forward(Side::Client, ends, actions);
            return ends;
        }
        self.follow_server(segment);
        if flags.ack {
            let highest = self.client_end;
            self.deliver(actions, |delivery, carried, segments| {
                delivery.receive(segment, highest, now, carried, segments);
            });
        }
        // An acknowledgement of a part tells the client less than it knows.
        let is_done = self.is_done();
        if segment.length() > 0 || is_done {
            self.forward(Side::Client, is_done, actions);
        }
        is_done
    }

    fn follow_server(&mut self, segment: &Segment<'_>) {
        let window = self.client_bytes();
        if segment.end().since(self.acknowledged) <= window {
            self.server_end = later(self.server_end, segment.end());
        }
    }

    /// How much the client takes.
    fn client_bytes(&self) -> u32 {
        u32::from(self.client_window)
            << self.handshakes.client_scales.map_or(0, |scales| scales.its_own)
    }

    fn forward(&self, to: Side, ends: bool, actions: &mut Actions) {
        if ends {
            actions.push(Action::Splice(self.handshakes));
        }
        actions.push(Action::Forward(to));
    }

    fn deliver(
        &mut self,
        actions: &mut Actions,
        step: impl FnOnce(&mut Delivery, Carried, &mut Vec<Outgoing>),
    ) {
        let (carried, mut segments) = (self.carried(), Vec::new());
        step(&mut self.delivery, carried, &mut segments);
        actions.extend(segments.into_iter().map(|segment| Action::Send(Side::Server, segment)));
    }

    fn carried(&self) -> Carried {
        let window = self.handshakes.splice(Sender::Client).window(self.client_window);
        Carried { acknowledgement: self.acknowledged, window }
    }

    fn acknowledge_server(&self, actions: &mut Actions) {
        let Carried { acknowledgement, window } = self.carried();
        let sequence = self.delivery.next();
        let flags = Flags::ACK;
        let segment = Outgoing { sequence, acknowledgement, flags, window, ..Outgoing::default() };
        actions.push(Action::Send(Side::Server, segment));
    }

    /// The number of a segment to the client that carries nothing: behind all that the server has
    /// sent it.
    pub fn next_to_client(&self) -> SequenceNumber {
        self.translated(Sender::Server, self.server_end)
    }

    /// A number of the server's that one side names so, as the other knows it.
    fn translated(&self, sender: Sender, number: SequenceNumber) -> SequenceNumber {
        SequenceNumber(self.handshakes.splice(sender).number(number.0))
    }

    /// The server's window, as the client is to read it.
    pub fn window_to_client(&self) -> u16 {
        let shift = self.handshakes.client_scales.map_or(0, |scales| scales.ours);
        let window = self.delivery.window();
        u16::try_from((window >> shift).max(window.min(1))).unwrap_or(u16::MAX)
    }

    /// The reset that ends the server's side.
    pub fn reset_server(&self) -> Outgoing {
        Outgoing { sequence: self.delivery.next(), flags: Flags::RST, ..Outgoing::default() }
    }
}

fn later(one: SequenceNumber, other: SequenceNumber) -> SequenceNumber {
    if one.is_before(other) { other } else { one }
}
