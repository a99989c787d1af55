//! Brings the compiled XDP program to where `include_bytes!` finds it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

fn main() -> ExitCode {
    let object = object();
    println!("cargo::rerun-if-env-changed=LB_EBPF_OBJECT");
    println!("cargo::rerun-if-changed={}", object.display());
    if !object.exists() {
        let object = object.display();
        println!("cargo::error=no XDP program at {object}: run `cargo xtask build-ebpf` first");
        return ExitCode::FAILURE;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    match fs::copy(&object, out.join("lb-ebpf.o")) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error=cannot copy {}: {error}", object.display());
            ExitCode::FAILURE
        }
    }
}

fn object() -> PathBuf {
    // At run time: the compiled script may have been copied from another tree with its target.
    let here = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let workspace = Path::new(&here).join("..");
    env::var_os("LB_EBPF_OBJECT")
        .map_or_else(|| workspace.join("target/ebpf/lb-ebpf.o"), PathBuf::from)
}
