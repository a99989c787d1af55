//! Where things are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The repository's top.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace's folder")
}

/// Where cargo puts what it builds for this machine.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Tools of the build's own, kept apart from the user's.
pub fn tools() -> PathBuf {
    root().join("target/tools")
}

/// The packet programs' own target folder: another compiler fills it.
pub fn ebpf() -> PathBuf {
    root().join("target/ebpf")
}
