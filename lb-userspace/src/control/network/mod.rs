//! The kernel's view of the network, and what the balancer makes of it.
//!
//! A packet that XDP rewrote leaves with the MAC addresses of an entry of the `next_hops` map;
//! flows hold only its number. The kernel's routes and neighbour table say what belongs into an
//! entry: [`monitor`] follows them, [`topology`] holds what they say, [`next_hops`] turns that
//! into entries, and [`service`] writes those into the map and publishes a [`view`] to the
//! workers. The kernel speaks ARP and neighbour discovery, the balancer only asks it to.
//!
//! Followed is the main routing table (254): unicast routes, of a multipath route its first usable
//! hop, and routes that refuse packets. Policy rules and other tables are not looked at.
//!
//! [`detour`] makes links of its own for what the program for socket buffers punts.
//!
//! [`addresses`] puts the balancer's own addresses onto its interfaces and takes them off again.

pub mod addresses;
mod announce;
mod decode;
pub mod detour;
pub mod kernel;
pub mod monitor;
pub mod next_hops;
mod offloads;
pub mod prefixes;
pub mod retries;
pub mod service;
#[cfg(test)]
pub(crate) mod testing;
pub mod topology;
pub mod view;
