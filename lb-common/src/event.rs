//! What can happen to a packet, by stable number.
//!
//! One list for the packet programs and the daemon. Numbers are never reused or renumbered: they are
//! the indices of the `events` map, and operators' dashboards outlive releases.

/// Size of the `events` map: room for the list to grow without a new layout.
pub const EVENTS: u32 = 128;

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// Why a packet was passed, punted, dropped or answered. Each has a counter.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Event { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Event {
            /// Every event, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name that `lb status`, logs and metrics show.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// One sentence for a person.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+),)+ }
            }
        }
    };
}

events! {
    /// Not IPv4 over Ethernet with at most one VLAN tag: left to the kernel.
    PassNotIpv4 = 1, "pass_not_ipv4";
    /// No virtual service and no flow: left to the kernel.
    PassNotOurs = 2, "pass_not_ours";

    /// First packet of a flow: a worker decides.
    PuntFirstPacket = 16, "punt_first_packet";
    /// TCP SYN on a flow that is known: a retransmission, or the ports are used again.
    PuntSyn = 17, "punt_syn";
    /// First packet from the server, for an L4_RESPONSE script.
    PuntResponse = 18, "punt_response";
    /// IP options or a fragment.
    PuntIrregular = 19, "punt_irregular";
    /// ICMP error that quotes one of our flows.
    PuntIcmpError = 20, "punt_icmp_error";
    /// The next hop's link-layer address is not known yet.
    PuntNextHop = 21, "punt_next_hop";
    /// Of an inspected connection that is not spliced yet.
    PuntInspected = 22, "punt_inspected";
    /// From the client of a spliced connection, with unusual TCP options.
    PuntOptions = 23, "punt_options";
    /// The ACK that completes a handshake begun with a cookie: the client is where it says it is.
    PuntCookie = 24, "punt_cookie";
    /// Of a client that was given a cookie, and not the ACK that completes the handshake: the
    /// worker may know the flow by now.
    PuntEarly = 25, "punt_early";

    /// Needed a worker, and none is running on this queue.
    DropNoWorker = 32, "drop_no_worker";
    /// Headers that contradict each other or the packet's length.
    DropMalformed = 33, "drop_malformed";
    /// The time to live ran out here.
    DropTtlExpired = 34, "drop_ttl_expired";
    /// Belongs to a flow that a script closed.
    DropClosed = 35, "drop_closed";
    /// No room in the frame for the VLAN tag that the way out needs.
    DropNoHeadroom = 36, "drop_no_headroom";
    /// The service's network security policy denies the client.
    DropDenied = 37, "drop_denied";
    /// More new flows than the service's limits allow, of this client or of all.
    DropRateLimited = 38, "drop_rate_limited";
    /// No room in the frame for the answer to a SYN.
    DropNoTailroom = 39, "drop_no_tailroom";
    /// A TCP RST of no flow, to a service that answers with cookies.
    DropResetNoFlow = 40, "drop_reset_no_flow";

    /// A SYN, answered with a cookie: nothing is kept of it.
    AnswerCookie = 48, "answer_cookie";
    /// TCP of no flow and without a good cookie, answered with a RST.
    AnswerReset = 49, "answer_reset";

    /// No flow, and not the start of one.
    DropNoFlow = 64, "drop_no_flow";
    /// A script closed the connection.
    DropScriptClosed = 65, "drop_script_closed";
    /// A script failed.
    DropScriptError = 66, "drop_script_error";
    /// The pool has no server that can take the flow.
    DropNoServer = 67, "drop_no_server";
    /// The flow table is full.
    DropFlowTableFull = 68, "drop_flow_table_full";
    /// Flows that are not established yet have taken all of their share of the table.
    DropHalfOpenLimit = 69, "drop_half_open_limit";
    /// Every SNAT port toward the server is in use.
    DropSnatPortsExhausted = 70, "drop_snat_ports_exhausted";
    /// No route to the server or the client, or one over an interface that is not the balancer's.
    DropUnreachable = 71, "drop_unreachable";
    /// The next hop did not answer in time, or too many packets wait for it.
    DropNextHopUnresolved = 72, "drop_next_hop_unresolved";
    /// Fragments that overlap, never became whole, or were too many.
    DropFragment = 73, "drop_fragment";
    /// Another flow already uses the same addresses and ports: the reply's (dnat), or its own.
    DropReplyConflict = 74, "drop_reply_conflict";
    /// The way out had no room for the packet.
    DropTransmitFull = 75, "drop_transmit_full";
    /// The flow's server is not there any more.
    DropServerGone = 76, "drop_server_gone";
    /// The worker did not keep up: the queue to it was full.
    DropReceiveFull = 77, "drop_receive_full";
    /// Needed a worker, and was longer than what one can be handed: merged by an offload, or a
    /// jumbo frame.
    DropReceiveTooLong = 78, "drop_receive_too_long";
    /// The kernel refused the frame that a worker gave it to send.
    DropTransmitRefused = 79, "drop_transmit_refused";
    /// Every server that is up has as many connections, or gets as many a second, as it may.
    DropServerLimit = 80, "drop_server_limit";
    /// The virtual service has as many connections as it may.
    DropServiceLimit = 81, "drop_service_limit";
    /// Later data of an inspected connection, whose first is not here yet: its client sends it again.
    DropEarly = 82, "drop_early";
    /// The payload that a script waits for did not come: not in time, or the client has closed.
    DropNoPayload = 83, "drop_no_payload";
    /// Inspected connections hold as much payload as they may.
    DropInspectMemory = 84, "drop_inspect_memory";
}

impl Event {
    /// The index in the `events` map.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_fit_the_map() {
        for pair in Event::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number());
        }
        assert!(Event::ALL.iter().all(|event| event.number() < EVENTS));
    }

    #[test]
    fn names_tell_the_kind() {
        for event in Event::ALL {
            let prefix = match event.number() {
                0..16 => "pass_",
                16..32 => "punt_",
                48..64 => "answer_",
                _ => "drop_",
            };
            assert!(event.name().starts_with(prefix), "{event:?}");
        }
    }
}
