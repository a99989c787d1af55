//! Segments as the machine reads them and as it writes them (RFC 9293 §3.1).
//!
//! What is read here is acknowledged in our name and sent on with a checksum of ours. So the
//! checksum is verified first: a forwarder may leave that to the receiver, we are one.

use std::ops::Range;

use lb_common::{
    address::Protocol,
    checksum::{Sum, of_tcp},
    rewrite::EndpointsV4,
    tcp::options::SynOptions,
    wire::TcpFlags,
};

use crate::engine::packet::Packet;

/// Header of an IPv4 packet without options.
const NETWORK_HEADER: usize = 20;
/// Header of a segment without options.
const HEADER: usize = 20;

/// A sequence number: counts bytes modulo 2^32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SequenceNumber(pub u32);

impl SequenceNumber {
    /// So many numbers later.
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// So many numbers earlier.
    #[must_use]
    pub const fn minus(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }

    /// How many numbers lie between `earlier` and this one.
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Whether this comes before `other`: less than half the range lies between them.
    pub const fn is_before(self, other: Self) -> bool {
        self.since(other) > u32::MAX / 2
    }

    /// Whether this is one of the numbers from `first` to `last`, both included.
    pub const fn is_within(self, first: Self, last: Self) -> bool {
        self.since(first) <= last.since(first)
    }
}

/// A segment that came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment<'a> {
    /// Of the first byte, or of SYN.
    pub sequence: SequenceNumber,
    /// Counts only with the ACK flag.
    pub acknowledgement: SequenceNumber,
    /// See [`TcpFlags`].
    pub flags: Flags,
    /// As it stands in the header, not scaled.
    pub window: u16,
    /// Of a SYN, those that matter here; of others without meaning.
    pub options: SynOptions,
    /// What is behind the header.
    pub payload: &'a [u8],
}

/// The flags that the machine knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// The acknowledgement counts.
    pub ack: bool,
    /// Hand the data on.
    pub psh: bool,
    /// The connection is gone.
    pub rst: bool,
    /// Sequence numbers start here.
    pub syn: bool,
    /// No data comes after this.
    pub fin: bool,
}

/// Data that came out of order: its first number, and the one behind its last.
pub type Block = (SequenceNumber, SequenceNumber);

/// A segment to send. Its payload lies in the stream that was collected.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outgoing {
    /// Of the first byte, or of SYN.
    pub sequence: SequenceNumber,
    /// Sent as it is, with the ACK flag or without.
    pub acknowledgement: SequenceNumber,
    /// See [`TcpFlags`].
    pub flags: Flags,
    /// As it stands in the header.
    pub window: u16,
    /// Of a SYN; none otherwise.
    pub options: SynOptions,
    /// Selective acknowledgements, four at most.
    pub blocks: Vec<Block>,
    /// Which bytes of [`Inspection::payload`](super::Inspection::payload) it carries.
    pub payload: Range<usize>,
}

impl Flags {
    /// ACK alone.
    pub const ACK: Self = Self { ack: true, psh: false, rst: false, syn: false, fin: false };
    /// SYN alone.
    pub const SYN: Self = Self { syn: true, ack: false, ..Self::ACK };
    /// RST alone.
    pub const RST: Self = Self { rst: true, ack: false, ..Self::ACK };

    fn bits(self) -> u8 {
        let of = |set: bool, bit: u8| if set { bit } else { 0 };
        of(self.ack, TcpFlags::ACK)
            | of(self.psh, TcpFlags::PSH)
            | of(self.rst, TcpFlags::RST)
            | of(self.syn, TcpFlags::SYN)
            | of(self.fin, TcpFlags::FIN)
    }
}

impl From<TcpFlags> for Flags {
    fn from(TcpFlags(bits): TcpFlags) -> Self {
        Self {
            ack: bits & TcpFlags::ACK != 0,
            psh: bits & TcpFlags::PSH != 0,
            rst: bits & TcpFlags::RST != 0,
            syn: bits & TcpFlags::SYN != 0,
            fin: bits & TcpFlags::FIN != 0,
        }
    }
}

