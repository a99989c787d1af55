//! Reading captures: pcap and pcapng, a packet at a time, whatever the file's size.
//!
//! A file that is damaged or cut off is refused where that shows, with the packet and the byte.
//! The library parses the records; how long a record claims to be is asked before it does, so
//! that a damaged length is told as such and never makes a buffer grow without bound.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    path::Path,
    time::Duration,
};

use pcap_parser::{
    Block, LegacyPcapBlock, LegacyPcapReader, PcapBlockOwned, PcapError, PcapHeader, PcapNGReader,
    traits::{PcapNGPacketBlock as _, PcapReaderIterator},
};

use super::{
    flaw::{BadCapture, Flaw},
    interface::{Interface, LATEST},
    link::Link,
};

/// What is read from the file at once: more than any packet of IPv4 needs.
const BUFFER: usize = 128 << 10;

/// The longest record that is believed: what Wireshark takes for the most as well.
const LONGEST: u64 = 16 << 20;

/// The type of pcapng's first block, whatever the byte order.
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// The type of an Enhanced Packet Block.
const ENHANCED_PACKET: u32 = 6;
/// The type of the Packet Block, which the Enhanced one has replaced.
const OBSOLETE_PACKET: u32 = 2;

/// A packet as it was captured.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Packet {
    /// From 1, as Wireshark and tcpdump count.
    pub number: u64,
    /// Since the epoch.
    pub time: Duration,
    /// An Ethernet frame, as far as it was captured.
    pub frame: Vec<u8>,
    /// Bytes that the snap length has cut off.
    pub cut: usize,
}

/// A capture that is read from its beginning.
pub struct Capture {
    reader: Box<dyn PcapReaderIterator>,
    kind: Kind,
    packets: u64,
}

/// What is known from the file's header, or the section's.
enum Kind {
    Pcap { header: PcapHeader, link: Link },
    Pcapng { big_endian: bool, interfaces: Vec<Interface> },
}

impl Capture {
    /// Begins a file, which may have been read before.
    pub fn begin(file: &File) -> Result<Self, BadCapture> {
        let mut file = file.try_clone().map_err(|error| BadCapture::at_start(error.into()))?;
        let magic = magic(&mut file).map_err(|error| BadCapture::at_start(error.into()))?;
        let begun = match magic.as_slice() {
            magic if magic == SECTION => PcapNGReader::new(BUFFER, file).map(Self::pcapng),
            [] => return Err(BadCapture::at_start(Flaw::Empty)),
            _ => return Self::pcap(file, &magic).map_err(BadCapture::at_start),
        };
        begun.map_err(|error| BadCapture::at_start(Flaw::of_beginning(&error, &magic)))
    }

    /// Begins the file of that name.
    pub fn open(path: &Path) -> Result<File, BadCapture> {
        let file = File::open(path).map_err(|error| BadCapture::at_start(error.into()))?;
        let metadata = file.metadata().map_err(|error| BadCapture::at_start(error.into()))?;
        // It is read twice.
        if metadata.is_file() { Ok(file) } else { Err(BadCapture::at_start(Flaw::NoFile)) }
    }

    fn pcap(file: File, magic: &[u8]) -> Result<Self, Flaw> {
        let mut reader = LegacyPcapReader::new(BUFFER, file)
            .map_err(|error| Flaw::of_beginning(&error, magic))?;
        let Ok((_, PcapBlockOwned::LegacyHeader(header))) = reader.next() else {
            return Err(Flaw::NoCapture(magic.to_vec()));
        };
        reader.consume(header.size());
        // The upper half tells of frame check sequences.
        let number = u16::try_from(header.network.0 & 0xffff).unwrap_or(u16::MAX);
        let link = Link::from_number(number).ok_or(Flaw::LinkType(number))?;
        Ok(Self { reader: Box::new(reader), kind: Kind::Pcap { header, link }, packets: 0 })
    }

    fn pcapng(reader: PcapNGReader<File>) -> Self {
        let kind = Kind::Pcapng { big_endian: false, interfaces: Vec::new() };
        Self { reader: Box::new(reader), kind, packets: 0 }
    }

    /// Reads the next packet. False at the end of the file.
    pub fn read(&mut self, packet: &mut Packet) -> Result<bool, BadCapture> {
        loop {
            let offset = self.reader.consumed() as u64;
            let result = self.record(packet);
            match result.map_err(|flaw| self.bad(offset, flaw))? {
                Record::Packet => {
                    self.packets += 1;
                    packet.number = self.packets;
                    return Ok(true);
                }
                Record::Other => {}
                Record::End => return Ok(false),
            }
        }
    }

    /// Reads one record, or block.
    fn record(&mut self, packet: &mut Packet) -> Result<Record, Flaw> {
        let Some(length) = self.gather()? else { return Ok(Record::End) };
        let (used, block) = match self.reader.next() {
            Ok(read) => read,
            Err(PcapError::Eof) => return Ok(Record::End),
            Err(_) => return Err(Flaw::Contradiction),
        };
        let record = match (&mut self.kind, block) {
            (Kind::Pcap { header, link }, PcapBlockOwned::Legacy(block)) => {
                from_pcap(header, *link, &block, packet)?
            }
            (Kind::Pcapng { big_endian, interfaces }, PcapBlockOwned::NG(block)) => {
                from_pcapng(big_endian, interfaces, &block, packet)?
            }
            _ => return Err(Flaw::Contradiction),
        };
        // A parser that took another length than the record claims has misread it.
        if used as u64 != length {
            return Err(Flaw::Contradiction);
        }
        self.reader.consume(used);
        Ok(record)
    }

