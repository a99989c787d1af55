//! Builds, tests and demonstrates Firstpacket: `cargo xtask help` lists what it does.

mod command;
mod ebpf;
mod packages;
mod toolchain;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Builds, tests and demonstrates Firstpacket"
)]
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
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::BuildEbpf => ebpf::build().map(drop),
        Task::Build { debug } => ebpf::build_lb(debug).map(drop),
    }
}
