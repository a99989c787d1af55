//! Hosts in network namespaces, with real servers, real clients and the real `lb` between them.
//!
//! The tests under `tests/netns` and `cargo xtask demo` are written with it. What it makes, it
//! takes away: namespaces, links, processes and pins go when their value is dropped, also when a
//! test panics; what a killed process has left behind is swept by the next one. Nothing here waits
//! for a fixed time: see [`wait_until`].
#![forbid(unsafe_code)]

mod balancer;
mod client;
mod configuration;
mod link;
mod load;
mod namespace;
mod pktgen;
mod privilege;
mod process;
pub mod report;
mod server;
mod wait;

pub use balancer::Balancer;
pub use client::{HttpReply, Throughput, dig, http_get, throughput};
pub use configuration::Configuration;
pub use link::{End, bridge, veth};
pub use load::{Connection, Kind, Load, Outcome, Plan, Question, Report};
pub use namespace::Namespace;
pub use pktgen::{Sent, has_pktgen, pktgen};
pub use privilege::{mount_bpffs, require, require_root};
pub use process::{Finished, Process};
pub use server::{Dnsmasq, Iperf, Nginx};
pub use wait::{check_stopped, stop_on_signals, wait_until};
