//! IPv4 fragments (RFC 791 §3.2), gathered until their packet can be looked at.
//!
//! The packet is put together only to decide about it; what is sent on is the fragments
//! themselves, rewritten one by one, so that no way out has to fragment again.

use std::{collections::HashMap, time::Duration};

use super::packet::Fragment;

/// Packets being gathered at once.
const MOST_PACKETS: usize = 256;
/// Fragments of one packet: 65,535 bytes in the smallest payload that any link must carry
/// (RFC 791: 68 bytes, of which 48 are payload) would be more, but nobody sends that.
const MOST_FRAGMENTS: usize = 128;
/// How long a packet may take to become whole.
const LONGEST: Duration = Duration::from_secs(5);

/// What fragments of one packet have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Of {
    source: [u8; 4],
    destination: [u8; 4],
    identification: [u8; 2],
    protocol: u8,
}

#[derive(Debug)]
struct Gathering {
    deadline: Duration,
    /// Offset of the payload, and the fragment as it came: an IPv4 packet.
    parts: Vec<(usize, Vec<u8>)>,
    /// Payload bytes so far.
    have: usize,
    /// Length of the whole payload, once the last fragment has come.
    length: Option<usize>,
}

/// A packet that is whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Whole {
    /// The packet, as if it had never been in fragments.
    pub packet: Vec<u8>,
    /// Its fragments in order of offset; the first has the transport header.
    pub fragments: Vec<Vec<u8>>,
}

/// What adding a fragment led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Gathered {
    /// Others are still missing.
    Waiting,
    /// All are here.
    Whole(Whole),
    /// They contradict each other, or there are too many: all of the packet's are dropped. The
    /// number of those.
    Dropped(usize),
}

/// Packets being gathered.
#[derive(Debug, Default)]
pub(super) struct Fragments(HashMap<Of, Gathering>);

impl Fragments {
    /// Adds a fragment.
    pub fn add(&mut self, now: Duration, fragment: &Fragment<'_>) -> Gathered {
        let network = &fragment.network;
        let of = Of {
            source: network.source(),
            destination: network.destination(),
            identification: network.identification(),
            protocol: network.protocol(),
        };
        if !self.0.contains_key(&of) && self.0.len() >= MOST_PACKETS {
            return Gathered::Dropped(1);
        }
        let gathering = self.0.entry(of).or_insert_with(|| Gathering::until(now + LONGEST));
        if !gathering.add(fragment) {
            let dropped = self.0.remove(&of).map_or(0, |gathering| gathering.parts.len());
            return Gathered::Dropped(dropped + 1);
        }
        if gathering.length != Some(gathering.have) {
            return Gathered::Waiting;
        }
        self.0.remove(&of).map_or(Gathered::Waiting, Gathering::whole)
    }

    /// Gives up on packets that did not become whole in time; counts their fragments.
    pub fn expire(&mut self, now: Duration) -> usize {
        let mut dropped = 0;
        self.0.retain(|_, gathering| {
            let expired = gathering.deadline <= now;
            dropped += if expired { gathering.parts.len() } else { 0 };
            !expired
        });
        dropped
    }
}

impl Gathering {
    fn until(deadline: Duration) -> Self {
        Self { deadline, parts: Vec::new(), have: 0, length: None }
    }

    /// False if the fragment contradicts others. Fragments that overlap are an attack or a
    /// broken host (RFC 1858, and RFC 5722 for IPv6); one that comes twice is neither.
    fn add(&mut self, fragment: &Fragment<'_>) -> bool {
        let payload = fragment.network.payload().len();
        let (start, end) = (fragment.offset, fragment.offset + payload);
        let place = self.parts.partition_point(|(offset, _)| *offset < start);
        if self.parts.get(place).is_some_and(|(_, part)| part == fragment.network.bytes) {
            return true;
        }
        let before = place.checked_sub(1).and_then(|before| self.parts.get(before));
        let overlaps = before.is_some_and(|(offset, part)| offset + payload_length(part) > start)
            || self.parts.get(place).is_some_and(|(offset, _)| *offset < end);
        let beyond = self.length.is_some_and(|length| end > length || !fragment.more);
        let cuts = !fragment.more && self.parts.last().is_some_and(|(offset, _)| *offset >= end);
        if overlaps || beyond || cuts || self.parts.len() >= MOST_FRAGMENTS {
            return false;
        }
        if !fragment.more {
            self.length = Some(end);
        }
        self.have += payload;
        self.parts.insert(place, (start, fragment.network.bytes.to_vec()));
        true
    }

