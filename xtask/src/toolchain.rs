//! The compiler for the packet programs, whichever the machine has.
//!
//! Two are known to work: rustup's nightly, which builds `core` from `rust-src`; and Debian's
//! Rust, which comes with `core` for BPF already built and needs no nightly. aya-build knows only
//! the first and puts `rustup run` in front of everything, so cargo is called from here.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    command::{announce, clean, find_program, output, path_with, run},
    packages, workspace,
};

/// Little-endian, like every machine that this runs on.
pub const TARGET: &str = "bpfel-unknown-none";

const LINKER_VERSION: &str = "0.13.0";
/// What Debian's Rust and bpf-linker are both built on: they must agree.
const LLVM: &str = "22";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// A way to compile for BPF.
pub enum Toolchain {
    /// rustup's nightly with `rust-src`, and the bpf-linker on `PATH`.
    Nightly,
    /// Debian's Rust, and a bpf-linker in `target/tools`.
    Debian,
}

impl Toolchain {
    /// The one that is there; else Debian's, set up; else an error that says what to install.
    pub fn find() -> Result<Self> {
        if nightly_is_ready() {
            return Ok(Self::Nightly);
        }
        if find_program("apt-get").is_none() {
            bail!(
                "no compiler for BPF. With rustup: `rustup toolchain install nightly --component \
                 rust-src`, and `cargo install bpf-linker`"
            );
        }
        set_up_debian()?;
        Ok(Self::Debian)
    }

    /// What it is, in a line.
    pub fn describe(&self) -> String {
        let version = match self {
            Self::Nightly => output(clean("rustc").args(["+nightly", "--version"])),
            Self::Debian => output(clean(DEBIAN_RUSTC).arg("--version")),
        };
        let version = version.unwrap_or_default();
        match self {
            Self::Nightly => format!("rustup's nightly, core built from rust-src ({version})"),
            Self::Debian => format!("Debian's Rust with core for BPF ({version})"),
        }
    }

    /// `cargo build` for [`TARGET`].
    pub fn cargo_build(&self) -> Result<Command> {
        let mut command = match self {
            Self::Nightly => {
                let mut command = clean("cargo");
                command.args(["+nightly", "build", "-Z", "build-std=core"]);
                command
            }
            Self::Debian => {
                let mut command = clean(DEBIAN_CARGO);
                command.arg("build").env("RUSTC", DEBIAN_RUSTC);
                // aya-ebpf uses one unstable feature.
                command.env("RUSTC_BOOTSTRAP", "1");
                command.env("PATH", path_with(&tools_bin())?);
                command
            }
        };
        command.args(["--target", TARGET]).env("CARGO_ENCODED_RUSTFLAGS", rust_flags());
        Ok(command)
    }
}

/// BTF for named fields in bpftool; 32-bit jumps and arithmetic (v3) for shorter programs.
fn rust_flags() -> String {
    let architecture = format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH);
    [
        architecture.as_str(),
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        "-Ctarget-cpu=v3",
        // Packet headers begin at any even address. Without this every field is put together from
        // single bytes, which makes the program a fifth longer; machines whose loads must be
        // aligned are not among those that XDP drivers exist for.
        "-Ctarget-feature=+allows-misaligned-mem-access",
    ]
    .join("\x1f")
}

fn nightly_is_ready() -> bool {
    let sysroot = output(clean("rustc").args(["+nightly", "--print", "sysroot"]));
    let has_source = sysroot.is_some_and(|sysroot| {
        Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
    });
    has_source && find_program("bpf-linker").is_some()
}

fn set_up_debian() -> Result<()> {
    packages::ensure(packages::BPF_TOOLCHAIN, "compiling the packet programs")?;
    let version = output(clean(DEBIAN_RUSTC).arg("-vV")).context("/usr/bin/rustc does not run")?;
    ensure!(
        version.contains(&format!("LLVM version: {LLVM}.")),
        "Debian's rustc is not built on LLVM {LLVM}, so bpf-linker cannot read its output; with \
         rustup there is another way: `rustup toolchain install nightly --component rust-src`, \
         and `cargo install bpf-linker`\n{version}"
    );
    match linker_is_ready() {
        true => Ok(()),
        false => install_linker(),
    }
}

fn linker_is_ready() -> bool {
    let version = output(Command::new(tools_bin().join("bpf-linker")).arg("--version"));
    version.is_some_and(|version| version.ends_with(LINKER_VERSION))
}

/// `LLVM_PREFIX` keeps bpf-linker's build from a stray `/usr/bin/llvm-config` of another version.
fn install_linker() -> Result<()> {
    announce(&format!("installing bpf-linker {LINKER_VERSION} into target/tools (some minutes)"));
    let mut command = clean(DEBIAN_CARGO);
    command.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--quiet"]);
    command.args(["--force", "--no-default-features", "--features", &format!("llvm-{LLVM}")]);
    command.arg("--root").arg(workspace::tools());
    command.env("RUSTC", DEBIAN_RUSTC);
    command.env("LLVM_PREFIX", LLVM_PREFIX).env(format!("LLVM_SYS_{LLVM}1_PREFIX"), LLVM_PREFIX);
    run(&mut command)
}

fn tools_bin() -> PathBuf {
    workspace::tools().join("bin")
}
