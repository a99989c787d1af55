//! The states of an inspection, and what leads from one to the next.

use std::time::Duration;

use lb_common::splice::Handshakes;

use super::{
    Action, Because, Decision, End, Failure, Input, LIMIT, Limits, Side, Start,
    closing::Closing,
    collector::{Collector, Received},
    joined::Joined,
    opening::{Connected, Opening, Progress},
    segment::{Flags, Outgoing, Segment, SequenceNumber},
};

/// A connection that a script has yet to decide about, or that is on its way to a server.
#[derive(Clone, Debug)]
pub struct Inspection {
    start: Start,
    pub(super) limits: Limits,
    pub(super) collector: Collector,
    pub(super) state: State,
    /// Until when a decision has to be there, whoever takes the time.
    pub(super) decided_until: Duration,
    /// Until when the client has to send something new.
    pub(super) idle_until: Duration,
    /// When the script runs without payload; `None` once it has run.
    pub(super) silent_at: Option<Duration>,
    /// Until when some server has to answer; `None` as long as none was chosen.
    pub(super) opened_until: Option<Duration>,
    /// How much payload the script has seen.
    seen: usize,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    /// The script waits for so many bytes.
    Collecting { need: usize },
    /// The caller was asked.
    Deciding,
    /// A server was chosen, and has not answered yet.
    Opening(Opening),
    /// The server gets what was collected.
    Delivering(Box<Joined>),
    /// The client gets an end in order.
    Closing(Closing),
    /// Nothing happens any more.
    Over,
}

pub(super) type Actions = Vec<Action>;

impl Inspection {
    /// Begins. The segment that has brought the cookie is the first input.
    pub fn new(start: Start, limits: Limits, now: Duration) -> Self {
        let shift = start.agreed.scales().map_or(0, |scales| scales.ours);
        Self {
            start,
            limits,
            collector: Collector::new(start.client.plus(1), shift, start.agreed.sack_permitted()),
            state: State::Collecting { need: start.need },
            decided_until: now.saturating_add(limits.collecting),
            idle_until: now.saturating_add(limits.idle),
            silent_at: limits.no_payload.map(|after| now.saturating_add(after)),
            opened_until: None,
            seen: 0,
        }
    }

    /// What was collected so far, without holes.
    pub fn payload(&self) -> &[u8] {
        self.collector.stream().prefix()
    }

    /// What both handshakes ended with, while the server gets what was collected.
    pub fn handshakes(&self) -> Option<Handshakes> {
        match &self.state {
            State::Delivering(joined) => Some(joined.handshakes()),
            _ => None,
        }
    }

    /// Whether the client has closed its side: no more payload comes.
    pub fn is_complete(&self) -> bool {
        self.collector.stream().is_complete()
    }

    /// Ends it for a reason of the caller's: the client is reset, and a server that was asked.
    pub fn abort(&mut self, actions: &mut Actions) {
        match &self.state {
            State::Over => return,
            State::Opening(opening) => {
                actions.push(Action::Send(Side::Server, opening.abandon()));
            }
            State::Delivering(joined) => {
                actions.push(Action::Send(Side::Server, joined.reset_server()));
            }
            State::Collecting { .. } | State::Deciding | State::Closing(_) => {}
        }
        self.refuse(End::Refused, actions);
    }

