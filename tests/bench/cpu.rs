//! Which core does what, and what it takes.

use std::{fs, num::NonZero, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lb_tests::{Namespace, wait_until};
use rustix::{
    process::setpriority_process,
    thread::{CpuSet, sched_setaffinity},
};

/// The core that makes packets and takes them in again.
pub const TRAFFIC: usize = 0;
/// The core of the balancer.
pub const BALANCER: usize = 1;

/// Fails on a machine with one core: what is measured needs one of its own.
pub fn require_two() -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    ensure!(cores > BALANCER, "this needs two cores, one for the balancer and one for its traffic");
    Ok(())
}

/// Puts this thread on a core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot use core {core}"))
}

/// Lets this thread come before all others, as if the core were its own.
pub fn come_first() -> Result<()> {
    setpriority_process(None, -20).context("cannot set a priority")?;
    let_group_come_first("self")
}

/// Priorities count among a session's threads only where the kernel shares cores among sessions
/// first (`sched_autogroup_enabled` of sched(7)).
fn let_group_come_first(pid: &str) -> Result<()> {
    let group = format!("/proc/{pid}/autogroup");
    if !fs::exists(&group)? {
        return Ok(());
    }
    fs::write(&group, "-20").with_context(|| format!("cannot set a priority by {group}"))
}

/// The same for all threads of a process.
pub fn let_come_first(host: &Namespace, pid: u32) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.file_name();
        host.run(&["renice", "-n", "-20", "-p", &task.to_string_lossy()])?;
    }
    let_group_come_first(&pid.to_string())
}

/// A thread of the kernel that does what else would be done in interrupts: what an interface
/// receives. It has a clock of its own and can be put on a core.
#[derive(Clone, Copy, Debug)]
pub struct Napi {
    pid: u32,
}

impl Napi {
    /// Lets an interface receive on a thread of its own, on a core. `urgent`: before all ordinary
    /// threads, as interrupts are. The interface's name must be the only one on the machine.
    pub fn new(host: &Namespace, device: &str, core: usize, urgent: bool) -> Result<Self> {
        // The folder shows the namespace of who mounted it.
        let switch =
            format!("mount -t sysfs sysfs /sys && echo 1 >/sys/class/net/{device}/threaded");
        host.run(&["unshare", "--mount", "sh", "-c", &switch])
            .context("this kernel has no NAPI threads")?;
        let mut found = None;
        wait_until("the interface's thread", Duration::from_secs(10), || {
            found = thread_named(&format!("napi/{device}-"))?;
            Ok(found.is_some())
        })?;
        let pid = found.context("the wait was for it")?;
        let (core, id) = (core.to_string(), pid.to_string());
        host.run(&["taskset", "-p", "-c", &core, &id])?;
        if urgent {
            host.run(&["chrt", "--fifo", "-p", "1", &id])?;
        }
        Ok(Self { pid })
    }

    /// Lets it wait for its turn on a core that it shares with the generator, as if packets came
    /// in bursts, rather than be woken for each.
    pub fn take_turns(self, host: &Namespace) -> Result<()> {
        host.run(&["chrt", "--batch", "-p", "0", &self.pid.to_string()]).map(drop)
    }

    /// What it has taken of its core.
    pub fn nanos(self) -> Result<u64> {
        nanos(&format!("/proc/{}/schedstat", self.pid))
    }
}

/// What all threads of a process have taken.
pub fn process_nanos(pid: u32) -> Result<u64> {
    let folder = format!("/proc/{pid}/task");
    let mut sum = 0;
    for task in fs::read_dir(&folder).with_context(|| folder.clone())? {
        sum += nanos(&task?.path().join("schedstat").to_string_lossy())?;
    }
    Ok(sum)
}

/// The first number is the time on a core.
fn nanos(schedstat: &str) -> Result<u64> {
    let text = fs::read_to_string(schedstat).with_context(|| schedstat.to_owned())?;
    let first = text.split_whitespace().next().and_then(|word| word.parse().ok());
    first.with_context(|| format!("{schedstat}: {text}"))
}

fn thread_named(start: &str) -> Result<Option<u32>> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while this looks.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with(start) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}
