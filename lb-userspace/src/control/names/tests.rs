//! Names that are followed, with a resolver that says what it is told and a clock that is moved.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::{Answer, Ask, Asked, NameStatus, Names, pace};
use crate::config::{Config, PoolIndex};

const SECOND: Duration = Duration::from_secs(1);
/// More than anything takes that is asked for soon.
const WHILE: Duration = Duration::from_mins(3);

/// A resolver. Names that it was told nothing of are never answered.
#[derive(Default)]
struct Fake {
    answers: Mutex<BTreeMap<String, Asked>>,
    /// Who was asked for which name, and when.
    asked: Mutex<Vec<(Option<SocketAddr>, String, Instant)>>,
    /// Questions under way, and the most there have been.
    under_way: Mutex<(usize, usize)>,
}

impl Fake {
    fn says(&self, name: &str, asked: Asked) {
        self.answers.lock().unwrap().insert(name.to_owned(), asked);
    }

    fn has(&self, name: &str, ttl: u64, hosts: &[u8]) {
        let addresses = hosts.iter().map(|host| Ipv4Addr::new(10, 0, 0, *host)).collect();
        self.says(name, Ok(Answer { addresses, ttl: Duration::from_secs(ttl) }));
    }

    fn fails(&self, name: &str, why: &str) {
        self.says(name, Err(why.to_owned()));
    }

    /// How long after each other a name was asked for.
    fn intervals(&self, name: &str) -> Vec<Duration> {
        let asked = self.asked.lock().unwrap();
        let times: Vec<_> = asked.iter().filter(|it| it.1 == name).map(|it| it.2).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn count(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|it| it.1 == name).count()
    }

    fn last_asked(&self) -> Option<SocketAddr> {
        self.asked.lock().unwrap().last().unwrap().0
    }

