//! Where in the table a flow may be.

use lb_common::{
    address::Protocol::{Tcp, Udp},
    event::Event,
    path::Verdict::Transmit,
};

use crate::{
    fixture::{Case, check},
    setup::{Place, Setup, dnat, snat, snat_reply},
};

#[test]
fn a_flow_is_found_wherever_it_is() {
    let flows = [
        snat(Tcp).at(Place::First),
        snat(Udp).at(Place::Second),
        dnat(Tcp).at(Place::Stash),
        snat_reply(Tcp).at(Place::Second),
        snat_reply(Udp).at(Place::Stash),
    ];
    let cases = flows.clone().map(|flow| {
        let packet = flow.packet();
        Case::forwarded(&format!("{:?}", flow.place), &packet, &flow.sent(&packet), Transmit)
    });
    check(&Setup::new(flows), &cases);
}

#[test]
fn every_slot_of_a_bucket_is_looked_at() {
    // The stash is one bucket of four slots here: these fill it.
    let flows = [snat(Tcp), snat(Udp), dnat(Tcp), dnat(Udp)].map(|flow| flow.at(Place::Stash));
    let cases = flows.clone().map(|flow| {
        let packet = flow.packet();
        Case::forwarded("a slot of the stash", &packet, &flow.sent(&packet), Transmit)
    });
    check(&Setup::new(flows), &cases);
}

#[test]
fn a_slot_that_a_worker_owns_is_a_miss() {
    let flow = snat(Tcp).at(Place::Owned);
    let reply = snat_reply(Tcp).at(Place::Owned);
    let cases = [
        Case::punt("to the service", flow.packet().bytes(), Event::PuntFirstPacket),
        Case::pass("the reply", reply.packet().bytes(), Event::PassNotOurs),
    ];
    check(&Setup::new([flow, reply]), &cases);
}