    /// Has the whole next record in the buffer; its length. `None` at the end of the file.
    fn gather(&mut self) -> Result<Option<u64>, Flaw> {
        let mut needed = self.header_length();
        loop {
            let there = self.reader.data().len() as u64;
            if there >= needed {
                match self.length()? {
                    length if length <= there => return Ok(Some(length)),
                    length => needed = length,
                }
            }
            // Bounded by what `length` believes. Nothing is done if it is large enough already.
            let room = usize::try_from(needed).map_err(|_| Flaw::TooLong(needed))? + BUFFER;
            if room >= 2 * BUFFER {
                self.reader.grow(room);
            }
            self.reader.refill().map_err(|_| Flaw::Unreadable)?;
            if self.reader.reader_exhausted() && self.reader.data().len() as u64 == there {
                return if there == 0 { Ok(None) } else { Err(Flaw::Ends { there, needed }) };
            }
        }
    }

    /// How much of a record must be there to tell its length.
    fn header_length(&self) -> u64 {
        match &self.kind {
            Kind::Pcap { header, .. } if header.is_modified_format() => 24,
            Kind::Pcap { .. } => 16,
            Kind::Pcapng { .. } => 12,
        }
    }

    /// How long the record claims to be that begins in the buffer.
    fn length(&self) -> Result<u64, Flaw> {
        let data = self.reader.data();
        let length = match &self.kind {
            Kind::Pcap { header, .. } => {
                let captured = number(data, 8, header.is_bigendian());
                self.header_length() + u64::from(captured)
            }
            Kind::Pcapng { big_endian, .. } => {
                // A section says itself in which order its numbers are.
                let is_section = data.starts_with(&SECTION);
                let swapped =
                    if is_section { data[8..12] == [0x1a, 0x2b, 0x3c, 0x4d] } else { *big_endian };
                u64::from(number(data, 4, swapped))
            }
        };
        let least = self.header_length();
        match length {
            length if length > LONGEST => Err(Flaw::TooLong(length)),
            length if length < least => Err(Flaw::Contradiction),
            length => Ok(length),
        }
    }

    fn bad(&self, offset: u64, flaw: Flaw) -> BadCapture {
        let is_packet = match &self.kind {
            Kind::Pcap { .. } => true,
            Kind::Pcapng { big_endian, .. } => {
                let data = self.reader.data();
                data.len() >= 4 && number(data, 0, *big_endian) == ENHANCED_PACKET
            }
        };
        BadCapture { packet: self.packets + 1, is_packet, offset, flaw }
    }
}

/// What was read.
enum Record {
    Packet,
    Other,
    End,
}

/// The file's first bytes, at most four; it is at its beginning again afterwards.
fn magic(file: &mut File) -> io::Result<Vec<u8>> {
    let mut magic = Vec::new();
    file.rewind()?;
    file.by_ref().take(4).read_to_end(&mut magic)?;
    file.rewind()?;
    Ok(magic)
}

/// A number in a header.
fn number(data: &[u8], at: usize, big_endian: bool) -> u32 {
    let bytes = data.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

fn from_pcap(
    header: &PcapHeader,
    link: Link,
    block: &LegacyPcapBlock<'_>,
    packet: &mut Packet,
) -> Result<Record, Flaw> {
    let fraction = u64::from(block.ts_usec);
    let fraction = match header.is_nanosecond_precision() {
        true => Duration::from_nanos(fraction),
        false => Duration::from_micros(fraction),
    };
    packet.time = Duration::from_secs(block.ts_sec.into()) + fraction;
    fill(packet, link, block.data, block.origlen)
}

fn from_pcapng(
    big_endian: &mut bool,
    interfaces: &mut Vec<Interface>,
    block: &Block<'_>,
    packet: &mut Packet,
) -> Result<Record, Flaw> {
    match block {
        Block::SectionHeader(section) => {
            *big_endian = section.big_endian();
            interfaces.clear();
        }
        Block::InterfaceDescription(description) => {
            interfaces.push(Interface::new(description, *big_endian));
        }
        Block::EnhancedPacket(block) => {
            let interface = interfaces.get(block.if_id as usize);
            let interface = interface.ok_or(Flaw::NoInterface(block.if_id))?;
            let link = Link::from_number(interface.link).ok_or(Flaw::LinkType(interface.link))?;
            packet.time = interface.time(block.ts_high, block.ts_low)?;
            return fill(packet, link, block.packet_data(), block.origlen);
        }
        Block::SimplePacket(_) => return Err(Flaw::NoTime),
        Block::Unknown(block) if block.block_type == OBSOLETE_PACKET => {
            return Err(Flaw::Obsolete);
        }
        _ => {}
    }
    Ok(Record::Other)
}

fn fill(packet: &mut Packet, link: Link, bytes: &[u8], original: u32) -> Result<Record, Flaw> {
    if packet.time > LATEST {
        return Err(Flaw::Time);
    }
    link.frame(bytes, &mut packet.frame);
    packet.cut = (original as usize).saturating_sub(bytes.len());
    Ok(Record::Packet)
}
