//! The benchmark with the kernel's own generator, in a machine whose kernel has it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use lb_tests::report;

use crate::{
    machine::{self, Job, quoted},
    workspace,
};

/// A nanosecond of its clock is an instruction (`-icount`): what a packet costs there is a number
/// of instructions, the same however busy this machine is. Strings are copied by eight bytes at a
/// time, for each is an instruction too.
const COUNTED: &str = "-icount shift=0 -cpu max,-erms,-fsrm";

/// Runs a benchmark of `benches` there, and adds its figures to `json`.
pub fn measure(benches: &Path, name: &str, json: &Path) -> Result<()> {
    let folder = machine::folder()?;
    let figures = folder.path().join("figures");
    let job = Job {
        reason: "this kernel has no pktgen",
        // More cannot be counted.
        cpus: "1",
        options: COUNTED,
        variables: &[
            (report::JSON, &figures),
            ("LB_BENCH_INSTRUCTIONS", Path::new("1")),
            ("LB_BIN", &workspace::target().join("release/lb")),
            ("LB_EBPF_TRAFFIC_OBJECT", &workspace::ebpf().join("lb-ebpf-traffic.o")),
        ],
        commands: &[format!("{} {name}", quoted(&benches.to_string_lossy()))],
    };
    let ran = job.run_in(&folder);
    // What it has measured counts, also if something else there could not be.
    let measured = fs::read_to_string(&figures).unwrap_or_default();
    append(json, &measured)?;
    ran?;
    ensure!(!measured.is_empty(), "the machine ended without figures");
    Ok(())
}

fn append(json: &Path, figures: &str) -> Result<()> {
    let all = fs::read_to_string(json).unwrap_or_default() + figures;
    fs::write(json, all).with_context(|| json.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_machine_come_after_those_that_are_there() {
        let file = tempfile::NamedTempFile::new().unwrap();
        append(file.path(), "1\n").unwrap();
        append(file.path(), "2\n").unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "1\n2\n");
    }
}
