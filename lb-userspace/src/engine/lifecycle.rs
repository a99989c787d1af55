//! When a flow is over.

use std::time::Duration;

use lb_common::{
    address::Protocol,
    flow::{Activity, Flags, FlowRecord},
    time::Tick,
};

use super::log::EndReason;
use crate::config::Instance;

/// The timeouts that do not depend on the virtual service, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    tcp_half_open: u32,
    tcp_closing: u32,
    udp_one_way: u32,
}

impl Timeouts {
    /// As configured.
    pub fn new(instance: &Instance) -> Self {
        Self {
            tcp_half_open: Tick::ticks(instance.tcp_half_open_timeout),
            tcp_closing: Tick::ticks(instance.tcp_closing_timeout),
            udp_one_way: Tick::ticks(instance.udp_one_way_timeout),
        }
    }
}

/// How far a flow has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Closed because a script said so, or failed: packets are dropped.
    Closed,
    /// Its payload is being collected, or a server opened for it.
    Inspected,
    /// The server has not answered, or the client not acknowledged (TCP).
    HalfOpen,
    /// UDP with packets from one side only.
    OneWay,
    /// Packets go both ways.
    Established,
    /// One side has closed.
    HalfClosed,
    /// Both sides have closed.
    Finished,
    /// Either side has reset.
    Reset,
}

impl State {
    /// From what XDP has seen in both directions.
    pub fn of(protocol: Protocol, flags: Flags, forward: &Activity, reply: &Activity) -> Self {
        if flags.has(Flags::CLOSED) {
            return Self::Closed;
        }
        if flags.has(Flags::INSPECTED) {
            return Self::Inspected;
        }
        match protocol {
            Protocol::Udp if reply.packets == 0 => Self::OneWay,
            Protocol::Tcp if forward.rst || reply.rst => Self::Reset,
            Protocol::Tcp if forward.fin && reply.fin => Self::Finished,
            // The handshake's third packet is the client's second. Of a spliced connection both
            // handshakes are complete, and the client's SYN was not counted.
            Protocol::Tcp
                if !flags.has(Flags::SPLICED) && (reply.packets == 0 || forward.packets < 2) =>
            {
                Self::HalfOpen
            }
            Protocol::Tcp if forward.fin || reply.fin => Self::HalfClosed,
            Protocol::Udp | Protocol::Tcp => Self::Established,
        }
    }

    /// Whether it counts against the share of flows that are not established. What scripts close
    /// does, lest a flood that they refuse fill the table.
    pub fn is_half_open(self) -> bool {
        matches!(self, Self::Inspected | Self::HalfOpen | Self::OneWay | Self::Closed)
    }

    /// After how many ticks without a packet the flow ends. No state outlives the idle timeout.
    pub fn timeout(self, timeouts: &Timeouts, idle_timeout: u32) -> u32 {
        let own = match self {
            Self::Closed | Self::Established | Self::HalfClosed => idle_timeout,
            Self::Inspected | Self::HalfOpen => timeouts.tcp_half_open,
            Self::OneWay => timeouts.udp_one_way,
            Self::Finished | Self::Reset => timeouts.tcp_closing,
        };
        own.min(idle_timeout)
    }

    /// Why a flow ends that was last in this state.
    pub fn end(self) -> EndReason {
        match self {
            Self::Closed => EndReason::ClosedByScript,
            Self::Inspected | Self::HalfOpen => EndReason::HalfOpen,
            Self::OneWay => EndReason::OneWay,
            Self::Established | Self::HalfClosed => EndReason::Idle,
            Self::Finished => EndReason::Finished,
            Self::Reset => EndReason::Reset,
        }
    }
}

/// A server that has not answered a handshake for so long has failed at it: TCP's first
/// retransmission comes after one second, the second after three (RFC 6298 §2 and §5.5).
const UNANSWERED: Duration = Duration::from_secs(3);

/// What a TCP flow tells of its server, if it tells something new: `Some(true)` that it has
/// failed. `age` is since the flow began.
pub fn tells_failure(
    state: State,
    age: Duration,
    record: &FlowRecord,
    forward: &Activity,
    reply: &Activity,
) -> Option<bool> {
    if record.has(FlowRecord::FAILED) {
        return None;
    }
    match state {
        // A server may well reset a connection that its client has closed.
        State::Reset => (reply.rst && !forward.fin && !forward.rst).then_some(true),
        State::HalfOpen => (reply.packets == 0 && age >= UNANSWERED).then_some(true),
        State::Established | State::HalfClosed | State::Finished => {
            (!record.has(FlowRecord::ESTABLISHED)).then_some(false)
        }
        State::Closed | State::Inspected | State::OneWay => None,
    }
}

/// Whether the server may keep the connection though the flow has ended, in TIME_WAIT or because
/// it does not know of the end.
///
/// It does not if it has reset the connection, or took a reset (RFC 9293 §3.10.7.4 leaves no
/// TIME_WAIT). A client's reset after both sides have closed is no such end: a server may ignore
/// it in TIME_WAIT (RFC 1337). And a server that has never answered has nothing to keep.
pub fn server_may_linger(protocol: Protocol, forward: &Activity, reply: &Activity) -> bool {
    let closed = forward.fin && reply.fin;
    let reset = reply.rst || (forward.rst && !closed);
    protocol == Protocol::Tcp && reply.packets > 0 && !reset
}

