//! `cargo xtask test`: everything, from cheap to dear.

use std::path::Path;

use anyhow::Result;

use crate::{
    command::{announce, cargo, run},
    ebpf, packages,
    pypi::Pinned,
    workspace,
};

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
    run(privileged_tests(&lb).args(filter))
}

fn privileged_tests(lb: &Path) -> std::process::Command {
    let mut command = cargo();
    command.args(["test", "--package", "lb-tests", "--test", "packets", "--test", "netns"]);
    command.env("LB_BIN", lb);
    command
}
