//! The commands that people type. They talk to the daemon by its admin API; `check`, `test`,
//! `replay` and `detach` work without one, and `flows` reads the pinned maps when none runs.

mod client;
mod columns;
mod explain;
mod flows;
mod query;
mod replay;
mod servers;
mod status;
mod tables;
mod target;
mod test;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, Problems},
    control::{self, LockError, RunOptions, api::FlowFilter},
};
use target::Target;

/// A configuration or script that is not right.
const BAD_CONFIGURATION: u8 = 2;

/// A layer-4 load balancer: Lua decides the first packet, XDP forwards the rest
#[derive(Parser)]
#[command(name = "lb", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the balancer in the foreground
    Run {
        /// Configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Take the data path down on stop; without it established flows go on
        #[arg(long)]
        detach: bool,
        /// Remove pinned maps of another version of lb, with their flows, instead of refusing
        #[arg(long)]
        replace_pins: bool,
        /// Log what becomes of every packet in the packet program: slow
        #[arg(long)]
        trace: bool,
    },
    /// Check a configuration and its scripts; needs no root
    Check {
        /// Configuration file
        file: PathBuf,
    },
    /// Test scripts: run the Lua tests beside them; needs no root
    Test(test::Options),
    /// Run a capture through a configuration and its scripts, and show what becomes of each flow;
    /// needs no root and no network
    Replay(replay::Options),
    /// Show what a running instance does
    Status {
        #[command(flatten)]
        target: Target,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List flows; works without the daemon too
    Flows {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        filter: FlowFilter,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List what scripts have stored, or get, put and delete entries
    Tables(tables::Tables),
    /// Have a server take no new flows, while those that it has go on
    Drain(servers::Drain),
    /// Have a server take no new flows, as `enabled = false` in the configuration would
    Disable(servers::Disable),
    /// Have a server take flows again, also one that the configuration disables
    Enable(servers::Enable),
    /// Say what would happen to a flow and why, or what was decided about it
    ///
    /// Asks the running daemon. Without one, --config FILE is enough: the decision is then that of a balancer that has just been started.
    Explain(explain::Explain),
    /// Read the configuration anew, without touching established flows
    Reload {
        #[command(flatten)]
        target: Target,
    },
    /// Take everything down: the daemon if it runs, the packet programs, flows and addresses
    Detach {
        #[command(flatten)]
        target: Target,
    },
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn complain(error: &anyhow::Error) -> ExitCode {
    if let Some(problems) = error.downcast_ref::<Problems>() {
        let colour = std::io::stderr().is_terminal();
        eprintln!("{}", if colour { problems.styled() } else { problems.to_string() });
        return ExitCode::from(BAD_CONFIGURATION);
    }
    if let Some(test::Unsuccessful { status, why }) = error.downcast_ref() {
        if let Some(why) = why {
            eprintln!("lb: {why}");
        }
        return ExitCode::from(*status);
    }
    eprintln!("lb: {error:#}");
    ExitCode::FAILURE
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Run { config, detach, replace_pins, trace } => {
            log_to_stderr(trace);
            control::run(&RunOptions { config, detach, replace_pins, trace })
        }
        Command::Check { file } => check(&file),
        Command::Test(options) => test::run(&options),
        Command::Replay(options) => replay::show(&options),
        Command::Status { target, json } => status::show(&target, json),
        Command::Flows { target, filter, json } => flows::show(&target, &filter, json),
        Command::Tables(arguments) => tables::run(arguments),
        Command::Explain(explain) => explain::show(&explain),
        Command::Drain(drain) => drain.run(),
        Command::Disable(disable) => disable.run(),
        Command::Enable(enable) => enable.run(),
        Command::Reload { target } => reload(&target),
        Command::Detach { target } => detach(&target),
    }
}

/// `RUST_LOG` says how much; a packet trace comes at the level of information.
fn log_to_stderr(trace: bool) {
    // What this crate warns of is that we have hung up on the kernel, as every stop does.
    const QUIET: &str = "info,netlink_proto=error";
    let usual = if trace { format!("{QUIET},lb_ebpf=info") } else { QUIET.to_owned() };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn check(file: &std::path::Path) -> Result<()> {
    let config = control::load(file)?;
    tell_of_names(&config);
    println!(
        "{}: {} virtual services, {} pools, {} DataScript sets: no problems found",
        file.display(),
        config.virtual_services.len(),
        config.pools.len(),
        config.datascripts.len()
    );
    Ok(())
}

/// Says on the standard error that names stay names where no daemon resolves them.
fn tell_of_names(config: &Config) {
    let names = config.names().len();
    if names > 0 {
        let what = if names == 1 { "name of servers is" } else { "names of servers are" };
        eprintln!("lb: {names} {what} not resolved here: only the daemon does that");
    }
}

fn reload(target: &Target) -> Result<()> {
    let answer = client::post(&target.socket()?, "/v1/reload")?;
    if !answer.is_success() {
        bail!("the configuration was refused, the old one goes on:\n{}", answer.body);
    }
    println!("generation {} is in force", answer.body);
    Ok(())
}

fn detach(target: &Target) -> Result<()> {
    let instance = target.instance()?;
    match control::detach(&instance) {
        Ok(true) => println!("{instance}: packet programs, flows and addresses removed"),
        Ok(false) => println!("{instance}: there was nothing to remove"),
        Err(error) if matches!(error.downcast_ref(), Some(LockError::Taken { .. })) => {
            client::post(&target.socket()?, "/v1/stop?detach=true")?;
            target.wait_until_gone(&instance)?;
            println!("{instance}: stopped; packet programs, flows and addresses removed");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
