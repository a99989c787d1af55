//! Captures of every kind, and damaged ones.

use proptest::prelude::*;

use super::{
    shots::{
        BEGINNING, Shot, enhanced, interface, pcap, pcap_with, pcapng, record, section, swapped,
        tagged, udp,
    },
    *,
};

/// A small capture.
fn shots() -> Vec<Shot> {
    let frame = |port: u16| udp((&format!("198.51.100.7:{port}"), "192.0.2.10:53"), b"question");
    (0..4).map(|n: u16| (u64::from(n) * 1_250, frame(4000 + n))).collect()
}

/// What the reader makes of it: time in microseconds, and the frame.
fn read(bytes: &[u8]) -> Result<Vec<Shot>, String> {
    let file = file(bytes);
    let read_all = || -> Result<_, BadCapture> {
        let (mut capture, mut packet) = (Capture::begin(file.as_file())?, Packet::default());
        let mut shots = Vec::new();
        while capture.read(&mut packet)? {
            assert_eq!(packet.number, shots.len() as u64 + 1);
            let time = packet.time - Duration::from_secs(BEGINNING);
            shots.push((time.as_micros() as u64, packet.frame.clone()));
        }
        Ok(shots)
    };
    read_all().map_err(|error| error.to_string())
}

#[test]
fn every_format_is_read_alike() {
    let shots = shots();
    let big_section = {
        let mut bytes = section();
        bytes[4..12]
            .iter_mut()
            .zip([0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d])
            .for_each(|(a, b)| *a = b);
        bytes[24..28].copy_from_slice(&28u32.to_be_bytes());
        bytes
    };
    let without_link: Vec<Shot> =
        shots.iter().map(|(at, frame)| (*at, frame[14..].to_vec())).collect();
    let micros = pcap(&shots);
    let nanos = pcap_with(0xa1b2_3c4d, 1, &shots);
    let formats = [
        ("pcap", micros.clone()),
        ("pcap, nanoseconds", nanos.clone()),
        ("pcap, big-endian", swapped(&micros)),
        ("pcap, nanoseconds, big-endian", swapped(&nanos)),
        ("pcapng", pcapng(&shots)),
        ("pcapng, a section before it", [section(), interface(1, 3), pcapng(&shots)].concat()),
        ("pcapng, an empty big-endian section before it", [big_section, pcapng(&shots)].concat()),
    ];
    for (format, bytes) in formats {
        assert_eq!(read(&bytes).as_ref(), Ok(&shots), "{format}");
    }
    let raw = read(&pcap_with(0xa1b2_c3d4, 101, &without_link)).unwrap();
    let same = raw.iter().zip(&shots).all(|(raw, shot)| raw.1[12..] == shot.1[12..]);
    assert!(same && raw.len() == shots.len());
}

