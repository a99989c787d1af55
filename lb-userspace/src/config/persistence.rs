//! What keeps clients at their servers: persistence profiles.

use std::{ops::RangeInclusive, time::Duration};

use serde_spanned::Spanned;

use super::{PersistenceProfile, raw::Named, section::Section, value};

/// As Avi's `ip_persistent_timeout`, which is in minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(5);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24 * 365);

/// `[[persistence_profile]]`.
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
