//! What runs did, step by step: for those who explain decisions. Kept only if asked for.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Chosen, Event, Place, Wait, context::Effects};
use crate::{
    config::SetIndex,
    table::{Found, Value, notation::printable},
};

/// The run of one script.
#[derive(Clone, PartialEq, Debug)]
pub struct RunEntry {
    /// Whose script.
    pub set: SetIndex,
    /// Which of its scripts.
    pub event: Event,
    /// How it ended.
    pub ending: Ending,
    /// What it looked up and changed, in order.
    pub tables: Vec<TableAccess>,
    /// What it logged.
    pub log: String,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It chose nothing.
    Undecided,
    /// It chose a pool, a group or a server.
    Selected(Chosen, Place),
    /// By `avi.vs.persist`.
    Persisted(Place),
    /// It closed the connection.
    Closed(Place),
    /// With an error: it left nothing behind.
    Failed,
    /// It wants to see more payload: nothing is left of it, nor of the scripts before it.
    Waits(Wait),
}

/// One call of a table function, or what `avi.vs.persist` did for the script.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TableAccess {
    /// The table's name; empty for the default one.
    pub table: String,
    /// The key. Bytes that are no text are shown with `\xNN`.
    pub key: String,
    /// What was done, by the name of the table function.
    pub action: Cow<'static, str>,
    /// Whether the key was there, or found room.
    pub success: bool,
    /// The value found or stored: text or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
    /// Seconds that the entry has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<u64>,
    /// The script's line; 0 if it cannot be told.
    pub line: u32,
}

impl TableAccess {
    /// An access that says nothing of a value.
    pub fn new(action: &'static str, table: &[u8], key: &[u8], success: bool) -> Self {
        Self {
            table: printable(table),
            key: printable(key),
            action: action.into(),
            success,
            value: None,
            remaining_seconds: None,
            line: 0,
        }
    }

    /// With the value that was found or stored.
    pub fn with_value(mut self, value: &Value, remaining: u64) -> Self {
        self.value = Some(json(value));
        self.remaining_seconds = Some(remaining);
        self
    }

    /// With what was found, if anything was.
    pub fn with_found(self, found: Option<&Found>, now: std::time::Duration) -> Self {
        match found {
            Some(found) => self.with_value(&found.value, found.remaining(now)),
            None => self,
        }
    }

    /// At a line of the script.
    pub fn at(mut self, line: u32) -> Self {
        self.line = line;
        self
    }
}

/// A table's value in JSON.
fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::String(bytes) => printable(bytes).into(),
        Value::Number(number) => (*number).into(),
    }
}

impl RunEntry {
    pub(super) fn new(
        event: Event,
        set: SetIndex,
        effects: &Effects,
        tables: Vec<TableAccess>,
        succeeded: bool,
    ) -> Self {
        let ending = if succeeded { Ending::of(effects) } else { Ending::Failed };
        Self { set, event, ending, tables, log: effects.log.clone() }
    }

    pub(super) fn of_wait(wait: Wait) -> Self {
        let Place { set, event, .. } = wait.by;
        let (tables, log) = (Vec::new(), String::new());
        Self { set, event, ending: Ending::Waits(wait), tables, log }
    }
}

impl Ending {
    fn of(effects: &Effects) -> Self {
        if let Some(close) = &effects.close {
            Self::Closed(close.by)
        } else if let Some(persist) = &effects.persist {
            Self::Persisted(persist.by)
        } else if let Some(selection) = &effects.selection {
            Self::Selected(selection.chosen, selection.by)
        } else {
            Self::Undecided
        }
    }
}
