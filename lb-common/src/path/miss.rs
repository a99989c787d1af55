//! What becomes of packets that belong to no flow, or are of a kind that none is looked up for.

use super::{Frame, Tables, Verdict, find};
use crate::{
    address::{Address, Port, Protocol},
    admission,
    event::Event,
    service::{Roles, ServiceKey},
    tcp::stateless,
    wire::{self, IPV4, IPV4_PORTS, Ipv4, TcpFlags},
};

pub(super) const MALFORMED: Verdict = Verdict::Drop(Event::DropMalformed);

/// Headers that cannot be, if the packet is for a virtual service.
#[inline(always)]
pub(super) fn malformed<const L3: usize, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    protocol: Protocol,
) -> Verdict {
    match reception::<L3, F, T>(frame, tables, Kind { protocol, tcp: TcpFlags(0), begins: false }) {
        Reception::NotOurs => NOT_OURS,
        Reception::Denied => Verdict::Drop(Event::DropDenied),
        _ => MALFORMED,
    }
}

/// A whole packet of no flow. Only one that begins a flow counts against the service's limits:
/// what belongs to a connection that is gone is to be reset, however many flows begin.
#[inline(always)]
pub(super) fn no_flow<const L3: usize, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    protocol: Protocol,
    tcp: TcpFlags,
) -> Verdict {
    if F::ONLY_FORWARDED {
        return match is_for_service::<L3, F, T>(frame, tables, protocol) {
            true => Verdict::Punt(Event::PuntFirstPacket),
            false => NOT_OURS,
        };
    }
    let begins = protocol == Protocol::Udp || tcp.opens();
    match reception::<L3, F, T>(frame, tables, Kind { protocol, tcp, begins }) {
        Reception::NotOurs => NOT_OURS,
        Reception::Denied => Verdict::Drop(Event::DropDenied),
        Reception::TooMany => Verdict::Drop(Event::DropRateLimited),
        Reception::Stateless if protocol == Protocol::Tcp => {
            stateless::treat::<L3, F, T>(frame, tables, tcp)
        }
        Reception::Wanted | Reception::Stateless => Verdict::Punt(Event::PuntFirstPacket),
    }
}

pub(super) const NOT_OURS: Verdict = Verdict::Pass(Event::PassNotOurs);

/// What kind of packet belongs to no flow.
#[derive(Clone, Copy)]
struct Kind {
    protocol: Protocol,
    tcp: TcpFlags,
    /// Whether it begins a flow.
    begins: bool,
}

/// How a packet of no flow is received.
#[derive(Clone, Copy)]
enum Reception {
    /// No virtual service listens there.
    NotOurs,
    /// The service's policy does not let the sender in.
    Denied,
    /// It begins a flow, and the service's limits do not let it.
    TooMany,
    /// A worker is to see it.
    Wanted,
    /// It is for [`stateless`].
    Stateless,
}

/// Whether a virtual service listens where the packet goes. Policy and rates are asked where the
/// packet is punted to: a rate that is asked twice is half the rate.
#[inline(always)]
fn is_for_service<const L3: usize, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    protocol: Protocol,
) -> bool {
    let Some(window) = frame.window::<L3, IPV4_PORTS>() else { return false };
    let packet = Ipv4(window);
    listens(tables, packet.destination(), packet.destination_port(), protocol)
}

/// Not inlined, as [`ask`].
#[inline(never)]
fn listens<T: Tables>(tables: &T, address: [u8; 4], port: Port, protocol: Protocol) -> bool {
    let address = Address::v4(address);
    tables.roles(&address).any(Roles::VIRTUAL_SERVICE)
        && tables.service(&ServiceKey::new(address, port, protocol)).is_some()
}

#[inline(always)]
fn reception<const L3: usize, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    kind: Kind,
) -> Reception {
    let Some(window) = frame.window::<L3, IPV4_PORTS>() else { return Reception::NotOurs };
    let packet = Ipv4(window);
    ask(tables, packet.source(), packet.destination(), packet.destination_port(), kind)
}

