//! The end of flows whose server is gone: whoever waits for an answer is made to ask.
//!
//! After its flow has ended, a client is told by the reset that answers its next segment. One that
//! only waits sends none. So it gets a segment that looks like a keep-alive probe (RFC 9293 §3.8.4):
//! its sequence number is unacceptable, and it must be answered by an ACK with the exact numbers
//! (§3.10.7.4). The reset that this ACK meets is exact too, as RFC 5961 §3 wants it.
//!
//! Nobody here knows which numbers are acceptable: the program does not follow them. A window has at
//! most 2^30 of the 2^32, so of two that lie 2^31 apart one is outside. Each flow's end is told
//! twice: when it ends and when its slot is given back, which also outlives a lost segment.
//!
//! A server that was taken out of service may live as well, and hold its side for hours. In snat
//! mode it answers such a segment to an address of the balancer's own, whose kernel resets it. In
//! dnat mode its answer would go by the balancer to the client, so it is left to find out.

use lb_common::{address::Protocol, flow::FlowRecord, next_hop::NextHopId};

use super::{Found, State, Turn, reset, view::v4};
use crate::flow_table::{FlowTable, SlotId};

/// Flows that may be ended in one tick: each sends two frames now and two later, and the way out
/// has room for two thousand.
pub(super) const AT_ONCE: usize = 256;

/// Whom the end of a flow concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Farewell {
    client: Probe,
    server: Option<Probe>,
}

/// Who is asked, as whom, and by which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Probe {
    ends: reset::Ends,
    via: NextHopId,
}

/// Which of the two times it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Telling {
    /// The flow ends.
    First,
    /// Its slot is given back.
    Second,
}

impl Telling {
    fn sequence(self) -> u32 {
        match self {
            Self::First => 0,
            Self::Second => 1 << 31,
        }
    }
}

impl Farewell {
    /// `None` if nobody has to be told: of UDP; of a connection that the server never answered,
    /// whose client goes on to ask by itself; of one that is over.
    pub fn of(found: &Found, table: &FlowTable) -> Option<Self> {
        let over = matches!(found.state(), State::Closed | State::Finished | State::Reset);
        let answered = found.reply.packets > 0;
        if found.protocol() != Protocol::Tcp || over || !answered {
            return None;
        }
        let partner = SlotId(found.record.partner);
        let is_whole = found.record.partner != FlowRecord::ALONE;
        let (_, reply, _) = is_whole.then(|| table.slot(partner).snapshot()).flatten()?;
        let client =
            Probe { ends: reset::ends(v4(found.vip())?, v4(found.client())?), via: reply.next_hop };
        let to_server = |snat| Some(reset::ends(v4(snat)?, v4(found.server()?)?));
        let server = found.snat().and_then(to_server);
        let server = server.map(|ends| Probe { ends, via: found.entry.next_hop });
        Some(Self { client, server })
    }

    /// Makes them speak, as far as the way to them is known.
    pub fn tell(&self, telling: Telling, turn: &mut Turn<'_>) {
        for Probe { ends, via } in [Some(self.client), self.server].into_iter().flatten() {
            let next_hop = turn.neighbours.entry(via);
            if next_hop.is_resolved() {
                turn.effects.transmit(&next_hop, &reset::probe(ends, telling.sequence()));
            }
        }
    }
}
