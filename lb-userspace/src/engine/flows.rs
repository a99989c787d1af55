//! The flows that belong to a worker: begun, watched, ended, logged.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use lb_common::{
    address::Protocol,
    flow::{Flags, FlowRecord},
    time::Tick,
};

use super::{
    Now, Turn,
    gone::{self, Farewell, Telling},
    install::tick,
    lifecycle::{self, Hand, State, Timeouts},
    log::{DecidedBy, EndReason, FlowLog},
    obituary::ended_log,
    ports::{Peer, Ports},
    shared::Shared,
    tapped::unanswered,
    view::Found,
    watched::{List, Mine, Watched, next_visit},
};
use crate::{
    config::Instance,
    flow_table::{SlotId, Ticket},
};

/// Established flows that are visited a second, at most. A visit meets four cache lines that nobody
/// has touched for a while: at this rate it takes a worker a few percent of its time.
const SETTLED_RATE: usize = 65_536;
/// An established flow that cannot time out for so long is left alone for longer.
const SETTLED_FOR: Duration = Duration::from_secs(10);

/// A worker's flows. The slots say what they are; the lists only say which are the worker's.
pub(super) struct Flows {
    worker: u16,
    timeouts: Timeouts,
    /// Those that may soon be something else: once a round of the hand each is asked whether its
    /// visit is due.
    brisk: Watched,
    /// Established ones. With many of them a round takes longer, and it takes as long to notice
    /// that one was closed.
    settled: Watched,
    /// How often servers have left their flows when the hand looked last.
    departures: u32,
    ended: VecDeque<Ended>,
}

/// What became of a flow whose client opens a connection from the same port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reuse {
    /// It is not over: the SYN belongs to it.
    GoesOn,
    /// It was over and is gone.
    Ended,
    /// It is over, but the SYN has come by another queue than the flow. Its packets are dropped
    /// until its owner ends it at the next visit; the client's next SYN finds it gone.
    LeftToOwner,
}

/// A flow that no packet finds any more, while a run of the program may still count into it.
struct Ended {
    found: Found,
    ticket: Ticket,
    reason: EndReason,
    /// Whom to tell once more.
    farewell: Option<Farewell>,
}

/// What became of a flow that was looked after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Visit {
    /// It goes on, and is to be visited then.
    Stays(List, Tick),
    /// It has ended, or is this worker's no longer.
    Over,
    /// It has ended for want of its server.
    ServerGone,
}

impl Flows {
    pub fn new(instance: &Instance, worker: u16) -> Self {
        Self {
            worker,
            timeouts: Timeouts::new(instance),
            brisk: Watched::by(Hand::default()),
            settled: Watched::by(Hand::at_most(SETTLED_RATE)),
            departures: 0,
            ended: VecDeque::new(),
        }
    }

    pub fn set_timeouts(&mut self, instance: &Instance) {
        self.timeouts = Timeouts::new(instance);
    }

    /// A flow of this worker has been inserted.
    pub fn begin(&mut self, id: SlotId, created: u64, shared: &Shared) {
        self.brisk.flows.push(Mine::new(id, created));
        let record = shared.flows.record(id).load();
        shared.gauge.begun(false);
        shared.servers.begun(record.server);
        shared.services.begun(&record);
    }

    /// A flow of this worker goes on without it: it was inspected, and is spliced.
    pub fn watch(&mut self, id: SlotId, created: u64) {
        self.brisk.flows.push(Mine::new(id, created));
    }

    /// The server of an inspected flow has failed.
    pub fn part(&mut self, id: SlotId, now: Duration, shared: &Shared, ports: &mut Ports) {
        let Some(found) = Found::at(&shared.flows, id) else { return };
        shared.servers.ended(found.record.server);
        shared.services.ended(&found.record);
        give_port_back(&found, now, ports);
        shared.flows.part(id);
        let record = shared.flows.record(id).load();
        shared.flows.record(id).store(&FlowRecord { pool: 0, server: 0, ..record });
    }

    /// Flows of an earlier daemon, found by [`super::adopt`].
    pub fn take_over(&mut self, flows: &[SlotId], shared: &Shared, ports: &mut Ports) {
        for id in flows {
            let Some(found) = Found::at(&shared.flows, *id) else { continue };
            shared.flows.record(*id).store(&FlowRecord { owner: self.worker, ..found.record });
            if let Some((peer, snat)) = snat_port(&found) {
                ports.adopt(peer, snat, &shared.snat_ports);
            }
            let (created, due) = (found.record.created, found.forward.last_seen);
            self.brisk.flows.push(Mine { id: *id, due, created });
            shared.gauge.begun(found.record.has(FlowRecord::ESTABLISHED));
            shared.servers.adopted(found.record.server);
            shared.services.adopted(&found.record);
        }
    }

