//! How figures grow: with flows, virtual services, servers, scripts and cores; and what a million
//! flows take of memory.
//!
//! Cases are named `what: line, size`. The ratio of each is to the smallest size of its line, in
//! the same round: a line whose ratios stay at 1 does not grow. `cargo xtask plot` draws them.

mod configuration;
mod cores;
mod curve;
mod decision;
mod idle;
mod memory;
mod packet;
mod site;

use anyhow::{Result, ensure};
use lb_tests::{check_stopped, report::Report};

pub use memory::{FILL, fill};

const ROUNDS: usize = 7;

type Part = fn(&mut Report) -> Result<()>;

/// What is measured, one after the other: whatever one cannot is said, and the next one goes on.
const PARTS: [(&str, Part); 6] = [
    ("packets", packet::measure),
    ("decisions", decision::measure),
    ("reloads", configuration::measure),
    ("idle flows", idle::measure),
    ("cores", cores::measure),
    ("memory", memory::measure),
];

/// Measures it.
pub fn measure() -> Result<()> {
    let mut report = Report::new("scale");
    let mut missing = Vec::new();
    for (name, part) in PARTS {
        check_stopped()?;
        if let Err(error) = part(&mut report) {
            check_stopped()?;
            println!("\n{name}: not measured, or not whole: {error:#}");
            missing.push(name);
        }
    }
    report.write()?;
    ensure!(missing.is_empty(), "not measured, or not whole: {}", missing.join(", "));
    Ok(())
}
