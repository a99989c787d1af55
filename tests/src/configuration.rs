//! A configuration of `lb`, in a folder of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    Finished, Namespace,
    namespace::{is_over, maker},
};

const PINS: &str = "/sys/fs/bpf/lb";
/// Where each instance has its lock and its admin socket.
const FILES: &str = "/run/lb";

/// Instances that tests make begin so; the process's id and a number follow.
const PREFIX: &str = "test-";

/// What an `lb` that ends by itself may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

static NEXT: AtomicU32 = AtomicU32::new(0);
static SWEEP: Once = Once::new();

/// A configuration file and the scripts that it names, which go when it is dropped.
#[derive(Debug)]
pub struct Configuration {
    instance: String,
    path: PathBuf,
    /// Holds what [`Configuration::new`] wrote.
    _folder: Option<TempDir>,
}

impl Configuration {
    /// Writes a configuration and its scripts, each a file name and its content. `{instance}` in
    /// the configuration becomes a name that no other test has.
    pub fn new(text: &str, scripts: &[(&str, &str)]) -> Result<Self> {
        SWEEP.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let instance = format!("{PREFIX}{}-{number}", process::id());
        let folder = TempDir::with_prefix("lb-").context("cannot make the balancer's folder")?;
        let path = folder.path().join("lb.toml");
        let configuration = Self { instance, path, _folder: Some(folder) };
        for (name, content) in scripts {
            configuration.write(name, content)?;
        }
        configuration.replace(text)?;
        Ok(configuration)
    }

    /// A file as it is, whose `[instance]` is named `instance`.
    pub fn of_file(path: &Path, instance: &str) -> Self {
        Self { instance: instance.into(), path: path.into(), _folder: None }
    }

    /// Writes another configuration to the same file, with the same name for `{instance}`.
    pub fn replace(&self, text: &str) -> Result<()> {
        fs::write(&self.path, text.replace("{instance}", &self.instance))
            .with_context(|| self.path.display().to_string())
    }

    /// Writes a file beside the configuration.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        fs::write(self.beside(name), content).with_context(|| name.to_owned())
    }

    /// The path of a file beside the configuration.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The instance's name.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The folder of its pins.
    pub fn pins(&self) -> PathBuf {
        Path::new(PINS).join(&self.instance)
    }

    /// Runs `lb` with these arguments, in which `{file}` is the configuration's path, to its end,
    /// however that is.
    pub fn try_lb(&self, namespace: &Namespace, arguments: &[&str]) -> Result<Finished> {
        let words = self.command(arguments)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        namespace.try_run(&words, PATIENCE)
    }

    /// The words of a command that runs `lb` with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let file = self.path.to_string_lossy();
        let arguments = arguments.iter().map(|word| word.replace("{file}", &file));
        let lb = lb_binary()?.to_string_lossy().into_owned();
        Ok([lb].into_iter().chain(arguments).collect())
    }
}

/// `LB_BIN`, else what `cargo xtask build` makes.
pub(crate) fn lb_binary() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let built = workspace.join(target).join("release/lb");
    let path = env::var_os("LB_BIN").map_or(built, PathBuf::from);
    path.canonicalize()
        .context("there is no lb: run `cargo xtask build`, or say with LB_BIN where it is")
}

/// Removes the pins and files of tests that were killed; their namespaces go with
/// [`Namespace::new`].
fn sweep() {
    for folder in [PINS, FILES] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().and_then(|name| maker(PREFIX, name)).is_some_and(is_over) {
                // Another process that starts now may be sweeping too.
                let path = entry.path();
                let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            }
        }
    }
}
