//! The board and the service together, under a clock that tests move.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use lb_common::{flow::Geometry, hash::HashSeed, tcp::cookie::Secrets};
use proptest::prelude::*;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{Answer, Board, Fault, Target, Verdict, service, testing::config};
use crate::{
    config::{Config, PoolIndex, ServerIndex},
    engine::{Generation, Shared},
    flow_table::{Catalog, FlowTable, OwnedMemory},
    pool::Order,
};

/// What an instance has, as far as health goes.
struct Site {
    shared: Shared,
    board: Arc<Board>,
    generation: Generation,
    targets: Vec<Target>,
}

impl Site {
    fn new(config: &Arc<Config>) -> Self {
        let seed = HashSeed([1, 3, 5, 7, 9]);
        let geometry = Geometry { buckets: Geometry::buckets_for(64), seed };
        let table = FlowTable::new(geometry, Box::new(OwnedMemory::new(&geometry)));
        let catalog = Catalog::new([], Box::new(()));
        let shared =
            Shared::new(table, catalog, &config.instance, 64, Arc::new(Secrets::default()));
        let board = Arc::new(Board::new(Arc::clone(&shared.servers)));
        let generation = Generation::new(1, Arc::clone(config), &shared).unwrap();
        let targets = board.follow(config, generation.server_numbers(), SystemTime::now());
        Self { shared, board, generation, targets }
    }

    fn reload(&mut self, config: &Arc<Config>) {
        let number = self.generation.number + 1;
        self.generation = Generation::new(number, Arc::clone(config), &self.shared).unwrap();
        self.targets =
            self.board.follow(config, self.generation.server_numbers(), SystemTime::now());
    }

    /// The monitor's answer about the first server.
    fn say(&self, monitor: &str, answer: Answer) {
        let number = self.number();
        let named = |it: &&Target| it.number == number && it.monitor.name == monitor;
        let target = self.targets.iter().find(named).unwrap();
        self.board.record(target, answer, Duration::from_millis(5), SystemTime::now());
    }

    fn number(&self) -> u32 {
        self.generation.server_number(PoolIndex(0), ServerIndex(0))
    }

    fn is_up(&self) -> bool {
        self.generation.is_up(PoolIndex(0), ServerIndex(0))
    }

    fn verdict(&self) -> Option<Verdict> {
        self.board.health(self.number()).map(|health| health.verdict)
    }
}

fn failed() -> Answer {
    Err(Fault::Server("connection refused".to_owned()))
}

fn passed() -> Answer {
    Ok("connected".to_owned())
}

const A: &str = "health_monitors = [\"a\"]";
const BOTH: &str = "[[health_monitor]]\nname = \"a\"\ntype = \"tcp\"\n\
                    [[health_monitor]]\nname = \"b\"\ntype = \"ping\"\n";

#[test]
fn a_server_takes_flows_until_the_first_answer_and_then_as_its_monitor_says() {
    let mut site = Site::new(&config(A, 2, BOTH, ""));
    assert_eq!((site.verdict(), site.is_up()), (Some(Verdict::Unknown), true));
    site.say("a", failed());
    assert_eq!((site.verdict(), site.is_up()), (Some(Verdict::Down), false));
    let health = site.board.health(site.number()).unwrap();
    assert_eq!(health.monitors[0].answer.as_deref(), Some("connection refused"));
    site.say("a", passed());
    assert!(!site.is_up());
    site.say("a", passed());
    assert!(site.is_up());
    site.say("a", failed());
    assert!(site.is_up());
    // What the balancer could not ask counts neither way.
    site.say("a", Err(Fault::Own("too many open files".to_owned())));
    site.say("a", failed());
    assert!(!site.is_up());
    assert!(site.generation.is_pool_up(PoolIndex(0)), "the other one is");
    site.reload(&config("", 2, BOTH, ""));
    assert_eq!((site.verdict(), site.is_up()), (None, true), "nobody watches it any more");
}

#[test]
fn a_server_that_an_operator_has_enabled_is_watched_whatever_the_configuration_says() {
    let mut disabled = config(A, 2, BOTH, "");
    Arc::get_mut(&mut disabled).unwrap().pools[0].servers[0].enabled = false;
    let mut site = Site::new(&disabled);
    assert_eq!((site.verdict(), site.is_up()), (None, false));
    site.shared.servers.set_order(site.number(), Some(Order::Enable));
    site.reload(&disabled);
    assert_eq!((site.verdict(), site.is_up()), (Some(Verdict::Unknown), true));
    site.say("a", failed());
    assert_eq!((site.verdict(), site.is_up()), (Some(Verdict::Down), false));
    assert_eq!(site.board.verdicts().get(&site.number()), Some(&Verdict::Down));
    site.shared.servers.set_order(site.number(), None);
    site.reload(&disabled);
    assert_eq!((site.verdict(), site.is_up()), (None, false));
}