#[test]
fn a_capture_that_is_cut_off_is_refused_unless_between_packets() {
    for whole in [pcap(&shots()), pcapng(&shots())] {
        let mut ends = Vec::new();
        for length in 0..whole.len() {
            match read(&whole[..length]) {
                Ok(some) => {
                    assert_eq!(some, shots()[..some.len()], "{length}");
                    ends.push(some.len());
                }
                Err(error) => assert!(
                    error.contains("the file ends")
                        || error == "the file is empty"
                        || error.contains("not a capture"),
                    "{length}: {error}"
                ),
            }
        }
        ends.dedup();
        assert_eq!(ends, [0, 1, 2, 3]);
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let whole = pcap(&shots());
    let length = 16 + shots()[0].1.len();
    let with = |at: usize, number: u32| {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    let after = |rest: Vec<u8>| [section(), interface(1, 6), rest].concat();
    let (_, frame) = &shots()[0];
    let simple = {
        let length = 16 + frame.len().next_multiple_of(4);
        let words = [3, length as u32, frame.len() as u32].map(u32::to_le_bytes).concat();
        let mut block = [words, frame.clone()].concat();
        block.resize(length - 4, 0);
        [block, (length as u32).to_le_bytes().into()].concat()
    };
    let obsolete = [2u32, 16, 0, 16].map(u32::to_le_bytes).concat();
    let cases = [
        (after(obsolete), "at byte 72: it is in a Packet Block, which is obsolete"),
        (
            whole[..24 + length + 20].to_vec(),
            "packet 2, at byte 90: the file ends there: 66 bytes are needed, 20 are there",
        ),
        (
            whole[..24 + length + 5].to_vec(),
            "packet 2, at byte 90: the file ends there: 16 bytes are needed, 5 are there",
        ),
        (whole[..20].to_vec(), "the file ends within its header"),
        (vec![], "the file is empty"),
        (b"\x1f\x8b\x08\x00rest of it".to_vec(), "not a capture: it is compressed: run gunzip"),
        (b"[instance]\nname = 1".to_vec(), "not a capture: pcap and pcapng files do not begin"),
        (
            with(24 + length + 8, 0x7fff_ffff),
            "packet 2, at byte 90: it claims to be 2147483663 bytes long: the file is damaged",
        ),
        (with(20, 105), "link type 105 is not understood; Ethernet (1)"),
        (
            after(enhanced(1, 0, 1, frame)),
            "packet 1, at byte 72: it is of interface 1, which the file does not describe",
        ),
        (
            after(enhanced(0, 10_000_000_000_000_000, 1, frame)),
            "its time is before 1970 or after 2106",
        ),
        (after(simple), "at byte 72: it is in a Simple Packet Block, which has no time"),
    ];
    for (bytes, expected) in cases {
        let error = read(&bytes).unwrap_err();
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
}

#[test]
fn only_files_are_captures() {
    let error = Capture::open(Path::new("/")).unwrap_err().to_string();
    assert!(error.contains("must be a file"), "{error}");
    let error = Capture::open(Path::new("/no/such.pcap")).unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn packets_of_any_length_and_number_are_read() {
    // More than is read from the file at once, and records across every border.
    let frame = |n: usize| vec![n as u8; n * 7919 % 70_000];
    let shots: Vec<Shot> = (0..200).map(|n| (n as u64, frame(n))).collect();
    assert!(read(&pcap(&shots)) == Ok(shots.clone()));
    assert!(read(&pcapng(&shots)) == Ok(shots));
    let huge: Vec<Shot> = vec![(0, vec![1; 3 << 20]), (1, vec![2; 5])];
    assert!(read(&pcap(&huge)) == Ok(huge.clone()));
    assert!(read(&pcapng(&huge)) == Ok(huge));
}

#[test]
fn tags_stay_where_they_are() {
    let (_, frame) = &shots()[0];
    let tagged = tagged(frame, [0x81, 0]);
    assert_eq!(read(&pcap(&[(0, tagged.clone())])), Ok(vec![(0, tagged)]));
    let cut = [pcap(&[]), record(0, 1, &frame[..30], frame.len())].concat();
    assert_eq!(read(&cut), Ok(vec![(0, frame[..30].to_vec())]));
}

/// Bytes that are changed, and where the file ends.
type Damage = (Vec<(prop::sample::Index, u8)>, Option<prop::sample::Index>);

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12);
    (bytes, prop::option::of(any::<prop::sample::Index>()))
}

fn damaged(mut bytes: Vec<u8>, (changes, end): Damage) -> Vec<u8> {
    if let Some(end) = end {
        bytes.truncate(end.index(bytes.len()) + 1);
    }
    for (place, value) in changes {
        let place = place.index(bytes.len());
        bytes[place] = value;
    }
    bytes
}

proptest! {
    #[test]
    fn a_damaged_capture_is_read_or_refused(damage in damage(), is_pcapng: bool) {
        let whole = if is_pcapng { pcapng(&shots()) } else { pcap(&shots()) };
        let (mut packet, file) = (Packet::default(), file(&damaged(whole, damage)));
        if let Ok(mut capture) = Capture::begin(file.as_file()) {
            while let Ok(true) = capture.read(&mut packet) {}
        }
    }
}

proptest! {
    // Each is two balancers.
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn damaged_packets_are_replayed_alike(damage in damage()) {
        let changed = damaged(story().split_off(24), (damage.0, None));
        // The headers of records stay as they are, lest all be refused.
        let (mut bytes, mut at) = (story(), 24);
        while at < bytes.len() {
            let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
            bytes[at + 16..at + 16 + length].copy_from_slice(&changed[at - 8..at - 8 + length]);
            at += 16 + length;
        }
        let config = config(STORY, &SCRIPTS);
        let [first, second] = [(); 2].map(|()| replayed(&config, &bytes).unwrap());
        prop_assert_eq!(first.flows, second.flows);
        prop_assert_eq!(first.summary.packets, story::shots().len() as u64);
    }
}
