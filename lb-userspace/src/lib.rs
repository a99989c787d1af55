//! Firstpacket, a layer-4 load balancer: Lua decides the first packet, XDP forwards the rest.
//!
//! `ARCHITECTURE.md` shows how a packet and a decision travel through these modules.

pub mod cli;
pub mod config;
pub mod control;
pub mod datapath;
pub mod engine;
pub mod flow_table;
pub mod health;
pub mod pool;
pub mod replay;
pub mod script;
pub mod script_test;
pub mod simulation;
pub mod table;
#[cfg(test)]
mod testing;
pub mod worker;
