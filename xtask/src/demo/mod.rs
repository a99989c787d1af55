//! `cargo xtask demo`: the balancer at work between real clients and servers, in half a minute.
//!
//! Everything happens in network namespaces and is gone afterwards, also after Ctrl-C.

mod flows;
mod network;
mod scenes;
mod show;
mod survival;

use anyhow::{Result, ensure};
use lb_tests::{mount_bpffs, stop_on_signals};

use crate::{ebpf, packages};

use self::{
    network::{DRAWING, Network, SETUP},
    show::{command, drawing, result, step},
    survival::Download,
};

/// Builds `lb`, makes the hosts, plays the scenes, takes everything away.
pub fn run() -> Result<()> {
    ensure!(packages::is_root(), "the demo makes network namespaces: run it as root");
    packages::ensure(packages::NETWORK, "the demo")?;
    ebpf::build_lb(false)?;
    stop_on_signals()?;
    mount_bpffs()?;
    play()?;
    result("Hosts, processes, program and maps are gone.");
    Ok(())
}

fn play() -> Result<()> {
    step("A client, a balancer and three servers, each in a network namespace of its own.");
    let network = Network::new()?;
    drawing(DRAWING);
    step("The balancer starts with three virtual services, each with a script.");
    command(&format!("lb run --config {SETUP}"));
    let mut balancer = network.start_balancer()?;
    scenes::web(&network, &balancer)?;
    scenes::shop(&network, &balancer)?;
    scenes::dns(&network, &balancer)?;
    let download = Download::start(&network)?;
    download.show_slot(&balancer)?;
    download.outlive(&mut balancer)?;
    step("What was made is taken away again.");
    command(&format!("lb detach --config {SETUP}"));
    Ok(())
}
