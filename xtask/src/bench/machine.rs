//! A virtual machine with Debian's kernel, for what this machine's kernel has not. It sees this
//! machine's files, so that it runs the very programs that were built here.
//!
//! It is emulated, one instruction after the other, and its clock counts them (`-icount`): what a
//! packet costs there is a number of instructions, the same however busy this machine is.

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
use lb_tests::{report, wait_until};
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
/// A nanosecond of its clock is an instruction. Strings are copied by eight bytes at a time, for
/// each is an instruction too.
const QEMU: &str = "-icount shift=0 -cpu max,-erms,-fsrm";
const MEMORY: &str = "2G";
/// Emulation is slow, and slower on a busy machine.
const PATIENCE: Duration = Duration::from_secs(2 * 60 * 60);

/// A running machine. Dropping it ends it.
struct Machine(Child);

/// Runs a benchmark of `benches` in one, and adds its figures to `json`.
pub fn measure(benches: &Path, name: &str, json: &Path) -> Result<()> {
    if packages::is_root() {
        packages::ensure(packages::MACHINE, "a virtual machine with Debian's kernel")?;
    }
    let tools = VIRTME_NG.install()?;
    let kernel = kernel::find()?;
    announce(&format!("this kernel has no pktgen: booting {}", kernel.display()));
    let folder = TempDir::with_prefix_in("machine-", workspace::target());
    let folder = folder.context("cannot make a folder for the machine's figures")?;
    let figures = folder.path().join("figures");
    let script = folder.path().join("run.sh");
    fs::write(&script, script_of(benches, name, &figures))?;
    boot(&tools, &kernel, &folder, &script)?;
    let figures = fs::read_to_string(&figures).unwrap_or_default();
    ensure!(!figures.is_empty(), "the machine ended without figures");
    append(json, &figures)
}

/// The script that the machine runs. Its environment is not this one's.
fn script_of(benches: &Path, name: &str, figures: &Path) -> String {
    let variables = [
        (report::JSON, figures.to_owned()),
        ("LB_BENCH_INSTRUCTIONS", "1".into()),
        ("LB_BIN", workspace::target().join("release/lb")),
        ("LB_EBPF_TRAFFIC_OBJECT", workspace::ebpf().join("lb-ebpf-traffic.o")),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
    ];
    let exports: String = variables
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quoted(&value.to_string_lossy())))
        .collect();
    format!("{exports}exec {} {name}\n", quoted(&benches.to_string_lossy()))
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Boots the machine and waits for the script's end.
fn boot(tools: &Path, kernel: &Path, folder: &TempDir, script: &Path) -> Result<()> {
    let mut command = Command::new(tools.join("bin/vng"));
    command.env("PYTHONPATH", tools).env("PATH", path_with(&tools.join("bin"))?);
    // What it leaves behind if it is killed goes with the folder.
    command.env("TMPDIR", folder.path());
    command.args(["--disable-kvm", "--user", "root", "--cpus", "1", "--memory", MEMORY]);
    command.arg(format!("--qemu-opts={QEMU}")).arg("--run").arg(kernel);
    command.arg("--rwdir").arg(folder.path());
    command.arg("--").arg("sh").arg(script);
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

fn append(json: &Path, figures: &str) -> Result<()> {
    let all = fs::read_to_string(json).unwrap_or_default() + figures;
    fs::write(json, all).with_context(|| json.display().to_string())
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

    #[test]
    fn figures_of_the_machine_come_after_those_that_are_there() {
        let file = tempfile::NamedTempFile::new().unwrap();
        append(file.path(), "1\n").unwrap();
        append(file.path(), "2\n").unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "1\n2\n");
    }
}
