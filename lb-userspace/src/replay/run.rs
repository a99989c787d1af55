//! The second pass: packet after packet through the simulation.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use lb_common::{address::Protocol, path::Verdict};

use super::{
    ReplayError, Replayed,
    answers::{self, Answers},
    capture::Packet,
    flows::{Beginning, Flows},
    glance::{Glance, has_headers},
    handshakes::{self, Handshakes},
    summary::Summary,
    write::Written,
};
use crate::{
    engine::{Effects, Explanation, Now, Response, Ruling},
    simulation::Simulation,
};

/// How often flows are looked after, in the capture's time: not seldomer than the worker does.
const OFTEN: Duration = Duration::from_millis(100);

/// A replay under way.
pub(super) struct Run {
    simulation: Simulation,
    services: Services,
    answers: Answers,
    handshakes: Handshakes,
    flows: Flows,
    summary: Summary,
    written: Option<Written>,
    effects: Effects,
    clock: Clock,
}

/// Where virtual services listen.
struct Services {
    ends: HashSet<(Protocol, SocketAddr)>,
    addresses: HashSet<IpAddr>,
}

/// The capture's time. It stands still where packets are out of order.
struct Clock {
    first: Duration,
    latest: Duration,
    /// When flows were looked after last.
    ticked: Duration,
}

/// Where a packet belongs.
enum Whose {
    Services,
    Answer,
    /// An answer that waits for its server.
    HeldBack,
    Unasked,
    Nobodys,
}

impl Run {
    pub fn new(simulation: Simulation, first: Duration, written: Option<Written>) -> Self {
        let config = simulation.config();
        let listening = || config.virtual_services.iter();
        let services = Services {
            ends: listening().map(|service| (service.protocol(), service.address)).collect(),
            addresses: listening().map(|service| service.address.ip()).collect(),
        };
        Self {
            services,
            answers: Answers::default(),
            handshakes: Handshakes::default(),
            flows: Flows::default(),
            summary: Summary::new(config),
            written,
            effects: Effects::default(),
            clock: Clock { first, latest: first, ticked: first },
            simulation,
        }
    }

    /// The next packet.
    pub fn packet(&mut self, packet: &mut Packet) -> Result<(), ReplayError> {
        self.summary.packets += 1;
        self.clock.latest = self.clock.latest.max(packet.time);
        self.pass_time();
        let Some(glance) = Glance::at(&packet.frame) else {
            self.summary.not_ipv4 += 1;
            return Ok(());
        };
        let extent = Extent::fill_up(packet, &glance);
        match self.whose(&glance, &mut packet.frame) {
            Whose::Services => {
                self.summary.to_services += 1;
                self.handshakes.translate(&mut packet.frame);
            }
            Whose::HeldBack => {
                self.summary.answers += 1;
                return Ok(());
            }
            Whose::Answer => self.summary.answers += 1,
            Whose::Unasked => {
                self.summary.unasked_answers += 1;
                return Ok(());
            }
            Whose::Nobodys => {
                self.summary.add_foreign(&glance);
                return Ok(());
            }
        }
        self.deliver(packet, &glance, extent)?;
        self.answer_for_server(packet, &glance)
    }

    /// Where an inspected connection has just been led to a server, the server answers as in the
    /// capture.
    fn answer_for_server(&mut self, packet: &Packet, glance: &Glance) -> Result<(), ReplayError> {
        let ends = glance.sender().zip(glance.receiver());
        let (Some((client, vip)), Some(protocol)) = (ends, glance.protocol()) else {
            return Ok(());
        };
        let flow = self.simulation.flow(protocol, client, vip);
        let Some(flow) = flow.filter(|flow| flow.server().is_some()) else { return Ok(()) };
        let Some(mut frame) = self.handshakes.take(&(client, vip)) else { return Ok(()) };
        let Some(glance) = Glance::at(&frame) else { return Ok(()) };
        if !self.answers.turn(&glance, &mut frame, Some(&flow)) {
            return Ok(());
        }
        handshakes::restore(&mut frame);
        let extent = Extent { captured: frame.len(), filled: 0 };
        let answer = Packet { frame, cut: 0, ..*packet };
        self.deliver(&answer, &glance, extent)
    }

    /// Gives a packet to the balancer.
    fn deliver(
        &mut self,
        packet: &Packet,
        glance: &Glance,
        extent: Extent,
    ) -> Result<(), ReplayError> {
        let is_cut = extent.filled > 0;
        if is_cut && !has_headers(&packet.frame, extent.captured) {
            return Err(extent.too_short(packet, "the balancer needs"));
        }
        self.summary.cut += u64::from(is_cut);
        self.effects.clear();
        let now = self.now();
        let verdict = self.simulation.receive(now, &packet.frame, &mut self.effects);
        self.effects.frames().for_each(|sent| self.handshakes.notice(&packet.frame, sent.frame));
        if is_cut && was_read(&self.effects) {
            return Err(extent.too_short(packet, "a script may read"));
        }
        self.summary.add_verdict(glance, verdict);
        self.write(packet, extent.filled)?;
        match verdict {
            Verdict::Drop(_) => self.take_kept_out(packet),
            _ => self.take_decided(packet),
        }
        Ok(())
    }

