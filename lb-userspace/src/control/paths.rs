//! Files of an instance outside the BPF file system.

use std::path::{Path, PathBuf};

const FOLDER: &str = "/run/lb";

/// Where an instance keeps what must be found again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paths {
    instance: String,
}

impl Paths {
    /// Of the instance of this name.
    pub fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned() }
    }

    /// The folder of all instances.
    pub fn folder() -> &'static Path {
        Path::new(FOLDER)
    }

    /// Locked by the running daemon.
    pub fn lock(&self) -> PathBuf {
        self.file("lock")
    }

    /// Addresses that the daemon put on interfaces.
    pub fn addresses(&self) -> PathBuf {
        self.file("addresses.json")
    }

    /// Addresses that names of servers had.
    pub fn names(&self) -> PathBuf {
        self.file("names.json")
    }

    /// What operators have ordered of servers, and which are out of service.
    pub fn servers(&self) -> PathBuf {
        self.file("servers.json")
    }

    /// The admin socket, unless the configuration says otherwise.
    pub fn socket(&self) -> PathBuf {
        self.file("sock")
    }

    fn file(&self, suffix: &str) -> PathBuf {
        Path::new(FOLDER).join(format!("{}.{suffix}", self.instance))
    }
}
