//! Packets of connections that are inspected: from the state machine's actions to frames, entries
//! and log records.
//!
//! ```text
//!   segment, ICMP error ──► arrivals ──► advance ──► inspect::Inspection
//!   time ──────────────────────┘            │            │
//!                                           ▼            │ actions
//!             frames ◄── sending ◄────── actions ◄───────┘
//!    entries, program ◄── ending ◄──────────┤ ▲
//!                                           ▼ │ decision
//!                                  deciding, connecting
//! ```
//!
//! - [`arrivals`]: whose a segment is; another worker's goes to it.
//! - [`actions`]: an inspection is taken out, brought forward, and put back; what it asks for is done.
//! - [`deciding`]: the scripts run, and say what is to become of the connection.
//! - [`connecting`]: both directions are prepared for a server, and for the next one if that fails.
//! - [`sending`]: segments of ours, and those that come in before the splice and are sent on.
//! - [`ending`]: the connection becomes the program's, or ends without a server.
//! - [`inspections`]: those that there are, and when each is to be woken.

mod actions;
mod arrivals;
mod connecting;
mod deciding;
mod ending;
mod inspections;
mod sending;

use std::{net::SocketAddr, time::Duration};

use lb_common::{
    address::Protocol, event::Event, next_hop::NextHopId, rewrite::EndpointsV4, service::ServiceKey,
};

pub(super) use self::{
    deciding::inspects,
    inspections::{Inspections, MEMORY},
};
use super::{
    inspect::{Inspection, Segment, SequenceNumber},
    log::EndReason,
    packet,
};
use crate::flow_table::SlotId;

/// A connection between its client's ACK and its splice.
#[derive(Debug)]
pub(super) struct Inspected {
    /// Its forward direction.
    pub id: SlotId,
    /// As the flow record has it: tells it from a later one in the same slot.
    pub created: u64,
    pub inspection: Inspection,
    /// As the client's packets have it.
    pub client: EndpointsV4,
    pub to_client: NextHopId,
    /// The server that was chosen last, until it fails.
    pub server: Option<Connecting>,
    /// Servers that have failed, by their numbers in the catalog: those outlive a reload.
    pub tried: Vec<u32>,
    /// What was decided against it, if that is why it ends.
    pub refusal: Option<Refusal>,
    /// When it is on the clock.
    wakes_at: Option<Duration>,
    memory: usize,
}

/// The server that a connection is being opened to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connecting {
    /// Its number in the catalog.
    pub number: u32,
    pub to_server: NextHopId,
    /// As the packets to it have it.
    pub ends: EndpointsV4,
    /// Since when it has not accepted.
    pub asked: Option<Duration>,
}

impl Inspected {
    pub fn new(
        (id, created): (SlotId, u64),
        inspection: Inspection,
        client: EndpointsV4,
        to_client: NextHopId,
    ) -> Self {
        Self {
            id,
            created,
            inspection,
            client,
            to_client,
            server: None,
            tried: Vec::new(),
            refusal: None,
            wakes_at: None,
            memory: 0,
        }
    }
    /// Who begins it.
    pub fn source(&self) -> SocketAddr {
        packet::socket_address(self.client.source, self.client.source_port)
    }

    /// Where the client sends to.
    pub fn destination(&self) -> SocketAddr {
        packet::socket_address(self.client.destination, self.client.destination_port)
    }

    /// The key of its virtual service.
    pub fn service(&self) -> ServiceKey {
        ServiceKey::at(self.destination(), Protocol::Tcp)
    }
}

/// Why a connection ends that nobody takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    /// What is counted.
    pub event: Event,
    /// What is logged.
    pub reason: EndReason,
}

impl From<Event> for Refusal {
    fn from(event: Event) -> Self {
        Self { event, reason: EndReason::Refused }
    }
}

/// What brought a connection forward.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moved<'a> {
    /// A segment of the client's, or of the server's.
    Client(&'a Segment<'a>),
    Server(&'a Segment<'a>),
    /// An ICMP error: the server cannot be reached.
    Unreachable(SequenceNumber),
    /// Another: a segment with this number was longer than what fits.
    TooBig(SequenceNumber, u16),
    Time,
}
