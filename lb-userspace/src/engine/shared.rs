//! What all workers of an instance share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use lb_common::{flow::FlowRecord, layout::CATALOG};

use super::{handshakes::CookieJar, log::Notes, mail::Mail, ports::PortGauges};
use crate::{
    config::Instance,
    flow_table::{Catalog, FlowTable, Grace},
    pool::ServerStates,
    table::Tables,
};

/// Shared by every worker, by reference; nothing in it is ever locked while a script runs.
#[derive(Debug)]
pub struct Shared {
    /// Established flows.
    pub flows: FlowTable,
    /// When retired slots may be used again.
    pub grace: Grace,
    /// Names behind the numbers in flow records.
    pub catalog: Catalog,
    /// Scripts' tables.
    pub tables: Arc<Tables>,
    /// What scripts said of flows.
    pub notes: Notes,
    /// How full the table is.
    pub gauge: Gauge,
    /// What changes about servers.
    pub servers: Arc<ServerStates>,
    /// How many flows each virtual service has.
    pub services: ServiceFlows,
    /// SNAT ports in use.
    pub snat_ports: PortGauges,
    /// What cookies are made with.
    pub cookies: Arc<dyn CookieJar>,
    /// Whether an earlier daemon has left connections that it inspected: nobody has what it knew.
    pub has_lost_inspections: AtomicBool,
    /// Frames that workers leave for each other.
    pub mail: Mail,
}

impl Shared {
    /// Around a flow table with room for so many flows, and the catalog that goes with it.
    /// `cookies` are the program's.
    pub fn new(
        flows: FlowTable,
        catalog: Catalog,
        instance: &Instance,
        capacity: u32,
        cookies: Arc<dyn CookieJar>,
    ) -> Self {
        Self {
            flows,
            catalog,
            grace: Grace::default(),
            tables: Arc::new(Tables::new(instance.tables)),
            notes: Notes::default(),
            gauge: Gauge::new(capacity, instance.half_open_share),
            servers: Arc::default(),
            services: ServiceFlows::default(),
            snat_ports: PortGauges::default(),
            cookies,
            has_lost_inspections: AtomicBool::new(false),
            mail: Mail::default(),
        }
    }
}

/// How many flows each virtual service has, by its number in the catalog. Only flows that have a
/// server count.
#[derive(Debug)]
pub struct ServiceFlows(Box<[OneService]>);

#[derive(Debug, Default)]
struct OneService {
    now: AtomicU32,
    /// That ever began.
    total: AtomicU64,
}

impl Default for ServiceFlows {
    fn default() -> Self {
        Self(std::iter::repeat_with(OneService::default).take(CATALOG as usize).collect())
    }
}

impl ServiceFlows {
    /// Flows that a service has.
    pub fn now(&self, number: u32) -> u32 {
        self.0.get(number as usize).map_or(0, |flows| flows.now.load(Ordering::Relaxed))
    }

    /// Flows of a service that ever began.
    pub fn total(&self, number: u32) -> u64 {
        self.0.get(number as usize).map_or(0, |flows| flows.total.load(Ordering::Relaxed))
    }

    pub(super) fn begun(&self, record: &FlowRecord) {
        if let Some(flows) = self.of(record) {
            flows.now.fetch_add(1, Ordering::Relaxed);
            flows.total.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn adopted(&self, record: &FlowRecord) {
        if let Some(flows) = self.of(record) {
            flows.now.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn ended(&self, record: &FlowRecord) {
        if let Some(flows) = self.of(record) {
            flows.now.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn of(&self, record: &FlowRecord) -> Option<&OneService> {
        self.0.get(record.service as usize).filter(|_| record.server != 0)
    }
}

/// Counts flows against the capacity.
#[derive(Debug)]
pub struct Gauge {
    flows: AtomicU32,
    half_open: AtomicU32,
    capacity: u32,
    most_half_open: AtomicU32,
}

impl Gauge {
    /// For this many flows, of which `share` percent may be half open.
    pub fn new(capacity: u32, share: u8) -> Self {
        let gauge = Self {
            flows: AtomicU32::new(0),
            half_open: AtomicU32::new(0),
            capacity,
            most_half_open: AtomicU32::new(0),
        };
        gauge.set_half_open_share(share);
        gauge
    }

    /// Changes the share of the capacity that may be half open, in percent.
    pub fn set_half_open_share(&self, percent: u8) {
        let most = u64::from(self.capacity) * u64::from(percent) / 100;
        self.most_half_open
            .store(u32::try_from(most).unwrap_or(u32::MAX).max(1), Ordering::Relaxed);
    }

    /// Flows at once.
    pub fn flows(&self) -> u32 {
        self.flows.load(Ordering::Relaxed)
    }

    /// Flows that are not established yet.
    pub fn half_open(&self) -> u32 {
        self.half_open.load(Ordering::Relaxed)
    }

    /// Flows that may not be established yet; at least one.
    pub fn most_half_open(&self) -> u32 {
        self.most_half_open.load(Ordering::Relaxed)
    }

    /// Flows that there may be.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(super) fn is_full(&self) -> bool {
        self.flows() >= self.capacity
    }

    pub(super) fn is_half_open_full(&self) -> bool {
        self.half_open() >= self.most_half_open()
    }

    /// Whether services that answer with cookies under pressure are to: so many flows are half open,
    /// and there is room for a client that returns one. Control tells the program of it a moment
    /// later, in which a flood would leave no room.
    pub(super) fn is_pressed(&self) -> bool {
        !self.is_full() && u64::from(self.half_open()) * 2 >= u64::from(self.most_half_open())
    }

    pub(super) fn begun(&self, established: bool) {
        self.flows.fetch_add(1, Ordering::Relaxed);
        if !established {
            self.half_open.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn established(&self) {
        self.half_open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, established: bool) {
        self.flows.fetch_sub(1, Ordering::Relaxed);
        if !established {
            self.half_open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
