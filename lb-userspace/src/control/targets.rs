//! Next-hop targets as the pinned map keeps them, for flows go by their numbers over restarts.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::next_hop::{NextHopId, NextHopTarget};

use super::network::next_hops::Target;

/// A target as the map holds it.
pub(super) fn encode(target: Target) -> NextHopTarget {
    let (kind, address, prefix_length) = match target {
        Target::Host(host) => (NextHopTarget::HOST, host, full_length(host)),
        Target::Gateway(prefix) => (NextHopTarget::GATEWAY, prefix.network(), prefix.prefix_len()),
    };
    NextHopTarget { address: address.into(), prefix_length, kind, reserved: [0; 6] }
}

/// What earlier daemons assigned; entries that make no sense are left out.
pub(super) fn decode(kept: Vec<(NextHopId, NextHopTarget)>) -> Vec<(NextHopId, Target)> {
    let target = |target: NextHopTarget| match target.kind {
        NextHopTarget::HOST => Some(Target::Host(target.address.ip())),
        NextHopTarget::GATEWAY => {
            IpNet::new(target.address.ip(), target.prefix_length).ok().map(Target::Gateway)
        }
        _ => None,
    };
    kept.into_iter().filter_map(|(id, kept)| Some((id, target(kept)?))).collect()
}

fn full_length(host: IpAddr) -> u8 {
    if host.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_survive_the_map() {
        let targets = [
            Target::Host("10.0.0.1".parse().unwrap()),
            Target::Host("2001:db8::1".parse().unwrap()),
            Target::Gateway("0.0.0.0/0".parse().unwrap()),
            Target::Gateway("10.1.0.0/16".parse().unwrap()),
        ];
        let kept = targets.iter().map(|target| (NextHopId(1), encode(*target))).collect();
        let decoded: Vec<_> = decode(kept).into_iter().map(|(_, target)| target).collect();
        assert_eq!(decoded, targets);
        assert!(
            decode(vec![(NextHopId(1), NextHopTarget { kind: 0, ..encode(targets[0]) })])
                .is_empty()
        );
    }
}
