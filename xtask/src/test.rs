//! `cargo xtask test`: everything, from cheap to dear.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use lb_tests::stop_on_signals;

use crate::{
    command::{announce, cargo, executables, run},
    ebpf,
    machine::{self, Job, quoted},
    packages,
    pypi::Pinned,
    workspace,
};

/// The tests with the loaded program, and those in namespaces.
const PRIVILEGED: [&str; 6] = ["--package", "lb-tests", "--test", "packets", "--test", "netns"];

/// Connects as browsers do, post-quantum key shares included. The tests look for it in its folder.
const BROWSERS: Pinned = Pinned { name: "curl-cffi", version: "0.16.3" };

/// Runs the tests whose name contains `filter`; `quick` leaves out those that need root.
pub fn all(quick: bool, filter: Option<&str>) -> Result<()> {
    ebpf::build()?;
    unit(filter)?;
    model(filter)?;
    if quick {
        announce("--quick: the tests with the loaded program and in namespaces are left out");
        return Ok(());
    }
    privileged(filter)
}

fn unit(filter: Option<&str>) -> Result<()> {
    announce("unit and property tests");
    let libraries = ["test", "--workspace", "--exclude", "lb-tests"];
    run(cargo().args(libraries).args(filter))?;
    run(cargo().args(["test", "--package", "lb-tests", "--lib"]).args(filter))
}

/// The flow table's protocol, in every order of memory accesses that the memory model allows.
fn model(filter: Option<&str>) -> Result<()> {
    announce("model checking of the flow table with loom");
    let mut command = cargo();
    command.args(["test", "--package", "lb-common", "--release", "--lib"]);
    // A folder of its own: the flag would have everything else built again.
    command.arg("--target-dir").arg(workspace::root().join("target/loom"));
    run(command.arg(filter.unwrap_or("interleavings")).env("RUSTFLAGS", "--cfg loom"))
}

/// Golden packets through the loaded program, and hosts in namespaces. They say themselves what
/// this machine does not let them do; with `CI` set that is a failure.
fn privileged(filter: Option<&str>) -> Result<()> {
    if packages::is_root() {
        packages::ensure(packages::NETWORK, "testing with real servers and clients")?;
    }
    if let Err(error) = BROWSERS.install() {
        announce(&format!("going on without browsers: {error:#}"));
    }
    let lb = ebpf::build_lb(true)?;
    announce("tests with the loaded program and in namespaces");
    run(cargo().arg("test").args(PRIVILEGED).args(filter).env("LB_BIN", lb))
}

/// The tests with the loaded program, and those in namespaces that need a kernel with more than
/// most have, in a machine with Debian's; `filter` chooses others.
pub fn in_machine(filter: Option<&str>) -> Result<()> {
    if packages::is_root() {
        packages::ensure(packages::NETWORK, "testing with real servers and clients")?;
    }
    // A Ctrl-C ends the machine too, which is in a process group of its own.
    stop_on_signals()?;
    // It runs slowly enough.
    let lb = ebpf::build_lb(false)?;
    announce("compiling the tests");
    let tests = executables(cargo().arg("test").args(PRIVILEGED).arg("--no-run"))?;
    let named = |name: &str| {
        let found = tests.iter().find(|(test, _)| test == name);
        found.map(|(_, path)| path).context("cargo does not say where the tests are")
    };
    let packets = (named("packets")?, filter.into_iter().collect());
    let netns = (named("netns")?, filter.map_or(vec!["netem", "without_tcx"], |one| vec![one]));
    // Machines read this machine's files slowly, and a program again for each process.
    let copy = format!("cp {} /tmp/lb", quoted(&lb.to_string_lossy()));
    let run = |(test, filters): (&PathBuf, Vec<&str>)| {
        let filters: Vec<_> = filters.into_iter().map(quoted).collect();
        format!("{} --include-ignored {}", quoted(&test.to_string_lossy()), filters.join(" "))
    };
    let job = Job {
        reason: "tests with another kernel",
        cpus: "2",
        options: "-cpu max -accel tcg,thread=multi",
        variables: &[("CI", Path::new("true")), ("LB_BIN", Path::new("/tmp/lb"))],
        commands: &[&["modprobe sch_netem".to_owned(), copy][..], &[packets, netns].map(run)]
            .concat(),
    };
    job.run_in(&machine::folder()?)
}
