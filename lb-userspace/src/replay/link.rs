//! What precedes the IP packet in a capture: made into an Ethernet header, which the program reads.
//!
//! Ethernet frames stay as they are, tags included: as in the program, one 802.1Q tag is read, and
//! a frame with more, or an 802.1ad tag, is not IPv4.

use lb_common::wire::ETHERTYPE_IPV4;

const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// No protocol: what cannot be read.
const NONE: [u8; 2] = [0, 0];

/// How a capture's packets begin. The numbers are at <https://www.tcpdump.org/linktypes.html>.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// `LINKTYPE_ETHERNET`.
    Ethernet,
    /// `LINKTYPE_RAW` and `LINKTYPE_IPV4`: with the IP header.
    Ip,
    /// `LINKTYPE_LINUX_SLL`: `tcpdump -i any` of old.
    Cooked,
    /// `LINKTYPE_LINUX_SLL2`: `tcpdump -i any`.
    Cooked2,
    /// `LINKTYPE_NULL` and `LINKTYPE_LOOP`: BSD's loopback.
    Loopback,
}

impl Link {
    pub fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Ethernet,
            101 | 228 => Self::Ip,
            113 => Self::Cooked,
            276 => Self::Cooked2,
            0 | 108 => Self::Loopback,
            _ => return None,
        })
    }

    /// The Ethernet frame that stands for these bytes.
    pub fn frame(self, bytes: &[u8], frame: &mut Vec<u8>) {
        frame.clear();
        let (header, protocol) = match self {
            Self::Ethernet => return frame.extend_from_slice(bytes),
            Self::Ip => (0, of_version(bytes)),
            Self::Cooked => (16, two(bytes, 14)),
            Self::Cooked2 => (20, two(bytes, 0)),
            Self::Loopback => (4, of_family(bytes)),
        };
        frame.extend_from_slice(&[0; 12]);
        frame.extend_from_slice(&protocol);
        frame.extend_from_slice(bytes.get(header..).unwrap_or_default());
    }
}

fn two(bytes: &[u8], at: usize) -> [u8; 2] {
    bytes.get(at..at + 2).and_then(|two| two.try_into().ok()).unwrap_or(NONE)
}

fn of_version(bytes: &[u8]) -> [u8; 2] {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => ETHERTYPE_IPV4,
        Some(6) => ETHERTYPE_IPV6,
        _ => NONE,
    }
}

/// By the address family, in the byte order of the host that has captured.
fn of_family(bytes: &[u8]) -> [u8; 2] {
    match bytes {
        [2, 0, 0, 0, ..] | [0, 0, 0, 2, ..] => ETHERTYPE_IPV4,
        // What IPv6 is differs between the BSDs, macOS and Linux, and none of it is ours.
        _ => NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_becomes_ethernet() {
        let header = |length: usize, at: usize, protocol: [u8; 2]| {
            let mut header = vec![0xee; length];
            header[at..at + 2].copy_from_slice(&protocol);
            header
        };
        let ip = [0x45, 1, 2, 3];
        let ethernet = [[0; 12].as_slice(), &ETHERTYPE_IPV4].concat();
        let cases = [
            (101, vec![]),
            (228, vec![]),
            (113, header(16, 14, ETHERTYPE_IPV4)),
            (276, header(20, 0, ETHERTYPE_IPV4)),
            (0, vec![2, 0, 0, 0]),
            (108, vec![0, 0, 0, 2]),
        ];
        for (number, header) in cases {
            let mut frame = b"rest of another".to_vec();
            Link::from_number(number).unwrap().frame(&[&header[..], &ip].concat(), &mut frame);
            assert_eq!(frame, [&ethernet[..], &ip].concat(), "{number}");
        }
        let mut frame = Vec::new();
        Link::Ethernet.frame(b"any bytes", &mut frame);
        assert_eq!(frame, b"any bytes");
        assert_eq!(Link::from_number(105), None);
    }

    #[test]
    fn a_link_header_that_is_cut_is_no_ipv4() {
        for link in [Link::Ip, Link::Cooked, Link::Cooked2, Link::Loopback] {
            for length in 0..20 {
                let mut frame = Vec::new();
                link.frame(&vec![0; length], &mut frame);
                assert_eq!(frame[12..14], NONE, "{link:?} {length}");
            }
        }
    }
}
