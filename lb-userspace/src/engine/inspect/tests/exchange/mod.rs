//! A client, the balancer and a server over a network that loses, delays, reorders and repeats: what
//! either side says arrives once and in order at the other.

mod network;
mod peer;
mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::testing::cases;

use network::Network;
use peer::{Accepts, Peer, RETRY};
use world::World;

fn words(length: usize, salt: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + at / 256 + salt) % 251).unwrap()).collect()
}

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    loss: u64,
    says: usize,
    wants: usize,
    client_room: u32,
    client_scale: Option<u8>,
    refusing: usize,
    accepts: Accepts,
}

fn case() -> impl Strategy<Value = Case> {
    let scale = || prop_oneof![Just(None), (0u8..15).prop_map(Some)];
    let length = || prop_oneof![0usize..3000, 0usize..100_000];
    let network = (any::<u64>(), prop_oneof![Just(0u64), Just(5), Just(25)]);
    let client = (length(), 0usize..20_000, 500u32..60_000, scale());
    let server = (length(), 500u32..60_000, scale(), 48u16..2000, 0usize..3);
    (network, client, server).prop_map(|((seed, loss), client, server)| {
        let (says, wants, client_room, client_scale) = client;
        let (answers, room, scale, mss, refusing) = server;
        let accepts = Accepts { says: words(answers, 17), room, scale, mss };
        Case { seed, loss, says, wants, client_room, client_scale, refusing, accepts }
    })
}

fn world(case: &Case) -> World {
    let Case { seed, loss, client_room, client_scale, .. } = *case;
    let agreed = agreed(1460, client_scale, false);
    let wants = case.wants.min(case.says);
    let start = Start { agreed, need: wants.min(1), ..start() };
    let now = 100 * SECOND;
    let next = SequenceNumber(COOKIE + 1);
    let client = Peer {
        initial: start.client,
        says: words(case.says, 0),
        acknowledged: 0,
        sent: 0,
        window: 65_535,
        their_scale: agreed.scales().map_or(0, |scales| scales.ours),
        next,
        heard: Vec::new(),
        their_fin: false,
        room: client_room,
        scale: client_scale.unwrap_or(0),
        edge: next.plus(client_room),
        mss: 1460,
        retry_at: now + RETRY,
        is_synchronized: true,
        is_server: false,
    };
    World {
        network: Network { seed, loss, now, flying: BTreeMap::new() },
        client,
        server: None,
        accepts: case.accepts.clone(),
        balancer: None,
        splice: None,
        start,
        wants,
        refusing: case.refusing,
        chosen: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(128)))]

    #[test]
    fn both_hear_all_that_the_other_says(case in case()) {
        let mut world = world(&case);
        world.run();
        let server = world.server.expect("one has accepted");
        prop_assert!(server.heard == world.client.says, "the server heard {}", server.heard.len());
        prop_assert!(world.client.heard == server.says, "the client heard {}", world.client.heard.len());
    }
}
