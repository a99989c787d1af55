//! The cases, by what they are about.

mod admission;
mod closed;
mod forward;
mod handshake;
mod icmp;
mod irregular;
mod malformed;
mod miss;
mod place;
mod spliced;
mod vlan;
mod way_out;
