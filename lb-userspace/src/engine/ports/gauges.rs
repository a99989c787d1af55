//! How many ports are in use, for those who watch.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::Lease;

/// The ports of all workers. Each counts in gauges of its own; what is locked is only the list of
/// these, when a worker gets a configuration and when somebody asks.
#[derive(Debug, Default)]
pub struct PortGauges {
    sources: Mutex<Vec<Weak<SourceGauge>>>,
    reused_early: AtomicU64,
}

/// One worker's ports of one source address, each counted once for every server.
#[derive(Debug)]
#[repr(align(64))]
pub(in crate::engine) struct SourceGauge {
    source: IpAddr,
    in_use: AtomicU32,
    resting: AtomicU32,
}

/// Ports of a source address, toward all servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortCount {
    /// Used by a flow.
    pub in_use: u64,
    /// Their flow has ended, while the server may still keep TIME_WAIT.
    pub resting: u64,
}

impl PortGauges {
    /// All that any worker has a port of or may take one of.
    pub fn by_source(&self) -> BTreeMap<IpAddr, PortCount> {
        let mut counts: BTreeMap<IpAddr, PortCount> = BTreeMap::new();
        for gauge in self.lock().iter().filter_map(Weak::upgrade) {
            let count = counts.entry(gauge.source).or_default();
            count.in_use += u64::from(gauge.in_use.load(Relaxed));
            count.resting += u64::from(gauge.resting.load(Relaxed));
        }
        counts
    }

    /// How often a port was used again before its rest was over.
    pub fn reused_early(&self) -> u64 {
        self.reused_early.load(Relaxed)
    }

    /// A port has come into use.
    pub(in crate::engine) fn count(&self, lease: &Lease, now: Duration) {
        if lease.is_early(now) {
            self.reused_early.fetch_add(1, Relaxed);
        }
    }

    /// A new gauge, which is shown as long as somebody holds it.
    pub(super) fn register(&self, source: IpAddr) -> Arc<SourceGauge> {
        let gauge = SourceGauge { source, in_use: AtomicU32::new(0), resting: AtomicU32::new(0) };
        let gauge = Arc::new(gauge);
        let mut sources = self.lock();
        sources.retain(|gauge| gauge.strong_count() > 0);
        sources.push(Arc::downgrade(&gauge));
        gauge
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<SourceGauge>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SourceGauge {
    pub fn source(&self) -> IpAddr {
        self.source
    }

    pub fn taken(&self) {
        self.in_use.fetch_add(1, Relaxed);
    }

    pub fn given_back(&self) {
        self.in_use.fetch_sub(1, Relaxed);
    }

    pub fn rests(&self) {
        self.resting.fetch_add(1, Relaxed);
    }

    pub fn rested(&self) {
        self.resting.fetch_sub(1, Relaxed);
    }
}
