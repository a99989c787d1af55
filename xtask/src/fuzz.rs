//! `cargo xtask fuzz`: the property tests whose input is the world's, for longer than a test may
//! take.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::command::{announce, cargo, run};

/// Tests of random scripts, packets, configurations and patterns.
const TESTS: [&str; 4] = [
    "script::tests::fuzz",
    "engine::tests::hostile",
    "config::tests::random",
    "script::tests::library",
];

/// Cases of a round: one ends within a minute or two.
const CASES: &str = "1000";

/// Runs rounds without optimisation, so that Lua's own assertions are in, each with other cases, until the time is over; the one under way ends.
pub fn run_for(seconds: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    for round in 1.. {
        announce(&format!("fuzzing, round {round}"));
        let mut command = cargo();
        command.args(["test", "--package", "lb-userspace", "--lib", "--"]);
        run(command.args(TESTS).env("PROPTEST_CASES", CASES))?;
        if Instant::now() >= end {
            break;
        }
    }
    Ok(())
}