    /// Bytes of memory that are in use.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + size_of::<Joined>() + self.collector.stream().memory()
    }

    /// Whether nothing happens any more: it has been spliced, or has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Something happened; `actions` are appended to.
    pub fn step(&mut self, now: Duration, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Client(segment) => self.client(segment, now, actions),
            Input::Server(segment) => self.server(segment, now, actions),
            Input::Unreachable(quoted) => {
                if let State::Opening(opening) = &self.state {
                    let progress = opening.unreachable(quoted);
                    self.progress(progress, now, actions);
                }
            }
            Input::TooBig { quoted, mtu } => {
                if let State::Delivering(joined) = &mut self.state {
                    joined.too_big(quoted, mtu, actions);
                }
            }
            Input::Decided(decision) => self.decided(decision, now, actions),
            Input::Timer => {}
        }
        self.tick(now, actions);
        self.acknowledge_what_is_due(now, actions);
    }

    fn client(&mut self, segment: &Segment<'_>, now: Duration, actions: &mut Actions) {
        let acknowledged = match &mut self.state {
            State::Over => return,
            State::Delivering(joined) => {
                if joined.client(segment, &mut self.collector, now, actions) {
                    self.state = State::Over;
                }
                return;
            }
            State::Closing(closing) => {
                closing.receive(segment);
                closing.acknowledged()
            }
            _ => (self.start.cookie.plus(1), self.start.cookie.plus(1)),
        };
        match self.collector.receive(segment, acknowledged, now) {
            Received::Reset => {
                if let State::Opening(opening) = &self.state {
                    actions.push(Action::Send(Side::Server, opening.abandon()));
                }
                return self.end(End::ClientReset, actions);
            }
            Received::More => self.idle_until = now.saturating_add(self.limits.idle),
            Received::Nothing => {}
        }
        self.consider(actions);
    }

    /// Asks for a decision, if there is enough to decide on or never will be.
    fn consider(&mut self, actions: &mut Actions) {
        let State::Collecting { need } = self.state else { return };
        let stream = self.collector.stream();
        if stream.prefix().len() >= need {
            self.ask(Because::Enough, actions);
        } else if stream.is_complete() {
            self.ask(Because::Closed, actions);
        } else if self.collector.window() == 0 {
            self.ask(Because::Full, actions);
        }
    }

    pub(super) fn ask(&mut self, because: Because, actions: &mut Actions) {
        self.seen = self.payload().len();
        self.state = State::Deciding;
        actions.push(Action::Decide(because));
    }

    fn decided(&mut self, decision: Decision, now: Duration, actions: &mut Actions) {
        if !matches!(self.state, State::Deciding) {
            return;
        }
        match decision {
            Decision::Collect(need) => self.collect(need, actions),
            Decision::Connect => self.open(now, actions),
            Decision::Refuse => self.refuse(End::Refused, actions),
            Decision::Close => {
                let until = now.saturating_add(self.limits.closing);
                let closing = Closing::new(self.start.cookie.plus(1), now, until);
                actions.push(Action::Send(Side::Client, closing.segment(&mut self.collector)));
                self.state = State::Closing(closing);
            }
        }
    }

    /// To want what is there already would be to be asked for ever.
    fn collect(&mut self, need: usize, actions: &mut Actions) {
        let need = need.max(self.seen + 1);
        let can_come = need <= LIMIT && self.collector.window() > 0;
        let is_there = need <= self.payload().len();
        if is_there || (can_come && !self.collector.stream().is_complete()) {
            self.state = State::Collecting { need };
            self.consider(actions);
        } else {
            self.refuse(End::NoMore, actions);
        }
    }

    fn open(&mut self, now: Duration, actions: &mut Actions) {
        let opened_until = self.opened_until.unwrap_or(now.saturating_add(self.limits.opening));
        self.opened_until = Some(opened_until);
        let agreed = self.start.agreed;
        let shift = agreed.window_scale().unwrap_or(0);
        let window = u32::from(self.collector.offered()) << shift;
        let window = u16::try_from(window).unwrap_or(u16::MAX);
        let until = opened_until.min(now.saturating_add(self.limits.server));
        let (opening, syn) = Opening::new(self.start.client, agreed.options(), window, now, until);
        actions.push(Action::Send(Side::Server, syn));
        self.state = State::Opening(opening);
    }

    fn server(&mut self, segment: &Segment<'_>, now: Duration, actions: &mut Actions) {
        if let State::Opening(opening) = &mut self.state {
            let progress = opening.receive(segment, now);
            self.progress(progress, now, actions);
        } else if let State::Delivering(joined) = &mut self.state
            && joined.server(segment, now, actions)
        {
            self.state = State::Over;
        }
    }

    pub(super) fn progress(&mut self, progress: Progress, now: Duration, actions: &mut Actions) {
        match progress {
            Progress::Wait => {}
            Progress::Send(segment) => actions.push(Action::Send(Side::Server, segment)),
            Progress::Open(connected) => self.deliver(&connected, now, actions),
            Progress::Failed(failure) => self.failed(failure, now, actions),
        }
    }

    fn deliver(&mut self, connected: &Connected, now: Duration, actions: &mut Actions) {
        // From here on the server acknowledges; it must not be asked to before the client knows.
        if self.collector.acknowledgement_due().is_some() {
            self.collector.acknowledge(now);
            self.acknowledge_what_is_due(now, actions);
        }
        let until = now.saturating_add(self.limits.delivering);
        let mut joined = Joined::new(&self.start, &self.collector, connected, now, until);
        joined.begin(actions);
        if joined.is_done() {
            actions.push(Action::Splice(joined.handshakes()));
            self.state = State::Over;
        } else {
            self.state = State::Delivering(Box::new(joined));
        }
    }

    fn failed(&mut self, failure: Failure, now: Duration, actions: &mut Actions) {
        if let State::Opening(opening) = &self.state
            && failure != Failure::Refused
        {
            actions.push(Action::Send(Side::Server, opening.abandon()));
        }
        if self.opened_until.is_some_and(|until| now >= until) {
            return self.refuse(End::NoServer(failure), actions);
        }
        self.state = State::Deciding;
        actions.push(Action::ServerFailed(failure));
    }

    pub(super) fn acknowledge_what_is_due(&mut self, now: Duration, actions: &mut Actions) {
        if self.is_over() || self.collector.acknowledgement_due().is_none_or(|due| now < due) {
            return;
        }
        let acknowledgement = self.collector.acknowledgement(self.next_to_client());
        let segment = match &self.state {
            State::Delivering(joined) => Outgoing {
                window: joined.window_to_client(),
                blocks: Vec::new(),
                ..acknowledgement
            },
            _ => acknowledgement,
        };
        actions.push(Action::Send(Side::Client, segment));
    }

    /// The number of a segment to the client that carries nothing.
    fn next_to_client(&self) -> SequenceNumber {
        match &self.state {
            State::Delivering(joined) => joined.next_to_client(),
            State::Closing(closing) => closing.next(),
            _ => self.start.cookie.plus(1),
        }
    }

    /// Ends it with a reset for the client.
    pub(super) fn refuse(&mut self, end: End, actions: &mut Actions) {
        let reset = Outgoing {
            sequence: self.next_to_client(),
            acknowledgement: self.collector.next(),
            flags: Flags { ack: true, ..Flags::RST },
            ..Outgoing::default()
        };
        actions.push(Action::Send(Side::Client, reset));
        self.end(end, actions);
    }

    pub(super) fn end(&mut self, end: End, actions: &mut Actions) {
        self.state = State::Over;
        actions.push(Action::End(end));
    }
}