/// When the last packet of either direction came.
pub fn last_seen(now: Tick, forward: &Activity, reply: &Activity) -> u32 {
    let reply_idle = if reply.packets == 0 { u32::MAX } else { now.since(reply.last_seen) };
    now.since(forward.last_seen).min(reply_idle)
}

/// Brings a record's packet counts up to date; they are 32 bits in the slot and wrap. True if
/// the record changed.
pub fn follow_counts(record: &mut FlowRecord, forward: u32, reply: u32) -> bool {
    let before = *record;
    record.packet_wraps =
        record.packet_wraps.wrapping_add(u16::from(forward < record.packets_seen));
    record.reply_packet_wraps =
        record.reply_packet_wraps.wrapping_add(u16::from(reply < record.reply_packets_seen));
    record.packets_seen = forward;
    record.reply_packets_seen = reply;
    *record != before
}

/// All packets of both directions, from an up-to-date record.
pub fn packet_counts(record: &FlowRecord) -> (u64, u64) {
    let all = |wraps: u16, seen: u32| u64::from(wraps) << 32 | u64::from(seen);
    (
        all(record.packet_wraps, record.packets_seen),
        all(record.reply_packet_wraps, record.reply_packets_seen),
    )
}

/// The clock hand over flows of a worker: how many to visit now, so that all are visited once a
/// [`Hand::ROUND`], and no visit takes long.
#[derive(Debug, Default)]
pub struct Hand {
    position: usize,
    /// How many there were when the round began: flows that end on the way do not make it longer.
    round: usize,
    moved: Option<Duration>,
    /// Visits a second, at most: with more flows a round takes longer.
    rate: Option<usize>,
    /// Visits that are to be made without regard to that.
    hurried: usize,
}

impl Hand {
    /// How long a round over all flows takes.
    pub const ROUND: Duration = Duration::from_millis(250);
    /// How many flows are visited at once at most.
    pub const MOST: usize = 8192;

    /// One that makes no more visits a second.
    pub fn at_most(rate: usize) -> Self {
        Self { rate: Some(rate), ..Self::default() }
    }

    /// Goes once over all flows as fast as it may.
    pub fn hurry(&mut self, count: usize) {
        self.hurried = count;
    }

    /// Whether that goes on.
    pub fn hurries(&self) -> bool {
        self.hurried > 0
    }

    /// How many of `count` flows are due.
    pub fn due(&mut self, now: Duration, count: usize) -> usize {
        let elapsed = self.moved.map_or(Self::ROUND, |moved| now.saturating_sub(moved));
        let share = part(count.max(self.round), elapsed, Self::ROUND);
        let rate = self.rate.map_or(share, |rate| part(rate, elapsed, Duration::from_secs(1)));
        let due = share.min(rate).max(self.hurried).min(count).min(Self::MOST);
        if due > 0 || count == 0 {
            self.moved = Some(now);
        }
        due
    }

    /// The next place among `count`.
    pub fn next(&mut self, count: usize) -> usize {
        self.hurried = self.hurried.saturating_sub(1);
        if self.position >= count {
            self.position = 0;
            self.round = count;
        }
        self.position
    }

    /// Goes on to the next place.
    pub fn advance(&mut self) {
        self.position += 1;
    }
}

