//! Builds, tests and demonstrates Firstpacket: `cargo xtask help` lists what it does.

mod bench;
mod command;
mod demo;
mod deny;
mod ebpf;
mod fuzz;
mod machine;
mod packages;
mod plot;
mod pypi;
mod style;
mod test;
mod toolchain;
mod workspace;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and demonstrates Firstpacket")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compile the packet programs to target/ebpf/lb-ebpf.o
    BuildEbpf,
    /// Compile the packet programs, then `lb` with them inside it
    Build {
        /// Without optimisation, to target/debug/lb
        #[arg(long)]
        debug: bool,
    },
    /// Run the tests, from cheap to dear; those in namespaces need root
    Test {
        /// Leave out those that need root
        #[arg(long)]
        quick: bool,
        /// With Debian's kernel, in a virtual machine: golden packets, and links that `tc netem`
        /// impairs
        #[arg(long, conflicts_with = "quick")]
        machine: bool,
        /// Only those whose name contains this
        filter: Option<String>,
    },
    /// Measure what things cost, beside controls in the same run
    Bench {
        /// Only these
        #[arg(value_name = "NAME")]
        names: Vec<bench::Bench>,
        /// Also write one JSON object a line to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Afterwards say what got slower than in this file, which `--json` wrote
        #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = bench::BASELINE)]
        compare: Option<PathBuf>,
    },
    /// Draw what was measured at several sizes, an SVG file each
    Plot {
        /// What `bench --json` has written
        #[arg(value_name = "JSON")]
        json: PathBuf,
        /// Where the pictures go
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Run the property tests whose input is hostile for longer, with other cases each time
    Fuzz {
        /// How long, about
        #[arg(long, value_name = "N", default_value_t = 300)]
        seconds: u64,
    },
    /// Show the balancer at work between real clients and servers
    Demo,
    /// Check the dependencies' licences, origins and known vulnerabilities
    Deny,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::BuildEbpf => ebpf::build().map(drop),
        Task::Build { debug } => ebpf::build_lb(debug).map(drop),
        Task::Test { machine: true, filter, .. } => test::in_machine(filter.as_deref()),
        Task::Test { quick, filter, .. } => test::all(quick, filter.as_deref()),
        Task::Bench { names, json, compare } => {
            bench::all(&names, json.as_deref(), compare.as_deref())
        }
        Task::Plot { json, folder } => plot::draw(&json, &folder),
        Task::Fuzz { seconds } => fuzz::run_for(seconds),
        Task::Demo => demo::run(),
        Task::Deny => deny::check(),
    }
}
