//! Closing the connection to the client in order: our FIN, its acknowledgement, the client's FIN.

use std::time::Duration;

use super::{
    collector::Collector,
    segment::{Flags, Outgoing, Segment, SequenceNumber},
};

/// The round trip is not known (RFC 6298 §2.1).
const TIMEOUT: Duration = Duration::from_secs(1);

/// Both sides' FINs may come in any order.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Number of our FIN.
    fin: SequenceNumber,
    is_acknowledged: bool,
    timeout: Duration,
    retry_at: Duration,
    until: Duration,
}

impl Closing {
    /// Our side ends with this number; all must be over at `until`.
    pub fn new(fin: SequenceNumber, now: Duration, until: Duration) -> Self {
        let (timeout, retry_at) = (TIMEOUT, now + TIMEOUT);
        Self { fin, is_acknowledged: false, timeout, retry_at, until }
    }

    /// The FIN itself.
    pub fn segment(&self, collector: &mut Collector) -> Outgoing {
        let acknowledgement = collector.acknowledgement(self.fin);
        let flags = Flags { fin: true, ..Flags::ACK };
        Outgoing { flags, ..acknowledgement }
    }

    /// The number behind our last.
    pub fn next(&self) -> SequenceNumber {
        self.fin.plus(1)
    }

    /// The numbers that the client may acknowledge.
    pub fn acknowledged(&self) -> (SequenceNumber, SequenceNumber) {
        (self.fin, self.next())
    }

    /// Looks whether a segment acknowledges the FIN.
    pub fn receive(&mut self, segment: &Segment<'_>) {
        let flags = segment.flags;
        let acknowledges = flags.ack && !flags.rst && !flags.syn;
        self.is_acknowledged |= acknowledges && segment.acknowledgement == self.next();
    }

    /// Whether both sides have closed.
    pub fn is_done(&self, collector: &Collector) -> bool {
        self.is_acknowledged && collector.stream().is_complete()
    }

    /// Whether the time is over.
    pub fn is_late(&self, now: Duration) -> bool {
        now >= self.until
    }

    /// When there is something to do.
    pub fn due(&self) -> Duration {
        if self.is_acknowledged { self.until } else { self.retry_at.min(self.until) }
    }

    /// Repeats the FIN, if it is time.
    pub fn tick(&mut self, now: Duration, collector: &mut Collector) -> Option<Outgoing> {
        if self.is_acknowledged || now < self.retry_at {
            return None;
        }
        self.timeout = self.timeout.saturating_mul(2);
        self.retry_at = now.saturating_add(self.timeout);
        Some(self.segment(collector))
    }
}