    async fn answer(self: Arc<Self>, server: Option<SocketAddr>, name: String) -> Asked {
        self.asked.lock().unwrap().push((server, name.clone(), Instant::now()));
        let _question = Question::new(&self);
        let answer = self.answers.lock().unwrap().get(&name).cloned();
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

/// Counts for as long as it lives.
struct Question(Arc<Fake>);

impl Question {
    fn new(fake: &Arc<Fake>) -> Self {
        let (now, most) = &mut *fake.under_way.lock().unwrap();
        *now += 1;
        *most = (*most).max(*now);
        Self(Arc::clone(fake))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.0.under_way.lock().unwrap().0 -= 1;
    }
}

fn follow(fake: &Arc<Fake>, config: &Config) -> Names {
    // Kept nowhere.
    remembering(fake, config, Path::new(""))
}

fn remembering(fake: &Arc<Fake>, config: &Config, memory: &Path) -> Names {
    let fake = Arc::clone(fake);
    let resolver = move |servers: &[SocketAddr]| -> Ask {
        let (fake, server) = (Arc::clone(&fake), servers.first().copied());
        Arc::new(move |name| Arc::clone(&fake).answer(server, name.to_string()).boxed())
    };
    Names::asking(Box::new(resolver), config, memory.to_owned())
}

/// A configuration with pools of these names.
fn config(pools: &[&[&str]]) -> Config {
    asking(pools, "")
}

fn asking(pools: &[&[&str]], instance: &str) -> Config {
    let mut text = format!(
        "[instance]\nname = \"edge\"\ninterfaces = [\"eth0\"]\nsnat_addresses = [\"192.0.2.9\"]\n{instance}\n"
    );
    for (index, names) in pools.iter().enumerate() {
        let server = |name: &&str| format!("{{ address = \"{name}\", port = 80 }}");
        let servers: Vec<_> = names.iter().map(server).collect();
        text += &format!("[[pool]]\nname = \"p{index}\"\nservers = [{}]\n", servers.join(", "));
    }
    Config::parse(Path::new("lb.toml"), &text, |_| Err(io::ErrorKind::NotFound.into())).unwrap()
}

/// The last byte of each server's address, of the first pool.
fn servers(names: &mut Names, config: &Config) -> Vec<u8> {
    let expanded = names.expand(config);
    let servers = expanded.pools[0].servers.iter();
    let last = servers.map(|server| match server.address.ip() {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => panic!("{address}"),
    });
    last.collect()
}

fn status(names: &Names, config: &Config) -> NameStatus {
    names.status(PoolIndex(0), &config.pools[0].names).remove(0)
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_followed_for_as_long_as_it_holds() {
    let (fake, config) = (Arc::new(Fake::default()), config(&[&["app.test"]]));
    fake.has("app.test", 30, &[12, 11, 11]);
    let mut names = follow(&fake, &config);
    names.settle(2 * SECOND).await;
    assert_eq!(servers(&mut names, &config), [11, 12]);

    // The same in another order is no change.
    fake.has("app.test", 30, &[11, 12]);
    assert!(timeout(25 * SECOND, names.changed()).await.is_err());
    assert_eq!(fake.count("app.test"), 1);
    assert!(timeout(30 * SECOND, names.changed()).await.is_err());
    assert_eq!(fake.count("app.test"), 2);
    fake.has("app.test", 1, &[12, 13]);
    timeout(30 * SECOND, names.changed()).await.unwrap();
    assert_eq!(servers(&mut names, &config), [12, 13]);

    sleep(WHILE).await;
    let intervals = fake.intervals("app.test");
    let (long, short) = intervals.split_at(2);
    assert!(long.iter().all(|it| (27 * SECOND..=30 * SECOND).contains(it)), "{long:?}");
    assert!(short.len() > 30, "{short:?}");
    assert!(short.iter().all(|it| (pace::LEAST..6 * SECOND).contains(it)), "{short:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_fails_keeps_its_addresses_and_is_asked_for_less_and_less() {
    let (fake, config) = (Arc::new(Fake::default()), config(&[&["app.test"]]));
    fake.has("app.test", 5, &[11, 12]);
    let mut names = follow(&fake, &config);
    names.settle(2 * SECOND).await;
    assert_eq!(servers(&mut names, &config), [11, 12]);
    let good = status(&names, &config);
    assert!(good.error.is_none() && good.resolved.is_some() && good.next.is_some(), "{good:?}");

    fake.fails("app.test", "there is no such name (NXDOMAIN)");
    assert!(timeout(10 * WHILE, names.changed()).await.is_err());
    assert_eq!(servers(&mut names, &config), [11, 12]);
    let bad = status(&names, &config);
    assert_eq!(bad.error.as_deref(), Some("there is no such name (NXDOMAIN)"));
    assert!(bad.failures > 20 && bad.failing_since.is_some(), "{bad:?}");
    assert_eq!(bad.addresses.len(), 2);
    let intervals = fake.intervals("app.test");
    let most = [5.5, 5.5, 11.0, 22.0, 44.0, 60.0, 60.0, 60.0];
    for (found, most) in intervals.iter().zip(most) {
        let found = found.as_secs_f64();
        assert!(found >= 0.9 * most && found <= most + 0.1, "{found} in {intervals:?}");
    }

    fake.has("app.test", 5, &[12]);
    timeout(pace::MOST_AFTER_FAILURE + SECOND, names.changed()).await.unwrap();
    assert_eq!(servers(&mut names, &config), [12]);
    let again = status(&names, &config);
    assert_eq!((again.error, again.failures, again.failing_since), (None, 0, None));
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_answers_but_not_for_ever() {
    let (fake, config) = (Arc::new(Fake::default()), config(&[&["app.test", "silent.test"]]));
    fake.has("app.test", 600, &[11]);
    let began = Instant::now();
    let mut names = follow(&fake, &config);
    names.settle(2 * SECOND).await;
    assert_eq!(began.elapsed(), 2 * SECOND);
    assert_eq!(servers(&mut names, &config), [11]);
    let unasked = names.status(PoolIndex(0), &config.pools[0].names).remove(1);
    assert_eq!((unasked.error, unasked.resolved, unasked.next), (None, None, None));

    sleep(20 * SECOND).await;
    let silent = names.status(PoolIndex(0), &config.pools[0].names).remove(1);
    assert_eq!(silent.error.as_deref(), Some("no answer within 15s"));
    fake.has("silent.test", 600, &[12]);
    timeout(WHILE, names.changed()).await.unwrap();
    assert_eq!(servers(&mut names, &config), [11, 12]);
}

#[tokio::test(start_paused = true)]
async fn names_that_hang_hold_up_only_so_many_questions() {
    let hosts: Vec<_> = (0..200).map(|number| format!("a{number}.test")).collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let (fake, config) = (Arc::new(Fake::default()), config(&[&hosts]));
    let names = follow(&fake, &config);
    names.settle(WHILE).await;
    assert_eq!(fake.under_way.lock().unwrap().1, 32);
    let all = names.status(PoolIndex(0), &config.pools[0].names);
    assert!(all.iter().all(|name| name.error.is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_name_in_several_pools_is_asked_for_once() {
    let (fake, config) = (Arc::new(Fake::default()), config(&[&["app.test"], &["app.test"]]));
    fake.has("app.test", 600, &[11]);
    let mut names = follow(&fake, &config);
    names.settle(2 * SECOND).await;
    assert_eq!(fake.count("app.test"), 1);
    let expanded = names.expand(&config);
    assert!(expanded.pools.iter().all(|pool| pool.servers.len() == 1));
}

#[tokio::test(start_paused = true)]
async fn changes_that_come_together_are_taken_together() {
    let (fake, config) = (Arc::new(Fake::default()), config(&[&["a.test", "b.test"]]));
    let mut names = follow(&fake, &config);
    assert!(servers(&mut names, &config).is_empty());
    let began = Instant::now();
    fake.has("a.test", 600, &[11]);
    fake.has("b.test", 600, &[12]);
    names.changed().await;
    assert!(began.elapsed() >= SECOND);
    assert_eq!(servers(&mut names, &config), [11, 12]);
    assert!(timeout(WHILE, names.changed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_reload_adds_names_and_removes_others() {
    let (fake, old) = (Arc::new(Fake::default()), config(&[&["old.test", "both.test"]]));
    for (name, host) in [("old.test", 11), ("both.test", 12), ("new.test", 13)] {
        fake.has(name, 5, &[host]);
    }
    let mut names = follow(&fake, &old);
    names.settle(2 * SECOND).await;
    assert_eq!(servers(&mut names, &old), [11, 12]);

    // The new one is known when the configuration comes into force.
    let new = config(&[&["both.test", "new.test"]]);
    let asked = fake.count("both.test");
    names.meet(&new, 2 * SECOND).await;
    assert_eq!(servers(&mut names, &new), [12, 13]);
    names.follow(&new);
    assert_eq!(fake.count("both.test"), asked, "it was known");
    let asked = fake.count("old.test");
    sleep(WHILE).await;
    assert_eq!(fake.count("old.test"), asked);
    assert!(fake.count("both.test") > 10 && fake.count("new.test") > 10);

    // One that is refused leaves things as they were.
    names.meet(&old, 2 * SECOND).await;
    names.follow(&new);
    assert_eq!(servers(&mut names, &new), [12, 13]);
    let asked = fake.count("old.test");
    sleep(WHILE).await;
    assert_eq!(fake.count("old.test"), asked);
}

#[tokio::test(start_paused = true)]
async fn a_question_under_way_goes_on_through_a_reload_unless_its_name_is_gone() {
    let (fake, both) = (Arc::new(Fake::default()), config(&[&["slow.test", "gone.test"]]));
    let mut names = follow(&fake, &both);
    sleep(SECOND).await;
    assert_eq!(fake.under_way.lock().unwrap().0, 2);
    let one = config(&[&["slow.test"]]);
    names.follow(&one);
    sleep(SECOND).await;
    assert_eq!(fake.under_way.lock().unwrap().0, 1);
    assert_eq!((fake.count("slow.test"), fake.count("gone.test")), (1, 1));
    drop(names);
    sleep(SECOND).await;
    assert_eq!(fake.under_way.lock().unwrap().0, 0);
}

#[tokio::test(start_paused = true)]
async fn other_name_servers_are_asked_at_once_and_what_is_known_stays() {
    let fake = Arc::new(Fake::default());
    let first = asking(&[&["app.test"]], "name_servers = [\"10.0.0.53\"]");
    fake.has("app.test", 600, &[11]);
    let mut names = follow(&fake, &first);
    names.settle(2 * SECOND).await;
    assert_eq!(fake.last_asked(), Some(([10, 0, 0, 53], 53).into()));

    fake.fails("app.test", "the name server answers: Server Failure");
    let second = asking(&[&["app.test"]], "name_servers = [\"10.0.0.54:5353\"]");
    names.meet(&second, 2 * SECOND).await;
    names.follow(&second);
    sleep(SECOND).await;
    assert_eq!(fake.count("app.test"), 2);
    assert_eq!(fake.last_asked(), Some(([10, 0, 0, 54], 5353).into()));
    assert_eq!(servers(&mut names, &second), [11]);
    assert!(status(&names, &second).error.is_some());
    names.follow(&asking(&[&["app.test"]], ""));
    sleep(SECOND).await;
    assert_eq!(fake.last_asked(), None);
}

#[tokio::test(start_paused = true)]
async fn addresses_that_are_no_servers_are_shown_with_the_reason() {
    let (fake, config) = (Arc::new(Fake::default()), config(&[&["app.test"]]));
    let addresses = vec![[192, 0, 2, 9].into(), [10, 0, 0, 11].into()];
    fake.says("app.test", Ok(Answer { addresses, ttl: SECOND }));
    let mut names = follow(&fake, &config);
    names.settle(2 * SECOND).await;
    assert_eq!(servers(&mut names, &config), [11]);
    assert_eq!(status(&names, &config).left_out, ["192.0.2.9 is the balancer itself"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_daemon_has_the_addresses_of_the_last_one_until_it_hears_others() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("edge.names.json");
    let (fake, config) = (Arc::new(Fake::default()), config(&[&["app.test", "b.test"]]));
    fake.has("app.test", 600, &[11, 12]);
    let mut names = remembering(&fake, &config, &memory);
    names.settle(2 * SECOND).await;
    assert_eq!(servers(&mut names, &config), [11, 12]);
    let resolved = status(&names, &config).resolved;
    drop(names);

    fake.fails("app.test", "no name server answers");
    let mut names = remembering(&fake, &config, &memory);
    names.settle(2 * SECOND).await;
    assert_eq!(servers(&mut names, &config), [11, 12]);
    let shown = status(&names, &config);
    assert_eq!(shown.resolved, resolved);
    assert_eq!(shown.error.as_deref(), Some("no name server answers"));
    fake.has("app.test", 600, &[13]);
    timeout(WHILE, names.changed()).await.unwrap();
    assert_eq!(servers(&mut names, &config), [13]);
    drop(names);

    for spoilt in ["", "[]", "{\"app.test\": {\"addresses\": [\"x\"], \"resolved\": \"\"}}"] {
        std::fs::write(&memory, spoilt).unwrap();
        let mut names = remembering(&fake, &config, &memory);
        assert!(servers(&mut names, &config).is_empty(), "{spoilt}");
    }
}
