//! Servers as `lb status` and `/metrics` show them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use humantime::format_rfc3339_seconds;
use serde::{Deserialize, Serialize};

use super::{
    Configured, Known, Rate, Servers, configured,
    tenure::{Cause, Ordered},
};
use crate::{
    config::Forwarding,
    control::{
        network::service::NetworkHandle,
        status::{PoolStatus, ServiceStatus, next_hop},
    },
    engine::{Generation, Now, Shared},
    health::{Health, MonitorStatus, ServerHealth, Verdict},
};

/// A server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share; 0 of one that is not in the configuration any more.
    pub ratio: u16,
    /// Whether it takes new flows, and if not, why.
    pub state: ServerState,
    /// Since when, RFC 3339.
    pub since: String,
    /// Why, in words.
    pub why: String,
    /// Percent of its ratio that it is to get: less than 100 while it ramps up, or flows fail at it.
    pub share: u8,
    /// Whether it has as many connections as it may, or gets as many a second.
    pub full: bool,
    /// When its flows end that it has left, RFC 3339.
    pub until: Option<String>,
    /// What its monitors say, if it has some.
    pub health: Option<ServerHealth>,
    /// Flows that it has.
    pub connections: u32,
    /// New flows a second, over the last ten.
    pub rate: f64,
    /// Flows that ever began, since the daemon did.
    pub flows_total: u64,
    /// Microseconds that it takes to answer first packets, lately; measured where somebody looks at
    /// answers: `fastest-response` and L4_RESPONSE scripts.
    pub response_us: Option<u64>,
    /// Microseconds that it takes to pass checks, lately.
    pub check_us: Option<u64>,
    /// How packets reach it: a MAC and interface, or what is missing.
    pub next_hop: String,
}

/// Whether a server takes new flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It does: nobody watches it, or its monitors hold it to be up.
    Up,
    /// It does: its monitors have not come to a verdict yet.
    Checking,
    /// It does, and gets its whole share only after a while: it has just come into service.
    Ramping,
    /// It does, and gets less than its share: flows have failed at it lately.
    Failing,
    /// It does not: its monitors hold it to be down.
    Down,
    /// It does not, by the configuration or by order, and still has flows.
    Draining,
    /// It does not, by the configuration or by order, and has no flows.
    Disabled,
    /// It is not in the configuration any more, and still has flows.
    Removed,
}

impl ServerState {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Checking => "checking",
            Self::Ramping => "ramping up",
            Self::Failing => "failing",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
        }
    }

    /// Whether it takes everyone's new flows.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::Checking | Self::Ramping | Self::Failing)
    }
}

/// What is looked at for it.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The configuration in force.
    pub generation: &'a Generation,
    /// Flows.
    pub shared: &'a Shared,
    /// Monitors.
    pub health: &'a Health,
    /// Next hops.
    pub network: &'a NetworkHandle,
    /// The time.
    pub now: Now,
}

impl Servers {
    /// Notes what has changed about servers' states, and when.
    pub(super) fn follow_states(&mut self, sources: &Sources<'_>) {
        let verdicts = sources.health.verdicts();
        let states: HashMap<u32, ServerState> = self
            .known
            .iter()
            .map(|(number, known)| {
                let verdict = verdicts.get(number).copied();
                (*number, self.state(*number, known, verdict, sources.now.monotonic))
            })
            .collect();
        for (number, known) in &mut self.known {
            let Some(state) = states.get(number).copied() else { continue };
            if known.shown.is_none_or(|(shown, _)| shown != state) {
                // One that an earlier daemon took out of service is so since then.
                let before = known.tenure.out().map(|out| out.since);
                let since = before.filter(|_| known.shown.is_none()).unwrap_or(sources.now);
                known.shown = Some((state, since));
            }
        }
    }

    fn state(
        &self,
        number: u32,
        known: &Known,
        verdict: Option<Verdict>,
        now: Duration,
    ) -> ServerState {
        let has_flows = self.states.connections(number) > 0;
        let (rising, failing) = self.states.shares(number, known.tenure.policy(), now);
        match known.tenure.out().map(|out| out.cause) {
            Some(Cause::Removed) => ServerState::Removed,
            Some(_) if has_flows => ServerState::Draining,
            Some(_) => ServerState::Disabled,
            None if verdict == Some(Verdict::Down) => ServerState::Down,
            None if rising < 1.0 => ServerState::Ramping,
            None if failing < 1.0 => ServerState::Failing,
            None if verdict == Some(Verdict::Unknown) => ServerState::Checking,
            None => ServerState::Up,
        }
    }

    /// A server's state. To be called after [`Self::follow_states`].
    pub(super) fn view(&self, number: u32, sources: &Sources<'_>) -> Option<ServerStatus> {
        let known = self.known.get(&number)?;
        let (state, since) = known.shown?;
        let (policy, now) = (known.tenure.policy(), sources.now);
        let health = sources.health.of(number);
        let (rising, failing) = self.states.shares(number, policy, now.monotonic);
        Some(ServerStatus {
            address: known.address,
            ratio: known.ratio,
            state,
            since: format_rfc3339_seconds(since.wall).to_string(),
            why: known.why(health.as_ref(), self.states.connections(number), now.monotonic),
            share: percent(rising * failing),
            full: !self.states.has_room(number, policy, now.monotonic),
            until: known.tenure.deadline().map(|deadline| at(deadline, now)),
            health,
            connections: self.states.connections(number),
            rate: known.rate.per_second(),
            flows_total: self.states.total(number),
            response_us: self.states.answer_time(number).and_then(micros),
            check_us: self.states.check_time(number).and_then(micros),
            next_hop: next_hop(sources.network, known.address),
        })
    }

