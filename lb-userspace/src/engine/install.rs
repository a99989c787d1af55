//! From a decision to both entries of a flow.

use std::{net::IpAddr, time::Duration};

use lb_common::{
    address::Port,
    event::Event,
    flow::{Activity, Entry, Flags, FlowKeyV4, FlowRecord},
    next_hop::NextHopId,
    rewrite::{EndpointsV4, RewriteV4},
    time::Tick,
};

use super::{
    decide::Choice,
    ports::{Peer, Ports},
    shared::Shared,
};
use crate::{
    config::Forwarding,
    flow_table::{Direction, FlowTable, InsertError, SlotId},
};

/// What a new flow is made from.
pub(super) struct NewFlow<'a> {
    pub key: FlowKeyV4,
    /// The forward direction, if it is there already: of an inspected connection.
    pub joins: Option<SlotId>,
    pub choice: &'a Choice,
    pub forwarding: Forwarding,
    pub to_server: NextHopId,
    pub to_client: NextHopId,
    /// Whether the server's first packet is to be seen by a script.
    pub show_response: bool,
    pub record: FlowRecord,
    pub now: Duration,
}

/// How often another SNAT port is tried when the reply's key is taken, which flows of other
/// workers do after the shares have changed. Each such port is tried once in a while only.
const ATTEMPTS: usize = 512;

impl NewFlow<'_> {
    /// Inserts both directions. What is refused is counted by the event.
    pub fn install(&self, shared: &Shared, ports: &mut Ports) -> Result<SlotId, Event> {
        match self.forwarding {
            Forwarding::Dnat => {
                let inserted = self.insert(&shared.flows, self.client_side());
                inserted.map_err(refused)
            }
            Forwarding::Snat => self.install_snat(shared, ports),
        }
    }

    fn install_snat(&self, shared: &Shared, ports: &mut Ports) -> Result<SlotId, Event> {
        let (peer, now) = (self.peer(), self.now);
        let client = IpAddr::from(self.key.source);
        for _ in 0..ATTEMPTS {
            let Some(lease) = ports.take(peer, client, now) else { break };
            let IpAddr::V4(source) = lease.source else { break };
            match self.insert(&shared.flows, (source.octets(), Port::new(lease.port))) {
                Ok(id) => {
                    shared.snat_ports.count(&lease, now);
                    return Ok(id);
                }
                Err(InsertError::ReplyExists) => ports.leave(peer, &lease, now),
                Err(error) => {
                    ports.put_back(&peer, &lease, now);
                    return Err(refused(error));
                }
            }
        }
        Err(Event::DropSnatPortsExhausted)
    }

    fn peer(&self) -> Peer {
        let protocol = lb_common::address::Protocol::from_number(self.key.protocol)
            .unwrap_or(lb_common::address::Protocol::Tcp);
        Peer { server: self.choice.address, protocol }
    }

    fn client_side(&self) -> ([u8; 4], Port) {
        (self.key.source, Port(self.key.source_port))
    }

    /// `source` is what the server sees as the sender.
    fn insert(&self, table: &FlowTable, source: ([u8; 4], Port)) -> Result<SlotId, InsertError> {
        let IpAddr::V4(server) = self.choice.address.ip() else { return Err(InsertError::Full) };
        let from = self.key.endpoints();
        let to = EndpointsV4 {
            source: source.0,
            source_port: source.1,
            destination: server.octets(),
            destination_port: Port::new(self.choice.address.port()),
        };
        let inspected = if self.joins.is_some() { Flags::INSPECTED } else { Flags::default() };
        let forward = Direction {
            key: self.key,
            entry: Entry {
                next_hop: self.to_server,
                rewrite: RewriteV4::new(&from, &to),
                sequence_delta: 0,
                flags: inspected,
            },
            activity: self.untouched(),
        };
        let response = if self.show_response { Flags::PUNT_RESPONSE } else { Flags::default() };
        let flags = response.and(inspected);
        let protocol = forward.key.protocol;
        let reply = Direction {
            key: FlowKeyV4 { protocol, ..key_of(&to.reversed()) },
            entry: Entry {
                next_hop: self.to_client,
                rewrite: RewriteV4::new(&to.reversed(), &from.reversed()),
                sequence_delta: 0,
                flags: Flags::REPLY.and(flags),
            },
            activity: self.untouched(),
        };
        match self.joins {
            None => table.insert(&forward, Some(&reply), &self.record),
            Some(id) => table.join(id, &forward.entry, &reply, &self.record).map(|_| id),
        }
    }

    fn untouched(&self) -> Activity {
        Activity { last_seen: tick(self.now), ..Activity::default() }
    }
}

/// An entry that lets a closed UDP flow's packets end in the packet program.
pub(super) fn install_closed(
    table: &FlowTable,
    key: &FlowKeyV4,
    record: &FlowRecord,
    now: Duration,
) -> Result<SlotId, InsertError> {
    let direction = Direction {
        key: *key,
        entry: Entry { flags: Flags::CLOSED, ..Entry::default() },
        activity: Activity { last_seen: tick(now), ..Activity::default() },
    };
    table.insert(&direction, None, record)
}

/// The forward direction of a connection that is inspected before it has a server.
pub(super) fn install_inspected(
    table: &FlowTable,
    key: &FlowKeyV4,
    record: &FlowRecord,
    now: Duration,
) -> Result<SlotId, Event> {
    let direction = Direction {
        key: *key,
        entry: Entry { flags: Flags::INSPECTED, ..Entry::default() },
        activity: Activity { last_seen: tick(now), ..Activity::default() },
    };
    table.insert(&direction, None, record).map_err(refused)
}

fn key_of(ends: &EndpointsV4) -> FlowKeyV4 {
    FlowKeyV4 {
        source: ends.source,
        destination: ends.destination,
        source_port: ends.source_port.0,
        destination_port: ends.destination_port.0,
        ..FlowKeyV4::default()
    }
}

fn refused(error: InsertError) -> Event {
    match error {
        InsertError::Full => Event::DropFlowTableFull,
        InsertError::Exists | InsertError::ReplyExists => Event::DropReplyConflict,
    }
}

/// A moment of the monotonic clock in ticks.
pub(super) fn tick(now: Duration) -> Tick {
    Tick::from_nanos(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}
