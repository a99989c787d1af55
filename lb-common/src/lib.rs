//! What the packet programs and the daemon agree on.
//!
//! Everything here is `no_std`, allocation-free and pure: the layouts of the pinned maps, the
//! hash that places a flow in its bucket, the way of a packet through the program
//! ([`path::forward`]) and the rewrite of its headers. The programs (`lb-ebpf`) only wire these
//! functions to maps; the daemon runs the very same functions over mapped memory, and so
//! do the tests.
//!
//! Values that travel in packets are kept in network byte order, as byte arrays, so that a key
//! reads the same in `bpftool`, in a test and on either byte order of machine.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod address;
pub mod admission;
pub mod atomic;
pub mod checksum;
pub mod event;
pub mod filter;
pub mod flow;
pub mod hash;
#[cfg(all(test, loom))]
mod interleavings;
pub mod layout;
pub mod maglev;
pub mod next_hop;
pub mod path;
pub mod rewrite;
pub mod service;
pub mod splice;
pub mod tcp;
pub mod time;
pub mod wire;
