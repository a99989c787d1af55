//! Who gets in with a cookie, who does not, and what is remembered.

use super::*;
use crate::address::Port;
use proptest::prelude::*;

/// Nanoseconds of an epoch.
const EPOCH: u64 = 1 << Epoch::SHIFT;

fn handshake() -> impl Strategy<Value = Handshake> {
    (any::<[u8; 8]>(), any::<[u8; 4]>(), any::<u32>())
        .prop_map(|(addresses, ports, sequence)| Handshake { addresses, ports, sequence })
}

fn secrets() -> impl Strategy<Value = Secrets> {
    any::<([u64; 2], [u64; 2])>().prop_map(|(even, odd)| Secrets { even, odd })
}

fn now() -> impl Strategy<Value = u64> {
    // Of a machine that has run for a while, and for centuries.
    (2 * EPOCH..200_000 * EPOCH).prop_filter("a time of its own", |nanos| nanos % EPOCH != 0)
}

fn completes(check: Check) -> bool {
    matches!(check, Check::Completes(_))
}

#[test]
fn segment_sizes_are_rounded_down_and_absent_ones_are_the_least() {
    let mss = |mss| Data::new(&SynOptions { mss, ..SynOptions::default() }).mss();
    for (said, kept) in [
        (0, 536),
        (535, 536),
        (536, 536),
        (1219, 536),
        (1220, 1220),
        (1379, 1300),
        (1380, 1380),
        (1400, 1380),
        (1451, 1440),
        (1459, 1452),
        (1460, 1460),
        (8959, 1460),
        (8960, 8960),
        (u16::MAX, 8960),
    ] {
        assert_eq!(mss(Some(said)), kept, "{said}");
    }
    assert_eq!(mss(None), 536);
    assert!(SEGMENT_SIZES.is_sorted());
}

#[test]
fn every_scale_is_remembered_and_too_large_ones_are_the_largest() {
    let scale = |window_scale| Data::new(&SynOptions { window_scale, ..SynOptions::default() });
    assert_eq!(scale(None).window_scale(), None);
    for bits in 0..=14 {
        assert_eq!(scale(Some(bits)).window_scale(), Some(bits));
    }
    assert_eq!(scale(Some(15)).window_scale(), Some(14));
    assert_eq!(scale(Some(u8::MAX)).window_scale(), Some(14));
}

#[test]
fn a_secret_is_replaced_while_nobody_needs_it() {
    for epoch in (1..1000).map(Epoch) {
        let Some(place) = epoch.replaceable() else { continue };
        assert_ne!(epoch.place(), place);
        assert_ne!(epoch.previous().place(), place);
        assert_eq!(Epoch(epoch.0 + 1).place(), place, "the next one's");
    }
    assert!((1..1000).filter(|epoch| Epoch(*epoch).replaceable().is_some()).count() == 500);
}

#[test]
fn a_client_s_packets_and_its_endpoints_are_the_same_handshake() {
    let endpoints = EndpointsV4 {
        source: [198, 51, 100, 7],
        destination: [192, 0, 2, 10],
        source_port: Port::new(0x1234),
        destination_port: Port::new(443),
    };
    let handshake = Handshake::new(&endpoints, 5);
    assert_eq!(handshake.addresses, [198, 51, 100, 7, 192, 0, 2, 10]);
    assert_eq!(handshake.ports, [0x12, 0x34, 1, 187]);
}

#[test]
fn shared_secrets_are_replaced_by_place() {
    let shared = SharedSecrets::default();
    shared.replace(0, [1, 2]);
    shared.replace(1, [3, 4]);
    assert!(shared.load() == Secrets { even: [1, 2], odd: [3, 4] });
    shared.replace(0, [5, 6]);
    assert!(shared.load() == Secrets { even: [5, 6], odd: [3, 4] });
}

/// Nothing can be read off a number: whoever offers the same gets another each time.
#[test]
fn the_same_data_looks_different_to_each_client() {
    let secrets = Secrets { even: [1, 2], odd: [3, 4] };
    let data = Data::new(&SynOptions::default());
    let mut seen = [0u32; 256];
    for port in 0..=u16::MAX {
        let [a, b] = port.to_be_bytes();
        let handshake = Handshake { addresses: [9; 8], ports: [a, b, 0, 80], sequence: 7 };
        seen[secrets.make(EPOCH, &handshake, data) as usize & 0xff] += 1;
    }
    // 256 each, give or take six standard deviations.
    assert!(seen.iter().all(|count| (160..=352).contains(count)), "{seen:?}");
}

/// Of many packets that nobody was given a cookie for, about one in 128 looks like a later one of
/// some client's, and hardly any completes a handshake.
#[test]
fn a_flood_of_wrong_acknowledgements_reaches_nobody() {
    let secrets = Secrets { even: [11, 12], odd: [13, 14] };
    let (mut follow, mut complete) = (0, 0);
    for number in 0..1u32 << 18 {
        let handshake =
            Handshake { addresses: [7; 8], ports: [1, 2, 3, 4], sequence: number.rotate_left(9) };
        match secrets.check(5 * EPOCH, &handshake, number.wrapping_mul(0x9e37_79b1)) {
            Check::Completes(_) => complete += 1,
            Check::Follows => follow += 1,
            Check::Foreign => {}
        }
    }
    assert!((1_800..=2_300).contains(&follow), "{follow}");
    assert!(complete <= 1, "{complete}");
}