/// Not inlined, lest the keys of the maps lie on the stack of everything else. Five words are what
/// a function of the program can be given.
#[inline(never)]
fn ask<T: Tables>(
    tables: &T,
    client: [u8; 4],
    address: [u8; 4],
    port: Port,
    kind: Kind,
) -> Reception {
    let (client, address) = (Address::v4(client), Address::v4(address));
    // One lookup tells most foreign traffic apart, whatever its port.
    if !tables.roles(&address).any(Roles::VIRTUAL_SERVICE) {
        return Reception::NotOurs;
    }
    let key = ServiceKey::new(address, port, kind.protocol);
    let Some(service) = tables.service(&key) else { return Reception::NotOurs };
    if !admission::is_allowed(tables, &service, client) {
        return Reception::Denied;
    }
    if kind.begins && !admission::is_in_time(tables, &service, client) {
        return Reception::TooMany;
    }
    if kind.protocol == Protocol::Tcp && stateless::is_for(tables, &service, kind.tcp) {
        return Reception::Stateless;
    }
    Reception::Wanted
}

/// Shorter than header and ports: only the last of a packet's fragments can be, where no link
/// pads (veth does not).
#[inline(always)]
pub(super) fn short<const L3: usize, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Verdict {
    let Some(header) = frame.window::<L3, IPV4>() else {
        return Verdict::Pass(Event::PassNotIpv4);
    };
    let mut padded = [0; IPV4_PORTS];
    if let Some(start) = padded.first_chunk_mut::<IPV4>() {
        *start = *header;
    }
    let packet = Ipv4(&padded);
    if packet.is_fragment() && Protocol::from_number(packet.protocol()).is_some() {
        irregular(packet, tables)
    } else {
        Verdict::Pass(Event::PassNotIpv4)
    }
}

/// TCP or UDP with IP options or in fragments: ports are elsewhere, or in another packet.
#[inline(always)]
pub(super) fn irregular<T: Tables>(packet: Ipv4<'_, IPV4_PORTS>, tables: &T) -> Verdict {
    let to_us = Roles::VIRTUAL_SERVICE.and(Roles::SNAT);
    let ours = tables.roles(&Address::v4(packet.destination())).any(to_us)
        || tables.roles(&Address::v4(packet.source())).any(Roles::DNAT_SERVER);
    if ours && packet.is_v4() {
        Verdict::Punt(Event::PuntIrregular)
    } else {
        Verdict::Pass(Event::PassNotOurs)
    }
}

/// Neither TCP nor UDP: ours only if it is an ICMP error about one of our flows.
#[inline(always)]
pub(super) fn other_protocol<const L3: usize, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
) -> Verdict {
    let not_ours = Verdict::Pass(Event::PassNotOurs);
    // IPv4 and ICMP header, then the quoted IPv4 header and eight bytes (RFC 792).
    let Some(window) = frame.window::<L3, { 28 + IPV4_PORTS }>() else {
        return not_ours;
    };
    let outer = Ipv4(&*window);
    let quotes = outer.protocol() == wire::ICMP && wire::icmp_quotes(outer.icmp_type());
    if !quotes || !outer.is_plain() || outer.is_fragment() {
        return not_ours;
    }
    let Some((_, quoted)) = window.split_first_chunk::<28>() else {
        return not_ours;
    };
    let Some(quoted) = quoted.first_chunk::<IPV4_PORTS>() else {
        return not_ours;
    };
    let quoted = Ipv4(quoted);
    if Protocol::from_number(quoted.protocol()).is_none() || !quoted.is_plain() {
        return not_ours;
    }
    // What is quoted is a packet as we sent it. Seen from its receiver it is a packet of the
    // flow's other direction.
    match find(tables, &quoted.reverse_flow_key()) {
        Some(_) => Verdict::Punt(Event::PuntIcmpError),
        None => not_ours,
    }
}
