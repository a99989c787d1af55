//! The load's thread: what is due when, and what the sockets say.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec, epoll,
        epoll::{EventData, EventFlags},
    },
    io::Errno,
};

use super::{
    Plan,
    connection::{Open, Progress},
    lock,
    report::{Kind, Outcome, Report},
};

/// How often it is asked what is due. Sockets wake the thread at once.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// Short connections that are opened at once at most, when the thread was kept from its work.
const BURST: u32 = 10;
/// Below the kernel's own choice, so that no other client of the host is in the way.
const PORTS: std::ops::Range<u16> = 2048..32768;

/// Runs the load until it is told to stop and everything is closed.
pub(super) fn run(plan: Plan, report: &Mutex<Report>, stop: &AtomicBool) -> Result<()> {
    let mut schedule = Schedule::new(plan, report)?;
    let mut stopping = false;
    while !stopping || !schedule.open.is_empty() {
        stopping = stop.load(Ordering::Relaxed);
        schedule.turn(stopping)?;
    }
    Ok(())
}

struct Schedule<'a> {
    plan: Plan,
    report: &'a Mutex<Report>,
    epoll: OwnedFd,
    /// By their number in the report.
    open: HashMap<usize, Open>,
    ports: std::ops::Range<u16>,
    /// When the next short connection is due.
    next_short: Instant,
    /// When long connections are due that are missing.
    missing: Vec<Instant>,
}

impl<'a> Schedule<'a> {
    fn new(plan: Plan, report: &'a Mutex<Report>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("no epoll")?;
        let (open, next_short) = (HashMap::new(), Instant::now());
        let missing = vec![next_short; plan.long];
        Ok(Self { plan, report, epoll, open, ports: PORTS, next_short, missing })
    }

    /// Sockets first: an answer that is there is not late because nobody looked.
    fn turn(&mut self, stopping: bool) -> Result<()> {
        let mut events = Vec::with_capacity(256);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&TICK)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for sockets"),
        }
        for event in &events {
            let flags = event.flags;
            let ready = EventFlags::OUT | EventFlags::ERR | EventFlags::HUP;
            self.look(event.data.u64() as usize, flags.intersects(ready));
        }
        self.check_all(stopping);
        match stopping {
            true => Ok(()),
            false => self.open_due(),
        }
    }

    fn look(&mut self, number: usize, writable: bool) {
        if let Some(open) = self.open.get_mut(&number) {
            let progress = open.advance(&self.plan.question, writable);
            self.record(number, progress);
        }
    }

    /// Asks what is due to be asked, and gives up what has waited too long.
    fn check_all(&mut self, stopping: bool) {
        let now = Instant::now();
        let mut news = Vec::new();
        for (&number, open) in &mut self.open {
            let late = open.waiting_since().is_some_and(|since| now - since > self.plan.patience);
            let progress = match open.is_due(now) {
                _ if late => Progress::Ended(Outcome::TimedOut),
                _ if stopping && open.waiting_since().is_none() => Progress::Ended(Outcome::Closed),
                true => open.ask(&self.plan.question, now),
                false => Progress::None,
            };
            news.push((number, progress));
        }
        for (number, progress) in news {
            self.record(number, progress);
        }
    }

    fn record(&mut self, number: usize, progress: Progress) {
        let now = Instant::now();
        match progress {
            Progress::None => {}
            Progress::Ended(outcome) => self.end(number, now, outcome),
            Progress::Answered(asked, server) => {
                let answered = lock(self.report).answered(number, &server, asked, now);
                match (answered, self.open.get_mut(&number)) {
                    (Err(outcome), _) => self.end(number, now, outcome),
                    (Ok(()), Some(open)) if open.kind == Kind::Long => {
                        open.rest(now + self.plan.pause);
                    }
                    (Ok(()), _) => self.end(number, now, Outcome::Closed),
                }
            }
        }
    }

    fn end(&mut self, number: usize, now: Instant, outcome: Outcome) {
        lock(self.report).end(number, now, outcome);
        if self.open.remove(&number).is_some_and(|open| open.kind == Kind::Long) {
            self.missing.push(now + self.plan.pause);
        }
    }

    fn open_due(&mut self) -> Result<()> {
        let now = Instant::now();
        let before = self.missing.len();
        self.missing.retain(|due| *due > now);
        for _ in self.missing.len()..before {
            self.begin(Kind::Long, now)?;
        }
        if self.plan.short_per_second == 0 {
            return Ok(());
        }
        let interval = Duration::from_secs(1) / self.plan.short_per_second;
        self.next_short = self.next_short.max(now.checked_sub(interval * BURST).unwrap_or(now));
        while self.next_short <= now {
            self.next_short += interval;
            self.begin(Kind::Short, now)?;
        }
        Ok(())
    }

    fn begin(&mut self, kind: Kind, now: Instant) -> Result<()> {
        let Plan { question, target, .. } = &self.plan;
        loop {
            let Some(port) = self.ports.next() else {
                bail!("the load has used all its local ports");
            };
            match Open::begin(question, *target, port, kind, now) {
                Ok(open) => return self.enrol(open, now),
                // Somebody else's.
                Err(Errno::ADDRINUSE) => {}
                Err(error) => return Err(error).context("cannot open a connection"),
            }
        }
    }

    fn enrol(&mut self, open: Open, now: Instant) -> Result<()> {
        let number = lock(self.report).begin(open.kind, open.local, now);
        let data = EventData::new_u64(number as u64);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &open, data, flags).context("cannot watch a connection")?;
        self.open.insert(number, open);
        Ok(())
    }
}
