//! The way of a packet through the programs, XDP and tcx.
//!
//! Decide, then apply: [`forward`] reads headers through fixed windows, finds the flow, rewrites
//! the packet and says where it goes. It knows nothing of BPF: [`Frame`] and [`Tables`] stand for
//! the packet and the maps, and the daemon's tests run the same function over plain memory.

mod miss;

use crate::{
    address::{Address, Protocol},
    admission::{Admission, PolicyClient, Rate, RateKey},
    event::Event,
    filter::AddressFilter,
    flow::{Choices, Entry, Flags, Geometry, PackedKeyV4, SharedBucketV4, SharedSlotV4},
    next_hop::{NextHop, NextHopId},
    rewrite::RewriteV4,
    service::{Roles, Service, ServiceKey},
    splice::Splice,
    tcp::cookie::Secrets,
    time::Tick,
    wire::{
        self, ETHERNET, ETHERNET_VLAN, ETHERTYPE_IPV4, ETHERTYPE_VLAN, IPV4_PORTS, IPV4_TCP,
        IPV4_UDP, Ipv4, TcpFlags, at, put,
    },
};

/// What becomes of a packet.
///
/// What it is and what it holds are 32 bits each, in a word that the compiler keeps whole. Of smaller ones
/// it would leave bits undefined where verdicts meet, which the verifier does not allow.
#[repr(u32, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The kernel's own stack goes on with it.
    Pass(Event),
    /// It ends here.
    Drop(Event),
    /// A worker decides.
    Punt(Event),
    /// Rewritten; out by the interface that it came in by.
    Transmit,
    /// Made into an answer; out by the interface that it came in by.
    Answer(Event),
    /// Rewritten; out by another interface.
    Redirect {
        /// That interface's index.
        interface: u32,
    },
}

/// A packet in memory that only fixed windows can be read from.
pub trait Frame {
    /// True where packets are passed, dropped and forwarded, and that is all: what needs more than
    /// new headers is punted, to a place where everything can be done with it. A VLAN tag does not
    /// stand in the packet there, but beside it; one that does is a second.
    const ONLY_FORWARDED: bool = false;
    /// Bytes in all.
    fn length(&self) -> usize;
    /// Index of the interface that it came in by.
    fn interface(&self) -> u32;
    /// The `N` bytes at `OFFSET`; `None` if the packet ends before.
    fn window<const OFFSET: usize, const N: usize>(&mut self) -> Option<&mut [u8; N]>;
    /// Whether a packet that came as this one did can leave with the link-layer header that the next
    /// hop asks for.
    #[inline(always)]
    fn can_leave_by(&self, next_hop: &NextHop) -> bool {
        let _ = next_hop;
        true
    }
    /// Applies a change to a packet of this protocol, whose plain IPv4 header begins at `L3`. False if
    /// the packet ends before its headers do.
    #[inline(always)]
    fn rewrite<const L3: usize>(&mut self, protocol: Protocol, change: &RewriteV4) -> bool {
        let rewritten = match protocol {
            Protocol::Tcp => self.window::<L3, IPV4_TCP>().map(|packet| change.apply_tcp(packet)),
            Protocol::Udp => self.window::<L3, IPV4_UDP>().map(|packet| change.apply_udp(packet)),
        };
        rewritten.is_some()
    }
    /// Makes room for `grow` bytes in front, or with a negative number takes them away.
    fn grow_head(&mut self, grow: i32) -> bool;
    /// Makes it so many bytes long: what is too much at its end goes, what is missing is zero.
    fn set_length(&mut self, length: usize) -> bool;
    /// Copies `length` bytes at `offset` to the beginning of a buffer that is no shorter; false if
    /// the packet ends before.
    fn load<const N: usize>(&mut self, offset: usize, length: usize, into: &mut [u8; N]) -> bool;
}

