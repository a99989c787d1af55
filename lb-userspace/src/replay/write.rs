//! The packets that leave, as a capture: pcap, Ethernet, nanoseconds.

use std::{
    fs::Permissions,
    io::{self, BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use pcap_parser::{LegacyPcapBlock, Linktype, PcapHeader, ToVec as _};
use tempfile::NamedTempFile;

use super::ReplayError;

/// `0xa1b2c3d4` for microseconds, this for nanoseconds.
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// More than any packet has; readers want a limit.
const SNAP_LENGTH: u32 = 262_144;

/// A capture that is being written. It gets its name when it is whole: a replay that fails leaves
/// nothing behind.
pub(super) struct Written {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl Written {
    pub fn new(path: &Path) -> Result<Self, ReplayError> {
        let begin = || -> io::Result<Self> {
            let file = BufWriter::new(temporary_beside(path)?);
            let mut written = Self { file, path: path.to_owned() };
            written.file.write_all(&header()?)?;
            Ok(written)
        };
        begin().map_err(|error| cannot_write(path, error))
    }

    /// Adds a frame. Its last `filled` bytes were never captured, and are cut off again.
    pub fn push(&mut self, time: Duration, frame: &[u8], filled: usize) -> Result<(), ReplayError> {
        let record = record(time, frame, filled);
        let written = record.and_then(|record| self.file.write_all(&record));
        written.map_err(|error| cannot_write(&self.path, error))
    }

    /// Gives the file its name.
    pub fn finish(self) -> Result<(), ReplayError> {
        let Self { file, path } = self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error);
        let named = file.and_then(|file| Ok(file.persist(&path)?));
        named.map(drop).map_err(|error| cannot_write(&path, error))
    }
}

fn cannot_write(path: &Path, error: io::Error) -> ReplayError {
    ReplayError::Write { path: path.to_owned(), error }
}

fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    // A device would be replaced by the file.
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return Err(io::Error::other("there is something that is not a file"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(".lb-replay-")
        // As any new file: the user's mask takes away what it takes away.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
}

fn header() -> io::Result<Vec<u8>> {
    let mut header = PcapHeader {
        magic_number: NANOSECONDS,
        snaplen: SNAP_LENGTH,
        network: Linktype::ETHERNET,
        ..PcapHeader::new()
    };
    header.to_vec().map_err(io::Error::other)
}

fn record(time: Duration, frame: &[u8], filled: usize) -> io::Result<Vec<u8>> {
    let data = &frame[..frame.len().saturating_sub(filled)];
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let mut record = LegacyPcapBlock {
        ts_sec: u32::try_from(time.as_secs()).unwrap_or(u32::MAX),
        ts_usec: time.subsec_nanos(),
        caplen: length(data.len()),
        origlen: length(frame.len()),
        data,
    };
    record.to_vec().map_err(io::Error::other)
}