/// What begins a connection in the middle of one would lose what came before it. Once an epoch has
/// passed it is the same.
#[test]
fn no_later_number_ever_completes_a_handshake() {
    let secrets = Secrets { even: [21, 22], odd: [23, 24] };
    let handshake =
        Handshake { addresses: [7; 8], ports: [1, 2, 3, 4], sequence: u32::MAX - 30_000 };
    let cookie = secrets.make(5 * EPOCH, &handshake, Data(0x5a));
    for ahead in 1..=u32::from(u16::MAX) {
        let later = Handshake { sequence: handshake.sequence.wrapping_add(ahead), ..handshake };
        let now = (5 + u64::from(ahead & 1)) * EPOCH;
        assert_eq!(secrets.check(now, &later, cookie), Check::Follows, "{ahead}");
    }
    let beyond = handshake.sequence.wrapping_add(1 << 16);
    for sequence in [handshake.sequence.wrapping_sub(1), beyond] {
        let other = Handshake { sequence, ..handshake };
        assert_eq!(secrets.check(5 * EPOCH, &other, cookie), Check::Foreign);
    }
}

/// Whoever was given a cookie may try to say that it was for something else.
#[test]
fn data_is_covered() {
    let secrets = Secrets { even: [21, 22], odd: [23, 24] };
    for sequence in 0..1u32 << 15 {
        let handshake = Handshake { addresses: [7; 8], ports: [1, 2, 3, 4], sequence };
        let cookie = secrets.make(5 * EPOCH, &handshake, Data(0x5a));
        let other = cookie ^ 1 << (sequence % 8);
        assert!(!completes(secrets.check(5 * EPOCH, &handshake, other)), "{sequence}");
    }
}

proptest! {
    #[test]
    fn what_a_syn_offers_comes_back(
        secrets in secrets(), handshake in handshake(), nanos in now(),
        mss: Option<u16>, window_scale: Option<u8>, sack_permitted: bool,
    ) {
        let data = Data::new(&SynOptions { mss, window_scale, sack_permitted });
        let cookie = secrets.make(nanos, &handshake, data);
        prop_assert_eq!(secrets.check(nanos, &handshake, cookie), Check::Completes(data));
        prop_assert_eq!(data.sack_permitted(), sack_permitted);
        prop_assert_eq!(data.window_scale(), window_scale.map(|scale| scale.min(14)));
        prop_assert!(data.mss() <= mss.unwrap_or(0).max(536));
        prop_assert_eq!(Data::new(&data.options()), data);
    }

    #[test]
    fn a_cookie_survives_its_epoch_and_the_next_and_not_a_third(
        secrets in secrets(), handshake in handshake(), nanos in now(), later in 0..EPOCH,
    ) {
        let data = Data::new(&SynOptions::default());
        let cookie = secrets.make(nanos, &handshake, data);
        let end = (nanos / EPOCH + 1) * EPOCH;
        for good in [nanos, end - 1, end, end + later, end + EPOCH - 1] {
            prop_assert_eq!(secrets.check(good, &handshake, cookie), Check::Completes(data));
        }
        for late in [end + EPOCH, end + EPOCH + later, end + 3 * EPOCH, end + 1000 * EPOCH] {
            prop_assert!(!completes(secrets.check(late, &handshake, cookie)));
        }
        prop_assert!(!completes(secrets.check(nanos - EPOCH, &handshake, cookie)), "not yet made");
    }

    /// Through every replacement that control makes.
    #[test]
    fn a_cookie_survives_the_replacement_of_secrets(
        secrets in secrets(), fresh: [u64; 2], handshake in handshake(), nanos in now(),
    ) {
        let shared = SharedSecrets::default();
        shared.replace(0, secrets.even);
        shared.replace(1, secrets.odd);
        let data = Data::new(&SynOptions::default());
        let cookie = shared.load().make(nanos, &handshake, data);
        for time in [nanos, nanos + EPOCH] {
            if let Some(place) = Epoch::at(time).replaceable() {
                shared.replace(place, fresh);
            }
            let check = shared.load().check(time, &handshake, cookie);
            prop_assert_eq!(check, Check::Completes(data));
        }
    }

    /// A bit that is not what it was makes it another's: by chance one in millions is good.
    #[test]
    fn a_cookie_is_of_no_use_to_others_and_no_bit_of_its_tags_can_be_guessed(
        secrets in secrets(), handshake in handshake(), nanos in now(), bit in 0..64u32,
    ) {
        let data = Data::new(&SynOptions { mss: Some(1460), ..SynOptions::default() });
        let cookie = secrets.make(nanos, &handshake, data);
        let (byte, in_byte) = (bit as usize / 8, 1 << (bit % 8));
        let (mut addresses, mut ports) = (handshake, handshake);
        addresses.addresses[byte] ^= in_byte;
        ports.ports[byte % 4] ^= in_byte;
        let tag = (handshake, cookie ^ 1 << (8 + bit % 24));
        for (handshake, cookie) in [(addresses, cookie), (ports, cookie), tag] {
            prop_assert!(!completes(secrets.check(nanos, &handshake, cookie)));
        }
    }
}