/// The maps.
pub trait Tables {
    /// Now, coarse: nanoseconds of the monotonic clock.
    fn nanos(&self) -> u64;
    /// The same, as flows are stamped with it.
    #[inline(always)]
    fn now(&self) -> Tick {
        Tick::from_nanos(self.nanos())
    }
    /// Where keys live.
    fn geometry(&self) -> Geometry;
    /// A bucket of `flows_v4`.
    fn bucket(&self, index: u32) -> Option<&SharedBucketV4>;
    /// An entry of `next_hops`.
    fn next_hop(&self, id: NextHopId) -> Option<NextHop>;
    /// Which addresses packets are looked up for; `None` for all.
    fn address_filter(&self) -> Option<&AddressFilter>;
    /// What the address is to this instance.
    fn roles(&self, address: &Address) -> Roles;
    /// The virtual service that listens there.
    fn service(&self, key: &ServiceKey) -> Option<Service>;
    /// What a policy says of a client, by the longest of its prefixes that holds.
    fn admission(&self, client: &PolicyClient) -> Option<Admission>;
    /// Whether the rate lets one more flow begin now, by the word that is kept for this key.
    fn is_due(&self, key: &RateKey, rate: &Rate) -> bool;
    /// What cookies are made with.
    fn secrets(&self) -> Secrets;
    /// Whether so many handshakes are open that services which may answer with cookies should.
    fn is_pressed(&self) -> bool;
}

/// What the flow table says of a key.
pub enum Lookup<'a> {
    /// The flow's slot, and its entry.
    Flow(&'a SharedSlotV4, Entry),
    /// There is no such flow, but there may be one: the packet may be ours.
    NoFlow,
    /// There can be none.
    NotOurs,
}

/// Looks for `key` in all places where it can be.
///
/// Most flows are in the first of their buckets; only for what is not is the filter asked.
#[inline(always)]
pub fn look_up<'a, T: Tables>(tables: &'a T, key: &PackedKeyV4) -> Lookup<'a> {
    let choices = tables.geometry().choices(key);
    let first = tables.bucket(choices.first).and_then(|bucket| in_bucket(bucket, &choices, key));
    if let Some((slot, entry)) = first {
        return Lookup::Flow(slot, entry);
    }
    if tables.address_filter().is_some_and(|filter| !filter.may_hold(key)) {
        return Lookup::NotOurs;
    }
    match elsewhere(tables, &choices, key) {
        Some((slot, entry)) => Lookup::Flow(slot, entry),
        None => Lookup::NoFlow,
    }
}

/// The slot that holds `key`, and its entry, if there is a flow.
#[inline(always)]
pub fn find<'a, T: Tables>(tables: &'a T, key: &PackedKeyV4) -> Option<(&'a SharedSlotV4, Entry)> {
    match look_up(tables, key) {
        Lookup::Flow(slot, entry) => Some((slot, entry)),
        Lookup::NoFlow | Lookup::NotOurs => None,
    }
}

/// What is not in the first of its buckets.
#[inline(always)]
fn elsewhere<'a, T: Tables>(
    tables: &'a T,
    choices: &Choices,
    key: &PackedKeyV4,
) -> Option<(&'a SharedSlotV4, Entry)> {
    let second = tables.bucket(choices.second)?;
    if let Some(found) = in_bucket(second, choices, key) {
        return Some(found);
    }
    if !second.slots[0].overflowed() {
        return None;
    }
    in_bucket(tables.bucket(choices.stashed)?, choices, key)
}

/// Written out, not a loop: the program has none.
#[inline(always)]
fn in_bucket<'a>(
    bucket: &'a SharedBucketV4,
    choices: &Choices,
    key: &PackedKeyV4,
) -> Option<(&'a SharedSlotV4, Entry)> {
    let [a, b, c, d] = choices.places().map(|place| &bucket.slots[place & 3]);
    if let Some(entry) = a.read(key) {
        return Some((a, entry));
    }
    if let Some(entry) = b.read(key) {
        return Some((b, entry));
    }
    if let Some(entry) = c.read(key) {
        return Some((c, entry));
    }
    d.read(key).map(|entry| (d, entry))
}

