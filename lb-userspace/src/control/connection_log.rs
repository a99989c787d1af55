//! The connection log's writer: a thread of its own, so that a slow disk holds nobody up.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tracing::warn;

use crate::engine::FlowLog;

/// Records that may wait for the disk.
const QUEUE: usize = 65_536;
/// How often an idle writer looks whether it has to open its file anew.
const IDLE: Duration = Duration::from_millis(100);

/// The running writer.
pub struct ConnectionLog {
    sender: Sender<FlowLog>,
    state: Arc<State>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    reopen: AtomicBool,
    written: AtomicU64,
}

/// An open log.
struct Log {
    path: PathBuf,
    writer: BufWriter<File>,
}

impl ConnectionLog {
    /// Opens the file and starts the writer. Without a path records are taken and forgotten.
    pub fn start(path: Option<&Path>) -> io::Result<Self> {
        let (sender, records) = bounded(QUEUE);
        let state = Arc::new(State::default());
        let log = path.map(Log::open).transpose()?;
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name("connection-log".to_owned())
            .spawn(move || write(log, &records, &shared))?;
        Ok(Self { sender, state, thread })
    }

    /// Where workers send records to.
    pub fn sender(&self) -> Sender<FlowLog> {
        self.sender.clone()
    }

    /// Opens the file anew, after `logrotate` has moved it away.
    pub fn reopen(&self) {
        self.state.reopen.store(true, Ordering::Relaxed);
    }

    /// Records so far.
    pub fn written(&self) -> u64 {
        self.state.written.load(Ordering::Relaxed)
    }

    /// Writes out what is there, once all other senders are gone.
    pub fn stop(self) {
        drop(self.sender);
        let _ = self.thread.join();
    }
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self { path: path.to_owned(), writer: BufWriter::new(file) })
    }

    fn record(&mut self, record: &FlowLog) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, record)?;
        self.writer.write_all(b"\n")
    }

    fn complain(&self, error: &io::Error) {
        warn!("the connection log {} cannot be written: {error}", self.path.display());
    }
}

fn write(mut log: Option<Log>, records: &Receiver<FlowLog>, state: &State) {
    loop {
        let record = records.recv_timeout(IDLE);
        if state.reopen.swap(false, Ordering::Relaxed) {
            log = log.map(reopened);
        }
        match (record, log.as_mut()) {
            (Ok(record), Some(log)) => {
                if let Err(error) = log.record(&record) {
                    log.complain(&error);
                }
            }
            (Err(RecvTimeoutError::Disconnected), _) => return,
            (Err(RecvTimeoutError::Timeout), _) => continue,
            (Ok(_), None) => {}
        }
        state.written.fetch_add(1, Ordering::Relaxed);
        let flushed = log.as_mut().filter(|_| records.is_empty()).map(|log| log.writer.flush());
        if let (Some(Err(error)), Some(log)) = (flushed, &log) {
            log.complain(&error);
        }
    }
}

fn reopened(mut old: Log) -> Log {
    let _ = old.writer.flush();
    match Log::open(&old.path) {
        Ok(new) => new,
        Err(error) => {
            old.complain(&error);
            old
        }
    }
}
