//! What the connection log is told: of flows that have ended, and of those that never began.

use std::{net::SocketAddr, time::Duration};

use lb_common::flow::FlowRecord;

use super::{
    Now, Packet,
    log::{DecidedBy, EndReason, FlowLog, Note, SCRIPT_FAILED, seconds},
    shared::Shared,
    view::Found,
};

/// The record of a flow whose counts are final.
pub(super) fn ended_log(found: &Found, reason: EndReason, now: Now, shared: &Shared) -> FlowLog {
    let note = shared.notes.take(found.id);
    let view = found.view(&shared.catalog, Note::default(), now.monotonic);
    FlowLog {
        time: now.wall,
        duration: view.age_seconds,
        protocol: view.protocol,
        client: view.client,
        vip: view.vip,
        virtual_service: view.virtual_service.unwrap_or_default(),
        pool: view.pool,
        server: view.server,
        snat: view.snat,
        decided_by: view.decided_by,
        rule: view.rule,
        script: view.script,
        line: view.line,
        reason,
        packets: view.packets,
        bytes: view.bytes,
        reply_packets: view.reply_packets,
        reply_bytes: view.reply_bytes,
        generation: view.generation,
        worker: view.worker,
        significance: significance(&note),
        ds_log: note.log,
        error: note.failure.map(|failure| *failure),
    }
}

fn significance(note: &Note) -> Vec<&'static str> {
    note.failure.iter().map(|_| SCRIPT_FAILED).collect()
}

/// A flow that never came to be.
pub(super) struct Refused<'a> {
    pub record: &'a FlowRecord,
    pub packet: &'a Packet<'a>,
    pub bytes: usize,
    pub reason: EndReason,
    pub pool: Option<u32>,
    pub server: Option<SocketAddr>,
    pub note: Note,
}

impl Refused<'_> {
    /// Its record in the connection log.
    pub fn log(self, now: Now, shared: &Shared) -> FlowLog {
        let Self { record, packet, bytes, reason, pool, server, note } = self;
        FlowLog {
            time: now.wall,
            duration: seconds(Duration::ZERO),
            protocol: packet.protocol.name(),
            client: packet.source(),
            vip: packet.destination(),
            virtual_service: shared.catalog.name(record.service).unwrap_or_default(),
            pool: pool.and_then(|pool| shared.catalog.name(pool)),
            server,
            snat: None,
            decided_by: DecidedBy::from_number(record.decided_by),
            rule: None,
            script: shared.catalog.name(record.script),
            line: (record.script != 0).then_some(record.line),
            reason,
            packets: 1,
            bytes: bytes as u64,
            reply_packets: 0,
            reply_bytes: 0,
            generation: record.generation,
            worker: record.owner,
            significance: significance(&note),
            ds_log: note.log,
            error: note.failure.map(|failure| *failure),
        }
    }
}