    fn whole(self) -> Gathered {
        let fragments: Vec<Vec<u8>> = self.parts.into_iter().map(|(_, part)| part).collect();
        let Some(first) = fragments.first() else { return Gathered::Waiting };
        let mut packet = first[..header_length(first)].to_vec();
        for part in &fragments {
            packet.extend_from_slice(&part[header_length(part)..]);
        }
        let Ok(total) = u16::try_from(packet.len()) else {
            return Gathered::Dropped(fragments.len());
        };
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet[6..8].copy_from_slice(&[0, 0]);
        Gathered::Whole(Whole { packet, fragments })
    }
}

fn header_length(packet: &[u8]) -> usize {
    usize::from(packet[0] & 0x0f) * 4
}

fn payload_length(packet: &[u8]) -> usize {
    packet.len() - header_length(packet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::packet::{Parsed, parse};
    use proptest::prelude::*;

    /// A UDP packet's fragment as a frame: `payload` at `offset`.
    fn frame(offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
        let word = (offset / 8) | if more { 0x2000 } else { 0 };
        frame[20..22].copy_from_slice(&word.to_be_bytes());
        frame[23] = 17;
        frame.extend_from_slice(payload);
        frame
    }

    fn add(fragments: &mut Fragments, frame: &[u8]) -> Gathered {
        match parse(frame) {
            Ok(Parsed::Fragment(fragment)) => fragments.add(Duration::ZERO, &fragment),
            other => panic!("not a fragment: {other:?}"),
        }
    }

    #[test]
    fn fragments_that_overlap_are_dropped_together() {
        let mut fragments = Fragments::default();
        assert_eq!(add(&mut fragments, &frame(0, true, &[1; 16])), Gathered::Waiting);
        assert_eq!(add(&mut fragments, &frame(8, false, &[2; 16])), Gathered::Dropped(2));
        assert!(fragments.0.is_empty());
    }

    #[test]
    fn a_fragment_that_comes_twice_does_no_harm() {
        let mut fragments = Fragments::default();
        assert_eq!(add(&mut fragments, &frame(0, true, &[1; 16])), Gathered::Waiting);
        assert_eq!(add(&mut fragments, &frame(0, true, &[1; 16])), Gathered::Waiting);
        assert!(matches!(add(&mut fragments, &frame(16, false, &[2; 3])), Gathered::Whole(_)));
    }

    #[test]
    fn a_packet_that_stays_incomplete_is_given_up() {
        let mut fragments = Fragments::default();
        add(&mut fragments, &frame(0, true, &[1; 16]));
        assert_eq!(fragments.expire(Duration::from_secs(4)), 0);
        assert_eq!(fragments.expire(LONGEST), 1);
    }

    #[test]
    fn packets_being_gathered_are_bounded() {
        let mut fragments = Fragments::default();
        for id in 0..=u16::try_from(MOST_PACKETS).unwrap() {
            let mut part = frame(0, true, &[1; 16]);
            part[18..20].copy_from_slice(&id.to_be_bytes());
            let expected = if usize::from(id) < MOST_PACKETS {
                Gathered::Waiting
            } else {
                Gathered::Dropped(1)
            };
            assert_eq!(add(&mut fragments, &part), expected);
        }
    }

    proptest! {
        #[test]
        fn fragments_in_any_order_become_the_packet(
            payload in prop::collection::vec(any::<u8>(), 9..600),
            cut in 1usize..8,
            order in any::<prop::sample::Index>(),
        ) {
            let size = cut * 8;
            let mut parts: Vec<_> = payload
                .chunks(size)
                .enumerate()
                .map(|(n, part)| {
                    let offset = n * size;
                    frame(u16::try_from(offset).unwrap(), offset + part.len() < payload.len(), part)
                })
                .collect();
            prop_assume!(parts.len() > 1 && parts.len() <= MOST_FRAGMENTS);
            let count = parts.len();
            parts.rotate_left(order.index(count));
            let mut fragments = Fragments::default();
            let last = parts.pop().unwrap();
            for part in &parts {
                prop_assert_eq!(add(&mut fragments, part), Gathered::Waiting);
            }
            match add(&mut fragments, &last) {
                Gathered::Whole(whole) => {
                    prop_assert_eq!(&whole.packet[20..], &payload[..]);
                    prop_assert_eq!(whole.fragments.len(), count);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
