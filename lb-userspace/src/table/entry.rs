//! What a table stores, and what it answers.

use std::time::Duration;

use super::bytes::Bytes;

/// The lifetime of an entry when a script names none, and by how much a lookup extends it.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// A stored value. Cheap to clone: it is copied out of a lock.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Any bytes.
    String(Bytes),
    /// A Lua number.
    Number(f64),
}

impl Value {
    /// A string value.
    pub fn string(bytes: impl AsRef<[u8]>) -> Self {
        Self::String(bytes.as_ref().into())
    }
}

/// A live entry's value and end.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// What was stored.
    pub value: Value,
    /// When it expires, by the clock that `now` is from.
    pub deadline: Duration,
}

impl Found {
    /// Seconds left, rounded up: what is there has a second to go at least.
    pub fn remaining(&self, now: Duration) -> u64 {
        remaining(self.deadline, now)
    }
}

/// An entry as `lb tables` shows it.
#[derive(Clone, PartialEq, Debug)]
pub struct Listed {
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Value,
    /// Seconds left, rounded up.
    pub remaining: u64,
}

/// Seconds from `now` to a deadline, rounded up.
pub(crate) fn remaining(deadline: Duration, now: Duration) -> u64 {
    let left = deadline.saturating_sub(now);
    left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0))
}
