//! Builds, tests and demonstrates Firstpacket: `cargo xtask help` lists what it does.

mod bench;
mod command;
mod demo;
mod deny;
mod ebpf;
mod packages;
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
    /// Compile the XDP program to target/ebpf/lb-ebpf.o
    BuildEbpf,
    /// Compile the XDP program, then `lb` with the program inside it
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
        /// Only those whose name contains this
        filter: Option<String>,
    },
    /// Measure what the XDP program costs per packet, beside controls in the same run
    Bench {
        /// Also write one JSON object a line to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
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
        Task::Test { quick, filter } => test::all(quick, filter.as_deref()),
        Task::Bench { json } => bench::program(json.as_deref()),
        Task::Demo => demo::run(),
        Task::Deny => deny::check(),
    }
}
