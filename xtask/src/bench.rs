//! `cargo xtask bench`.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{
    command::{announce, cargo, run},
    ebpf, workspace,
};

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// The XDP program, per packet; needs root
    Program,
    /// DataScripts, per run, and new flows a second
    Script,
}

/// Runs the benchmarks of these names, all of them if there is none.
pub fn all(names: &[Bench], json: Option<&Path>) -> Result<()> {
    let names = if names.is_empty() { Bench::value_variants() } else { names };
    let json = json.map(fresh).transpose()?;
    for name in names {
        match name {
            Bench::Program => program(json.as_deref())?,
            Bench::Script => measure("script", "DataScripts", &[], json.as_deref())?,
        }
    }
    Ok(())
}

/// The file that the benchmarks append to, empty. Cargo runs them in their package's folder.
fn fresh(json: &Path) -> Result<PathBuf> {
    match fs::remove_file(json) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", json.display()))
        }
        _ => Ok(env::current_dir()?.join(json)),
    }
}

/// Measures the XDP program with `BPF_PROG_TEST_RUN`.
fn program(json: Option<&Path>) -> Result<()> {
    ebpf::build()?;
    let object = workspace::ebpf().join("lb-ebpf-bench.o");
    measure("program", "the XDP program", &[("LB_EBPF_BENCH_OBJECT", &object)], json)
}

fn measure(bench: &str, what: &str, paths: &[(&str, &Path)], json: Option<&Path>) -> Result<()> {
    announce(&format!("measuring {what}"));
    let mut command = cargo();
    command.args(["bench", "--package", "lb-tests", "--bench", bench]);
    command.envs(paths.iter().copied());
    if let Some(json) = json {
        command.env("LB_BENCH_JSON", json);
    }
    run(&mut command)
}
