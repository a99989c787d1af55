//! What the kernel tells of changes, as it happens.

use futures_util::{FutureExt, Stream, StreamExt};
use rtnetlink::{
    MulticastGroup,
    packet_core::{NLM_F_REPLACE, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::{AsyncSocket, SocketAddr},
};

use super::{decode, kernel::KernelError, topology::Change};

/// Bytes of events that the kernel may hold back while the control thread is busy: some
/// thousand. The kernel doubles it for its own overhead and caps it by `net.core.rmem_max`.
const RECEIVE_BUFFER: u32 = 1 << 20;

/// The groups whose events change a topology.
const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Neigh,
];

/// What the kernel told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Something changed.
    Change(Change),
    /// Something changed that it cannot tell, or it had more to tell than there was room for:
    /// everything has to be read anew.
    ReadAnew,
}

/// A subscription to the kernel's events. To miss none, open it *before* the tables are read, and
/// apply what it tells over what was read.
pub struct Monitor(Messages);

type Messages =
    Box<dyn Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)> + Send + Unpin>;

impl Monitor {
    /// Subscribes, in the calling thread's network namespace, and serves the socket from a task.
    ///
    /// # Errors
    ///
    /// When the socket cannot be opened.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn open() -> Result<Self, KernelError> {
        let opened = rtnetlink::new_multicast_connection(&GROUPS).and_then(|mut opened| {
            opened.0.socket_mut().socket_mut().set_rx_buf_sz(RECEIVE_BUFFER)?;
            Ok(opened)
        });
        let (connection, _, messages) =
            opened.map_err(|error| KernelError::new("subscribing to rtnetlink events", error))?;
        tokio::spawn(connection);
        Ok(Self(Box::new(messages)))
    }

    /// The next notice; `None` when the socket failed. May be cancelled without losing any.
    pub async fn next(&mut self) -> Option<Notice> {
        loop {
            let (message, _) = self.0.next().await?;
            if let Some(notice) = notice(&message) {
                return Some(notice);
            }
        }
    }

    /// The next notice, if it is there already.
    pub fn ready(&mut self) -> Option<Notice> {
        self.next().now_or_never().flatten()
    }
}