/// What falls upon `elapsed`, of so many in `whole`.
fn part(count: usize, elapsed: Duration, whole: Duration) -> usize {
    let part = count as u128 * elapsed.as_micros() / whole.as_micros();
    usize::try_from(part).unwrap_or(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(packets: u32, fin: bool, rst: bool) -> Activity {
        Activity { packets, fin, rst, ..Activity::default() }
    }

    #[test]
    fn states_follow_what_was_seen() {
        let none = seen(0, false, false);
        let cases = [
            (Protocol::Tcp, seen(1, false, false), none, State::HalfOpen),
            (Protocol::Tcp, seen(1, false, false), seen(1, false, false), State::HalfOpen),
            (Protocol::Tcp, seen(3, false, false), none, State::HalfOpen),
            (Protocol::Tcp, seen(2, false, false), seen(1, false, false), State::Established),
            (Protocol::Tcp, seen(4, true, false), seen(3, false, false), State::HalfClosed),
            (Protocol::Tcp, seen(4, true, false), seen(3, true, false), State::Finished),
            (Protocol::Tcp, seen(1, false, false), seen(1, false, true), State::Reset),
            (Protocol::Udp, seen(9, false, false), none, State::OneWay),
            (Protocol::Udp, seen(1, false, false), seen(1, false, false), State::Established),
        ];
        for (protocol, forward, reply, state) in cases {
            assert_eq!(State::of(protocol, Flags::default(), &forward, &reply), state);
        }
        let closed = State::of(Protocol::Udp, Flags::CLOSED, &none, &none);
        assert_eq!(closed, State::Closed);
    }

    #[test]
    fn a_flow_tells_once_whether_its_server_failed() {
        let none = seen(0, false, false);
        let (syn, both) = (seen(1, false, false), seen(3, false, false));
        let (begun, waited) = (Duration::from_millis(200), Duration::from_secs(3));
        let fresh = FlowRecord::default();
        let established = FlowRecord { bits: FlowRecord::ESTABLISHED, ..fresh };
        let cases = [
            ("refused", begun, fresh, syn, seen(1, false, true), Some(true)),
            ("silent, but not for long", begun, fresh, syn, none, None),
            ("silent", waited, fresh, syn, none, Some(true)),
            ("answered, client gone", waited, fresh, syn, seen(1, false, false), None),
            ("established", begun, fresh, both, both, Some(false)),
            ("goes on", begun, established, both, both, None),
            ("reset in the middle", begun, established, both, seen(9, false, true), Some(true)),
            ("reset by the client", begun, established, seen(4, false, true), both, None),
            (
                "reset after its end",
                begun,
                established,
                seen(4, true, false),
                seen(9, false, true),
                None,
            ),
        ];
        for (what, age, record, forward, reply, expected) in cases {
            let state = State::of(Protocol::Tcp, Flags::default(), &forward, &reply);
            assert_eq!(tells_failure(state, age, &record, &forward, &reply), expected, "{what}");
            let told = FlowRecord { bits: record.bits | FlowRecord::FAILED, ..record };
            assert_eq!(tells_failure(state, age, &told, &forward, &reply), None, "{what}");
        }
        let udp = State::of(Protocol::Udp, Flags::default(), &syn, &none);
        assert_eq!(tells_failure(udp, waited, &fresh, &syn, &none), None);
    }

    #[test]
    fn a_server_lingers_unless_it_has_nothing_to_keep() {
        let (none, some) = (seen(0, false, false), seen(3, false, false));
        let (closed, reset) = (seen(4, true, false), seen(4, false, true));
        let cases = [
            (Protocol::Tcp, closed, closed, true),
            (Protocol::Tcp, some, some, true),
            (Protocol::Tcp, some, closed, true),
            (Protocol::Tcp, seen(1, false, false), some, true),
            (Protocol::Tcp, some, none, false),
            (Protocol::Tcp, some, reset, false),
            (Protocol::Tcp, closed, seen(4, true, true), false),
            (Protocol::Tcp, reset, some, false),
            (Protocol::Tcp, reset, closed, false),
            (Protocol::Tcp, seen(5, true, true), closed, true),
            (Protocol::Udp, some, some, false),
        ];
        for (protocol, forward, reply, lingers) in cases {
            let case = server_may_linger(protocol, &forward, &reply);
            assert_eq!(case, lingers, "{forward:?} {reply:?}");
        }
    }

    #[test]
    fn no_state_outlives_the_idle_timeout() {
        let timeouts = Timeouts { tcp_half_open: 100, tcp_closing: 20, udp_one_way: 30 };
        assert_eq!(State::HalfOpen.timeout(&timeouts, 1000), 100);
        assert_eq!(State::HalfOpen.timeout(&timeouts, 50), 50);
        assert_eq!(State::Established.timeout(&timeouts, 1000), 1000);
    }

    #[test]
    fn a_count_that_wraps_goes_on() {
        let mut record = FlowRecord { packets_seen: u32::MAX - 1, ..FlowRecord::default() };
        assert!(follow_counts(&mut record, 5, 0));
        assert_eq!(packet_counts(&record), ((1 << 32) + 5, 0));
        assert!(!follow_counts(&mut record, 5, 0));
    }

    #[test]
    fn a_hand_with_a_rate_takes_its_time_unless_it_is_to_hurry() {
        let visits = |hand: &mut Hand, millis: std::ops::RangeInclusive<u64>| -> usize {
            let mut visit = |ms| {
                let due = hand.due(Duration::from_millis(ms), 100_000);
                for _ in 0..due {
                    hand.next(100_000);
                }
                due
            };
            millis.map(&mut visit).sum()
        };
        let mut hand = Hand::at_most(10_000);
        visits(&mut hand, 1..=1);
        let second = visits(&mut hand, 2..=1001);
        assert!((9_900..=10_000).contains(&second), "{second}");
        hand.hurry(100_000);
        assert!((100_000..108_192).contains(&visits(&mut hand, 1002..=1015)));
        assert!(visits(&mut hand, 1016..=1115) <= 1_010, "and is unhurried again");
        let mut few = Hand::at_most(10_000);
        few.due(Duration::ZERO, 100);
        assert_eq!(few.due(Hand::ROUND, 100), 100, "a few are visited as often as without it");
    }

    #[test]
    fn the_hand_visits_every_flow_in_a_round() {
        let mut hand = Hand::default();
        let visited: usize =
            (1..=250).map(|ms| hand.due(Duration::from_millis(ms), 1000)).sum::<usize>() - 1000;
        assert!((950..=1000).contains(&visited), "{visited}");
    }
}
