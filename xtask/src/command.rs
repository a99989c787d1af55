//! Running other programs.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::style::{CYAN, styled};

/// Variables that `cargo run` sets for this program, and those by which a user steers the build
/// for this machine. Neither may reach a cargo that builds for another target with another
/// compiler: `RUSTFLAGS` meant for x86 stop the BPF build, `LD_LIBRARY_PATH` makes Debian's rustc
/// load rustup's libraries.
const LEAKS: [&str; 9] = [
    "CARGO",
    "LD_LIBRARY_PATH",
    "OUT_DIR",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];
/// The same by prefix. `CARGO_HOME`, `CARGO_NET_*`, `CARGO_HTTP_*` and `CARGO_REGISTR*` stay.
const LEAKING_PREFIXES: [&str; 11] = [
    "CARGO_BIN_",
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_CRATE_",
    "CARGO_ENCODED_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
];

/// What `cargo run` sets for this program, by prefix.
const OF_A_RUN: [&str; 5] =
    ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_"];

/// A command that sees nothing of the cargo that runs this program.
pub fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(leaks) {
            command.env_remove(name);
        }
    }
    command
}

fn leaks(name: &str) -> bool {
    LEAKS.contains(&name) || LEAKING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The cargo that runs this program: the workspace's own toolchain. It sees nothing of what it is
/// run by: build scripts of dependencies look at such variables, and all that is behind them would
/// be compiled again whenever a user has run cargo by hand in between.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_a_run) {
            command.env_remove(name);
        }
    }
    command.current_dir(crate::workspace::root());
    command
}

/// Whether `cargo run` sets a variable for the program that it runs.
fn is_of_a_run(name: &str) -> bool {
    name == "OUT_DIR" || OF_A_RUN.iter().any(|prefix| name.starts_with(prefix))
}

/// Says a step's name.
pub fn announce(what: &str) {
    eprintln!("{} {what}", styled(CYAN, "==>"));
}

/// Runs a command, its output shown; fails when it does.
pub fn run(command: &mut Command) -> Result<()> {
    let line = show(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
}

/// Runs a command and returns what it printed; `None` when it is missing or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Has cargo compile benchmarks or tests that it does not run, and returns their names and where
/// they are.
pub fn executables(command: &mut Command) -> Result<Vec<(String, PathBuf)>> {
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo")?;
    ensure!(output.status.success(), "`{}` failed", show(command));
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_test = message["profile"]["test"] == true || message["target"]["kind"][0] == "bench";
        let path = message["executable"].as_str().filter(|_| is_test)?;
        Some((message["target"]["name"].as_str()?.to_owned(), path.into()))
    };
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).collect())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Where a program is: on `PATH`, or in the folders that Debian keeps from ordinary users.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut candidates = env::split_paths(&path).chain(system).map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// `PATH` with a folder in front.
pub fn path_with(folder: &Path) -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(env::split_paths(&path));
    env::join_paths(folders).context("PATH holds a folder with a colon in its name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_sets_for_the_network_stays_and_what_cargo_sets_goes() {
        for name in ["CARGO", "CARGO_PKG_NAME", "RUSTFLAGS", "CARGO_TARGET_DIR"] {
            assert!(leaks(name), "{name}");
        }
        for name in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "OUT_DIR"] {
            assert!(is_of_a_run(name), "{name}");
        }
        for name in ["CARGO", "RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_JOBS", "CARGO_HOME"] {
            assert!(!is_of_a_run(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "PATH", "RUSTUP_HOME"] {
            assert!(!leaks(name), "{name}");
        }
    }
}
