//! The instance's folder in the BPF file system.

use std::{fs, io, path::PathBuf};

use super::{DatapathError, attach, environment::BPFFS};

/// `/sys/fs/bpf/lb/<instance>/`.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Of the instance of this name.
    pub fn new(instance: &str) -> Self {
        Self { folder: PathBuf::from(BPFFS).join("lb").join(instance) }
    }

    /// Whether anything is pinned.
    pub fn exist(&self) -> bool {
        self.names().is_ok_and(|names| !names.is_empty())
    }

    /// The folder.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Where an object of this name is pinned.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes the folder.
    pub fn create(&self) -> Result<(), DatapathError> {
        fs::create_dir_all(&self.folder).map_err(|error| {
            DatapathError::kernel(format!("cannot make {}", self.folder.display()), error)
        })
    }

    /// What is pinned.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// The far ends of detours that packets are punted by; they are not removed with the pins.
    pub fn detours(&self) -> io::Result<Vec<String>> {
        attach::detours(self)
    }

    /// Removes every pin, and with the links' the program from its interfaces. The links go
    /// first, so that no packet is looked up in maps that are half gone.
    pub fn remove(&self) -> io::Result<()> {
        let (links, maps): (Vec<_>, Vec<_>) =
            self.names()?.into_iter().partition(|name| attach::is_link(name));
        for name in links.into_iter().chain(maps) {
            fs::remove_file(self.path(&name))?;
        }
        fs::remove_dir(&self.folder)?;
        // The folder of all instances goes with the last one.
        if let Some(parent) = self.folder.parent() {
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }
}