fn notice(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Notice> {
    match &message.payload {
        NetlinkPayload::Overrun(_) => Some(Notice::ReadAnew),
        NetlinkPayload::InnerMessage(inner) => {
            let replaces = message.header.flags & NLM_F_REPLACE != 0;
            if decode::is_partial(inner, replaces) {
                return Some(Notice::ReadAnew);
            }
            decode::change(inner, replaces).map(Notice::Change)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::control::network::{
        kernel::Kernel,
        testing::{eventually, in_namespace, ip, run},
        topology::{Applied, NOWHERE, Topology},
    };

    /// A topology that is kept in step as the service does it.
    struct Followed {
        monitor: Monitor,
        kernel: Kernel,
        topology: Topology,
    }

    impl Followed {
        async fn until(&mut self, what: &str, wanted: impl Fn(&Topology) -> bool) {
            while !wanted(&self.topology) {
                let notice = eventually(what, || self.monitor.ready()).await;
                let applied = match notice {
                    Notice::Change(change) => self.topology.apply(change),
                    Notice::ReadAnew => Applied::ReadAnew,
                };
                if applied == Applied::ReadAnew {
                    self.topology = self.kernel.topology().await.unwrap();
                }
            }
        }
    }

    #[test]
    fn what_happens_between_subscription_and_reading_does_no_harm() {
        in_namespace(async || {
            let monitor = Monitor::open().unwrap();
            run("ip route add 192.0.2.0/24 via 10.0.0.1");
            run("ip route replace 192.0.2.0/24 via 10.0.0.2");
            run("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:22 dev eth0");
            let kernel = Kernel::connect().unwrap();
            let topology = kernel.topology().await.unwrap();
            let gateway = |topology: &Topology| topology.route_to(ip("192.0.2.1"))?.gateway;
            assert_eq!(gateway(&topology), Some(ip("10.0.0.2")));

            run("ip route add 198.51.100.0/24 via 10.0.0.3");
            let mut followed = Followed { monitor, kernel, topology };
            let last = |topology: &Topology| topology.route_to(ip("198.51.100.1")).is_some();
            followed.until("the last route", last).await;
            assert_eq!(gateway(&followed.topology), Some(ip("10.0.0.2")));

            run("ip route del 192.0.2.0/24");
            let gone = |topology: &Topology| topology.route_to(ip("192.0.2.1")).is_none();
            followed.until("the route to go", gone).await;
            let read = followed.kernel.topology().await.unwrap();
            // The kernel makes IPv6 routes of its own when it likes.
            let routes = |topology: &Topology| {
                let v4 = topology.routes().filter(|route| route.prefix.addr().is_ipv4());
                v4.copied().collect::<HashSet<_>>()
            };
            assert_eq!(routes(&followed.topology), routes(&read));
        });
    }

    #[test]
    fn routes_of_a_link_that_goes_down_are_read_anew() {
        in_namespace(async || {
            let mut monitor = Monitor::open().unwrap();
            let kernel = Kernel::connect().unwrap();
            let mut topology = kernel.topology().await.unwrap();
            assert!(topology.route_to(ip("10.0.0.1")).is_some());
            run("ip link set eth0 down");
            eventually("the call to read anew", || match monitor.ready()? {
                Notice::Change(change) => {
                    (topology.apply(change) == Applied::ReadAnew).then_some(())
                }
                Notice::ReadAnew => Some(()),
            })
            .await;
            let topology = kernel.topology().await.unwrap();
            assert_eq!(topology.route_to(ip("10.0.0.1")), None);
        });
    }

    #[test]
    fn changes_that_a_message_does_not_tell_in_full_call_for_a_new_reading() {
        in_namespace(async || {
            let mut monitor = Monitor::open().unwrap();
            let mut expect_read_anew = async |command: &str| {
                run(command);
                let read_anew = || (monitor.ready()? == Notice::ReadAnew).then_some(());
                eventually(command, read_anew).await;
            };
            let hops = "nexthop via 10.0.0.1 nexthop via 10.0.0.2";
            expect_read_anew(&format!("ip route add 192.0.2.0/24 {hops}")).await;
            run("ip route add 198.51.100.0/24 via 10.0.0.1");
            expect_read_anew("ip route replace blackhole 198.51.100.0/24").await;

            let topology = Kernel::connect().unwrap().topology().await.unwrap();
            let route = topology.route_to(ip("192.0.2.1")).unwrap();
            assert_eq!(route.gateway, Some(ip("10.0.0.1")), "the first of the hops");
            let refusing = topology.route_to(ip("198.51.100.1")).unwrap();
            assert_eq!((refusing.gateway, refusing.interface), (None, NOWHERE));
        });
    }

    #[test]
    fn more_events_than_there_is_room_for_call_for_a_new_reading() {
        in_namespace(async || {
            let mut monitor = Monitor::open().unwrap();
            let neighbours = 40_000u16;
            let batch: String = (0..neighbours)
                .map(u16::to_be_bytes)
                .map(|[a, b]| format!("neigh add 10.9.{a}.{b} lladdr 02:00:00:00:00:01 dev eth0\n"))
                .collect();
            let path = std::env::temp_dir().join(format!("lb-neigh-{}", std::process::id()));
            std::fs::write(&path, batch).unwrap();
            run(&format!("ip -batch {}", path.display()));
            std::fs::remove_file(path).unwrap();

            let read_anew = || (monitor.ready()? == Notice::ReadAnew).then_some(());
            eventually("the call to read anew", read_anew).await;
            let topology = Kernel::connect().unwrap().topology().await.unwrap();
            let [a, b] = (neighbours - 1).to_be_bytes();
            let last = ip(&format!("10.9.{a}.{b}"));
            let eth0 = topology.interface_named("eth0").unwrap().index;
            assert!(topology.neighbour((eth0, last)).is_some());
        });
    }
}
