//! A virtual machine with Debian's kernel, for what this machine's kernel has not, and to see that
//! another kernel's verifier takes the program. It sees this machine's files, so that it runs the
//! very programs that were built here; it writes to one folder of them only.
//!
//! It is emulated: what runs in it is ten to fifty times slower than here.

mod kernel;

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lb_tests::wait_until;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::{
    command::{announce, path_with},
    packages,
    pypi::Pinned,
    workspace,
};

/// What boots the machine.
const VIRTME_NG: Pinned = Pinned { name: "virtme-ng", version: "1.42" };
const MEMORY: &str = "3G";
/// Emulation is slow, and slower on a busy machine.
const PATIENCE: Duration = Duration::from_secs(2 * 60 * 60);
/// Its environment is not this one's.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a machine is to do.
pub struct Job<'a> {
    /// Why it is booted.
    pub reason: &'a str,
    pub cpus: &'a str,
    /// Of qemu, beside virtme-ng's own.
    pub options: &'a str,
    /// The environment of its commands.
    pub variables: &'a [(&'a str, &'a Path)],
    /// Lines of a shell. Each must succeed, or those after it do not run.
    pub commands: &'a [String],
}

/// A running machine. Dropping it ends it.
struct Machine(Child);

impl Job<'_> {
    /// Boots a machine that can write to `folder`, and waits until it has done its job.
    pub fn run_in(&self, folder: &TempDir) -> Result<()> {
        if packages::is_root() {
            packages::ensure(packages::MACHINE, "a virtual machine with Debian's kernel")?;
        }
        let tools = VIRTME_NG.install()?;
        let kernel = kernel::find()?;
        announce(&format!("{}: booting {}", self.reason, kernel.display()));
        let script = folder.path().join("run.sh");
        fs::write(&script, self.script()).with_context(|| script.display().to_string())?;
        boot(self.command(&tools, &kernel, folder)?.arg("sh").arg(script))
    }

    /// What the machine runs.
    fn script(&self) -> String {
        let path = ("PATH", Path::new(PATH));
        let exports = [&path]
            .into_iter()
            .chain(self.variables)
            .map(|(name, value)| format!("export {name}={}\n", quoted(&value.to_string_lossy())));
        let commands = self.commands.iter().map(|line| format!("{line}\n"));
        ["set -e\n".to_owned()].into_iter().chain(exports).chain(commands).collect()
    }

    fn command(&self, tools: &Path, kernel: &Path, folder: &TempDir) -> Result<Command> {
        let mut command = Command::new(tools.join("bin/vng"));
        command.env("PYTHONPATH", tools).env("PATH", path_with(&tools.join("bin"))?);
        // What it leaves behind if it is killed goes with the folder.
        command.env("TMPDIR", folder.path());
        command.args(["--disable-kvm", "--user", "root", "--memory", MEMORY]);
        command.args(["--cpus", self.cpus]).arg(format!("--qemu-opts={}", self.options));
        command.arg("--run").arg(kernel).arg("--rwdir").arg(folder.path()).arg("--");
        Ok(command)
    }
}

/// A folder that a machine can write to.
pub fn folder() -> Result<TempDir> {
    let folder = TempDir::with_prefix_in("machine-", workspace::target());
    folder.context("cannot make a folder for the machine")
}

/// As one word of a shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Boots the machine and waits for its end.
fn boot(command: &mut Command) -> Result<()> {
    // A group of its own, so that a Ctrl-C, which this program hears, ends all of it at once. And
    // pipes: qemu would open, and so empty, a file that this program prints to.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().context("cannot start vng")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        // Dropped before the threads are waited for, which ends what they read.
        let machine = Machine(child);
        scope.spawn(|| stdout.map(|mut from| io::copy(&mut from, &mut io::stdout())));
        scope.spawn(|| stderr.map(|mut from| io::copy(&mut from, &mut io::stderr())));
        machine.finish()
    })
}

impl Machine {
    /// Waits for its end, which must be a good one.
    fn finish(mut self) -> Result<()> {
        let mut status = None;
        wait_until("the machine's end", PATIENCE, || {
            status = self.0.try_wait()?;
            Ok(status.is_some())
        })?;
        let status = status.context("the wait was for it")?;
        ensure!(status.success(), "what ran in the machine failed: {status}");
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // It can only fail if nobody of the group is left.
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_the_shell_whatever_is_in_it() {
        let path = "/a b/it's $HOME";
        let script = format!("printf %s {}", quoted(path));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), path);
    }

    #[test]
    fn a_dropped_machine_is_ended_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]).process_group(0);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).unwrap();
        drop(Machine(child));
        let exe = format!("/proc/{}/exe", line.trim());
        let gone = || Ok(fs::read_link(&exe).is_err());
        wait_until("the child's end", Duration::from_secs(60), gone).unwrap();
    }
}
