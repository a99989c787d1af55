//! The tasks that ask.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Ask, NameStatus,
    book::{Book, Progress},
    memory::Memory,
    resolver,
};
use crate::config::{Config, LeftOut, NamedServer, PoolIndex, Resolution};

/// Names that are asked for at once.
const QUESTIONS: usize = 32;
/// The longest that a question may take, with all that the resolver does by itself: more name
/// servers, repetitions, TCP, domains that are searched.
const PATIENCE: Duration = Duration::from_secs(15);
/// A new generation is made of changed addresses no more often than this.
const REST: Duration = Duration::from_secs(1);

/// The names of a configuration, followed until it is dropped.
pub struct Names {
    book: Arc<Book>,
    tasks: BTreeMap<Arc<str>, Task>,
    questions: Arc<Semaphore>,
    progress: watch::Receiver<Progress>,
    resolver: Resolver,
    ask: Ask,
    name_servers: Vec<SocketAddr>,
    /// The changes that were taken last, and when the next ones may be.
    taken: u64,
    rested: Instant,
    memory: Memory,
    /// Of the last expansion.
    left_out: Vec<LeftOut>,
}

/// Makes what asks these name servers; the system's if there are none.
type Resolver = Box<dyn Fn(&[SocketAddr]) -> Ask>;

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("book", &self.book).finish_non_exhaustive()
    }
}

/// A task that ends with its value.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Names {
    /// Begins to follow the names of a configuration, with what an earlier daemon has left in the
    /// file `memory`. Within a runtime.
    pub fn start(config: &Config, memory: PathBuf) -> Self {
        Self::asking(Box::new(resolver::new), config, memory)
    }

    /// The same, with other means to ask.
    pub(super) fn asking(resolver: Resolver, config: &Config, memory: PathBuf) -> Self {
        let (memory, name_servers) = (Memory::new(memory), &config.instance.name_servers);
        let book = Arc::new(Book::remembering(memory.recall()));
        let mut names = Self {
            tasks: BTreeMap::new(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            progress: book.progress(),
            book,
            ask: resolver(name_servers),
            resolver,
            name_servers: name_servers.clone(),
            taken: 0,
            rested: Instant::now(),
            memory,
            left_out: Vec::new(),
        };
        names.follow(config);
        names
    }

    /// Follows the names of a configuration from now on, and no others. What is known of one stays.
    /// If other name servers are to be asked, they are at once.
    pub fn follow(&mut self, config: &Config) {
        self.ask_whom(&config.instance.name_servers);
        self.follow_all(config.names());
    }

    /// Follows the names of another configuration too, which may come into force next, and waits
    /// for those that are new. [`follow`](Self::follow) says which it was.
    pub async fn meet(&mut self, next: &Config, longest: Duration) {
        self.ask_whom(&next.instance.name_servers);
        self.follow_all(self.tasks.keys().cloned().chain(next.names()).collect());
        self.settle(longest).await;
    }

    /// A configuration with the addresses that are known now.
    pub fn expand(&mut self, config: &Config) -> Arc<Config> {
        let expanded = config.expanded(&self.take());
        self.left_out = expanded.left_out;
        Arc::new(expanded.config)
    }

    /// What is shown of a pool's names.
    pub fn status(&self, pool: PoolIndex, names: &[NamedServer]) -> Vec<NameStatus> {
        let status = |named: &NamedServer| {
            let of = |left: &&LeftOut| left.pool == pool && left.host == named.host;
            let entry = self.book.entry(&named.host).unwrap_or_default();
            NameStatus::new(named, entry, self.left_out.iter().filter(of))
        };
        names.iter().map(status).collect()
    }

    fn ask_whom(&mut self, name_servers: &[SocketAddr]) {
        if self.name_servers == name_servers {
            return;
        }
        self.name_servers = name_servers.to_vec();
        self.ask = (self.resolver)(name_servers);
        // Those who ask the others begin anew.
        let names: Vec<_> = std::mem::take(&mut self.tasks).into_keys().collect();
        self.follow_all(names.into_iter().collect());
    }

    fn follow_all(&mut self, names: BTreeSet<Arc<str>>) {
        self.book.keep(&names);
        self.tasks.retain(|name, _| names.contains(name));
        for name in names {
            let (book, questions, ask) = (&self.book, &self.questions, &self.ask);
            self.tasks.entry(name).or_insert_with_key(|name| {
                let (book, questions) = (Arc::clone(book), Arc::clone(questions));
                Task(tokio::spawn(follow(book, questions, Arc::clone(ask), Arc::clone(name))))
            });
        }
    }

    /// Waits until every name has been asked for, with success or without, but not for longer.
    pub async fn settle(&self, longest: Duration) {
        let mut progress = self.progress.clone();
        // What is not known by then comes later.
        let _ = timeout(longest, progress.wait_for(|progress| progress.unasked == 0)).await;
    }

    /// Waits until addresses have come or gone that were not taken yet, and the last ones were
    /// taken a while ago. May be cancelled.
    pub async fn changed(&mut self) {
        let taken = self.taken;
        let waited = self.progress.wait_for(|progress| progress.changes != taken).await;
        debug_assert!(waited.is_ok(), "the book is ours");
        drop(waited);
        sleep_until(self.rested).await;
    }

    /// The addresses that are known now.
    fn take(&mut self) -> Resolution {
        self.taken = self.progress.borrow().changes;
        self.rested = Instant::now() + REST;
        self.memory.keep(self.book.heard());
        self.book.resolution()
    }
}

/// Asks for one name over and over.
async fn follow(book: Arc<Book>, questions: Arc<Semaphore>, ask: Ask, name: Arc<str>) {
    // Nobody closes the semaphore.
    while let Ok(permit) = questions.acquire().await {
        let asked = timeout(PATIENCE, ask(Arc::clone(&name))).await;
        drop(permit);
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        let delay = book.record(&name, asked, SystemTime::now());
        sleep(delay).await;
    }
}
