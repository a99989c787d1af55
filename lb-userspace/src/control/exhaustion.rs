//! What operators are told when SNAT ports run out.

use std::{collections::HashMap, time::Duration};

use tracing::warn;

use crate::engine::Peer;

/// How often it is said of one server.
const INTERVAL: Duration = Duration::from_secs(60);

/// Says it once a minute of each server, however many workers find it out.
#[derive(Debug, Default)]
pub(super) struct Exhaustion {
    told: HashMap<Peer, Duration>,
}

impl Exhaustion {
    /// A worker has refused a flow because no port toward this server was left.
    pub fn tell(&mut self, peer: Peer, now: Duration) {
        if self.is_news(peer, now) {
            warn!(
                server = %peer.server,
                protocol = peer.protocol.name(),
                "no SNAT port is left toward a server, new flows to it are refused: add \
                 snat_addresses or widen snat_ports in [instance]"
            );
        }
    }

    fn is_news(&mut self, peer: Peer, now: Duration) -> bool {
        self.told.retain(|_, told| now.saturating_sub(*told) < INTERVAL);
        let is_news = !self.told.contains_key(&peer);
        if is_news {
            self.told.insert(peer, now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use lb_common::address::Protocol;

    use super::*;

    #[test]
    fn it_is_told_once_a_minute_of_each_server() {
        let mut exhaustion = Exhaustion::default();
        let mut told = |host, seconds| {
            let server = ([10, 0, 0, host], 80).into();
            let peer = Peer { server, protocol: Protocol::Tcp };
            exhaustion.is_news(peer, Duration::from_secs(seconds))
        };
        // Two workers, a second apart.
        assert!(told(1, 0) && !told(1, 1) && told(2, 1));
        assert!(told(1, 60) && !told(1, 61) && told(2, 61));
        assert_eq!(exhaustion.told.len(), 2);
    }
}
