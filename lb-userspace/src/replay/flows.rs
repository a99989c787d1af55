//! What became of each flow of a capture.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use lb_common::address::Protocol;
use serde::Serialize;

use crate::{
    engine::{
        Explanation, FlowLog, Now, Response, State,
        log::{EndReason, LoggedFailure},
    },
    simulation::Simulation,
};

/// One flow: how its first packet was decided, and what came of it. The order of the fields is the
/// order in JSON.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FlowReport {
    /// When its first packet was captured, RFC 3339.
    pub time: String,
    /// The number of its first packet in the capture.
    pub packet: u64,
    /// The decision, and what led to it. Log, error and tables are those of the whole flow, its
    /// L4_RESPONSE scripts included. The servers that were not chosen are left out: a pool may have
    /// thousands, and a capture as many flows.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// The source that the server sees, if not the client's.
    pub snat: Option<SocketAddr>,
    /// Packets from the client.
    pub packets: u64,
    /// Bytes from the client.
    pub bytes: u64,
    /// Packets from the server.
    pub reply_packets: u64,
    /// Bytes from the server.
    pub reply_bytes: u64,
    /// Why it ended. `None`: it had not when the capture did.
    pub end: Option<EndReason>,
    /// How far it had come when the capture ended.
    pub state: Option<State>,
    /// Since the capture's first packet.
    #[serde(skip)]
    pub offset: Duration,
}

/// Flows between two ends over time.
type Ends = (Cow<'static, str>, SocketAddr, SocketAddr);

/// All flows, in the order of their first packets.
#[derive(Default)]
pub(super) struct Flows {
    reports: Vec<FlowReport>,
    /// Those that are in the flow table, or wait to be logged: the oldest of the same ends first.
    open: HashMap<Ends, VecDeque<usize>>,
    /// Those that the program refuses, whose packets may go on coming.
    kept_out: HashMap<Ends, usize>,
}

/// The first packet of a flow.
#[derive(Clone, Copy)]
pub(super) struct Beginning {
    pub packet: u64,
    pub time: Duration,
    pub offset: Duration,
}

impl Flows {
    /// The program refused a packet that would have begun a flow. Says whether it is the first.
    pub fn keep_out(&mut self, at: Beginning, explanation: Explanation, bytes: usize) -> bool {
        let ends = ends_of(&explanation);
        let known = self.kept_out.get(&ends).copied();
        let index = known.unwrap_or_else(|| self.push(at, explanation));
        let report = &mut self.reports[index];
        report.packets += 1;
        report.bytes += bytes as u64;
        report.end = Some(EndReason::Refused);
        self.kept_out.insert(ends, index);
        known.is_none()
    }

    /// A flow was decided. `refused`: it is over already.
    pub fn begin(&mut self, at: Beginning, explanation: Explanation, refused: Option<FlowLog>) {
        let ends = ends_of(&explanation);
        let index = self.push(at, explanation);
        match refused {
            Some(log) => self.reports[index].end(log),
            None => self.open.entry(ends).or_default().push_back(index),
        }
    }

    fn push(&mut self, at: Beginning, explanation: Explanation) -> usize {
        let explanation = Explanation { members: vec![], candidates: vec![], ..explanation };
        let time = SystemTime::UNIX_EPOCH + at.time;
        self.reports.push(FlowReport {
            time: humantime::format_rfc3339_micros(time).to_string(),
            packet: at.packet,
            explanation,
            snat: None,
            packets: 0,
            bytes: 0,
            reply_packets: 0,
            reply_bytes: 0,
            end: None,
            state: None,
            offset: at.offset,
        });
        self.reports.len() - 1
    }

    /// L4_RESPONSE scripts have run.
    pub fn answered(&mut self, response: Response) {
        let protocol = response.protocol.name().into();
        let open = self.open.get(&(protocol, response.client, response.vip));
        // What is answered is the latest: those before it have ended.
        if let Some(&index) = open.and_then(VecDeque::back) {
            self.reports[index].explanation.tables.extend(response.tables);
        }
    }

    /// A flow has ended. Flows of the same ends do in the order in which they began.
    pub fn end(&mut self, log: FlowLog) {
        let ends = (Cow::Borrowed(log.protocol), log.client, log.vip);
        let Some(open) = self.open.get_mut(&ends) else { return };
        if let Some(index) = open.pop_front() {
            self.reports[index].end(log);
        }
        if open.is_empty() {
            self.open.remove(&ends);
        }
    }

    /// The capture is over, while some flows are not.
    pub fn finish(mut self, simulation: &Simulation, now: Now) -> Vec<FlowReport> {
        for index in self.open.values().flatten() {
            self.reports[*index].leave_open(simulation, now);
        }
        self.reports
    }
}

fn ends_of(explanation: &Explanation) -> Ends {
    (explanation.protocol.clone(), explanation.client, explanation.vip)
}

impl FlowReport {
    fn end(&mut self, log: FlowLog) {
        self.snat = log.snat;
        (self.packets, self.bytes) = (log.packets, log.bytes);
        (self.reply_packets, self.reply_bytes) = (log.reply_packets, log.reply_bytes);
        self.end = Some(log.reason);
        self.note(log.ds_log, log.error);
    }

    fn leave_open(&mut self, simulation: &Simulation, now: Now) {
        let Explanation { protocol, client, vip, .. } = &self.explanation;
        let protocol = if protocol == Protocol::Tcp.name() { Protocol::Tcp } else { Protocol::Udp };
        let Some(found) = simulation.flow(protocol, *client, *vip) else { return };
        let (view, note) = (simulation.view(now, &found), simulation.note(&found));
        self.snat = view.snat;
        (self.packets, self.bytes) = (view.packets, view.bytes);
        (self.reply_packets, self.reply_bytes) = (view.reply_packets, view.reply_bytes);
        self.state = Some(view.state);
        self.note(note.log, note.failure.map(|failure| *failure));
    }

    /// What scripts said until the end.
    fn note(&mut self, log: String, failure: Option<LoggedFailure>) {
        self.explanation.log = log;
        if let Some(failure) = failure {
            self.explanation.error = Some(failure.to_string());
            self.explanation.traceback = Some(failure.traceback);
        }
    }
}
