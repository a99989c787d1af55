//! `cargo xtask bench`.

use std::{env, path::Path};

use anyhow::Result;

use crate::{
    command::{announce, cargo, run},
    ebpf, workspace,
};

/// Measures the XDP program with `BPF_PROG_TEST_RUN`.
pub fn program(json: Option<&Path>) -> Result<()> {
    ebpf::build()?;
    announce("measuring the XDP program");
    let object = workspace::ebpf().join("lb-ebpf-bench.o");
    let mut command = cargo();
    command.args(["bench", "--package", "lb-tests", "--bench", "program"]);
    command.env("LB_EBPF_BENCH_OBJECT", object);
    if let Some(json) = json {
        // Cargo runs the benchmark in its package's folder.
        command.env("LB_BENCH_JSON", env::current_dir()?.join(json));
    }
    run(&mut command)
}
