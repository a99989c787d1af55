//! SNAT ports: which of a worker's share are in use, or at rest, toward each server.
//!
//! A port may be used toward every server at once; what must be unique is the server's view of
//! the flow. Workers share the configured range between them, so none has to ask another.
//!
//! The side that closes a TCP connection first keeps it in TIME_WAIT (RFC 9293 §3.6.1), and a SYN
//! that comes meanwhile may be refused or ignored. If that was the server, only it knows when it
//! is over, so a port that was given back rests until it surely is. Rest is a preference: a flow
//! is not refused for it.

mod bitmap;
mod gauges;
mod server;
mod set;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use hashbrown::HashMap;
use lb_common::address::Protocol;

use super::Position;
use crate::config::Instance;
pub use gauges::{PortCount, PortGauges};

use gauges::SourceGauge;
use server::Server;
use set::{Rest, Set};

/// How often servers are looked after: ports whose rest is over, memory that is not needed.
const INTERVAL: Duration = Duration::from_millis(10);
/// How many servers are looked after at once.
const SERVERS: usize = 64;
/// How many ports are freed at once.
const RELEASED: usize = 1024;
/// When a port that somebody else used is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Whom ports are used toward.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    /// The server.
    pub server: SocketAddr,
    /// The transport.
    pub protocol: Protocol,
}

/// A port that was taken.
#[derive(Clone, Copy)]
pub(super) struct Lease {
    pub source: IpAddr,
    pub port: u16,
    /// The rest that it was taken out of.
    rest: Option<Rest>,
}

impl Lease {
    /// Whether its rest was not over.
    pub fn is_early(&self, now: Duration) -> bool {
        self.rest.is_some_and(|rest| !rest.is_over(now))
    }
}

/// What a worker may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    /// Source addresses.
    pub sources: Vec<IpAddr>,
    /// Ports of each.
    pub share: RangeInclusive<u16>,
    /// How long a port rests after the last packet.
    pub rest: Duration,
}

impl Settings {
    /// As configured. Ports rest an eighth longer than servers mean to keep TIME_WAIT: that is how
    /// late the Linux kernel's timers may be.
    pub fn new(instance: &Instance, Position { worker, workers }: Position) -> Self {
        Self {
            sources: instance.snat_addresses.clone(),
            share: share(&instance.snat_ports, worker, workers),
            rest: instance.server_time_wait + instance.server_time_wait / 8,
        }
    }
}

/// [`Settings`], and where to count.
#[derive(Debug)]
struct Offer {
    sources: Vec<Arc<SourceGauge>>,
    share: RangeInclusive<u16>,
    rest: Duration,
}

/// A worker's ports.
#[derive(Debug)]
pub(super) struct Ports {
    offer: Offer,
    servers: HashMap<Peer, Server>,
    /// All servers, in the order in which they are looked after.
    round: VecDeque<Peer>,
    looked: Option<Duration>,
    /// Ports that flows of other workers were found to use, and when to try them again.
    elsewhere: VecDeque<(Duration, Peer, IpAddr, u16)>,
}

/// The part of `range` that belongs to a worker: equal parts, in order.
pub fn share(range: &RangeInclusive<u16>, worker: u16, workers: u16) -> RangeInclusive<u16> {
    let (start, end) = (u32::from(*range.start()), u32::from(*range.end()) + 1);
    let bound = |n: u16| start + (end - start) * u32::from(n) / u32::from(workers.max(1));
    let (first, past) = (bound(worker), bound(worker + 1));
    let port = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    if past > first {
        port(first)..=port(past - 1)
    } else {
        // Fewer ports than workers: this one gets none.
        #[expect(clippy::reversed_empty_ranges, reason = "an empty range is meant")]
        {
            1..=0
        }
    }
}

impl Ports {
    /// Nothing in use yet.
    pub fn new(settings: &Settings, gauges: &PortGauges) -> Self {
        let mut ports = Self {
            offer: Offer {
                sources: Vec::new(),
                share: settings.share.clone(),
                rest: settings.rest,
            },
            servers: HashMap::new(),
            round: VecDeque::new(),
            looked: None,
            elsewhere: VecDeque::new(),
        };
        ports.configure(settings, gauges);
        ports
    }

