//! Flows as an operator sees them: read from the table, without disturbing it.

use std::{
    net::{SocketAddr, SocketAddrV4},
    time::Duration,
};

use lb_common::{
    address::Protocol,
    flow::{Activity, Entry, Flags, FlowKeyV4, FlowRecord},
    time::Tick,
};
use serde::Serialize;

use super::{
    lifecycle::{self, State},
    log::{self, DecidedBy, Note},
    packet::socket_address,
};
use crate::flow_table::{Catalog, FlowTable, SlotId};

/// One flow, both directions.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FlowView {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Who began it.
    pub client: SocketAddr,
    /// Where the client sends to.
    pub vip: SocketAddr,
    /// The virtual service's name.
    pub virtual_service: Option<String>,
    /// The pool's name.
    pub pool: Option<String>,
    /// The server.
    pub server: Option<SocketAddr>,
    /// The source that the server sees, if not the client's.
    pub snat: Option<SocketAddr>,
    /// How far it has come.
    pub state: State,
    /// What chose the server.
    pub decided_by: Option<DecidedBy>,
    /// The policy rule that chose, as `policy/rule`.
    pub rule: Option<String>,
    /// The script that chose.
    pub script: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// What scripts logged so far.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ds_log: String,
    /// Generation of the configuration that decided.
    pub generation: u32,
    /// The worker that it belongs to.
    pub worker: u16,
    /// Packets from the client.
    pub packets: u64,
    /// Bytes from the client.
    pub bytes: u64,
    /// Packets from the server.
    pub reply_packets: u64,
    /// Bytes from the server.
    pub reply_bytes: u64,
    /// Seconds since it began.
    pub age_seconds: f64,
    /// Seconds since its last packet.
    pub idle_seconds: f64,
    /// Key in the `flows_v4` map that shows the forward direction.
    pub bucket: u32,
    /// Which of the bucket's slots.
    pub slot: usize,
    /// The same of the reply direction.
    pub reply_bucket: Option<u32>,
}

/// Both directions of a flow as they are in the table.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The forward direction's slot.
    pub id: SlotId,
    /// What the client's packets look like.
    pub key: FlowKeyV4,
    /// What is done to them.
    pub entry: Entry,
    /// What was counted of them.
    pub forward: Activity,
    /// What was counted of the server's.
    pub reply: Activity,
    /// What workers keep of the flow.
    pub record: FlowRecord,
}

impl Found {
    /// The flow whose forward direction is in this slot, if one is.
    pub fn at(table: &FlowTable, id: SlotId) -> Option<Self> {
        let (key, entry, forward) = table.slot(id).snapshot()?;
        let record = table.record(id).load();
        if !record.has(FlowRecord::FORWARD) || entry.flags.has(Flags::REPLY) {
            return None;
        }
        let reply = match record.partner {
            FlowRecord::ALONE => Activity::default(),
            // The record may be what an earlier daemon left.
            partner if SlotId(partner).bucket() >= table.geometry().total() => return None,
            partner => table.slot(SlotId(partner)).activity(),
        };
        Some(Self { id, key, entry, forward, reply, record })
    }

    /// The flow between these two, if there is one.
    pub fn of(
        table: &FlowTable,
        protocol: Protocol,
        client: SocketAddr,
        vip: SocketAddr,
    ) -> Option<Self> {
        let (SocketAddr::V4(client), SocketAddr::V4(vip)) = (client, vip) else { return None };
        let key = FlowKeyV4 {
            source: client.ip().octets(),
            destination: vip.ip().octets(),
            source_port: client.port().to_be_bytes(),
            destination_port: vip.port().to_be_bytes(),
            protocol: protocol.number(),
            ..FlowKeyV4::default()
        };
        let (id, _) = table.find(&key)?;
        Self::at(table, id)
    }

    /// The transport.
    pub fn protocol(&self) -> Protocol {
        Protocol::from_number(self.key.protocol).unwrap_or(Protocol::Tcp)
    }

    /// How far it has come.
    pub fn state(&self) -> State {
        State::of(self.protocol(), self.entry.flags, &self.forward, &self.reply)
    }

    /// Who began it.
    pub fn client(&self) -> SocketAddr {
        let ends = self.key.endpoints();
        socket_address(ends.source, ends.source_port)
    }

    /// Where the client sends to.
    pub fn vip(&self) -> SocketAddr {
        let ends = self.key.endpoints();
        socket_address(ends.destination, ends.destination_port)
    }

    /// The server; a flow that a script closed has none.
    pub fn server(&self) -> Option<SocketAddr> {
        let new = self.entry.rewrite.endpoints();
        let address = socket_address(new.destination, new.destination_port);
        (self.record.partner != FlowRecord::ALONE).then_some(address)
    }

    /// The source that the server sees, if not the client's.
    pub fn snat(&self) -> Option<SocketAddr> {
        let new = self.entry.rewrite.endpoints();
        let address = socket_address(new.source, new.source_port);
        (self.server().is_some() && address != self.client()).then_some(address)
    }

    /// As an operator sees it.
    pub fn view(&self, catalog: &Catalog, note: Note, now: Duration) -> FlowView {
        let mut record = self.record;
        lifecycle::follow_counts(&mut record, self.forward.packets, self.reply.packets);
        let (packets, reply_packets) = lifecycle::packet_counts(&record);
        let tick = Tick::from_nanos(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        let idle = lifecycle::last_seen(tick, &self.forward, &self.reply);
        let age = now.saturating_sub(Duration::from_nanos(record.created));
        FlowView {
            protocol: self.protocol().name(),
            client: self.client(),
            vip: self.vip(),
            virtual_service: catalog.name(record.service),
            pool: catalog.name(record.pool),
            server: self.server(),
            snat: self.snat(),
            state: self.state(),
            decided_by: DecidedBy::from_number(record.decided_by),
            rule: by_rule(&record).then(|| catalog.name(record.script)).flatten(),
            script: (!by_rule(&record)).then(|| catalog.name(record.script)).flatten(),
            line: (record.script != 0 && !by_rule(&record)).then_some(record.line),
            ds_log: note.log,
            generation: record.generation,
            worker: record.owner,
            packets,
            bytes: self.forward.bytes,
            reply_packets,
            reply_bytes: self.reply.bytes,
            age_seconds: log::seconds(age),
            idle_seconds: log::seconds(Duration::from_nanos(u64::from(idle) << 20)),
            bucket: self.id.bucket(),
            slot: self.id.place(),
            reply_bucket: (record.partner != FlowRecord::ALONE)
                .then(|| SlotId(record.partner).bucket()),
        }
    }
}

/// Flows are IPv4 for now.
pub(super) fn v4(address: SocketAddr) -> Option<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    }
}

/// Whether what decided is a policy rule: then the record names it in place of a script.
pub(super) fn by_rule(record: &FlowRecord) -> bool {
    record.decided_by == DecidedBy::PolicyRule as u8
}
