//! `cargo xtask bench`.

mod compare;
mod pktgen;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use lb_tests::{check_stopped, has_pktgen, report, stop_on_signals};
use tempfile::NamedTempFile;

pub use compare::read;

use crate::{
    command::{announce, cargo, executables, run},
    ebpf,
    packages::{self, Package},
    workspace,
};

/// What `--compare` compares with if it is not told.
pub const BASELINE: &str = "tests/bench/baseline.json";

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// The XDP program, per packet; needs root
    Program,
    /// Packets a second end to end through namespaces; needs root
    Forward,
    /// New flows a second of a worker, and what a first packet waits; needs root
    NewFlows,
    /// DataScripts, per run, and new flows a second of an engine alone
    Script,
    /// How figures grow with flows, servers, services, scripts and cores; much of it needs root
    Scale,
    /// Connections with real sockets, beside other balancers; needs root
    Tcp,
    /// Packets of the kernel's own generator, beside IPVS and nftables: here as root, or in a
    /// virtual machine with Debian's kernel where this one has no pktgen
    Pktgen,
}

impl Bench {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    const fn packages(self) -> &'static [Package] {
        match self {
            Self::Program | Self::Script | Self::Scale => &[],
            Self::Forward | Self::NewFlows => packages::LINKS,
            Self::Tcp => packages::BALANCERS,
            Self::Pktgen => packages::PKTGEN,
        }
    }

    const fn needs_lb(self) -> bool {
        matches!(self, Self::Forward | Self::NewFlows | Self::Tcp | Self::Pktgen)
    }
}

/// Runs the benchmarks of these names, all of them if there is none. One that cannot run is named
/// and does not keep the others from it.
pub fn all(names: &[Bench], json: Option<&Path>, baseline: Option<&Path>) -> Result<()> {
    let names = if names.is_empty() { Bench::value_variants() } else { names };
    // Before hours of measuring, not after.
    let baseline = baseline.map(read).transpose()?;
    let unasked_for = NamedTempFile::new().context("cannot make a file for the figures")?;
    let json = fresh(json.unwrap_or(unasked_for.path()))?;
    let benches = build(names)?;
    stop_on_signals()?;
    let mut failed = Vec::new();
    for bench in names {
        check_stopped()?;
        if let Err(error) = measure(*bench, &benches, &json) {
            check_stopped()?;
            announce(&format!("`{}` could not be measured: {error:#}", bench.name()));
            failed.push(bench.name());
        }
    }
    if let Some(baseline) = baseline {
        compare::show(&baseline, &read(&json)?)?;
    }
    ensure!(failed.is_empty(), "not measured, or not whole: {}", failed.join(", "));
    Ok(())
}

/// The file that the benchmarks append to, empty.
fn fresh(json: &Path) -> Result<PathBuf> {
    match fs::remove_file(json) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", json.display()))
        }
        _ => Ok(env::current_dir()?.join(json)),
    }
}

/// Compiles what is measured, then what measures it; returns where that is.
fn build(names: &[Bench]) -> Result<PathBuf> {
    match names.iter().any(|bench| bench.needs_lb()) {
        true => drop(ebpf::build_lb(false)?),
        false => drop(ebpf::build()?),
    }
    announce("compiling the benchmarks");
    let compile = ["bench", "--package", "lb-tests", "--bench", "bench", "--no-run"];
    let executables = executables(cargo().args(compile))?;
    let path = executables.into_iter().next().map(|(_, path)| path);
    path.context("cargo does not say where the benchmarks are")
}

/// Runs one, not by way of cargo, which a Ctrl-C would end before the benchmark has cleaned up.
fn measure(bench: Bench, benches: &Path, json: &Path) -> Result<()> {
    if !bench.packages().is_empty() && packages::is_root() {
        packages::ensure(bench.packages(), "this benchmark")?;
    }
    announce(&format!("measuring: {}", bench.name()));
    if bench == Bench::Pktgen && !has_pktgen() {
        return pktgen::measure(benches, &bench.name(), json);
    }
    let mut command = Command::new(benches);
    command.arg(bench.name()).current_dir(workspace::root()).env(report::JSON, json);
    for (variable, object) in [("BENCH", "lb-ebpf-bench.o"), ("TRAFFIC", "lb-ebpf-traffic.o")] {
        command.env(format!("LB_EBPF_{variable}_OBJECT"), workspace::ebpf().join(object));
    }
    if run(&mut command).is_err() {
        bail!("see above");
    }
    Ok(())
}
