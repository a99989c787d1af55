//! Headers that are cut, or lie.

use lb_common::{
    address::Protocol::{self, Tcp, Udp},
    event::Event,
    path::Verdict::Transmit,
};

use crate::{
    fixture::{Case, check},
    packet::{framed, seal},
    setup::{Flow, Setup, snat, snat_reply},
};

/// A known flow's packet is never forwarded unless all of it is there.
fn cut_everywhere(flow: &Flow, whole_ports: fn(String, Vec<u8>) -> Case) {
    let whole = flow.packet().bytes();
    let not_ipv4 = |name, frame| Case::pass(name, frame, Event::PassNotIpv4);
    let cases = (14..whole.len()).map(|length| {
        let case = if length < 42 { not_ipv4 } else { whole_ports };
        case(format!("{} cut to {length} bytes", flow.protocol), whole[..length].to_vec())
    });
    check(&Setup::ordinary(), &cases.collect::<Vec<_>>());
}

#[test]
fn a_packet_to_a_service_that_is_cut_is_dropped() {
    let drop = |name, frame| Case::drop(name, frame, Event::DropMalformed);
    cut_everywhere(&snat(Tcp), drop);
    cut_everywhere(&snat(Udp), drop);
}

#[test]
fn a_reply_that_is_cut_is_left_to_the_kernel() {
    let pass = |name, frame| Case::pass(name, frame, Event::PassNotOurs);
    cut_everywhere(&snat_reply(Tcp), pass);
    cut_everywhere(&snat_reply(Udp), pass);
}

fn claiming(flow: &Flow, length: u16) -> Vec<u8> {
    let mut network = flow.packet().network();
    network[2..4].copy_from_slice(&length.to_be_bytes());
    seal(&mut network);
    framed(&network)
}

#[test]
fn a_length_that_cannot_be_is_dropped() {
    let lies = |protocol: Protocol, headers: u16| {
        let flow = snat(protocol);
        let real = u16::try_from(flow.packet().network().len()).unwrap();
        let wrong = [0, 19, 20, headers - 1, real + 1, real + 4, 0x7fff, 0xffff];
        wrong.map(|length| {
            let name = format!("{protocol} of {length} bytes");
            Case::drop(name, claiming(&flow, length), Event::DropMalformed)
        })
    };
    check(&Setup::ordinary(), &[lies(Tcp, 40), lies(Udp, 28)].concat());
}

#[test]
fn bytes_behind_the_claimed_end_are_padding() {
    let flow = snat(Udp);
    let short = flow.packet().payload(b"");
    let case = Case::forwarded("headers alone", &short, &flow.sent(&short), Transmit);
    // A frame of any length may follow; its bytes are neither looked at nor summed.
    let behind = |bytes: &[u8]| [bytes, &[0xee; 200]].concat();
    let (input, output) = (behind(&case.input), behind(&case.output));
    let touched = case.touched.map(|(key, mut touch)| {
        touch.bytes = input.len() as u64;
        (key, touch)
    });
    check(&Setup::ordinary(), &[Case { input, output, touched, ..case }]);
}
