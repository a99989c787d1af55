//! IEEE 802.1Q tags, coming and going.

use lb_common::{
    address::Protocol::{Tcp, Udp},
    event::Event,
    path::Verdict::{self, Transmit},
};

use crate::{
    fixture::{Case, check},
    memory::{HEADROOM, Memory},
    packet::Packet,
    program::{Arrival, Program},
    setup::{Flow, Setup, VLAN_100, snat},
};

fn setup() -> Setup {
    Setup::new([snat(Tcp), snat(Udp).by(VLAN_100)])
}

/// Leaves with `tag`.
fn to_tag(name: &str, packet: &Packet, tag: u16) -> Case {
    let flow = snat(Udp).by(VLAN_100);
    Case::forwarded(name, packet, &flow.sent(packet).tag(tag), Transmit)
}

#[test]
fn only_the_identifier_is_ours_to_set() {
    let packet = snat(Udp).packet();
    let cases = [
        to_tag("same identifier", &packet.clone().tag(100), 100),
        to_tag("other identifier", &packet.clone().tag(200), 100),
        to_tag("priority 5", &packet.clone().tag(0xa000 | 200), 0xa000 | 100),
        to_tag("drop eligible", &packet.clone().tag(0x1000 | 4094), 0x1000 | 100),
        to_tag("priority tag", &packet.clone().tag(0x6000), 0x6000 | 100),
    ];
    check(&setup(), &cases);
}

#[test]
fn a_tag_is_added_and_taken_away() {
    let (plain, tagged) = (snat(Tcp), snat(Udp).packet());
    let untag = |name, tag| {
        let packet = plain.packet().tag(tag);
        Case::forwarded(name, &packet, &plain.sent(&packet), Transmit)
    };
    let short = tagged.clone().payload(b"").padding(18);
    let cases = [
        untag("tag taken away", 200),
        untag("priority goes with its tag", 0xe000 | 200),
        untag("priority tag taken away", 0x6000),
        to_tag("tag added", &tagged, 100),
        to_tag("tag added to the shortest frame", &tagged.payload(b""), 100),
        to_tag("tag added to a padded frame", &short, 100),
        to_tag("padding stays behind a tag", &short.clone().tag(7), 100),
    ];
    check(&setup(), &cases);
}

#[test]
fn tags_do_not_hide_first_packets_and_lies() {
    let unknown = Packet { endpoints: snat(Udp).from, ..snat(Tcp).packet() };
    let mut cut = unknown.clone().tag(9).bytes();
    cut.pop();
    let cases = [
        Case::punt("first packet", unknown.tag(9).bytes(), Event::PuntFirstPacket),
        Case::drop("cut", cut, Event::DropMalformed),
    ];
    check(&Setup::new([]), &cases);
}

#[test]
fn what_is_tagged_twice_is_the_kernels() {
    let tagged = snat(Tcp).packet().tag(100).bytes();
    let outer = |ethertype: [u8; 2]| {
        let mut frame = tagged.clone();
        frame.splice(12..12, [ethertype[0], ethertype[1], 0, 200]);
        frame
    };
    let not_ipv4 = |name: &str, frame| Case::pass(name, frame, Event::PassNotIpv4);
    let mut cases = vec![
        not_ipv4("802.1Q in 802.1Q", outer([0x81, 0x00])),
        not_ipv4("802.1Q in 802.1ad", outer([0x88, 0xa8])),
    ];
    for length in 14..18 {
        cases.push(not_ipv4("within the tag", tagged[..length].to_vec()));
    }
    check(&setup(), &cases);
}

/// Metadata takes the room that a tag needs. Kernels before 6.3 lend it no more than 32 bytes, so
/// there the program's half cannot be shown.
#[test]
fn without_room_for_a_tag_the_packet_is_dropped() {
    let flow: Flow = snat(Udp).by(VLAN_100);
    let packet = flow.packet().bytes();
    let dropped = Verdict::Drop(Event::DropNoHeadroom);
    let memory = Memory::new(&setup());
    let roomy = memory.run_with(&packet, 1, 4);
    assert_eq!(roomy.0, Transmit);
    let (verdict, expected) = memory.run_with(&packet, 1, 3);
    assert_eq!(verdict, dropped);
    assert!(expected.touched.is_empty(), "what is dropped is not counted as forwarded");
    if !lb_tests::require_root() {
        return;
    }
    let mut program = Program::load(&setup(), 1);
    let metadata = u32::try_from(HEADROOM).unwrap();
    match program.run_from(&packet, Arrival { metadata, ..Arrival::default() }) {
        Ok(observed) => assert_eq!(observed, expected),
        Err(error) => println!("this kernel lends no {metadata} bytes of metadata: {error}"),
    }
}
