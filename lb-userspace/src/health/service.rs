//! The thread that asks.

use std::{
    collections::HashMap,
    future::Future,
    io,
    panic::AssertUnwindSafe,
    sync::Arc,
    thread::{self, JoinHandle},
    time::SystemTime,
};

use futures_util::FutureExt as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    sync::{Semaphore, watch},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    board::{Board, ServerHealth, Target},
    checks::{Answer, Fault, check},
    rhythm::Rhythm,
    state::Verdict,
};
use crate::{
    config::{Check, Config},
    pool::ServerStates,
};

/// Checks under way at once: so many servers may say nothing for four seconds in every ten, of
/// five thousand.
const CHECKS: usize = 2048;
/// Programs that run at once: each is a process.
const PROGRAMS: usize = 32;
/// Descriptors that are open besides those of checks.
const OTHER_FILES: u64 = 1024;

/// The monitors of an instance, which run on a thread of their own.
#[derive(Debug)]
pub struct Health {
    board: Arc<Board>,
    targets: watch::Sender<Vec<Target>>,
    thread: JoinHandle<()>,
}

impl Health {
    /// Begins to watch the servers of a configuration. Verdicts go to `states`.
    pub fn start(
        states: Arc<ServerStates>,
        config: &Config,
        numbers: &[Vec<u32>],
    ) -> io::Result<Self> {
        let board = Arc::new(Board::new(states));
        let (targets, followed) = watch::channel(board.follow(config, numbers, SystemTime::now()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        raise_file_limit();
        let own = Arc::clone(&board);
        let thread = thread::Builder::new()
            .name("health".to_owned())
            .spawn(move || runtime.block_on(run(own, followed, check)))?;
        Ok(Self { board, targets, thread })
    }

    /// Watches the servers of another configuration from now on.
    pub fn follow(&self, config: &Config, numbers: &[Vec<u32>]) {
        self.targets.send_replace(self.board.follow(config, numbers, SystemTime::now()));
    }

    /// The health of a server by its number in the catalog, if it is watched.
    pub fn of(&self, number: u32) -> Option<ServerHealth> {
        self.board.health(number)
    }

    /// The verdict on every server that is watched, by its number in the catalog.
    pub fn verdicts(&self) -> HashMap<u32, Verdict> {
        self.board.verdicts()
    }

    /// Ends all checks. Verdicts stay as they are.
    pub fn stop(self) {
        drop(self.targets);
        // A panic of it has been logged.
        let _ = self.thread.join();
    }
}

/// Every check under way has a socket.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = (CHECKS + 4 * PROGRAMS) as u64 + OTHER_FILES;
    let wanted = limit.maximum.map_or(wanted, |most| most.min(wanted));
    if limit.current.is_some_and(|current| current < wanted) {
        // If it cannot be, checks say that there are too many open files.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit });
    }
}

/// Runs checks of whatever the targets are, until there is nobody left who could name some.
pub(super) async fn run<C, F>(
    board: Arc<Board>,
    mut followed: watch::Receiver<Vec<Target>>,
    check: C,
) where
    C: Fn(Arc<Target>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let desk = Arc::new(Desk {
        board,
        began: Instant::now(),
        checks: Semaphore::new(CHECKS),
        programs: Semaphore::new(PROGRAMS),
    });
    let mut running: HashMap<(u32, String), (Arc<Target>, AbortHandle)> = HashMap::new();
    loop {
        let targets = followed.borrow_and_update().clone();
        let mut before = std::mem::take(&mut running);
        for target in targets {
            let key = (target.number, target.monitor.name.clone());
            let same = before.remove(&key).filter(|(old, task)| {
                let same = **old == target;
                if !same {
                    task.abort();
                }
                same
            });
            let entry = same.unwrap_or_else(|| {
                let target = Arc::new(target);
                let ask = Arc::clone(&desk).ask(Arc::clone(&target), check.clone());
                (target, tokio::spawn(ask).abort_handle())
            });
            running.insert(key, entry);
        }
        for (_, task) in before.into_values() {
            task.abort();
        }
        if followed.changed().await.is_err() {
            return;
        }
    }
}

/// One fault of ours must not keep a server's verdict as it is for ever.
const PANICKED: &str = "the check itself failed; the balancer's log says where";

/// What all checks share.
struct Desk {
    board: Arc<Board>,
    began: Instant,
    checks: Semaphore,
    programs: Semaphore,
}

impl Desk {
    /// Asks one server over and over.
    async fn ask<C, F>(self: Arc<Self>, target: Arc<Target>, check: C)
    where
        C: Fn(Arc<Target>) -> F,
        F: Future<Output = Answer>,
    {
        let monitor = &target.monitor;
        let rhythm = Rhythm::new(monitor.interval, &monitor.name, target.server);
        let room = match monitor.check {
            Check::External(_) => &self.programs,
            _ => &self.checks,
        };
        sleep(rhythm.first()).await;
        // Nobody closes the semaphore.
        while let Ok(permit) = room.acquire().await {
            let asked = Instant::now();
            // Boxed, so that those who wait need little memory.
            let answer = AssertUnwindSafe(Box::pin(check(Arc::clone(&target)))).catch_unwind();
            let answer = answer.await.unwrap_or_else(|_| Err(Fault::Own(PANICKED.to_owned())));
            drop(permit);
            self.board.record(&target, answer, asked.elapsed(), SystemTime::now());
            sleep_until(self.began + rhythm.next(self.began.elapsed())).await;
        }
    }
}
