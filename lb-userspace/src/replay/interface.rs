//! The interfaces that a pcapng file tells of: each has a link type and a unit of time.

use std::time::Duration;

use pcap_parser::InterfaceDescriptionBlock;

use super::flaw::Flaw;

/// The latest time of a packet: what pcap can write, and the clock of the replay shows.
pub(super) const LATEST: Duration = Duration::from_secs(u32::MAX as u64);

/// As described in the file.
pub(super) struct Interface {
    pub link: u16,
    /// `None`: no unit that 64 bits could count.
    per_second: Option<u64>,
    /// Seconds to add.
    offset: i64,
}

impl Interface {
    pub fn new(block: &InterfaceDescriptionBlock<'_>, big_endian: bool) -> Self {
        // The library reads this number little-endian always.
        let offset = block.if_tsoffset;
        Self {
            link: u16::try_from(block.linktype.0).unwrap_or(u16::MAX),
            per_second: per_second(block.if_tsresol),
            offset: if big_endian { offset.swap_bytes() } else { offset },
        }
    }

    /// A packet's time since the epoch.
    pub fn time(&self, high: u32, low: u32) -> Result<Duration, Flaw> {
        let ticks = u64::from(high) << 32 | u64::from(low);
        let unit = self.per_second.ok_or(Flaw::Time)?;
        let seconds = i128::from(ticks / unit) + i128::from(self.offset);
        let nanos = u128::from(ticks % unit) * 1_000_000_000 / u128::from(unit);
        let seconds = u64::try_from(seconds).map_err(|_| Flaw::Time)?;
        if seconds > LATEST.as_secs() {
            return Err(Flaw::Time);
        }
        Ok(Duration::from_secs(seconds) + Duration::from_nanos_u128(nanos))
    }
}

/// `if_tsresol`: a negative power of ten, or of two if the highest bit is set.
fn per_second(resolution: u8) -> Option<u64> {
    match resolution {
        0..=19 => 10u64.checked_pow(resolution.into()),
        0x80..=0xbf => Some(1 << (resolution & 0x3f)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_time_are_powers_of_ten_and_of_two() {
        let time = |resolution, offset, ticks: u64| {
            let interface = Interface { link: 1, per_second: per_second(resolution), offset };
            interface.time((ticks >> 32) as u32, ticks as u32).ok()
        };
        let cases = [
            (6, 0, 1_500_000, Some(Duration::from_millis(1500))),
            (9, 0, 1_500_000_000, Some(Duration::from_millis(1500))),
            (0, 0, 3, Some(Duration::from_secs(3))),
            (19, 0, 15_000_000_000_000_000_000, Some(Duration::from_millis(1500))),
            (0x80 | 10, 0, 1536, Some(Duration::from_millis(1500))),
            (0x80 | 63, 0, 3 << 62, Some(Duration::from_millis(1500))),
            (6, 1_000, 1_500_000, Some(Duration::from_millis(1_001_500))),
            (6, -1, 1_500_000, Some(Duration::from_millis(500))),
            (6, -2, 1_500_000, None),
            (6, i64::MAX, u64::MAX, None),
            (0, 0, u64::MAX, None),
            (20, 0, 1, None),
            (0xff, 0, 1, None),
        ];
        for (resolution, offset, ticks, expected) in cases {
            assert_eq!(time(resolution, offset, ticks), expected, "{resolution} {offset} {ticks}");
        }
    }
}
