//! One daemon an instance.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
};

use super::paths::Paths;

/// Held for as long as the daemon runs; the kernel lets go of it when the process ends, however
/// it does.
#[derive(Debug)]
pub struct Lock {
    instance: String,
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("instance {instance} is running already, as process {pid}")]
    Taken {
        /// The instance.
        instance: String,
        /// Whose it is.
        pid: String,
    },
    /// The file cannot be made.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the instance's lock, and leaves the process's number in the file.
    pub fn take(instance: &str) -> Result<Self, LockError> {
        let path = Paths::new(instance).lock();
        let failed = |source| LockError::Io { path: path.display().to_string(), source };
        fs::create_dir_all(Paths::folder()).map_err(failed)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(failed)?;
        if file.try_lock().is_err() {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid = pid.trim().to_owned();
            return Err(LockError::Taken { instance: instance.to_owned(), pid });
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { instance: instance.to_owned(), _file: file })
    }

    /// The instance.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Removes the file of an instance of which nothing is left.
    pub fn remove(self) {
        let _ = fs::remove_file(Paths::new(&self.instance).lock());
    }
}
