//! The addresses that names had, kept for the next start.
//!
//! A daemon that starts while no name server answers would have no servers for them, and refuse the
//! flows that the one before it took. The file is gone with the next boot, as all in `/run`.

use std::{collections::BTreeMap, fs, io, net::Ipv4Addr, path::PathBuf, time::SystemTime};

use humantime::{format_rfc3339_millis, parse_rfc3339};
use serde::{Deserialize, Serialize};
use tracing::warn;

/// What is kept of one name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Kept {
    addresses: Vec<Ipv4Addr>,
    /// RFC 3339.
    resolved: String,
}

/// A name's addresses, and when they were heard.
pub type Heard = (Vec<Ipv4Addr>, SystemTime);

/// The file.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    written: BTreeMap<String, Vec<Ipv4Addr>>,
}

impl Memory {
    /// In this file, which need not be there.
    pub fn new(path: PathBuf) -> Self {
        Self { path, written: BTreeMap::new() }
    }

    /// What an earlier daemon has left; nothing if that cannot be read.
    pub fn recall(&self) -> BTreeMap<String, Heard> {
        let read = || -> io::Result<BTreeMap<String, Kept>> {
            Ok(serde_json::from_slice(&fs::read(&self.path)?)?)
        };
        let kept = read().unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                warn!("{}: earlier addresses of names are lost: {error}", self.path.display());
            }
            BTreeMap::new()
        });
        let heard = kept.into_iter().filter_map(|(name, Kept { addresses, resolved })| {
            Some((name, (addresses, parse_rfc3339(&resolved).ok()?)))
        });
        heard.collect()
    }

    /// Keeps these, if they are others than before.
    pub fn keep(&mut self, known: BTreeMap<String, Heard>) {
        let addresses =
            known.iter().map(|(name, (addresses, _))| (name.clone(), addresses.clone()));
        let addresses: BTreeMap<_, _> = addresses.collect();
        if addresses == self.written {
            return;
        }
        if let Err(error) = self.write(known) {
            warn!("{}: addresses of names cannot be kept: {error}", self.path.display());
        }
        // Not again and again if it cannot be done.
        self.written = addresses;
    }

    /// By way of a temporary file: what is read is whole.
    fn write(&self, known: BTreeMap<String, Heard>) -> io::Result<()> {
        let kept = known.into_iter().map(|(name, (addresses, resolved))| {
            (name, Kept { addresses, resolved: format_rfc3339_millis(resolved).to_string() })
        });
        let kept: BTreeMap<_, _> = kept.collect();
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let temporary = self.path.with_extension("json.new");
        fs::write(&temporary, serde_json::to_vec_pretty(&kept)?)?;
        fs::rename(&temporary, &self.path)
    }
}
