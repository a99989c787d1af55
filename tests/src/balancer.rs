//! `lb`, running in a namespace.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Namespace, Process,
    namespace::{is_over, maker},
};

const STARTUP: Duration = Duration::from_secs(30);
const PINS: &str = "/sys/fs/bpf/lb";

/// Instances that tests make begin so; the process's id and a number follow.
const PREFIX: &str = "test-";

static NEXT: AtomicU32 = AtomicU32::new(0);
static SWEEP: Once = Once::new();

/// A balancer. Dropping it kills the daemon and detaches the instance, and panics if pins are
/// left: what a test leaves behind is a fault like any other.
#[derive(Debug)]
pub struct Balancer {
    namespace: Namespace,
    instance: String,
    configuration: PathBuf,
    process: Process,
    /// Holds what [`Balancer::start`] wrote.
    _folder: Option<TempDir>,
}

impl Balancer {
    /// Starts one with a configuration and the scripts that it names, each a file name and its
    /// content. `{instance}` in the configuration becomes a name that no other test has.
    pub fn start(
        namespace: &Namespace,
        configuration: &str,
        scripts: &[(&str, &str)],
    ) -> Result<Self> {
        SWEEP.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let instance = format!("{PREFIX}{}-{number}", process::id());
        let folder = TempDir::with_prefix("lb-").context("cannot make the balancer's folder")?;
        for (name, content) in scripts {
            fs::write(folder.path().join(name), content).with_context(|| (*name).to_owned())?;
        }
        let path = folder.path().join("lb.toml");
        fs::write(&path, configuration.replace("{instance}", &instance))
            .with_context(|| path.display().to_string())?;
        Self::launch(namespace, instance, path, Some(folder))
    }

    /// Starts one with a configuration file as it is, whose `[instance]` is named `instance`.
    /// What an earlier one of that name has pinned is detached first.
    pub fn start_file(namespace: &Namespace, path: &Path, instance: &str) -> Result<Self> {
        if pins(instance).exists() {
            detach(namespace, path)?;
        }
        Self::launch(namespace, instance.into(), path.into(), None)
    }

    fn launch(
        namespace: &Namespace,
        instance: String,
        configuration: PathBuf,
        folder: Option<TempDir>,
    ) -> Result<Self> {
        let namespace = namespace.clone();
        let process = spawn(&namespace, &configuration)?;
        let mut balancer = Self { namespace, instance, configuration, process, _folder: folder };
        balancer.wait_ready()?;
        Ok(balancer)
    }

    /// The instance's name.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The folder of its pins.
    pub fn pins(&self) -> PathBuf {
        pins(&self.instance)
    }

    /// The daemon's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Runs a command on the balancer's host.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.namespace.run(words)
    }

    /// Runs `lb` with these arguments and this instance's `--config`.
    pub fn lb(&self, arguments: &[&str]) -> Result<String> {
        let [lb, path] = [lb_binary()?, self.configuration.clone()];
        let [lb, path] = [lb.to_string_lossy(), path.to_string_lossy()];
        self.namespace.run(&[&[&*lb], arguments, &["--config", &path]].concat())
    }

    /// `lb status --json`.
    pub fn status_json(&self) -> Result<Value> {
        self.json(&["status", "--json"])
    }

    /// `lb flows --json`: works without a daemon too.
    pub fn flows_json(&self) -> Result<Vec<Value>> {
        match self.json(&["flows", "--json"])? {
            Value::Array(flows) => Ok(flows),
            other => anyhow::bail!("`lb flows --json` printed no array: {other}"),
        }
    }

    /// `lb tables --json`.
    pub fn tables_json(&self) -> Result<Value> {
        self.json(&["tables", "--json"])
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.lb(arguments)?;
        serde_json::from_str(&text).with_context(|| format!("lb printed no JSON:\n{text}"))
    }

    /// Replaces the configuration that [`Balancer::start`] wrote, and has the daemon take it.
    pub fn reload(&self, configuration: &str) -> Result<()> {
        fs::write(&self.configuration, configuration.replace("{instance}", &self.instance))
            .with_context(|| self.configuration.display().to_string())?;
        self.lb(&["reload"]).map(drop)
    }

    /// Kills the daemon with SIGKILL: it can put nothing in order.
    pub fn kill_9(&mut self) {
        self.process.kill();
    }

    /// Asks the daemon to end (SIGTERM), and waits until it has.
    pub fn terminate(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait(STARTUP)?;
        ensure!(status.success(), "lb ended badly on SIGTERM: {status}\n{}", self.process.stderr());
        Ok(())
    }

    /// Starts the daemon again after its end; it finds the flows that it had.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.namespace, &self.configuration)?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let [lb, path] = [lb_binary()?, self.configuration.clone()];
        let [lb, path] = [lb.to_string_lossy(), path.to_string_lossy()];
        let words = [&*lb, "status", "--config", &path];
        let namespace = &self.namespace;
        self.process.wait_until("lb's admin socket", STARTUP, || {
            Ok(namespace.try_run(&words, STARTUP)?.status.success())
        })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.process.kill();
        let detached = detach(&self.namespace, &self.configuration);
        let error = match detached {
            Ok(()) if self.pins().exists() => format!("{} is left", self.pins().display()),
            Ok(()) => return,
            Err(error) => format!("{error:#}"),
        };
        assert!(thread::panicking(), "`lb detach` did not put everything in order: {error}");
        eprintln!("`lb detach` did not put everything in order: {error}");
    }
}

fn spawn(namespace: &Namespace, configuration: &Path) -> Result<Process> {
    let lb = lb_binary()?;
    let [lb, path] = [&lb, configuration].map(|path| path.to_string_lossy());
    namespace.spawn(&[&lb, "run", "--config", &path])
}

/// Not stopped by signals, since it cleans up; but it has an end.
fn detach(namespace: &Namespace, configuration: &Path) -> Result<()> {
    let mut command = namespace.command();
    command.args(["timeout", "30"]).arg(lb_binary()?).args(["detach", "--config"]);
    let output = command.arg(configuration).output().context("cannot start `lb detach`")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`lb detach`: {}\n{error}", output.status);
    Ok(())
}

/// Removes the pins of tests that were killed; their namespaces go with [`Namespace::new`].
fn sweep() {
    let Ok(entries) = fs::read_dir(PINS) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_str().and_then(|name| maker(PREFIX, name)).is_some_and(is_over) {
            // Another process that starts now may be sweeping too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn pins(instance: &str) -> PathBuf {
    Path::new(PINS).join(instance)
}

/// `LB_BIN`, else what `cargo xtask build` makes.
fn lb_binary() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let built = workspace.join(target).join("release/lb");
    let path = env::var_os("LB_BIN").map_or(built, PathBuf::from);
    path.canonicalize()
        .context("there is no lb: run `cargo xtask build`, or say with LB_BIN where it is")
}
