//! What the engine asks of the network around: it arrives as an argument, like time.

use std::net::IpAddr;

use lb_common::next_hop::{NextHop, NextHopId};

/// Where a packet to an address goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Toward {
    /// To this next hop; whether its MAC is known yet, [`Neighbours::entry`] tells.
    Known(NextHopId),
    /// The address is on the link, but nobody asked for it yet: asking makes it known.
    Unknown,
    /// Nowhere.
    #[default]
    Unreachable,
}

/// Next hops at one moment.
pub trait Neighbours {
    /// Where a packet to `destination` goes.
    fn toward(&self, destination: IpAddr) -> Toward;
    /// The next hop of this id; unresolved if its MAC is not known.
    fn entry(&self, id: NextHopId) -> NextHop;
}
