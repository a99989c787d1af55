//! What things cost: `cargo xtask bench` runs these, docs/benchmarks.md says what they mean.

mod cpu;
mod flows;
mod forward;
mod link;
mod pktgen;
mod program;
mod scale;
mod script;
mod tcp;
mod traffic;

use std::env;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let name = env::args().nth(1).unwrap_or_default();
    lb_tests::stop_on_signals()?;
    match name.as_str() {
        "program" => program::measure(),
        "forward" => forward::measure(),
        "new-flows" => flows::measure(),
        "script" => script::measure(),
        "scale" => scale::measure(),
        scale::FILL => scale::fill(),
        "tcp" => tcp::measure(),
        "pktgen" => pktgen::measure(),
        _ => bail!("there is no benchmark `{name}`: run `cargo xtask bench`"),
    }
}
