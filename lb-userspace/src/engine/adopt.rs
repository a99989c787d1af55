//! Flows that an earlier daemon left in the table: whose they are from now on.

use std::{collections::BTreeSet, net::IpAddr, sync::atomic::Ordering};

use lb_common::flow::{Flags, FlowRecord};

use super::{Shared, ports::share, view::Found};
use crate::{
    config::Instance,
    flow_table::{FlowTable, SlotId},
};

/// The source addresses that flows use, found by [`adopt`].
pub fn snat_sources(table: &FlowTable, flows: &[Vec<SlotId>]) -> BTreeSet<IpAddr> {
    let found = flows.iter().flatten().filter_map(|id| Found::at(table, *id));
    found.filter_map(|found| Some(found.snat()?.ip())).collect()
}

/// Looks through a table that an earlier daemon left: says which flows each worker is to take
/// over, and gives back what belongs to no whole flow. To be called before any worker runs.
///
/// A flow goes to the worker whose share holds its SNAT port, so that no other can give that
/// port out; one without, to the worker of its old owner's number.
pub fn adopt(shared: &Shared, instance: &Instance, workers: u16) -> Vec<Vec<SlotId>> {
    let table = &shared.flows;
    let mut flows = vec![Vec::new(); usize::from(workers.max(1))];
    for id in table.slots() {
        let slot = table.slot(id);
        if slot.is_owned() {
            // Its owner died while filling it, or before the grace period was over.
            slot.free();
        } else if let Some(found) = Found::at(table, id).filter(|found| is_whole(table, found)) {
            flows[usize::from(worker_of(&found, instance, workers))].push(id);
        } else if let Some((_, entry, _)) = slot.snapshot()
            && !is_reply_of_whole(table, id)
        {
            if entry.flags.has(Flags::INSPECTED) {
                shared.has_lost_inspections.store(true, Ordering::Relaxed);
            }
            slot.retire();
            slot.free();
        }
    }
    flows
}

fn worker_of(found: &Found, instance: &Instance, workers: u16) -> u16 {
    let by_port = found.snat().and_then(|snat| {
        (0..workers)
            .find(|worker| share(&instance.snat_ports, *worker, workers).contains(&snat.port()))
    });
    by_port.unwrap_or(found.record.owner % workers.max(1))
}

/// Whether a forward direction has its reply. What was collected of an inspected connection has
/// died with its worker: such a flow is no more.
fn is_whole(table: &FlowTable, found: &Found) -> bool {
    if found.entry.flags.has(Flags::INSPECTED) {
        return false;
    }
    if found.record.partner == FlowRecord::ALONE {
        return found.entry.flags.has(Flags::CLOSED);
    }
    let partner = SlotId(found.record.partner);
    partner.bucket() < table.geometry().total()
        && table.record(partner).load().partner == found.id.0
        && table.slot(partner).snapshot().is_some_and(|(_, entry, _)| entry.flags.has(Flags::REPLY))
}

fn is_reply_of_whole(table: &FlowTable, id: SlotId) -> bool {
    let forward = SlotId(table.record(id).load().partner);
    forward.bucket() < table.geometry().total()
        && Found::at(table, forward)
            .is_some_and(|found| found.record.partner == id.0 && is_whole(table, &found))
}
