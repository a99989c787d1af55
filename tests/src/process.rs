//! Processes that do not outlive their value, and whose output is kept.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::{fs::FileExt, process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{Namespace, wait_until};

/// A started process. Dropping it kills it and its children; when that happens because a test
/// panics, its output is shown.
#[derive(Debug)]
pub struct Process {
    line: String,
    child: Child,
    stdout: File,
    stderr: File,
    /// Kept: a host is there as long as what runs on it.
    _host: Option<Namespace>,
}

/// What a process that ended has left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it printed on the standard error.
    pub stderr: String,
}

impl Process {
    /// Starts `command` in a process group of its own; `line` names it in errors, `host` is kept.
    pub(crate) fn start(
        command: &mut Command,
        line: String,
        host: Option<Namespace>,
    ) -> Result<Self> {
        let (stdout, stderr) = (output_file()?, output_file()?);
        command.stdin(Stdio::null()).process_group(0);
        command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        let child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        Ok(Self { line, child, stdout, stderr, _host: host })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for `{}`", self.line))
    }

    /// Waits for its end.
    pub fn finish(mut self, timeout: Duration) -> Result<Finished> {
        let status = self.wait(timeout)?;
        Ok(Finished { status, stdout: self.stdout(), stderr: self.stderr() })
    }

    /// Waits for its end; the output can still be read afterwards.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("the end of `{}`", self.line);
        let mut status = None;
        wait_until(&what, timeout, || {
            status = self.status()?;
            Ok(status.is_some())
        })
        .with_context(|| self.transcript())?;
        status.context("the wait was for the status")
    }

    /// Waits until `ready` holds. The process's own end is an error at once, with its output.
    pub fn wait_until(
        &mut self,
        what: &str,
        timeout: Duration,
        mut ready: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let waited = wait_until(what, timeout, || match self.status()? {
            Some(status) => bail!("`{}` ended: {status}", self.line),
            None => ready(),
        });
        waited.with_context(|| self.transcript())
    }

    /// Sends it, not its children, a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        ensure!(self.status()?.is_none(), "`{}` has ended already", self.line);
        kill_process(self.pid(), signal).with_context(|| format!("cannot signal `{}`", self.line))
    }

    /// Kills it and its children, which cannot prevent it.
    pub fn kill(&mut self) {
        // One that was waited for may have left its number to another.
        if self.status().is_ok_and(|status| status.is_none()) {
            // It can only fail if nobody of the group is left.
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has printed on the standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn transcript(&self) -> String {
        let (stdout, stderr) = (self.stdout(), self.stderr());
        format!("`{}` printed:\n{stdout}{stderr}", self.line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            // Not `eprintln`: a panic in a drop during a panic would hide the test's own message.
            let _ = writeln!(io::stderr(), "---- {}", self.transcript());
        }
    }
}

impl Finished {
    /// The output, if the end was a good one.
    pub fn success(self, line: &str) -> Result<String> {
        if !self.status.success() {
            bail!("`{line}`: {}\n{}{}", self.status, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

fn output_file() -> Result<File> {
    tempfile::tempfile().context("cannot make a file for a process's output")
}

/// Reads at offsets of its own: the process writes at the one that the descriptors share.
fn read(file: &File) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    while let Ok(length @ 1..) = file.read_at(&mut chunk, bytes.len() as u64) {
        bytes.extend_from_slice(&chunk[..length]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Process {
        Process::start(Command::new("sh").args(["-c", script]), script.into(), None).unwrap()
    }

    #[test]
    fn both_outputs_are_kept_apart() {
        let finished = shell("echo out; echo err >&2; exit 3").finish(SOON).unwrap();
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"));
        let error = finished.success("sh").unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("err"), "{error}");
    }

    #[test]
    fn an_end_before_the_condition_holds_is_an_error_at_once() {
        let mut process = shell("echo why >&2");
        let error = process.wait_until("rain", SOON, || Ok(false)).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("ended") && error.contains("why"), "{error}");
    }

    #[test]
    fn dropping_a_process_kills_its_children_too() {
        let mut process = shell("sleep 1000 & echo $!; wait");
        let mut child = String::new();
        process.child_printed(&mut child).unwrap();
        drop(process);
        let gone = || Ok(!std::path::Path::new(&format!("/proc/{}/exe", child.trim())).exists());
        wait_until("the child's end", SOON, gone).unwrap();
    }

    impl Process {
        fn child_printed(&mut self, line: &mut String) -> Result<()> {
            wait_until("a line", SOON, || {
                *line = self.stdout();
                Ok(line.ends_with('\n'))
            })
        }
    }
}
