//! What the workers see of the next hops: a snapshot.

use std::{net::IpAddr, sync::Arc};

use hashbrown::HashMap;
use lb_common::next_hop::{NextHop, NextHopId};

pub use crate::engine::Toward;

use super::{
    next_hops::{Slot, State},
    prefixes::Prefixes,
};

/// The next hops at one moment. It does not change; the control thread publishes a new one.
#[derive(Clone, Debug, Default)]
pub struct NextHopView(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    slots: Vec<Option<Slot>>,
    hosts: HashMap<IpAddr, NextHopId>,
    routes: Prefixes<Toward>,
}

impl NextHopView {
    pub(super) fn new(
        slots: Vec<Option<Slot>>,
        hosts: HashMap<IpAddr, NextHopId>,
        routes: Prefixes<Toward>,
    ) -> Self {
        Self(Arc::new(Inner { slots, hosts, routes }))
    }

    /// Where a packet to `destination` goes.
    pub fn toward(&self, destination: IpAddr) -> Toward {
        let Inner { hosts, routes, .. } = &*self.0;
        let host = hosts.get(&destination).copied().map(Toward::Known);
        let toward = host.or_else(|| routes.longest(destination).copied()).unwrap_or_default();
        match toward {
            Toward::Known(id) if self.is_unreachable(id) => Toward::Unreachable,
            toward => toward,
        }
    }

    /// What is known of a host that has an entry of its own: a server, a client on the link.
    pub fn host(&self, host: IpAddr) -> Option<&Slot> {
        self.slot(*self.0.hosts.get(&host)?)
    }

    /// What is in the map under this id; unresolved for an id that was not given.
    pub fn entry(&self, id: NextHopId) -> NextHop {
        self.slot(id).map(|slot| slot.entry).unwrap_or_default()
    }

    /// What is known of this id.
    pub fn slot(&self, id: NextHopId) -> Option<&Slot> {
        self.0.slots.get(id.0 as usize)?.as_ref()
    }

    /// All that is known, by ascending id.
    pub fn slots(&self) -> impl Iterator<Item = (NextHopId, &Slot)> {
        let slots = (0..).map(NextHopId).zip(&self.0.slots);
        slots.filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }

    fn is_unreachable(&self, id: NextHopId) -> bool {
        self.slot(id).is_none_or(|slot| matches!(slot.state, State::Unreachable(_)))
    }
}

impl crate::engine::Neighbours for NextHopView {
    fn toward(&self, destination: IpAddr) -> Toward {
        self.toward(destination)
    }

    fn entry(&self, id: NextHopId) -> NextHop {
        self.entry(id)
    }
}