#[test]
fn a_reload_keeps_what_is_known_of_servers_and_what_is_not_asked_any_more_says_nothing() {
    let mut site = Site::new(&config(A, 1, BOTH, ""));
    site.say("a", failed());
    let since = site.board.health(site.number()).unwrap().since;
    // Another server, another minimum, other successes, other monitors beside it or in its place.
    for (pool, monitors) in [
        (A, BOTH.to_owned()),
        ("health_monitors = [\"a\"]\nmin_health_monitors_up = 1", BOTH.to_owned()),
        (A, BOTH.replace("\"tcp\"", "\"tcp\"\nport = 81")),
        ("health_monitors = [\"b\", \"a\"]", BOTH.to_owned()),
        ("health_monitors = [\"b\"]", BOTH.to_owned()),
    ] {
        let old = site.targets.clone();
        site.reload(&config(pool, 2, &monitors, ""));
        assert!(!site.is_up(), "{pool} {monitors}");
        assert_eq!(site.board.health(site.number()).unwrap().since, since);
        for target in old.iter().filter(|old| !site.targets.contains(old)) {
            site.board.record(target, passed(), Duration::ZERO, SystemTime::now());
            site.board.record(target, passed(), Duration::ZERO, SystemTime::now());
        }
        assert!(!site.is_up(), "an answer to an old question counts: {pool} {monitors}");
    }
    site.say("b", passed());
    site.say("b", passed());
    assert!(site.is_up());
}

#[test]
fn a_server_that_comes_back_after_a_while_is_a_new_one() {
    let mut site = Site::new(&config(A, 1, BOTH, ""));
    site.say("a", failed());
    let number = site.number();
    site.reload(&config("", 1, BOTH, ""));
    assert!(!site.shared.servers.standing(number).is_down());
    site.reload(&config(A, 1, BOTH, ""));
    assert_eq!((site.verdict(), site.is_up()), (Some(Verdict::Unknown), true));
}

#[test]
fn as_many_monitors_as_the_pool_says_must_hold_a_server_to_be_up() {
    for (minimum, expected) in [(0, false), (1, true), (2, false)] {
        let pool = format!("health_monitors = [\"a\", \"b\"]\nmin_health_monitors_up = {minimum}");
        let site = Site::new(&config(&pool, 1, BOTH, ""));
        site.say("a", failed());
        assert_eq!((site.is_up(), site.verdict() == Some(Verdict::Unknown)), (expected, expected));
        site.say("b", passed());
        assert_eq!(site.is_up(), expected, "{minimum}");
    }
}

/// Runs the service over so many servers for so long, each check taking `takes`; when each began,
/// and how many were under way at most.
async fn watch(servers: u16, takes: Duration, long: Duration) -> (Vec<Duration>, usize) {
    let site = Site::new(&config(A, servers, BOTH, ""));
    let (targets, followed) = watch::channel(site.targets.clone());
    let began = Instant::now();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let check = {
        let (starts, most) = (Arc::clone(&starts), Arc::clone(&most));
        move |_: Arc<Target>| {
            let (starts, now, most) = (Arc::clone(&starts), Arc::clone(&now), Arc::clone(&most));
            async move {
                starts.lock().unwrap().push(began.elapsed());
                most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                sleep(takes).await;
                now.fetch_sub(1, Relaxed);
                failed()
            }
        }
    };
    let running = tokio::spawn(service::run(Arc::clone(&site.board), followed, check));
    sleep(long).await;
    drop(targets);
    running.await.unwrap();
    assert!(!site.generation.is_pool_up(PoolIndex(0)), "all have failed");
    let starts = std::mem::take(&mut *starts.lock().unwrap());
    (starts, most.load(Relaxed))
}

#[tokio::test(start_paused = true)]
async fn checks_of_five_thousand_servers_are_spread_over_the_interval() {
    let (starts, most) = watch(5000, Duration::from_millis(20), Duration::from_secs(31)).await;
    let mut in_second = [0; 32];
    for start in &starts {
        in_second[usize::try_from(start.as_secs()).unwrap()] += 1;
    }
    // All in the first second; from then on each once in ten.
    assert!(in_second[0] >= 4990, "{in_second:?}");
    assert!(in_second[2..30].iter().all(|count| (400..=600).contains(count)), "{in_second:?}");
    assert!(most < 300, "{most}");
}