/// EtherTypes as a packet's two bytes are loaded.
const IS_IPV4: u16 = u16::from_ne_bytes(ETHERTYPE_IPV4);
const IS_VLAN: u16 = u16::from_ne_bytes(ETHERTYPE_VLAN);

/// Decides about a packet and, if it belongs to an established flow, rewrites it.
#[inline(always)]
pub fn forward<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Verdict {
    let Some(ethernet) = frame.window::<0, ETHERNET>() else {
        return Verdict::Pass(Event::PassNotIpv4);
    };
    match u16::from_ne_bytes(at::<12, 2, ETHERNET>(ethernet)) {
        IS_IPV4 => ipv4::<ETHERNET, F, T>(frame, tables, 0),
        IS_VLAN if !F::ONLY_FORWARDED => match frame.window::<ETHERNET, 4>() {
            Some(tag) if u16::from_ne_bytes(at::<2, 2, 4>(tag)) == IS_IPV4 => {
                let tag = u16::from_be_bytes(at::<0, 2, 4>(tag));
                ipv4::<ETHERNET_VLAN, F, T>(frame, tables, tag)
            }
            _ => Verdict::Pass(Event::PassNotIpv4),
        },
        _ => Verdict::Pass(Event::PassNotIpv4),
    }
}

/// An IPv4 packet whose header begins at `L3`; `tag` is the VLAN tag's control information.
#[inline(always)]
fn ipv4<const L3: usize, F: Frame, T: Tables>(frame: &mut F, tables: &T, tag: u16) -> Verdict {
    let Some(window) = frame.window::<L3, IPV4_PORTS>() else {
        return miss::short::<L3, F, T>(frame, tables);
    };
    let packet = Ipv4(window);
    let Some(protocol) = Protocol::from_number(packet.protocol()) else {
        return miss::other_protocol::<L3, F, T>(frame, tables);
    };
    if !packet.is_plain() || packet.is_fragment() {
        return miss::irregular(packet, tables);
    }
    match protocol {
        Protocol::Tcp => {
            regular::<L3, IPV4_TCP, F, T>(frame, tables, (protocol, wire::tcp_flags), tag)
        }
        Protocol::Udp => {
            regular::<L3, IPV4_UDP, F, T>(frame, tables, (protocol, |_: &_| TcpFlags(0)), tag)
        }
    }
}

/// A packet whose headers are `HEADERS` bytes: what kind of packet it is, and how its TCP flags are
/// read.
#[inline(always)]
fn regular<const L3: usize, const HEADERS: usize, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    (protocol, flags): (Protocol, impl Fn(&[u8; HEADERS]) -> TcpFlags),
    tag: u16,
) -> Verdict {
    let length = frame.length();
    let Some(window) = frame.window::<L3, HEADERS>() else {
        return miss::malformed::<L3, F, T>(frame, tables, protocol);
    };
    let (packet, tcp) = (Ipv4(&*window), flags(window));
    let (key, total_length) = (packet.flow_key(), packet.total_length() as usize);
    // Ethernet pads short packets, so a frame may be longer than its packet, never shorter.
    if total_length < HEADERS || total_length + L3 > length {
        return miss::malformed::<L3, F, T>(frame, tables, protocol);
    }
    let (slot, entry) = match look_up(tables, &key) {
        Lookup::Flow(slot, entry) => (slot, entry),
        Lookup::NoFlow => return miss::no_flow::<L3, F, T>(frame, tables, protocol, tcp),
        Lookup::NotOurs => return miss::NOT_OURS,
    };
    if !is_free_to_go(&entry, tcp, packet.ttl()) {
        return held_up(entry.flags, tcp);
    }
    let Some(next_hop) = tables.next_hop(entry.next_hop).filter(NextHop::is_resolved) else {
        return Verdict::Punt(Event::PuntNextHop);
    };
    if !frame.can_leave_by(&next_hop) {
        return Verdict::Punt(Event::PuntNextHop);
    }
    let spliced = if protocol == Protocol::Tcp { Splice::of(&entry) } else { None };
    let change = match spliced {
        None => entry.rewrite,
        Some(splice) => {
            let Some(changed) = splice.packet::<L3, F>(frame, total_length) else {
                return Verdict::Punt(Event::PuntOptions);
            };
            entry.rewrite.and_changed(changed)
        }
    };
    if !frame.rewrite::<L3>(protocol, &change) {
        return miss::MALFORMED;
    }
    if !address_link::<L3, F>(frame, &next_hop, tag) {
        return Verdict::Drop(Event::DropNoHeadroom);
    }
    #[expect(clippy::cast_possible_truncation, reason = "frames are shorter than 4 GiB")]
    slot.touch(tables.now(), length as u32, tcp);
    if next_hop.bounces != 0 && next_hop.interface == frame.interface() {
        Verdict::Transmit
    } else {
        Verdict::Redirect { interface: next_hop.interface }
    }
}

