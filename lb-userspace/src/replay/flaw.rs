//! What is wrong with a capture.

use std::{fmt, io};

use pcap_parser::PcapError;
use thiserror::Error;

/// A capture that cannot be read, or not to its end.
#[derive(Debug)]
pub struct BadCapture {
    /// The packet that was to be read: from 1.
    pub(super) packet: u64,
    /// Whether the flaw is in it, not in a block before it.
    pub(super) is_packet: bool,
    /// Where it begins in the file; 0: the flaw is in the file's header.
    pub(super) offset: u64,
    pub(super) flaw: Flaw,
}

/// What is wrong.
#[derive(Debug, Error)]
pub enum Flaw {
    /// The operating system's word.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Reading has failed in the middle.
    #[error("the file cannot be read any further")]
    Unreadable,
    /// A pipe, a folder.
    #[error("a capture is read twice: it must be a file, not a pipe or a folder")]
    NoFile,
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Something else.
    #[error("not a capture: {}", beginning(.0))]
    NoCapture(Vec<u8>),
    /// Cut off.
    #[error(
        "the file ends there: {needed} bytes are needed, {there} are there. Was it cut off while it was copied, or is it still being written?"
    )]
    Ends {
        /// Bytes that are left.
        there: u64,
        /// Bytes that the record, or its header, has.
        needed: u64,
    },
    /// Cut off in the file's header.
    #[error("the file ends within its header")]
    EndsInHeader,
    /// A length that nothing has.
    #[error("it claims to be {0} bytes long: the file is damaged")]
    TooLong(u64),
    /// Headers that make no sense.
    #[error("its lengths contradict each other: the file is damaged")]
    Contradiction,
    /// A packet of an unknown interface.
    #[error("it is of interface {0}, which the file does not describe: the file is damaged")]
    NoInterface(u32),
    /// A link that is not understood.
    #[error(
        "link type {0} is not understood; Ethernet (1), IP (101, 228), Linux cooked (113, 276) and BSD loopback (0, 108) are"
    )]
    LinkType(u16),
    /// pcapng's Simple Packet Block.
    #[error("it is in a Simple Packet Block, which has no time: a replay needs one")]
    NoTime,
    /// pcapng's Packet Block.
    #[error(
        "it is in a Packet Block, which is obsolete: write the file anew with `editcap -F pcapng`"
    )]
    Obsolete,
    /// A time that no clock shows.
    #[error("its time is before 1970 or after 2106: the file is damaged")]
    Time,
}

impl Flaw {
    /// Of a file whose header the library does not take.
    pub(super) fn of_beginning(error: &PcapError<&[u8]>, magic: &[u8]) -> Self {
        match error {
            PcapError::ReadError => Self::Unreadable,
            PcapError::Incomplete(_) | PcapError::UnexpectedEof => Self::EndsInHeader,
            _ => Self::NoCapture(magic.to_vec()),
        }
    }
}

impl BadCapture {
    pub(super) fn at_start(flaw: Flaw) -> Self {
        Self { packet: 1, is_packet: false, offset: 0, flaw }
    }
}

impl fmt::Display for BadCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packet, is_packet, offset, flaw } = self;
        match (is_packet, offset) {
            (_, 0) => write!(f, "{flaw}"),
            (true, _) => write!(f, "packet {packet}, at byte {offset}: {flaw}"),
            (false, _) => write!(f, "block before packet {packet}, at byte {offset}: {flaw}"),
        }
    }
}

impl std::error::Error for BadCapture {}

fn beginning(magic: &[u8]) -> String {
    match magic {
        [0x1f, 0x8b, ..] => "it is compressed: run gunzip first".to_owned(),
        [0x28, 0xb5, 0x2f, 0xfd] => "it is compressed: run unzstd first".to_owned(),
        _ => format!("pcap and pcapng files do not begin with {magic:02x?}"),
    }
}
