//! How a pool treats its servers: how much each may take, and how it comes and goes.

use std::{ops::RangeInclusive, time::Duration};

use serde_spanned::Spanned;
use toml::de::{DeInteger, DeValue};

use super::{
    Algorithm, Pool, PoolIndex,
    raw::RawServer,
    section::Section,
    value::{self, Read, Wrong},
};

/// What a pool says of each of its servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerPolicy {
    /// `max_concurrent_connections_per_server`: flows at once; 0 for no limit.
    pub max_connections: u32,
    /// `max_connection_rate_per_server`: new flows a second; 0 for no limit.
    pub max_connection_rate: u32,
    /// `connection_ramp_duration`: a server that comes up, is enabled or added takes its whole
    /// share only after this time.
    pub connection_ramp: Duration,
    /// `passive_monitor`: whether failures that are seen on flows lower a server's share.
    pub passive_monitor: bool,
    /// `server_down`.
    pub server_down: ServerDown,
    /// `server_disable_type`.
    pub disable_type: DisableType,
    /// `graceful_disable_timeout`: how long flows of a server go on that was disabled, or removed
    /// from the configuration; `None` for as long as they last.
    pub graceful_disable: Option<Duration>,
}

impl Default for ServerPolicy {
    /// As if nothing were written.
    fn default() -> Self {
        Self {
            max_connections: 0,
            max_connection_rate: 0,
            connection_ramp: Duration::ZERO,
            passive_monitor: true,
            server_down: ServerDown::Keep,
            disable_type: DisableType::DisallowNew,
            graceful_disable: None,
        }
    }
}

impl ServerPolicy {
    /// Whether a server may be full.
    pub fn has_limits(&self) -> bool {
        self.max_connections != 0 || self.max_connection_rate != 0
    }
}

/// What becomes of the flows of a server that its monitors hold to be down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ServerDown {
    /// `keep`: they go on. The server may be well but for what the monitors ask.
    #[default]
    Keep,
    /// `reset`: they end, and clients of TCP are told.
    Reset,
}

/// Whom a disabled server still takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DisableType {
    /// `disallow-new-connection`: nobody.
    #[default]
    DisallowNew,
    /// `allow-new-connection-if-persistence-present`: clients whom persistence leads there.
    AllowPersistent,
}

/// What becomes of new flows of a pool that is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FailAction {
    /// `close`: they are refused.
    #[default]
    Close,
    /// `backup-pool`: another pool takes them.
    BackupPool(PoolIndex),
}

/// Connections at once.
pub(super) const CONNECTIONS: RangeInclusive<u64> = 0..=100_000_000;
const RAMPS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
const PATIENCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24 * 7);

const SERVER_DOWN: [(&str, ServerDown); 2] =
    [("keep", ServerDown::Keep), ("reset", ServerDown::Reset)];
const DISABLE_TYPES: [(&str, DisableType); 2] = [
    ("disallow-new-connection", DisableType::DisallowNew),
    ("allow-new-connection-if-persistence-present", DisableType::AllowPersistent),
];

pub(super) fn policy(section: &mut Section<'_>, algorithm: Algorithm) -> ServerPolicy {
    let own = ServerPolicy::default();
    let max_connections =
        section.or("max_concurrent_connections_per_server", 0, value::integer(CONNECTIONS));
    if algorithm == Algorithm::FewestServers && max_connections == 0 {
        let message = "\"fewest-servers\" has to know when a server is full";
        let place = section.key_span("algorithm").unwrap_or_else(|| section.place.clone());
        let problem = section.report().at(place, message);
        section
            .report()
            .add(problem.with_help("such as max_concurrent_connections_per_server = 1000"));
    }
    ServerPolicy {
        max_connections,
        max_connection_rate: section.or(
            "max_connection_rate_per_server",
            0,
            value::integer(CONNECTIONS),
        ),
        connection_ramp: section.or(
            "connection_ramp_duration",
            own.connection_ramp,
            value::duration(RAMPS),
        ),
        passive_monitor: section.or("passive_monitor", own.passive_monitor, value::boolean),
        server_down: section.or("server_down", own.server_down, value::one_of(&SERVER_DOWN)),
        disable_type: section.or(
            "server_disable_type",
            own.disable_type,
            value::one_of(&DISABLE_TYPES),
        ),
        graceful_disable: section.or("graceful_disable_timeout", own.graceful_disable, patience),
    }
}

/// A span of time; 0 for none, −1 for ever.
fn patience(value: &DeValue<'_>) -> Read<Option<Duration>> {
    const HELP: &str = "such as \"5m\"; 0 ends flows at once, -1 never";
    match value.as_integer().map(DeInteger::as_str) {
        Some("0") => Ok(Some(Duration::ZERO)),
        Some("-1") => Ok(None),
        Some(_) => Err(Wrong::must_be("a duration, 0 or -1", value).with_help(HELP)),
        None => value::duration(PATIENCE)(value).map(Some).map_err(|wrong| wrong.with_help(HELP)),
    }
}

/// `min_servers_up`: with fewer, the pool counts as down.
pub(super) fn min_servers_up(section: &mut Section<'_>, servers: &[RawServer]) -> usize {
    let most = Pool::MOST_SERVERS as u64;
    let Some(minimum) = section.optional("min_servers_up", value::integer(1..=most)) else {
        return 1;
    };
    let wanted: usize = minimum.into_inner();
    let there = servers.len();
    // Nobody knows how many servers a name stands for.
    let is_known = there > 0 && servers.iter().all(|server| server.host.is_none());
    if wanted > there && is_known {
        let message = format!("{wanted} servers must be up, and the pool has {there}");
        let place = section.key_span("min_servers_up").unwrap_or_else(|| section.place.clone());
        let problem = section.report().at(place, message);
        section.report().add(problem.with_help("it would always count as down"));
    }
    wanted
}

/// The words of `fail_action`.
#[derive(Clone, Copy, PartialEq)]
enum Action {
    Close,
    BackupPool,
}

/// The backup pool's name, if there is to be one.
pub(super) fn fail_action(section: &mut Section<'_>) -> Option<Spanned<String>> {
    const ACTIONS: [(&str, Action); 2] =
        [("close", Action::Close), ("backup-pool", Action::BackupPool)];
    let action = section.optional("fail_action", value::one_of(&ACTIONS));
    let backup = section.optional("backup_pool", value::name);
    let report = section.report();
    match (&action, &backup) {
        (Some(action), None) if *action.get_ref() == Action::BackupPool => {
            let problem = report.at(action.span(), "no backup pool is named");
            report.add(problem.with_help("such as backup_pool = \"spare\""));
        }
        (Some(action), Some(backup)) if *action.get_ref() == Action::Close => {
            let problem = report.at(backup.span(), "the backup pool would never be used");
            let problem = problem.with_related(action.span(), "new flows are refused");
            report.add(problem.with_help("set fail_action = \"backup-pool\", or leave it out"));
        }
        _ => {}
    }
    backup
}

/// A pool may stand in for one that stands in for another, but not, in the end, for itself.
/// `next` gives each pool's backup.
pub(super) fn leads_back(start: PoolIndex, next: impl Fn(PoolIndex) -> Option<PoolIndex>) -> bool {
    let mut seen = Vec::new();
    let mut at = start;
    while let Some(backup) = next(at) {
        if backup == start {
            return true;
        }
        if seen.contains(&backup) {
            return false;
        }
        seen.push(backup);
        at = backup;
    }
    false
}