    fn beginning(&self, packet: &Packet) -> Beginning {
        let offset = packet.time.saturating_sub(self.clock.first);
        Beginning { packet: packet.number, time: packet.time, offset }
    }

    /// What the program refused by itself.
    fn take_kept_out(&mut self, packet: &Packet) {
        let at = self.beginning(packet);
        for explanation in self.effects.explanations.drain(..) {
            let is_new = self.flows.keep_out(at, explanation, packet.frame.len());
            self.summary.flows += u64::from(is_new);
        }
    }

    /// What was decided, and what scripts did.
    fn take_decided(&mut self, packet: &Packet) {
        // What is logged at once is a flow that never came to be.
        let mut refused = self.effects.log.pop();
        let at = self.beginning(packet);
        let decided = |explanation: &Explanation| explanation.decision != Ruling::Waits;
        for explanation in self.effects.explanations.drain(..).filter(decided) {
            self.summary.flows += 1;
            self.flows.begin(at, explanation, refused.take());
        }
        for response in self.effects.responses.drain(..) {
            self.flows.answered(response);
        }
    }

    /// Writes what leaves.
    fn write(&mut self, came: &Packet, filled: usize) -> Result<(), ReplayError> {
        for sent in self.effects.frames() {
            self.summary.sent += 1;
            let Some(written) = &mut self.written else { continue };
            // A reset is no part of what came, and whole.
            let forwarded = packet_length(sent.frame) == packet_length(&came.frame);
            written.push(came.time, sent.frame, if forwarded { filled } else { 0 })?;
        }
        Ok(())
    }

    /// Whose a packet is. An answer becomes its server's.
    fn whose(&mut self, glance: &Glance, frame: &mut [u8]) -> Whose {
        if self.services.addresses.contains(&IpAddr::V4(glance.destination)) {
            return Whose::Services;
        }
        let Some((protocol, client, vip)) = answers::of_flow(glance) else {
            let known = self.answers.knows(glance) && self.answers.turn(glance, frame, None);
            return if known { Whose::Answer } else { Whose::Nobodys };
        };
        if !self.services.ends.contains(&(protocol, vip)) {
            return Whose::Nobodys;
        }
        if self.handshakes.keep(frame) {
            return Whose::HeldBack;
        }
        let flow = self.simulation.flow(protocol, client, vip);
        let turned = flow.is_some_and(|flow| self.answers.turn(glance, frame, Some(&flow)));
        if turned && self.handshakes.knows(&(client, vip)) {
            handshakes::restore(frame);
        }
        if turned { Whose::Answer } else { Whose::Unasked }
    }

    /// Flows that are over by now end.
    fn pass_time(&mut self) {
        let Clock { latest, ticked, .. } = self.clock;
        if latest - ticked < OFTEN {
            return;
        }
        self.effects.clear();
        let (from, to) = (self.at(ticked), self.now());
        self.simulation.pass_time(from, to, &mut self.effects);
        self.clock.ticked = latest;
        self.take_ended();
    }

    fn take_ended(&mut self) {
        for ended in self.effects.log.drain(..) {
            self.flows.end(ended);
        }
    }

    fn now(&self) -> Now {
        self.at(self.clock.latest)
    }

    fn at(&self, time: Duration) -> Now {
        self.simulation.at(SystemTime::UNIX_EPOCH + time)
    }

    /// What there is to tell.
    pub fn finish(mut self) -> Result<Replayed, ReplayError> {
        let now = self.now();
        self.effects.clear();
        // Flows that have ended with the last packets are logged by it.
        self.simulation.tick(now, &mut self.effects);
        self.take_ended();
        self.summary.duration = self.clock.latest - self.clock.first;
        self.summary.add_counters(self.simulation.counters());
        self.written.take().map_or(Ok(()), Written::finish)?;
        let flows = self.flows.finish(&self.simulation, now);
        Ok(Replayed { flows, summary: self.summary })
    }
}

/// How much of a packet there is.
#[derive(Clone, Copy)]
struct Extent {
    /// Bytes that were captured.
    captured: usize,
    /// Bytes that were cut off by the snap length.
    filled: usize,
}

impl Extent {
    /// Fills up with zeros what was cut off: the program reads no further than the headers, and
    /// its counts are right.
    fn fill_up(packet: &mut Packet, glance: &Glance) -> Self {
        let captured = packet.frame.len();
        let filled = glance.end.saturating_sub(captured).min(packet.cut);
        packet.frame.resize(captured + filled, 0);
        Self { captured, filled }
    }

    fn too_short(self, packet: &Packet, reader: &'static str) -> ReplayError {
        let Self { captured, filled } = self;
        ReplayError::Cut { number: packet.number, captured, original: captured + filled, reader }
    }
}

/// Whether a script was given the packet.
fn was_read(effects: &Effects) -> bool {
    let ran = |explanation: &Explanation| {
        explanation.steps.iter().any(|step| step.number == STEP_OF_SCRIPTS)
    };
    let responses: &[Response] = &effects.responses;
    !responses.is_empty() || effects.explanations.iter().any(ran)
}

/// The number of scripts in the order of evaluation.
const STEP_OF_SCRIPTS: u8 = 6;

fn packet_length(frame: &[u8]) -> Option<usize> {
    Glance::at(frame).map(|glance| glance.end - glance.start)
}
