//! The packet programs, and `lb` with them inside it.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::{
    command::{announce, cargo, run},
    toolchain::{self, Toolchain},
    workspace,
};

/// Compiles the packet programs to `target/ebpf/lb-ebpf.o`, and what goes with it beside that.
pub fn build() -> Result<PathBuf> {
    let toolchain = Toolchain::find()?;
    announce(&format!("compiling the packet programs with {}", toolchain.describe()));
    let mut command = toolchain.cargo_build()?;
    command.current_dir(workspace::root().join("lb-ebpf")).args(["--release", "--locked"]);
    run(command.env("CARGO_TARGET_DIR", workspace::ebpf()))?;
    publish("lb-ebpf-bench")?;
    publish("lb-ebpf-traffic")?;
    publish("lb-ebpf-clock")?;
    publish("lb-ebpf")
}

/// Puts the object where the build of `lb` looks for it, untouched if it has not changed: its
/// time is what tells cargo to build `lb` again.
fn publish(name: &str) -> Result<PathBuf> {
    let built = workspace::ebpf().join(toolchain::TARGET).join("release").join(name);
    let object = workspace::ebpf().join(format!("{name}.o"));
    let program = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    if fs::read(&object).is_ok_and(|published| published == program) {
        return Ok(object);
    }
    fs::write(&object, program).with_context(|| format!("cannot write {}", object.display()))?;
    Ok(object)
}

/// Compiles the packet programs, then `lb`; returns where `lb` is.
pub fn build_lb(debug: bool) -> Result<PathBuf> {
    build()?;
    let profile = if debug { "dev" } else { "release" };
    announce(&format!("compiling lb ({profile})"));
    run(cargo().args(["build", "--package", "lb-userspace", "--profile", profile]))?;
    let lb = workspace::target().join(if debug { "debug/lb" } else { "release/lb" });
    eprintln!("      {}", lb.display());
    Ok(lb)
}
