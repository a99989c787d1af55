//! Network namespaces: the hosts of a test.

use std::{
    fs, process,
    process::Command,
    sync::{
        Arc, Once,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Finished, Process};

/// Every name begins so; the process's id and a number follow.
const PREFIX: &str = "firstpacket-";
/// Where `ip netns` keeps them.
const FOLDER: &str = "/run/netns";
/// What a command that has no reason to wait may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

static NEXT: AtomicU32 = AtomicU32::new(0);
static SWEEP: Once = Once::new();

/// A host. It is gone, with every process in it, when its last clone is dropped; a [`Process`]
/// holds one of the host that it runs on.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    name: String,
}

impl Namespace {
    /// A new one with a name of its own that ends in `role`. Its loopback is up.
    pub fn new(role: &str) -> Result<Self> {
        SWEEP.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{role}", process::id());
        tool(&["ip", "netns", "add", &name])?;
        let namespace = Self(Arc::new(Owned { name }));
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name that `ip netns` knows it by.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Runs `ip` for this host.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        tool(&[&["ip", "-n", self.name()], arguments].concat())
    }

    /// Runs a command to its end, which must be a good one, and returns what it printed.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.try_run(words, PATIENCE)?.success(&words.join(" "))
    }

    /// Runs a command to its end, however that is.
    pub fn try_run(&self, words: &[&str], timeout: Duration) -> Result<Finished> {
        self.spawn(words)?.finish(timeout)
    }

    /// Starts a command.
    pub fn spawn(&self, words: &[&str]) -> Result<Process> {
        let line = format!("{}: {}", self.name(), words.join(" "));
        Process::start(self.command().args(words), line, Some(self.clone()))
    }

    /// What runs a command here.
    ///
    /// `nsenter`, not `ip netns exec`: that mounts a new /sys, in which nothing pinned under
    /// /sys/fs/bpf is to be seen. `setpriv` lets the kernel kill the command if this process dies
    /// without dropping anything.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--net={FOLDER}/{}", self.name())).arg("--");
        command
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!("{error:#}");
        }
    }
}

/// Kills who is in a namespace, then removes it.
fn remove(name: &str) -> Result<()> {
    for pid in tool(&["ip", "netns", "pids", name])?.lines() {
        if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    tool(&["ip", "netns", "delete", name]).map(drop)
}

/// Removes what processes that were killed have left behind.
fn sweep() {
    let Ok(entries) = fs::read_dir(FOLDER) else {
        return;
    };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if maker(PREFIX, &name).is_some_and(is_over) {
            // Another process that starts now may be sweeping too.
            let _ = remove(&name);
        }
    }
}

/// The id of the process that made what has this name, if it begins with `prefix`.
pub(crate) fn maker(prefix: &str, name: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.split('-').next()?.parse().ok()
}

/// Whether a process has ended.
pub(crate) fn is_over(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).is_ok_and(|exists| !exists)
}

/// Runs a tool that ends by itself and at once. Signals do not stop it: it also cleans up.
pub(crate) fn tool(words: &[&str]) -> Result<String> {
    let line = words.join(" ");
    let (program, arguments) = words.split_first().context("no command")?;
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot start `{line}`"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}`: {}: {}", output.status, error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_who_made_it() {
        assert_eq!(maker(PREFIX, "firstpacket-1234-0-client"), Some(1234));
        assert_eq!(maker(PREFIX, "firstpacket-edge"), None);
        assert_eq!(maker(PREFIX, "vpn-1234-0"), None);
    }
}
