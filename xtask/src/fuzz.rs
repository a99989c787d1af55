//! `cargo xtask fuzz`: the property tests whose input is the world's, for longer than a test may
//! take.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::command::{announce, cargo, run};

/// Tests of random scripts, payloads, packets, fragments, captures, configurations, patterns and
/// tables; of segments into the collector, the state machine of an inspection, and a whole engine.
const TESTS: [&str; 11] = [
    "script::tests::fuzz",
    "script::tests::parsers::random",
    "replay::tests",
    "table::model_tests",
    "engine::tests::hostile",
    "engine::inspect::tests",
    "engine::tests::inspected::fuzz",
    "engine::packet",
    "engine::fragments",
    "config::tests::random",
    "script::tests::library",
];

/// Cases of a round: one ends within a minute or two.
const CASES: &str = "1000";

/// Runs rounds, each with other cases, until the time is over; the one under way ends. Without
/// optimisation, so that Lua's own assertions are in.
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
