//! The connection log: one record a flow, when it ends.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, Serializer};

use crate::{flow_table::SlotId, script};

/// Why a flow ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// No packet for the idle timeout.
    Idle,
    /// Closed by both sides.
    Finished,
    /// Reset by either side.
    Reset,
    /// Never established.
    HalfOpen,
    /// UDP with packets from one side only.
    OneWay,
    /// A script closed it.
    ClosedByScript,
    /// A script failed.
    ScriptError,
    /// No server could take it.
    Refused,
    /// The client used its address and port again for a new connection.
    Reused,
    /// Its server is out of service, and its time was up.
    ServerGone,
    /// The payload that a script waited for did not come.
    NoPayload,
}

/// What chose the server. The numbers stand in flow records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum DecidedBy {
    /// The virtual service's pool or group, by its algorithm.
    Algorithm = 1,
    /// A script chose the pool, its algorithm the server.
    ScriptPool = 2,
    /// A script chose the server.
    ScriptServer = 3,
    /// `avi.vs.persist` found a server stored.
    Persistence = 4,
    /// `avi.vs.persist` stored the server that the algorithm chose.
    PersistenceNew = 5,
    /// A script failed, and its set says `default-pool`.
    OnError = 6,
    /// A script closed the flow.
    ScriptClosed = 7,
    /// A rule of an L4 policy chose the pool or group, its algorithm the server.
    PolicyRule = 8,
    /// A script chose a pool group, its priorities, ratios and algorithm the server.
    ScriptPoolGroup = 9,
}

impl DecidedBy {
    const ALL: [Self; 9] = [
        Self::Algorithm,
        Self::ScriptPool,
        Self::ScriptServer,
        Self::Persistence,
        Self::PersistenceNew,
        Self::OnError,
        Self::ScriptClosed,
        Self::PolicyRule,
        Self::ScriptPoolGroup,
    ];

    /// From a flow record.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|by| *by as u8 == number)
    }
}

/// A script's failure, as the log tells it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LoggedFailure {
    /// The event that the script ran for.
    pub event: &'static str,
    /// The script.
    pub script: String,
    /// The line, if known.
    pub line: u32,
    /// Lua's message.
    pub message: String,
    /// Lua's stack.
    pub traceback: String,
}

impl std::fmt::Display for LoggedFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.script, self.line, self.message)
    }
}

/// One record. Serialised as one JSON object a line.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FlowLog {
    /// When the flow ended. Written out by who writes the record: no worker has time for it.
    #[serde(serialize_with = "as_timestamp")]
    pub time: SystemTime,
    /// Seconds that it lasted.
    pub duration: f64,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Who began it.
    pub client: SocketAddr,
    /// Where the client sent to.
    pub vip: SocketAddr,
    /// The virtual service's name.
    pub virtual_service: String,
    /// The pool's name.
    pub pool: Option<String>,
    /// The server.
    pub server: Option<SocketAddr>,
    /// The source that the server saw, if not the client's.
    pub snat: Option<SocketAddr>,
    /// What chose the server.
    pub decided_by: Option<DecidedBy>,
    /// The policy rule that chose, as `policy/rule`.
    pub rule: Option<String>,
    /// The script that chose, and its line.
    pub script: Option<String>,
    /// The line that chose.
    pub line: Option<u32>,
    /// Why it ended.
    pub reason: EndReason,
    /// Packets from the client.
    pub packets: u64,
    /// Bytes on the wire from the client.
    pub bytes: u64,
    /// Packets from the server.
    pub reply_packets: u64,
    /// Bytes on the wire from the server.
    pub reply_bytes: u64,
    /// Generation of the configuration that decided.
    pub generation: u32,
    /// The worker that decided.
    pub worker: u16,
    /// What scripts logged.
    pub ds_log: String,
    /// What makes the flow worth a look, by Avi's names.
    pub significance: Vec<&'static str>,
    /// The script's failure, if one failed.
    pub error: Option<LoggedFailure>,
}

/// Avi's name for a failed script.
pub const SCRIPT_FAILED: &str = "ADF_DATASCRIPT_EXECUTION_FAILED";

/// Time as the log writes it.
pub fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn as_timestamp<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

/// Seconds, to the millisecond.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// What scripts said of a flow that goes on. A response may be handled by another worker than
/// the flow's own, so the notes are everybody's.
#[derive(Debug, Default)]
pub struct Notes {
    held: AtomicUsize,
    notes: Mutex<HashMap<SlotId, Note>>,
}

/// What scripts said of one flow.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Note {
    /// Their log.
    pub log: String,
    /// The one that failed.
    pub failure: Option<Box<LoggedFailure>>,
}

impl Note {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.log.is_empty() && self.failure.is_none()
    }

    /// From a script's outcome.
    pub fn of(outcome: &script::Outcome, event: script::Event) -> Self {
        let failure = outcome.failure.as_ref().map(|failure| {
            Box::new(LoggedFailure {
                event: event.name(),
                script: failure.script.display().to_string(),
                line: failure.line,
                message: failure.message.clone(),
                traceback: failure.traceback.clone(),
            })
        });
        Self { log: outcome.log.clone(), failure }
    }
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, HashMap<SlotId, Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to what is known of a flow; the log stays within what a record holds.
    pub fn add(&self, flow: SlotId, note: Note) {
        if note.is_empty() {
            return;
        }
        let mut notes = self.lock();
        let known = notes.entry(flow).or_default();
        let room = script::LOG_CHARACTERS.saturating_sub(known.log.chars().count());
        known.log.extend(note.log.chars().take(room));
        known.failure = note.failure.or(known.failure.take());
        self.held.store(notes.len(), Ordering::Relaxed);
    }

    /// What is known of a flow.
    pub fn get(&self, flow: SlotId) -> Note {
        if self.held.load(Ordering::Relaxed) == 0 {
            return Note::default();
        }
        self.lock().get(&flow).cloned().unwrap_or_default()
    }

    /// Takes what is known of a flow that has ended. Most flows have nothing, and cost no lock.
    pub fn take(&self, flow: SlotId) -> Note {
        if self.held.load(Ordering::Relaxed) == 0 {
            return Note::default();
        }
        let mut notes = self.lock();
        let note = notes.remove(&flow).unwrap_or_default();
        self.held.store(notes.len(), Ordering::Relaxed);
        note
    }
}