    /// All pools: those of the configuration, and those of servers that it has no more.
    pub fn pools(&mut self, sources: &Sources<'_>) -> Vec<PoolStatus> {
        self.follow_states(sources);
        let pools = sources.generation.config.pools.iter();
        let mut pools: Vec<PoolStatus> = pools
            .map(|pool| PoolStatus {
                name: pool.name.clone(),
                algorithm: pool.algorithm.name().to_owned(),
                forwarding: match pool.forwarding {
                    Forwarding::Snat => "snat",
                    Forwarding::Dnat => "dnat",
                }
                .to_owned(),
                servers: Vec::new(),
                // The daemon knows them.
                names: Vec::new(),
            })
            .collect();
        for Configured { number, place, .. } in configured(sources.generation) {
            let pool = pools.get_mut(place);
            if let (Some(server), Some(pool)) = (self.view(number, sources), pool) {
                pool.servers.push(server);
            }
        }
        let removed = self.known.iter().filter(|(_, known)| known.tenure.enabled().is_none());
        let mut removed: Vec<_> = removed.map(|(number, known)| (known.address, *number)).collect();
        removed.sort_unstable();
        for (_, number) in removed {
            let known = self.known.get(&number).map(|known| known.pool.clone());
            if let (Some(name), Some(server)) = (known, self.view(number, sources)) {
                add_removed(&mut pools, name, server);
            }
        }
        pools
    }

    /// Adds to virtual services what they have to do, in the configuration's order.
    pub fn load_services(&self, sources: &Sources<'_>, services: &mut [ServiceStatus]) {
        for (index, service) in services.iter_mut().enumerate() {
            let number = sources.generation.service_number(index);
            service.connections = sources.shared.services.now(number);
            service.flows_total = sources.shared.services.total(number);
            service.rate = self.services.get(&number).map_or(0.0, Rate::per_second);
        }
    }
}

/// A server that is not in the configuration, to its pool, which may not be either.
fn add_removed(pools: &mut Vec<PoolStatus>, name: String, server: ServerStatus) {
    match pools.iter_mut().find(|pool| pool.name == name) {
        Some(pool) => pool.servers.push(server),
        None => pools.push(PoolStatus {
            name,
            algorithm: "removed".to_owned(),
            forwarding: "-".to_owned(),
            servers: vec![server],
            names: Vec::new(),
        }),
    }
}

fn micros(time: Duration) -> Option<u64> {
    u64::try_from(time.as_micros()).ok()
}

/// Rounded up: what gets something gets a percent.
fn percent(share: f32) -> u8 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 100")]
    let percent = (share * 100.0).ceil().clamp(1.0, 100.0) as u8;
    percent
}

/// A moment of the monotonic clock, RFC 3339.
fn at(moment: Duration, now: Now) -> String {
    let wall = match moment.checked_sub(now.monotonic) {
        Some(ahead) => now.wall.checked_add(ahead),
        None => now.wall.checked_sub(now.monotonic.saturating_sub(moment)),
    };
    format_rfc3339_seconds(wall.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}

impl Known {
    /// What has led to its state.
    fn why(&self, health: Option<&ServerHealth>, flows: u32, now: Duration) -> String {
        let mut words = Vec::new();
        if let Some(out) = self.tenure.out() {
            words.push(
                match out.cause {
                    Cause::Order => "by order",
                    Cause::Configuration => "by the configuration",
                    Cause::Removed => "not in the configuration",
                }
                .to_owned(),
            );
            let is_over = self.tenure.is_gone(now, false);
            let persistent = self.tenure.takes_persistent() && !is_over;
            if persistent {
                words.push("takes persistent clients".to_owned());
            }
            let deadline = self.tenure.deadline().filter(|_| persistent || flows > 0);
            words.extend(deadline.map(|deadline| match is_over {
                true => "flows end now".to_owned(),
                false => format!("flows end in {}", spell(deadline.saturating_sub(now))),
            }));
        } else if self.tenure.ordered() == Some(Ordered::Enable) {
            words.push("enabled by order".to_owned());
        }
        match health {
            Some(health) => words.extend(health.monitors.iter().map(answer)),
            None if words.is_empty() => words.push("no monitor".to_owned()),
            None => {}
        }
        words.join("; ")
    }
}

fn answer(monitor: &MonitorStatus) -> String {
    let answer = monitor.answer.as_deref().unwrap_or("not checked yet");
    format!("{}: {answer}", monitor.name)
}

/// In whole seconds, as people do.
fn spell(duration: Duration) -> String {
    let seconds = duration.as_millis().div_ceil(1000);
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