    /// New ports are taken of these from now on; those in use stay so.
    pub fn configure(&mut self, settings: &Settings, gauges: &PortGauges) {
        let Settings { sources, share, rest } = settings.clone();
        let known = &self.offer.sources;
        let gauge = |source: IpAddr| {
            let own = known.iter().find(|gauge| gauge.source() == source);
            own.map_or_else(|| gauges.register(source), Arc::clone)
        };
        let sources = sources.into_iter().map(gauge).collect();
        self.offer = Offer { sources, share, rest };
        for server in self.servers.values_mut() {
            server.follow(&self.offer);
        }
    }

    /// A port that nobody uses, or `None` if all are in use: one that is free, whatever its
    /// address; else the one that has rested longest.
    pub fn take(&mut self, peer: Peer, client: IpAddr, now: Duration) -> Option<Lease> {
        let (server, offer) = self.server(peer);
        server.take(offer, peer.server.ip(), client, now)
    }

    /// Marks a port of a flow that was adopted. False if it was marked already.
    pub fn adopt(&mut self, peer: Peer, snat: SocketAddr, gauges: &PortGauges) -> bool {
        let (server, offer) = self.server(peer);
        let former = || Set::new(&offer.share, gauges.register(snat.ip()));
        let set = server.adopting(offer, snat.ip(), former);
        set.is_some_and(|set| set.adopt(&offer.share, snat.port()))
    }

    /// Gives a port back that the server has forgotten.
    pub fn give_back(&mut self, peer: &Peer, snat: SocketAddr, now: Duration) {
        self.free_at(peer, snat, now, now);
    }

    /// Gives a port back that the server may keep, the last packet having passed then.
    pub fn rest(&mut self, peer: &Peer, snat: SocketAddr, last_packet: Duration, now: Duration) {
        self.free_at(peer, snat, last_packet + self.offer.rest, now);
    }

    /// Gives back a port that was not used after all: it is as it was before.
    pub fn put_back(&mut self, peer: &Peer, lease: &Lease, now: Duration) {
        let until = lease.rest.map_or(now, Rest::until);
        self.free_at(peer, SocketAddr::new(lease.source, lease.port), until, now);
    }

    /// Somebody else uses a port that was just taken: a flow of another worker, from when that had
    /// another share.
    pub fn leave(&mut self, peer: Peer, lease: &Lease, now: Duration) {
        let set = self.servers.get_mut(&peer).and_then(|server| server.set(lease.source));
        if let Some(set) = set {
            set.leave();
            self.elsewhere.push_back((now + RETRY, peer, lease.source, lease.port));
        }
    }

    /// Whether it is time to say that no port toward a server is left: once a minute.
    pub fn is_to_report(&mut self, peer: Peer, now: Duration) -> bool {
        self.server(peer).0.is_to_report(now)
    }

    /// Frees ports whose rest is over, and memory that nothing needs.
    pub fn look_after(&mut self, now: Duration) {
        if self.looked.is_some_and(|looked| now.saturating_sub(looked) < INTERVAL) {
            return;
        }
        self.looked = Some(now);
        self.retry_elsewhere(now);
        let mut left = RELEASED;
        for _ in 0..self.round.len().min(SERVERS) {
            let Some(peer) = self.round.pop_front() else { break };
            let Some(server) = self.servers.get_mut(&peer) else { continue };
            left -= server.look_after(&self.offer, now, left);
            if server.is_forgotten(now) {
                self.servers.remove(&peer);
            } else {
                self.round.push_back(peer);
            }
        }
    }

    fn retry_elsewhere(&mut self, now: Duration) {
        while let Some((_, peer, source, port)) =
            self.elsewhere.pop_front_if(|(due, ..)| *due <= now)
        {
            let set = self.servers.get_mut(&peer).and_then(|server| server.set(source));
            if let Some(set) = set {
                set.clear(&self.offer.share, port);
            }
        }
        if self.elsewhere.is_empty() {
            self.elsewhere = VecDeque::new();
        }
    }

    fn free_at(&mut self, peer: &Peer, snat: SocketAddr, until: Duration, now: Duration) {
        let set = self.servers.get_mut(peer).and_then(|server| server.set(snat.ip()));
        if let Some(set) = set {
            set.give_back(&self.offer.share, snat.port(), until, now);
        }
    }

    fn server(&mut self, peer: Peer) -> (&mut Server, &Offer) {
        let server = self.servers.entry(peer).or_insert_with(|| {
            self.round.push_back(peer);
            Server::new(&self.offer)
        });
        (server, &self.offer)
    }
}
