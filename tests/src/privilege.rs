//! Whether this machine lets the tests do what they must.

use std::{
    env,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use rustix::fs::statfs;

use crate::{Namespace, namespace::tool};

const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` in linux/magic.h.
const BPFFS_MAGIC: i64 = 0xcafe_4a11;

/// Whether a test that needs root, BPF and network namespaces can run; see [`require`].
#[must_use]
pub fn require_root() -> bool {
    require(try_everything())
}

/// Whether a test can run; it returns if not. That is said aloud, with what it lacks, and is a
/// failure where the environment has `CI` set: there it must not go unseen.
#[must_use]
pub fn require(able: Result<()>) -> bool {
    let Err(error) = able else {
        return true;
    };
    assert!(!is_ci(), "a test cannot run, and CI is set: {error:#}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not `eprintln`: the test runner keeps what passing tests print with it to itself.
    let _ = writeln!(io::stderr(), "SKIPPED {test}: {error:#}");
    false
}

fn try_everything() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "it needs root");
    mount_bpffs()?;
    Namespace::new("probe").map(drop).context("it needs network namespaces")
}

fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Mounts the file system for pinned maps at /sys/fs/bpf, if it is not there.
pub fn mount_bpffs() -> Result<()> {
    // Tests begin at once in many threads: a second mount over the first would hide its pins.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mounted = statfs(BPFFS).is_ok_and(|file_system| file_system.f_type == BPFFS_MAGIC);
    if mounted {
        return Ok(());
    }
    tool(&["mount", "-t", "bpf", "bpf", BPFFS]).map(drop).context("it needs BPF's file system")
}