/// Flags that keep a flow's packets from being forwarded here.
const WAITS: Flags = Flags::CLOSED.and(Flags::INSPECTED).and(Flags::PUNT_RESPONSE);

/// Whether nothing keeps a packet of a known flow from being forwarded here.
#[inline(always)]
fn is_free_to_go(entry: &Entry, tcp: TcpFlags, ttl: u8) -> bool {
    let begins_anew = tcp.opens() && !entry.flags.has(Flags::REPLY);
    entry.flags.0 & WAITS.0 == 0 && !begins_anew && ttl > 1
}

/// What becomes of a packet that is not free to go. Not inlined: what is rare stays out of the way
/// of what is not.
#[inline(never)]
fn held_up(flags: Flags, tcp: TcpFlags) -> Verdict {
    if flags.has(Flags::CLOSED) {
        Verdict::Drop(Event::DropClosed)
    } else if flags.has(Flags::INSPECTED) {
        Verdict::Punt(Event::PuntInspected)
    } else if flags.has(Flags::PUNT_RESPONSE) {
        Verdict::Punt(Event::PuntResponse)
    } else if tcp.opens() && !flags.has(Flags::REPLY) {
        Verdict::Punt(Event::PuntSyn)
    } else {
        Verdict::Drop(Event::DropTtlExpired)
    }
}

/// Writes the link-layer header for the way out, with or without a tag.
#[inline(always)]
fn address_link<const L3: usize, F: Frame>(frame: &mut F, next_hop: &NextHop, tag: u16) -> bool {
    let tagged = L3 == ETHERNET_VLAN;
    if next_hop.vlan == 0 {
        if tagged && !frame.grow_head(-4) {
            return false;
        }
        return write_ethernet(frame, next_hop, ETHERTYPE_IPV4);
    }
    if !tagged && !frame.grow_head(4) {
        return false;
    }
    if !write_ethernet(frame, next_hop, ETHERTYPE_VLAN) {
        return false;
    }
    let Some(header) = frame.window::<ETHERNET, 4>() else {
        return false;
    };
    // Priority and drop eligibility stay as they came; only the identifier is ours to set.
    let [a, b] = (tag & 0xf000 | next_hop.vlan & 0x0fff).to_be_bytes();
    let [c, d] = ETHERTYPE_IPV4;
    *header = [a, b, c, d];
    true
}

#[inline(always)]
fn write_ethernet<F: Frame>(frame: &mut F, next_hop: &NextHop, ethertype: [u8; 2]) -> bool {
    let Some(header) = frame.window::<0, ETHERNET>() else {
        return false;
    };
    // By words: the compiler copies twelve bytes one by one.
    put::<0, 4, ETHERNET>(header, at::<0, 4, _>(&next_hop.macs));
    put::<4, 4, ETHERNET>(header, at::<4, 4, _>(&next_hop.macs));
    put::<8, 4, ETHERNET>(header, at::<8, 4, _>(&next_hop.macs));
    put::<12, 2, ETHERNET>(header, ethertype);
    true
}
