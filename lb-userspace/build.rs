//! Brings the compiled packet programs to where `include_bytes!` finds them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed=LB_EBPF_OBJECT");
    let object = object();
    let clock = object.with_file_name("lb-ebpf-clock.o");
    match bring(&object, "lb-ebpf.o").and_then(|()| bring(&clock, "lb-ebpf-clock.o")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("cargo::error={why}");
            ExitCode::FAILURE
        }
    }
}

fn bring(object: &Path, name: &str) -> Result<(), String> {
    println!("cargo::rerun-if-changed={}", object.display());
    let shown = object.display();
    if !object.exists() {
        return Err(format!("no packet programs at {shown}: run `cargo xtask build-ebpf` first"));
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let copied = fs::copy(object, out.join(name));
    copied.map(drop).map_err(|error| format!("cannot copy {shown}: {error}"))
}

/// The program; what goes with it is beside it.
fn object() -> PathBuf {
    // At run time: the compiled script may have been copied from another tree with its target.
    let here = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let workspace = Path::new(&here).join("..");
    env::var_os("LB_EBPF_OBJECT")
        .map_or_else(|| workspace.join("target/ebpf/lb-ebpf.o"), PathBuf::from)
}
