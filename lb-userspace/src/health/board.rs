//! The verdict on every server that is watched, and what led to it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use humantime::format_rfc3339_millis;
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use super::{
    checks::{Answer, Fault},
    state::{Judge, Rules, Verdict, together},
};
use crate::{
    config::{Check, Config, HealthMonitor, Pool},
    pool::{Order, ServerStates},
};

/// One server that one monitor asks.
#[derive(Clone, PartialEq, Debug)]
pub struct Target {
    /// The server's number in the catalog.
    pub number: u32,
    /// Its pool's name.
    pub pool: String,
    /// Where it listens.
    pub server: SocketAddr,
    /// What asks it.
    pub monitor: Arc<HealthMonitor>,
}

/// A server's health, for `lb status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerHealth {
    /// What its monitors say together.
    pub verdict: Verdict,
    /// Since when, RFC 3339.
    pub since: String,
    /// What they say each.
    pub monitors: Vec<MonitorStatus>,
}

/// What one monitor says of one server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MonitorStatus {
    /// The monitor.
    pub name: String,
    /// What it holds of the server.
    pub verdict: Verdict,
    /// Answers in a row that speak against it.
    pub against: u16,
    /// When the last check ended, RFC 3339.
    pub checked: Option<String>,
    /// What came of it, in words.
    pub answer: Option<String>,
}

/// The verdict on every server that is watched. Neither workers nor checks ever wait for each
/// other by it: workers read [`ServerStates`].
#[derive(Debug)]
pub struct Board {
    states: Arc<ServerStates>,
    servers: Mutex<HashMap<u32, Watched>>,
}

/// A server.
#[derive(Debug)]
struct Watched {
    pool: String,
    server: SocketAddr,
    minimum: usize,
    monitors: Vec<Opinion>,
    verdict: Verdict,
    since: SystemTime,
}

/// What one monitor says of it.
#[derive(Debug)]
struct Opinion {
    monitor: Arc<HealthMonitor>,
    judge: Judge,
    last: Option<(SystemTime, Answer)>,
}

impl Board {
    /// Verdicts go to `states`.
    pub fn new(states: Arc<ServerStates>) -> Self {
        Self { states, servers: Mutex::default() }
    }

    /// Watches the servers of another configuration. What is known of a server stays, and so does
    /// what each monitor says of it; a monitor that is new to a server begins with what the others
    /// hold of it. Returns who is to be asked.
    ///
    /// `numbers` are the servers' in the catalog, by pool and then by server. One that the
    /// configuration disables is watched if an operator has enabled it.
    pub fn follow(&self, config: &Config, numbers: &[Vec<u32>], now: SystemTime) -> Vec<Target> {
        let mut servers = self.lock();
        let mut before = std::mem::take(&mut *servers);
        for (pool, numbers) in config.pools.iter().zip(numbers) {
            let monitors = pool.health_monitors.iter();
            let monitors = monitors.filter_map(|it| config.health_monitors.get(it.0));
            let monitors: Vec<_> = monitors.cloned().collect();
            for (&number, server) in numbers.iter().zip(&pool.servers) {
                let order = self.states.standing(number).order();
                let wanted = server.enabled || order == Some(Order::Enable);
                if !monitors.is_empty() && wanted {
                    let known = before.remove(&number);
                    let watched = Watched::new(pool, server.address, &monitors, known, now);
                    self.states.set_down(number, watched.verdict == Verdict::Down);
                    servers.insert(number, watched);
                }
            }
        }
        for number in before.keys() {
            self.states.set_down(*number, false);
        }
        servers.iter().flat_map(|(number, watched)| watched.targets(*number)).collect()
    }

    /// A check has ended that took `time`. One of a monitor that was changed meanwhile says nothing
    /// any more.
    pub fn record(&self, target: &Target, answer: Answer, time: Duration, now: SystemTime) {
        let mut servers = self.lock();
        let Some(watched) = servers.get_mut(&target.number) else { return };
        // How long a program takes says nothing about the server.
        if answer.is_ok() && !matches!(target.monitor.check, Check::External(_)) {
            self.states.passed(target.number, time);
        }
        if watched.hear(&target.monitor, answer, now) {
            self.states.set_down(target.number, watched.verdict == Verdict::Down);
        }
    }

    /// The health of a server, if it is watched.
    pub fn health(&self, number: u32) -> Option<ServerHealth> {
        self.lock().get(&number).map(Watched::health)
    }

