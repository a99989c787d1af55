//! `cargo xtask deny`: what the dependencies are licensed under, and where they come from.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    command::{announce, cargo, output, run},
    workspace,
};

const VERSION: &str = "0.20.2";

/// Checks licences, bans and sources; then known vulnerabilities, if their database can be had.
pub fn check() -> Result<()> {
    let cargo_deny = installed()?;
    let deny = || {
        let mut command = Command::new(&cargo_deny);
        command.current_dir(workspace::root());
        command
    };
    announce("licences, bans and sources");
    run(deny().args(["--locked", "check", "licenses", "bans", "sources"]))?;
    announce("advisories");
    if output(deny().args(["fetch", "db"])).is_none() {
        eprintln!("      left out: the database of advisories cannot be fetched from here");
        return Ok(());
    }
    run(deny().args(["check", "advisories"]))
}

fn installed() -> Result<PathBuf> {
    let program = workspace::tools().join("bin/cargo-deny");
    let version = output(Command::new(&program).arg("--version"));
    if version.is_some_and(|version| version.ends_with(VERSION)) {
        return Ok(program);
    }
    announce(&format!("installing cargo-deny {VERSION} into target/tools (some minutes)"));
    let mut command = cargo();
    command.args(["install", "cargo-deny", "--version", VERSION, "--locked", "--quiet", "--force"]);
    run(command.arg("--root").arg(workspace::tools()))?;
    Ok(program)
}
