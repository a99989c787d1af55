//! First packets of services that answer with cookies: nothing is kept of a client before it has
//! returned one.

use std::{fmt::Debug, sync::atomic::Ordering, time::Duration};

use lb_common::{
    event::Event,
    flow::FlowRecord,
    service::Cookies,
    tcp::{
        answer::{MSS, WINDOW, WINDOW_SCALE},
        cookie::{Check, Data, Handshake, Secrets},
        options::SynOptions,
    },
    wire::TcpFlags,
};

use super::{
    Engine, Ingress, Turn,
    first::reset_client,
    inspect::{Inspection, Limits, Outgoing, Segment, SequenceNumber, Start, segment::Flags},
    inspected::{Inspected, Moved, inspects},
    install::install_inspected,
    packet::Packet,
};
use crate::config::{SynProtection, TcpMode, Transport, VirtualService};

/// Where the secrets are that cookies are made with.
pub trait CookieJar: Send + Sync + Debug {
    /// Those that hold now.
    fn secrets(&self) -> Secrets;
}

/// Secrets that never change: of tests and replays.
impl CookieJar for Secrets {
    fn secrets(&self) -> Secrets {
        *self
    }
}

/// How long one server may take to answer: two SYNs are lost, the third is not (RFC 6298 §2).
const SERVER: Duration = Duration::from_secs(4);
/// How long all servers may take together.
const OPENING: Duration = Duration::from_secs(12);
/// How long a server may take to acknowledge what was collected.
const DELIVERING: Duration = Duration::from_secs(30);
/// How long a client may take to close its side once we have closed ours.
const CLOSING: Duration = Duration::from_secs(10);
/// The time for a decision where scripts wait for nothing.
const DECIDING: Duration = Duration::from_secs(10);
/// How long after its start a daemon reckons with clients of connections that an earlier one has
/// inspected: they repeat what nobody acknowledges several times by then (RFC 6298 §5.5).
const RESTARTING: Duration = Duration::from_secs(10);

impl Engine {
    /// A segment without a flow, for a service that may answer with cookies. False if it is to be
    /// treated as any other.
    pub(super) fn shake_hands(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &Packet<'_>,
        ingress: Ingress<'_>,
        service: (usize, &VirtualService),
    ) -> bool {
        let flags = packet.flags();
        let cookies = cookies(service.1);
        let gives_one = cookies.is_always() || self.shared.gauge.is_pressed();
        if !cookies.has_any() || (flags.opens() && !gives_one) {
            return false;
        }
        let Some(segment) = Segment::read(packet) else {
            self.count(Event::DropMalformed, 1);
            return true;
        };
        if flags.opens() {
            // The program answers all but what it cannot read, or took for a flow's that is over, and
            // what comes before it was told of the pressure.
            self.offer_cookie(turn, packet, ingress, &segment);
            return true;
        }
        if !flags.ack() || flags.rst() || segment.flags.syn {
            return false;
        }
        let sequence = segment.sequence.0.wrapping_sub(1);
        let handshake = Handshake::new(&packet.endpoints, sequence);
        let cookie = segment.acknowledgement.0.wrapping_sub(1);
        let secrets = self.shared.cookies.secrets();
        match secrets.check(nanos(turn.now.monotonic), &handshake, cookie) {
            Check::Completes(agreed) => {
                self.begin_inspection(turn, packet, ingress, service, agreed, &segment);
                true
            }
            // Behind what completes the handshake, which waits for the way back to the client.
            Check::Follows if self.held.has_from(packet.source().ip()) => {
                self.hold_undecided(turn.now, packet.source().ip(), ingress);
                true
            }
            Check::Follows if !self.may_be_lost(turn.now.monotonic) => {
                self.count(Event::DropEarly, 1);
                true
            }
            Check::Follows | Check::Foreign => false,
        }
    }

    /// Whether this may be of a connection that an earlier daemon has inspected: what comes of such is
    /// answered with a reset, for nobody has what came before.
    fn may_be_lost(&self, now: Duration) -> bool {
        let is_new = self.began.is_none_or(|began| now.saturating_sub(began) < RESTARTING);
        is_new && self.shared.has_lost_inspections.load(Ordering::Relaxed)
    }

