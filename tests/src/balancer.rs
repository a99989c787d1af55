//! `lb`, running in a namespace.

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::{Configuration, Finished, Namespace, Process, configuration::lb_binary};

const STARTUP: Duration = Duration::from_secs(30);

/// A balancer. Dropping it kills the daemon and detaches the instance, and panics if pins are
/// left: what a test leaves behind is a fault like any other.
#[derive(Debug)]
pub struct Balancer {
    namespace: Namespace,
    configuration: Configuration,
    process: Process,
}

impl Balancer {
    /// Starts one with a configuration and the scripts that it names: see [`Configuration::new`].
    pub fn start(
        namespace: &Namespace,
        configuration: &str,
        scripts: &[(&str, &str)],
    ) -> Result<Self> {
        Self::run_with(namespace, Configuration::new(configuration, scripts)?, &[])
    }

    /// Starts one with a configuration file as it is, whose `[instance]` is named `instance`.
    /// What an earlier one of that name has pinned is detached first.
    pub fn start_file(namespace: &Namespace, path: &Path, instance: &str) -> Result<Self> {
        let configuration = Configuration::of_file(path, instance);
        if configuration.pins().exists() {
            detach(namespace, instance)?;
        }
        Self::run_with(namespace, configuration, &[])
    }

    /// Starts one with more arguments of `lb run`.
    pub fn run_with(
        namespace: &Namespace,
        configuration: Configuration,
        arguments: &[&str],
    ) -> Result<Self> {
        let namespace = namespace.clone();
        let process = spawn(&namespace, &configuration, arguments)?;
        let mut balancer = Self { namespace, configuration, process };
        balancer.wait_ready()?;
        Ok(balancer)
    }

    /// The instance's name.
    pub fn instance(&self) -> &str {
        self.configuration.instance()
    }

    /// Its configuration.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The folder of its pins.
    pub fn pins(&self) -> PathBuf {
        self.configuration.pins()
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
        self.try_lb(arguments)?.success(&format!("lb {}", arguments.join(" ")))
    }

    /// The same, however it ends.
    pub fn try_lb(&self, arguments: &[&str]) -> Result<Finished> {
        let arguments = [arguments, &["--config", "{file}"]].concat();
        self.configuration.try_lb(&self.namespace, &arguments)
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
        self.configuration.replace(configuration)?;
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
        self.process = spawn(&self.namespace, &self.configuration, &[])?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let (namespace, configuration) = (&self.namespace, &self.configuration);
        let status = ["status", "--config", "{file}"];
        self.process.wait_until("lb's admin socket", STARTUP, || {
            Ok(configuration.try_lb(namespace, &status)?.status.success())
        })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.process.kill();
        let detached = detach(&self.namespace, self.instance());
        let error = match detached {
            Ok(()) if self.pins().exists() => format!("{} is left", self.pins().display()),
            Ok(()) => return,
            Err(error) => format!("{error:#}"),
        };
        assert!(thread::panicking(), "`lb detach` did not put everything in order: {error}");
        eprintln!("`lb detach` did not put everything in order: {error}");
    }
}

fn spawn(
    namespace: &Namespace,
    configuration: &Configuration,
    arguments: &[&str],
) -> Result<Process> {
    let words = configuration.command(&[&["run", "--config", "{file}"], arguments].concat())?;
    namespace.spawn(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// By name: the configuration may have become one that is refused. Not stopped by signals, since it
/// cleans up; but it has an end.
fn detach(namespace: &Namespace, instance: &str) -> Result<()> {
    let mut command = namespace.command();
    command.args(["timeout", "30"]).arg(lb_binary()?).args(["detach", "--instance", instance]);
    let output = command.output().context("cannot start `lb detach`")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`lb detach`: {}\n{error}", output.status);
    Ok(())
}