impl<'a> Segment<'a> {
    /// The segment in a packet; `None` if its checksum is wrong, or it is no TCP.
    pub fn read(packet: &Packet<'a>) -> Option<Self> {
        let segment = packet.network.payload();
        let (header, payload) = segment.split_at_checked(packet.transport_header())?;
        if packet.protocol != Protocol::Tcp || checksum(&packet.endpoints, segment) != [0, 0] {
            return None;
        }
        Some(Self {
            sequence: SequenceNumber(packet.sequence()),
            acknowledgement: SequenceNumber(packet.acknowledgement()),
            flags: packet.flags().into(),
            window: u16::from_be_bytes([*header.get(14)?, *header.get(15)?]),
            options: SynOptions::of(header)?,
            payload,
        })
    }

    /// How many sequence numbers it takes (RFC 9293 §3.4, SEG.LEN).
    pub fn length(&self) -> u32 {
        number(self.payload.len()) + u32::from(self.flags.syn) + u32::from(self.flags.fin)
    }

    /// The number behind its last.
    pub fn end(&self) -> SequenceNumber {
        self.sequence.plus(self.length())
    }
}

/// A length as sequence numbers count it.
pub(super) fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Each option padded to whole words, which is how everybody sends them.
fn write_options(options: &SynOptions, bytes: &mut Vec<u8>) {
    if let Some(mss) = options.mss {
        bytes.extend([2, 4]);
        bytes.extend(mss.to_be_bytes());
    }
    if options.sack_permitted {
        bytes.extend([1, 1, 4, 2]);
    }
    if let Some(shift) = options.window_scale {
        bytes.extend([1, 3, 3, shift]);
    }
}

impl Outgoing {
    /// Appends the IPv4 packet. `payload` is what this segment's range names.
    pub fn write(&self, ends: &EndpointsV4, payload: &[u8], packet: &mut Vec<u8>) {
        let start = packet.len();
        packet.extend([0; NETWORK_HEADER + HEADER]);
        write_options(&self.options, packet);
        self.write_blocks(packet);
        let header = packet.len() - start - NETWORK_HEADER;
        packet.extend_from_slice(payload);
        let Some((network, segment)) = packet[start..].split_at_mut_checked(NETWORK_HEADER) else {
            return;
        };
        self.write_header(ends, header, segment);
        write_network(ends, segment.len(), network);
    }

    fn write_blocks(&self, bytes: &mut Vec<u8>) {
        let blocks = &self.blocks[..self.blocks.len().min(4)];
        let Ok(length) = u8::try_from(2 + 8 * blocks.len()) else { return };
        if blocks.is_empty() {
            return;
        }
        bytes.extend([1, 1, 5, length]);
        for (first, end) in blocks {
            bytes.extend(first.0.to_be_bytes());
            bytes.extend(end.0.to_be_bytes());
        }
    }

    fn write_header(&self, ends: &EndpointsV4, header: usize, segment: &mut [u8]) {
        segment[0..2].copy_from_slice(&ends.source_port.0);
        segment[2..4].copy_from_slice(&ends.destination_port.0);
        segment[4..8].copy_from_slice(&self.sequence.0.to_be_bytes());
        segment[8..12].copy_from_slice(&self.acknowledgement.0.to_be_bytes());
        // In words, in the upper half: a header is at most 60 bytes long.
        segment[12] = u8::try_from(header * 4).unwrap_or(u8::MAX);
        segment[13] = self.flags.bits();
        segment[14..16].copy_from_slice(&self.window.to_be_bytes());
        let checksum = checksum(ends, segment);
        segment[16..18].copy_from_slice(&checksum);
    }
}

fn write_network(ends: &EndpointsV4, payload: usize, header: &mut [u8]) {
    let total = u16::try_from(NETWORK_HEADER + payload).unwrap_or(u16::MAX);
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[6] = 0x40; // do not fragment
    header[8] = 64;
    header[9] = Protocol::Tcp.number();
    header[12..16].copy_from_slice(&ends.source);
    header[16..20].copy_from_slice(&ends.destination);
    let checksum = Sum::default().bytes(header).checksum();
    header[10..12].copy_from_slice(&checksum);
}

fn checksum(ends: &EndpointsV4, segment: &[u8]) -> [u8; 2] {
    of_tcp(ends.source, ends.destination, segment)
}
