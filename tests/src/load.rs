//! A steady load: many short and long connections to one address, each of which is accounted for.
//!
//! One thread on the client's host opens so many short connections a second and keeps a number of
//! long ones open, which ask again and again. Every connection has a local port that no other
//! has had, so that the balancer's connection log tells of each one where it went, even of those
//! that never got an answer: see [`Report::attribute`].

mod connection;
mod question;
mod report;
mod schedule;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Result, anyhow, bail};

use crate::{Namespace, wait_until};

pub use self::{
    question::Question,
    report::{Connection, Kind, Outcome, Report},
};

/// What a load asks, whom, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom it asks: a virtual service.
    pub target: SocketAddr,
    /// What it asks, and so by which protocol.
    pub question: Question,
    /// Connections a second that ask once and are closed.
    pub short_per_second: u32,
    /// Connections that stay open. One that fails is replaced after `pause`.
    pub long: usize,
    /// What a long connection waits from an answer to its next question.
    pub pause: Duration,
    /// What an exchange may take, connecting included; after that the connection has failed.
    pub patience: Duration,
}

impl Plan {
    /// HTTP over TCP to servers made with [`Nginx`](crate::Nginx): 100 short connections a second
    /// and 20 long ones.
    pub fn http(target: SocketAddr) -> Self {
        Self {
            target,
            question: Question::Http,
            short_per_second: 100,
            long: 20,
            pause: Duration::from_millis(100),
            patience: Duration::from_secs(2),
        }
    }

    /// The same over UDP, to servers made with [`Dnsmasq`](crate::Dnsmasq) of which each knows the
    /// name by an address of its own.
    pub fn dns(target: SocketAddr, name: &str) -> Self {
        Self { question: Question::Dns { name: name.into() }, ..Self::http(target) }
    }
}

/// A load that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Load {
    report: Arc<Mutex<Report>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts one on a host.
    pub fn start(namespace: &Namespace, plan: Plan) -> Self {
        let (report, stop) = <(Arc<Mutex<Report>>, Arc<AtomicBool>)>::default();
        let (namespace, shared, stopped) = (namespace.clone(), report.clone(), stop.clone());
        let work = move || namespace.enter(|| schedule::run(plan, &shared, &stopped))?;
        Self { report, stop, thread: Some(thread::spawn(work)) }
    }

    /// What has happened so far; the load waits meanwhile.
    pub fn so_far<R>(&self, look: impl FnOnce(&Report) -> R) -> R {
        look(&lock(&self.report))
    }

    /// Waits until its report is like this. The load's own end is an error at once.
    pub fn wait_until(
        &self,
        what: &str,
        timeout: Duration,
        mut reached: impl FnMut(&Report) -> bool,
    ) -> Result<()> {
        let waited = wait_until(what, timeout, || {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                bail!("the load has ended by itself");
            }
            Ok(self.so_far(&mut reached))
        });
        waited.map_err(|error| error.context(self.so_far(Report::to_string)))
    }

    /// Waits until a server has answered so many more times.
    pub fn wait_answers(&self, server: &str, more: u64, timeout: Duration) -> Result<()> {
        let before = self.so_far(|report| report.answers(server));
        let what = format!("{more} more answers of {server}");
        self.wait_until(&what, timeout, |report| report.answers(server) >= before + more)
    }

    /// Ends it: what is under way is finished, long connections are closed after their last answer.
    pub fn finish(mut self) -> Result<Report> {
        self.end()?;
        Ok(std::mem::take(&mut lock(&self.report)))
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        thread.join().map_err(|_| anyhow!("the load's thread panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("the load: {error:#}");
        }
    }
}

fn lock(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
