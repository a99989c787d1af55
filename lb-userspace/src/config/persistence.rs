//! What keeps clients at their servers: persistence profiles.

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use ipnet::IpNet;
use serde_spanned::Spanned;

use super::{raw::Named, section::Section, value};

/// As Avi's `ip_persistent_timeout`, which is in minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(5);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24 * 365);

/// `[[persistence_profile]]`: clients stay at the server that they got first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PersistenceProfile {
    /// Unique.
    pub name: String,
    /// Bits of the client's IPv4 address that count: clients that share them share a server.
    pub prefix_length: u8,
    /// A server is remembered for so long after the last flow.
    pub timeout: Duration,
}

impl PersistenceProfile {
    /// What a client's server is stored under: its address, or the prefix that it is in.
    pub fn key(&self, client: IpAddr) -> String {
        let bits = IpNet::from(client).max_prefix_len();
        // Of IPv6, what is left of an address beyond IPv4's bits does not count either.
        let length = bits - (32 - self.prefix_length.min(32));
        match IpNet::new(client, length) {
            Ok(prefix) if length < bits => prefix.trunc().to_string(),
            _ => client.to_string(),
        }
    }
}

/// `[[persistence_profile]]` as it is written.
#[derive(Debug)]
pub(super) struct RawProfile {
    pub name: Option<Spanned<String>>,
    pub prefix_length: u8,
    pub timeout: Duration,
}

impl Named for RawProfile {
    fn name(&self) -> Option<&Spanned<String>> {
        self.name.as_ref()
    }
}

pub(super) fn read(mut section: Section<'_>) -> RawProfile {
    let profile = RawProfile {
        name: section.required("name", "\"by-client\"", value::name),
        prefix_length: section.or("prefix_length", 32, value::integer(0..=32)),
        timeout: section.or("timeout", DEFAULT_TIMEOUT, value::duration(TIMEOUTS)),
    };
    section.finish();
    profile
}

pub(super) fn build(raw: RawProfile) -> Option<PersistenceProfile> {
    let RawProfile { name, prefix_length, timeout } = raw;
    Some(PersistenceProfile { name: name?.into_inner(), prefix_length, timeout })
}