    /// The verdict on every server that is watched.
    pub fn verdicts(&self) -> HashMap<u32, Verdict> {
        self.lock().iter().map(|(number, watched)| (*number, watched.verdict)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Watched>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn new(
        pool: &Pool,
        server: SocketAddr,
        monitors: &[Arc<HealthMonitor>],
        known: Option<Self>,
        now: SystemTime,
    ) -> Self {
        let (verdict, since) =
            known.as_ref().map_or((Verdict::Unknown, now), |known| (known.verdict, known.since));
        let mut opinions = known.map(|known| known.monitors).unwrap_or_default();
        let opinion = |monitor: &Arc<HealthMonitor>| {
            let own = opinions.iter().position(|old| old.monitor.name == monitor.name);
            match own.map(|own| opinions.swap_remove(own)) {
                Some(old) => old.under(monitor),
                None => {
                    Opinion { monitor: Arc::clone(monitor), judge: Judge::new(verdict), last: None }
                }
            }
        };
        let monitors = monitors.iter().map(opinion).collect();
        let minimum = pool.min_health_monitors_up;
        let mut watched =
            Self { pool: pool.name.clone(), server, minimum, monitors, verdict, since };
        watched.conclude(now);
        watched
    }

    /// Whether the verdict has changed.
    fn hear(&mut self, monitor: &Arc<HealthMonitor>, answer: Answer, now: SystemTime) -> bool {
        let own = |opinion: &&mut Opinion| Arc::ptr_eq(&opinion.monitor, monitor);
        let Some(opinion) = self.monitors.iter_mut().find(own) else { return false };
        opinion.hear(answer, now);
        self.conclude(now)
    }

    /// Draws the conclusion from what the monitors say; whether it is another one than before.
    fn conclude(&mut self, now: SystemTime) -> bool {
        let verdicts = self.monitors.iter().map(|opinion| opinion.judge.verdict());
        let verdict = together(verdicts, self.minimum);
        if verdict == self.verdict {
            return false;
        }
        let was = std::mem::replace(&mut self.verdict, verdict);
        self.since = now;
        self.announce(was);
        true
    }

    fn announce(&self, was: Verdict) {
        let (pool, server, why) = (&self.pool, self.server, self.words());
        match self.verdict {
            Verdict::Down => warn!(pool, %server, "server down: {why}"),
            Verdict::Up if was == Verdict::Down => info!(pool, %server, "server up: {why}"),
            Verdict::Up | Verdict::Unknown => debug!(pool, %server, "server checked: {why}"),
        }
    }

    /// The last answers of those monitors that say what all say together.
    fn words(&self) -> String {
        let agree = |opinion: &&Opinion| opinion.judge.verdict() == self.verdict;
        let words = self.monitors.iter().filter(agree).map(|opinion| {
            let answer = opinion.last.as_ref().map(|(_, answer)| words(answer));
            format!("{}: {}", opinion.monitor.name, answer.unwrap_or("not checked yet"))
        });
        words.collect::<Vec<_>>().join("; ")
    }

    fn targets(&self, number: u32) -> impl Iterator<Item = Target> {
        self.monitors.iter().map(move |opinion| Target {
            number,
            pool: self.pool.clone(),
            server: self.server,
            monitor: Arc::clone(&opinion.monitor),
        })
    }

    fn health(&self) -> ServerHealth {
        ServerHealth {
            verdict: self.verdict,
            since: format_rfc3339_millis(self.since).to_string(),
            monitors: self.monitors.iter().map(Opinion::status).collect(),
        }
    }
}

impl Opinion {
    /// The same under the monitor as it is configured now. If it asks something else, what was
    /// heard against the verdict no longer counts.
    fn under(self, monitor: &Arc<HealthMonitor>) -> Self {
        if *self.monitor == **monitor {
            return self;
        }
        Self { monitor: Arc::clone(monitor), judge: Judge::new(self.judge.verdict()), ..self }
    }

    fn hear(&mut self, answer: Answer, now: SystemTime) {
        let (successes, failures) = (self.monitor.successful_checks, self.monitor.failed_checks);
        match &answer {
            Ok(_) => self.judge.observe(Rules { successes, failures }, true),
            Err(Fault::Server(_)) => self.judge.observe(Rules { successes, failures }, false),
            // Says nothing about the server.
            Err(Fault::Own(_)) => {}
        }
        self.last = Some((now, answer));
    }

    fn status(&self) -> MonitorStatus {
        MonitorStatus {
            name: self.monitor.name.clone(),
            verdict: self.judge.verdict(),
            against: self.judge.against(),
            checked: self.last.as_ref().map(|(at, _)| format_rfc3339_millis(*at).to_string()),
            answer: self.last.as_ref().map(|(_, answer)| words(answer).to_owned()),
        }
    }
}

fn words(answer: &Answer) -> &str {
    match answer {
        Ok(words) | Err(Fault::Server(words) | Fault::Own(words)) => words,
    }
}