    /// Ends a flow that both sides have closed, or one has reset, because its ports are used
    /// again.
    pub fn end_if_over(&mut self, id: SlotId, shared: &Shared) -> Reuse {
        let found = Found::at(&shared.flows, id);
        let Some(found) = found.filter(is_over) else { return Reuse::GoesOn };
        if found.record.owner == self.worker {
            let ended = self.end(id, EndReason::Reused, shared);
            return if ended { Reuse::Ended } else { Reuse::GoesOn };
        }
        stop_packets(&found, shared);
        Reuse::LeftToOwner
    }

    /// Hides a flow from the packet path. False if it was gone already.
    pub fn end(&mut self, id: SlotId, reason: EndReason, shared: &Shared) -> bool {
        let Some(found) = Found::at(&shared.flows, id) else { return false };
        let unanswered = unanswered(&found, &shared.flows);
        if !shared.flows.retire(id) {
            return false;
        }
        unanswered.into_iter().for_each(|note| shared.notes.add(id, note));
        shared.gauge.ended(found.record.has(FlowRecord::ESTABLISHED));
        shared.servers.ended(found.record.server);
        shared.services.ended(&found.record);
        let ticket = shared.grace.ticket();
        self.ended.push_back(Ended { found, ticket, reason, farewell: None });
        true
    }

    /// Ends a flow whose server is gone, and has both sides find out.
    fn end_gone(&mut self, found: &Found, turn: &mut Turn<'_>, shared: &Shared) {
        let farewell = Farewell::of(found, &shared.flows);
        if !self.end(found.id, EndReason::ServerGone, shared) {
            return;
        }
        if let (Some(farewell), Some(ended)) = (farewell, self.ended.back_mut()) {
            farewell.tell(Telling::First, turn);
            ended.farewell = Some(farewell);
        }
    }

    /// Ends a flow whose response script failed. The response may have come to another worker than
    /// the flow's own. That one only stops the packets: the owner ends the flow at its next
    /// visit, for nobody else can give the port back.
    pub fn close(&mut self, found: &Found, shared: &Shared) {
        if found.record.owner == self.worker {
            self.end(found.id, EndReason::ScriptError, shared);
            return;
        }
        stop_packets(found, shared);
    }

    /// Moves the clock hand, and lets go of what ended a grace period ago.
    pub fn tick(&mut self, turn: &mut Turn<'_>, shared: &Shared, ports: &mut Ports) {
        let departures = shared.servers.departures();
        if departures != std::mem::replace(&mut self.departures, departures) {
            self.settled.hurry();
            self.brisk.hurry();
        }
        let gone = self.go_round(List::Settled, 0, turn, shared);
        self.go_round(List::Brisk, gone, turn, shared);
        let mut told = 0;
        while told < gone::AT_ONCE
            && self.ended.front().is_some_and(|ended| shared.grace.is_over(ended.ticket))
        {
            let Some(ended) = self.ended.pop_front() else { break };
            if let Some(farewell) = &ended.farewell {
                farewell.tell(Telling::Second, turn);
                told += 1;
            }
            self.let_go(&ended, turn.now, shared, ports, &mut turn.effects.log);
        }
    }

    /// Moves the hand over one of the lists. `gone` flows of servers that are gone have ended in this
    /// tick; returns how many have when it is done.
    fn go_round(
        &mut self,
        list: List,
        mut gone: usize,
        turn: &mut Turn<'_>,
        shared: &Shared,
    ) -> usize {
        let now = tick(turn.now.monotonic);
        let mut watched = std::mem::replace(self.list(list), Watched::by(Hand::default()));
        for step in 0..watched.steps(turn.now.monotonic) {
            if watched.flows.is_empty() || gone == gone::AT_ONCE {
                break;
            }
            let Some((place, flow)) = watched.step(step, now, &shared.flows) else { continue };
            match self.visit(flow, turn, shared) {
                Visit::Stays(on, due) if on == list => watched.keep(place, due),
                Visit::Stays(other, due) => {
                    watched.remove(place);
                    self.list(other).flows.push(Mine { due, ..flow });
                }
                visit => {
                    watched.remove(place);
                    gone += usize::from(visit == Visit::ServerGone);
                }
            }
        }
        *self.list(list) = watched;
        gone
    }

    fn list(&mut self, list: List) -> &mut Watched {
        match list {
            List::Settled => &mut self.settled,
            List::Brisk => &mut self.brisk,
        }
    }