    fn offer_cookie(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &Packet<'_>,
        ingress: Ingress<'_>,
        syn: &Segment<'_>,
    ) {
        let offered = Data::new(&syn.options);
        let handshake = Handshake::new(&packet.endpoints, syn.sequence.0);
        let secrets = self.shared.cookies.secrets();
        let cookie = secrets.make(nanos(turn.now.monotonic), &handshake, offered);
        let answer = Outgoing {
            sequence: SequenceNumber(cookie),
            acknowledgement: syn.sequence.plus(1),
            flags: Flags { syn: true, ..Flags::ACK },
            window: WINDOW,
            options: SynOptions {
                mss: Some(MSS),
                window_scale: offered.window_scale().map(|_| WINDOW_SCALE),
                sack_permitted: offered.sack_permitted(),
            },
            ..Outgoing::default()
        };
        self.scratch.clear();
        answer.write(&packet.endpoints.reversed(), &[], &mut self.scratch);
        turn.effects.answer(ingress.interface, ingress.frame, &self.scratch);
        self.count(Event::AnswerCookie, 1);
    }

    fn begin_inspection(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &Packet<'_>,
        ingress: Ingress<'_>,
        (index, service): (usize, &VirtualService),
        agreed: Data,
        segment: &Segment<'_>,
    ) {
        let full = self.inspections.is_full().then_some(Event::DropInspectMemory);
        if let Some(event) = self.no_room(packet).or(full) {
            self.count(event, 1);
            reset_client(packet, ingress, turn);
            return;
        }
        let Some(to_client) = self.way_back(turn, packet, ingress) else { return };
        let now = turn.now;
        let key = packet.key();
        let record: FlowRecord = self.undecided(now, (index, service));
        let installed = install_inspected(&self.shared.flows, &key, &record, now.monotonic);
        let id = match installed {
            Ok(id) => id,
            Err(event) => {
                self.count(event, 1);
                reset_client(packet, ingress, turn);
                return;
            }
        };
        self.shared.gauge.begun(false);
        let start = Start {
            client: segment.sequence.minus(1),
            cookie: segment.acknowledgement.minus(1),
            agreed,
            need: usize::from(self.generation.waits_for_payload(service)),
        };
        let inspection = Inspection::new(start, limits(service), now.monotonic);
        let own = (id, record.created);
        self.inspections.put(Inspected::new(own, inspection, packet.endpoints, to_client));
        self.touch(now, id, ingress.frame.len(), TcpFlags(0));
        self.advance(turn, own, Moved::Client(segment), Some(packet));
    }
}

/// When a service answers with cookies.
pub(super) fn cookies(service: &VirtualService) -> Cookies {
    match service.transport {
        Transport::Udp => Cookies::NEVER,
        Transport::Tcp(TcpMode::Inspect(_)) => Cookies::ALWAYS,
        Transport::Tcp(TcpMode::FastPath { syn_protection }) => match syn_protection {
            SynProtection::Off => Cookies::NEVER,
            SynProtection::Auto => Cookies::UNDER_PRESSURE,
            SynProtection::Always => Cookies::ALWAYS,
        },
    }
}

fn limits(service: &VirtualService) -> Limits {
    let (collecting, no_payload) = match service.transport {
        Transport::Tcp(TcpMode::Inspect(inspect)) => (inspect.collecting, inspect.no_payload),
        _ => (DECIDING, None),
    };
    let idle = service.idle_timeout.min(collecting);
    let (server, opening, delivering, closing) = (SERVER, OPENING, DELIVERING, CLOSING);
    Limits { idle, collecting, no_payload, server, opening, delivering, closing }
}

impl super::Generation {
    /// Whether a service's scripts are to see a client's first payload.
    fn waits_for_payload(&self, service: &VirtualService) -> bool {
        let sets = service.datascripts.iter().filter_map(|set| self.config.datascripts.get(set.0));
        inspects(service) && sets.into_iter().any(|set| set.l4_request.is_some())
    }
}

fn nanos(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
