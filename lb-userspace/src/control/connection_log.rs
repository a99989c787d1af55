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
    sender: LogSender,
    state: Arc<State>,
    thread: JoinHandle<()>,
}

/// Where workers leave records. A log that cannot keep up must not hold packets up: a record that
/// finds the queue full is lost, and counted.
#[derive(Clone, Debug)]
pub struct LogSender {
    queue: Sender<FlowLog>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    reopen: AtomicBool,
    written: AtomicU64,
    lost: AtomicU64,
}

/// An open log.
struct Log {
    path: PathBuf,
    writer: BufWriter<File>,
}

impl ConnectionLog {
    /// Opens the file and starts the writer. Without a path records are taken and forgotten.
    pub fn start(path: Option<&Path>) -> io::Result<Self> {
        let (sender, records) = LogSender::new(QUEUE);
        let state = Arc::clone(&sender.state);
        let log = path.map(Log::open).transpose()?;
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name("connection-log".to_owned())
            .spawn(move || write(log, &records, &shared))?;
        Ok(Self { sender, state, thread })
    }

    /// Where workers send records to.
    pub fn sender(&self) -> LogSender {
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

    /// Records that nobody will read: the disk was too slow, or refused them.
    pub fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }

    /// Writes out what is there, once all other senders are gone.
    pub fn stop(self) {
        drop(self.sender);
        let _ = self.thread.join();
    }
}

impl LogSender {
    fn new(queue: usize) -> (Self, Receiver<FlowLog>) {
        let (queue, records) = bounded(queue);
        (Self { queue, state: Arc::default() }, records)
    }

    /// Leaves a record to the writer. Never waits.
    pub fn send(&self, record: FlowLog) {
        if self.queue.try_send(record).is_err() {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self { path: path.to_owned(), writer: BufWriter::new(file) })
    }

    /// Whole or not at all: half a line would spoil the next one.
    fn record(&mut self, record: &FlowLog) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.writer.write_all(&line)
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
        let record = match record {
            Ok(record) => record,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => continue,
        };
        let taken = log.as_mut().map_or(Ok(()), |log| log.record(&record));
        let counter = if taken.is_ok() { &state.written } else { &state.lost };
        counter.fetch_add(1, Ordering::Relaxed);
        if let (Err(error), Some(log)) = (taken, &log) {
            log.complain(&error);
        }
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::engine::log::EndReason;

    fn record() -> FlowLog {
        FlowLog {
            time: SystemTime::UNIX_EPOCH,
            duration: 0.0,
            protocol: "udp",
            client: ([192, 0, 2, 2], 1024).into(),
            vip: ([192, 0, 2, 10], 53).into(),
            virtual_service: "dns".to_owned(),
            pool: None,
            server: None,
            snat: None,
            decided_by: None,
            rule: None,
            script: None,
            line: None,
            reason: EndReason::Idle,
            packets: 1,
            bytes: 64,
            reply_packets: 0,
            reply_bytes: 0,
            generation: 1,
            worker: 0,
            ds_log: String::new(),
            significance: Vec::new(),
            error: None,
        }
    }

    fn counts(state: &State) -> (u64, u64) {
        (state.written.load(Ordering::Relaxed), state.lost.load(Ordering::Relaxed))
    }

    /// Sends so many records to a writer that begins only then, and ends with them.
    fn write_behind(sender: LogSender, records: &Receiver<FlowLog>, count: u32, path: &str) {
        let state = Arc::clone(&sender.state);
        (0..count).for_each(|_| sender.send(record()));
        drop(sender);
        write(Some(Log::open(Path::new(path)).unwrap()), records, &state);
    }

    #[test]
    fn a_record_that_finds_the_queue_full_is_lost_and_counted() {
        let (sender, records) = LogSender::new(2);
        let state = Arc::clone(&sender.state);
        write_behind(sender, &records, 5, "/dev/null");
        assert_eq!(counts(&state), (2, 3));
    }

    #[test]
    fn records_that_the_disk_refuses_are_lost_and_counted() {
        let (sender, records) = LogSender::new(1000);
        let state = Arc::clone(&sender.state);
        write_behind(sender, &records, 1000, "/dev/full");
        let (written, lost) = counts(&state);
        assert_eq!(written + lost, 1000);
        // What the writer keeps in memory for a better day is all that is not lost.
        assert!(lost > 900, "{lost}");
    }
}
