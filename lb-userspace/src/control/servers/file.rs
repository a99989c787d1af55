//! What is to outlive the daemon: orders, and since when servers are out of service.
//!
//! Moments are of the clock that stops with the machine, as the flows do: the file lies in `/run`.

use std::{collections::BTreeMap, fs, io, net::SocketAddr, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use super::tenure::Kept;

/// The file's content.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Saved {
    /// Servers of which there is something to say.
    pub servers: Vec<SavedServer>,
    /// How long flows of each pool's servers go on that leave the configuration.
    pub patience: BTreeMap<String, Option<Duration>>,
}

/// A server, by what it is called: numbers end with the pinned maps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedServer {
    /// Its pool's name.
    pub pool: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What is known of it.
    pub kept: Kept,
}

/// Nothing, if there is no such file.
pub fn read(path: &Path) -> io::Result<Saved> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Saved::default()),
        Err(error) => Err(error),
    }
}

/// By way of a temporary file: what is there is the one or the other, even in a crash.
pub fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension("json.new");
    fs::write(&temporary, serde_json::to_vec_pretty(saved)?)?;
    fs::rename(&temporary, path)
}