#[tokio::test(start_paused = true)]
async fn servers_that_say_nothing_delay_others_and_no_queue_grows() {
    // Each check takes as long as it may.
    let (starts, most) = watch(5000, Duration::from_secs(4), Duration::from_secs(60)).await;
    assert_eq!(most, 2048);
    // Nobody is asked more often than once in an interval, and everybody is asked.
    assert!((5000 * 5..=5000 * 7).contains(&starts.len()), "{}", starts.len());
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_says_so_and_the_server_is_asked_again() {
    let config = config(A, 1, BOTH, "");
    let site = Site::new(&config);
    let (targets, followed) = watch::channel(site.targets.clone());
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let check = move |_: Arc<Target>| {
        let first = count.fetch_add(1, Relaxed) == 0;
        async move {
            assert!(!first, "a fault of ours");
            passed()
        }
    };
    let running = tokio::spawn(service::run(Arc::clone(&site.board), followed, check));
    while asked.load(Relaxed) < 3 {
        sleep(Duration::from_millis(100)).await;
        if asked.load(Relaxed) == 1 {
            let health = site.board.health(site.number()).unwrap();
            let answer = health.monitors[0].answer.as_deref().unwrap_or_default();
            assert_eq!((health.verdict, answer.contains("log says")), (Verdict::Unknown, true));
        }
    }
    assert_eq!(site.verdict(), Some(Verdict::Up));
    drop(targets);
    running.await.unwrap();
}

#[test]
fn checks_that_are_passed_tell_how_fast_the_server_is() {
    let site = Site::new(&config(A, 1, BOTH, ""));
    let time = |site: &Site| site.shared.servers.response_time(site.number());
    site.say("a", failed());
    assert_eq!(time(&site), None);
    site.say("a", passed());
    assert_eq!(time(&site), Some(Duration::from_millis(5)));
}

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_millis(300);

/// A server that lives and dies: whether it is well, in turns, for so many milliseconds each.
#[derive(Clone, Debug)]
struct Life(Vec<u64>);

impl Life {
    /// Whether it is well at a moment, and since when it is so.
    fn at(&self, moment: Duration) -> (bool, Duration) {
        let mut since = Duration::ZERO;
        for (turn, length) in self.0.iter().enumerate() {
            let end = since + Duration::from_millis(*length);
            if moment < end {
                return (turn.is_multiple_of(2), since);
            }
            since = end;
        }
        (self.0.len().is_multiple_of(2), since)
    }
}

/// Lets the service watch that server, and holds what it says at every moment against what is
/// promised of it.
async fn live(life: Life, successes: u32, failures: u32) -> Result<(), TestCaseError> {
    let counts = format!("successful_checks = {successes}\nfailed_checks = {failures}");
    let monitor = format!(
        "[[health_monitor]]\nname = \"a\"\ntype = \"tcp\"\ninterval = \"1s\"\n\
         timeout = \"300ms\"\n{counts}"
    );
    let site = Site::new(&config(A, 1, &monitor, ""));
    let (targets, followed) = watch::channel(site.targets.clone());
    let (began, alive) = (Instant::now(), life.clone());
    let check = move |_: Arc<Target>| {
        let alive = alive.clone();
        async move {
            if alive.at(began.elapsed()).0 {
                return passed();
            }
            sleep(TIMEOUT).await;
            failed()
        }
    };
    let running = tokio::spawn(service::run(Arc::clone(&site.board), followed, check));
    let total: u64 = life.0.iter().sum();
    let step = Duration::from_millis(10);
    // The first check comes within one interval, and each takes the timeout at most.
    let needed = |count: u32| INTERVAL * count + TIMEOUT + step;
    while began.elapsed() < Duration::from_millis(total) {
        let (is_well, since) = life.at(began.elapsed());
        let so_for = began.elapsed() - since;
        if so_for > needed(if is_well { successes } else { failures }) {
            prop_assert_eq!(site.is_up(), is_well, "{:?} after {:?}", so_for, began.elapsed());
        }
        sleep(step).await;
    }
    drop(targets);
    prop_assert!(running.await.is_ok());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_server_s_state_follows_its_life_after_so_many_checks_and_not_later(
        life in proptest::collection::vec(100..9000u64, 1..8),
        successes in 1..4u32,
        failures in 1..4u32,
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(live(Life(life), successes, failures))?;
    }
}
