//! What is shown of names.

use std::{net::Ipv4Addr, time::SystemTime};

use humantime::format_rfc3339_millis;
use serde::{Deserialize, Serialize};

use super::book::Entry;
use crate::config::{LeftOut, NamedServer};

/// An entry of a pool's `servers` that is given by name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NameStatus {
    /// The name.
    pub host: String,
    /// Where its servers listen.
    pub port: u16,
    /// The addresses that it has, or had when it was last resolved.
    pub addresses: Vec<Ipv4Addr>,
    /// When it was last resolved, RFC 3339.
    pub resolved: Option<String>,
    /// When it is asked for again, RFC 3339.
    pub next: Option<String>,
    /// Why it cannot be resolved, if it cannot.
    pub error: Option<String>,
    /// Since when, RFC 3339.
    pub failing_since: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Why some of its addresses are no servers.
    pub left_out: Vec<String>,
}

impl NameStatus {
    /// What is known of a name, and what was left out of it.
    pub(super) fn new<'l>(
        named: &NamedServer,
        entry: Entry,
        left_out: impl Iterator<Item = &'l LeftOut>,
    ) -> Self {
        let shown = |time: SystemTime| format_rfc3339_millis(time).to_string();
        Self {
            host: named.host.to_string(),
            port: named.port,
            addresses: entry.addresses,
            resolved: entry.resolved.map(shown),
            next: entry.next.map(shown),
            failing_since: entry.failure.as_ref().map(|failure| shown(failure.since)),
            failures: entry.failure.as_ref().map_or(0, |failure| failure.times),
            error: entry.failure.map(|failure| failure.why),
            left_out: left_out.map(|left| left.why.clone()).collect(),
        }
    }
}
