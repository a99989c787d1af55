//! Which instance a command is about.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};
use clap::Args;

use crate::{
    config::Config,
    control::{Lock, LockError, paths::Paths},
};

/// How long a daemon may take to stop.
const STOP: Duration = Duration::from_secs(10);

/// By configuration, by name or by socket; without any, the only one there is.
#[derive(Args)]
pub struct Target {
    /// Of the instance that this configuration describes
    #[arg(long, value_name = "FILE", group = "which")]
    config: Option<PathBuf>,
    /// Of the instance of this name
    #[arg(long, value_name = "NAME", group = "which")]
    instance: Option<String>,
    /// Of the instance that listens on this admin socket
    #[arg(long, value_name = "PATH", group = "which")]
    socket: Option<PathBuf>,
}

impl Target {
    /// The configuration, if that is how the instance is named.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The admin socket.
    pub fn socket(&self) -> Result<PathBuf> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        if let Some(config) = &self.config {
            return Ok(read(config)?.instance.admin_socket);
        }
        Ok(Paths::new(&self.instance()?).socket())
    }

    /// The instance's name.
    pub fn instance(&self) -> Result<String> {
        if let Some(name) = &self.instance {
            return Ok(name.clone());
        }
        if let Some(config) = &self.config {
            return Ok(read(config)?.instance.name);
        }
        if let Some(name) = self.socket.as_ref().and_then(|path| path.file_stem()) {
            return Ok(name.to_string_lossy().into_owned());
        }
        the_only_instance()
    }

    /// Waits until the daemon has let go of the instance.
    pub fn wait_until_gone(&self, instance: &str) -> Result<()> {
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            match Lock::take(instance) {
                Err(LockError::Taken { .. }) => thread::sleep(Duration::from_millis(20)),
                other => return other.map(Lock::remove).map_err(Into::into),
            }
        }
        bail!("{instance} was asked to stop and still runs after {} seconds", STOP.as_secs())
    }
}

fn read(config: &Path) -> Result<Config> {
    let advice = "the configuration cannot tell which instance is meant: name it with --instance";
    Config::load(config).map_err(|problems| anyhow!("{advice}\n{problems}"))
}

fn the_only_instance() -> Result<String> {
    let entries = std::fs::read_dir(Paths::folder()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.strip_suffix(".lock").map(str::to_owned)
    });
    let names: Vec<String> = names.collect();
    match &names[..] {
        [name] => Ok(name.clone()),
        [] => bail!("no instance has run here: name one with --instance or --config"),
        many => bail!(
            "several instances have run here ({}): say which with --instance",
            many.join(", ")
        ),
    }
}