    /// Looks after one flow.
    fn visit(&mut self, flow: Mine, turn: &mut Turn<'_>, shared: &Shared) -> Visit {
        let now = turn.now;
        let found = Found::at(&shared.flows, flow.id);
        let is_mine = |found: &Found| {
            found.record.created == flow.created && found.record.owner == self.worker
        };
        let Some(found) = found.filter(is_mine) else { return Visit::Over };
        let state = found.state();
        let idle = lifecycle::last_seen(tick(now.monotonic), &found.forward, &found.reply);
        let timeout = state.timeout(&self.timeouts, found.record.idle_timeout);
        // Before its end, which may come before the flow was ever looked at.
        let mut record = found.record;
        let mut changed = observe_server(&found, state, &mut record, now, shared);
        let over = idle >= timeout;
        // With a server, a flow can only have been closed by `close` on another worker.
        if over || (state == State::Closed && found.server().is_some()) {
            self.end(flow.id, end_reason(&found), shared);
            return Visit::Over;
        }
        if shared.servers.standing(found.record.server).is_gone() {
            self.end_gone(&found, turn, shared);
            return Visit::ServerGone;
        }
        changed |=
            lifecycle::follow_counts(&mut record, found.forward.packets, found.reply.packets);
        if !state.is_half_open() && !record.has(FlowRecord::ESTABLISHED) {
            record.bits |= FlowRecord::ESTABLISHED;
            shared.gauge.established();
            changed = true;
        }
        if changed {
            shared.flows.record(flow.id).store(&record);
        }
        let left = timeout.saturating_sub(idle);
        if state == State::Established && left >= Tick::ticks(SETTLED_FOR) {
            return Visit::Stays(List::Settled, tick(now.monotonic));
        }
        let age = now.monotonic.saturating_sub(Duration::from_nanos(record.created));
        Visit::Stays(List::Brisk, next_visit(tick(now.monotonic), age, left))
    }

    /// Nothing can touch the flow any more: its counts are final.
    fn let_go(
        &mut self,
        ended: &Ended,
        now: Now,
        shared: &Shared,
        ports: &mut Ports,
        log: &mut Vec<FlowLog>,
    ) {
        let mut found = ended.found;
        found.forward = shared.flows.slot(found.id).activity();
        if found.record.partner != FlowRecord::ALONE {
            found.reply = shared.flows.slot(SlotId(found.record.partner)).activity();
        }
        log.push(ended_log(&found, ended.reason, now, shared));
        give_port_back(&found, now.monotonic, ports);
        shared.flows.free(found.id);
    }
}

/// Notes whether the flow's server answers or fails: passive monitoring. True if the record changed.
fn observe_server(
    found: &Found,
    state: State,
    record: &mut FlowRecord,
    now: Now,
    shared: &Shared,
) -> bool {
    let age = now.monotonic.saturating_sub(Duration::from_nanos(record.created));
    let told = lifecycle::tells_failure(state, age, record, &found.forward, &found.reply);
    let Some(failed) = told.filter(|_| found.protocol() == Protocol::Tcp) else { return false };
    shared.servers.observe(record.server, failed, now.monotonic);
    if failed {
        record.bits |= FlowRecord::FAILED;
    }
    failed
}

/// Why a flow ends whose time is over.
fn end_reason(found: &Found) -> EndReason {
    match found.state() {
        State::Closed if is_over(found) => EndReason::Reused,
        State::Closed if found.record.decided_by != DecidedBy::ScriptClosed as u8 => {
            EndReason::ScriptError
        }
        state => state.end(),
    }
}

/// Whether the client may use its port for something new.
fn is_over(found: &Found) -> bool {
    let state = State::of(found.protocol(), Flags::default(), &found.forward, &found.reply);
    found.server().is_some() && matches!(state, State::Finished | State::Reset)
}

/// Closes a flow of another worker, which alone can end it.
fn stop_packets(found: &Found, shared: &Shared) {
    for id in [found.id, SlotId(found.record.partner)] {
        shared.flows.slot(id).set_flag(Flags::CLOSED);
    }
}

/// The SNAT port that a flow uses, and whom toward.
fn snat_port(found: &Found) -> Option<(Peer, SocketAddr)> {
    let (snat, server) = (found.snat()?, found.server()?);
    Some((Peer { server, protocol: found.protocol() }, snat))
}

fn give_port_back(found: &Found, now: Duration, ports: &mut Ports) {
    let Some((peer, snat)) = snat_port(found) else { return };
    let Found { forward, reply, .. } = found;
    if lifecycle::server_may_linger(peer.protocol, forward, reply) {
        let idle = lifecycle::last_seen(tick(now), forward, reply);
        let last_packet = now.saturating_sub(Duration::from_nanos(u64::from(idle) << 20));
        ports.rest(&peer, snat, last_packet, now);
    } else {
        ports.give_back(&peer, snat, now);
    }
}
