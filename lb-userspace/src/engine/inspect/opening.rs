//! The handshake with a server (RFC 9293 §3.10.7.3), in the client's name and with its numbers.

use std::time::Duration;

use lb_common::tcp::options::{MOST_SCALE, SynOptions};

use super::segment::{Flags, Outgoing, Segment, SequenceNumber};

/// When a SYN is repeated first; then after twice as long, and so on (RFC 6298 §2 and §5.5).
pub const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The payload of a server that names no length (RFC 9293 §3.7.1).
const DEFAULT_MSS: u16 = 536;
/// Fewer bytes than this a segment are not sent, whatever the server asks for: it could make one
/// packet of every byte (Linux's `TCP_MIN_SND_MSS`).
const LEAST_MSS: u16 = 48;

/// Why there is no connection to a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Failure {
    /// It answered with a reset.
    Refused,
    /// It did not answer in time.
    Silent,
    /// An ICMP error says that it cannot be reached.
    Unreachable,
}

/// What the server said in its SYN-ACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connected {
    /// Its initial sequence number, `S`.
    pub initial: SequenceNumber,
    /// The longest payload to send to it.
    pub mss: u16,
    /// Its window, in bytes.
    pub window: u16,
    /// By how much its windows are shifted, if it agreed to that.
    pub scale: Option<u8>,
    /// How long it took to answer; `None` if nobody knows which SYN it has answered (RFC 6298 §3).
    pub round_trip: Option<Duration>,
}

/// What became of a segment, or of the time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Nothing changed.
    Wait,
    /// This is to be sent to the server.
    Send(Outgoing),
    /// The server has accepted.
    Open(Connected),
    /// Another server is needed.
    Failed(Failure),
}

/// One attempt to open a connection to one server.
#[derive(Clone, Debug)]
pub struct Opening {
    syn: Outgoing,
    began: Duration,
    until: Duration,
    retry_at: Duration,
    interval: Duration,
}

impl Opening {
    /// The attempt, and the SYN that begins it. It ends at `until`.
    pub fn new(
        initial: SequenceNumber,
        options: SynOptions,
        window: u16,
        now: Duration,
        until: Duration,
    ) -> (Self, Outgoing) {
        let flags = Flags::SYN;
        let syn = Outgoing { sequence: initial, flags, window, options, ..Outgoing::default() };
        let opening = Self {
            syn: syn.clone(),
            began: now,
            until,
            retry_at: now + FIRST_RETRY,
            interval: FIRST_RETRY,
        };
        (opening, syn)
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn due(&self) -> Duration {
        self.retry_at.min(self.until)
    }

    /// Repeats the SYN, or gives up.
    pub fn tick(&mut self, now: Duration) -> Progress {
        if now >= self.until {
            return Progress::Failed(Failure::Silent);
        }
        if now < self.retry_at {
            return Progress::Wait;
        }
        self.interval = self.interval.saturating_mul(2);
        self.retry_at = now.saturating_add(self.interval);
        Progress::Send(self.syn.clone())
    }

    /// Takes a segment from the server.
    pub fn receive(&mut self, segment: &Segment<'_>, now: Duration) -> Progress {
        let flags = segment.flags;
        if flags.ack && segment.acknowledgement != self.syn.sequence.plus(1) {
            // It knows an older connection; the reset makes it forget that (RFC 9293 §3.5.1,
            // figure 10), and the next SYN finds it ready.
            return if flags.rst { Progress::Wait } else { Progress::Send(reset(segment)) };
        }
        match (flags.rst, flags.ack, flags.syn) {
            (true, true, _) => Progress::Failed(Failure::Refused),
            (false, true, true) => Progress::Open(self.connected(segment, now)),
            // A reset that anybody could have sent, a server that opens a connection to us, or what
            // belongs to no connection at all.
            _ => Progress::Wait,
        }
    }

    /// Takes an ICMP error that quotes a segment with this number (RFC 5927 §4: one that was not
    /// sent did not cause it).
    pub fn unreachable(&self, quoted: SequenceNumber) -> Progress {
        if quoted == self.syn.sequence {
            Progress::Failed(Failure::Unreachable)
        } else {
            Progress::Wait
        }
    }

    /// What a server gets that may have half a connection: the number is what it waits for.
    pub fn abandon(&self) -> Outgoing {
        let sequence = self.syn.sequence.plus(1);
        Outgoing { sequence, flags: Flags::RST, ..Outgoing::default() }
    }

    /// Data on a SYN-ACK is not acknowledged: the server sends it again, when the client can be
    /// asked for its opinion.
    fn connected(&self, segment: &Segment<'_>, now: Duration) -> Connected {
        let offered = self.syn.options;
        let mss = segment.options.mss.unwrap_or(DEFAULT_MSS).min(offered.mss.unwrap_or(u16::MAX));
        // An answer to what was not offered does not count (RFC 7323 §2.2).
        let scale = segment.options.window_scale.filter(|_| offered.window_scale.is_some());
        Connected {
            initial: segment.sequence,
            mss: mss.max(LEAST_MSS),
            window: segment.window,
            scale: scale.map(|shift| shift.min(MOST_SCALE)),
            round_trip: (self.interval == FIRST_RETRY).then(|| now.saturating_sub(self.began)),
        }
    }
}

/// RFC 9293 §3.10.7.3, first check.
fn reset(segment: &Segment<'_>) -> Outgoing {
    Outgoing { sequence: segment.acknowledgement, flags: Flags::RST, ..Outgoing::default() }
}
