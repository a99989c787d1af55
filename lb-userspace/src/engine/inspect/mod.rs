//! Inspected TCP: the balancer is the client's peer until a script has seen enough of what the
//! client says, opens the connection to the server in the client's name, delivers what it has
//! collected, and steps aside.
//!
//! ```text
//!                  enough is there               server chosen             SYN-ACK
//!   ┌─► Collecting ───────────────► Deciding ───────────────► Opening ──────────────► Delivering ──► Splice
//!   └───────────────────────────────┘ │   ▲                    │                        acknowledged
//!              wants more             │   └────────────────────┘
//!                                     │       server failed
//!                                     ├─► Closing ──► End
//!                                     └─► End
//! ```
//!
//! [`Inspection::step`] is the whole interface: something happened, at this time; these are the
//! [`Action`]s. No I/O, no clock, no randomness. The SYN to the server carries the client's own
//! number, so only the server's numbers differ between the two sides ([`lb_common::splice`]).
//!
//! What holds in every state:
//! - it ends by itself: [`Inspection::wakes_at`] is a time until all is over, and after a step at
//!   that time a later one;
//! - memory is bounded: twice [`LIMIT`] and a little;
//! - the server gets exactly the bytes that were acknowledged to the client, and these are the bytes
//!   that the script saw;
//! - nothing that the server sends after its SYN-ACK is kept or lost here: it is forwarded.

mod closing;
mod collector;
mod delivery;
mod joined;
mod machine;
mod opening;
pub mod segment;
mod stream;
mod timers;

use std::time::Duration;

use lb_common::{splice::Handshakes, tcp::cookie::Data};

pub use collector::{ACKNOWLEDGEMENT_DELAY, CHALLENGE_INTERVAL};
pub use machine::Inspection;
pub use opening::Failure;
pub use segment::{Outgoing, Segment, SequenceNumber};
pub use stream::{LIMIT, Stream};

/// Where an inspection starts: at the acknowledgement of a good cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// The client's initial sequence number, `C`.
    pub client: SequenceNumber,
    /// Ours, the cookie, `K`.
    pub cookie: SequenceNumber,
    /// What the client offered, and we have agreed to: the cookie has kept it.
    pub agreed: Data,
    /// How much payload the script is to see at first: 0 to decide at once, else usually 1.
    pub need: usize,
}

/// How long things may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Between two pieces of payload, while more is wanted.
    pub idle: Duration,
    /// From the start to the first decision for a server: a byte a minute is not enough.
    pub collecting: Duration,
    /// After this time without any payload the script runs with none; `None` if it never does.
    pub no_payload: Option<Duration>,
    /// Until one server has answered.
    pub server: Duration,
    /// Until any has.
    pub opening: Duration,
    /// From the server's answer until it has acknowledged what was collected.
    pub delivering: Duration,
    /// Until the client has answered our FIN with its own.
    pub closing: Duration,
}

/// Something happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A segment came from the client.
    Client(&'a Segment<'a>),
    /// A segment came from the server that was chosen last.
    Server(&'a Segment<'a>),
    /// An ICMP error says that the server cannot be reached. It quotes a segment with this number.
    Unreachable(SequenceNumber),
    /// An ICMP error says that a packet to the server was too big.
    TooBig {
        /// The number of the segment that it quotes.
        quoted: SequenceNumber,
        /// What fits.
        mtu: u16,
    },
    /// The answer to [`Action::Decide`] or [`Action::ServerFailed`].
    Decided(Decision),
    /// It is the time that [`Inspection::wakes_at`] said.
    Timer,
}

/// What is to become of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The script wants to see so many bytes.
    Collect(usize),
    /// A server is chosen: its connection is to be opened.
    Connect,
    /// The client is reset.
    Refuse,
    /// The connection to the client is closed in order.
    Close,
}

/// Who sends or gets a segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// The client.
    Client,
    /// The server that was chosen last.
    Server,
}

/// Why a decision is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Because {
    /// The payload that was wanted is there.
    Enough,
    /// The client has closed its side: no more will come.
    Closed,
    /// No more can be kept.
    Full,
    /// [`Limits::no_payload`] is over, and there is none.
    Silent,
}

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send a segment.
    Send(Side, Outgoing),
    /// Run the script over [`Inspection::payload`] and answer with [`Input::Decided`].
    Decide(Because),
    /// The server failed: answer with [`Input::Decided`], for another one or against the client.
    ServerFailed(Failure),
    /// Send the segment that came in on to this side, translated: [`Inspection::handshakes`] says
    /// how, or the `Splice` of the same step.
    Forward(Side),
    /// The packets of both sides are translated from now on; the inspection is over. Comes before
    /// the `Forward` of the same step.
    Splice(Handshakes),
    /// The inspection is over without a server.
    End(End),
}

/// How an inspection ended that led to no server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// The client reset the connection.
    ClientReset,
    /// The payload that was wanted did not come in time.
    Idle,
    /// No decision came in time.
    Undecided,
    /// The client was reset because of the decision.
    Refused,
    /// More was wanted than can come: the client has closed its side, or [`LIMIT`] is reached.
    NoMore,
    /// The connection was closed because of the decision.
    Closed,
    /// No server took the connection in time; this is how the last one failed.
    NoServer(Failure),
    /// The server took the connection, but not the payload.
    Undelivered,
}

#[cfg(test)]
mod tests;
