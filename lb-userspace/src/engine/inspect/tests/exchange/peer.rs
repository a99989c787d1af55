//! A client's and a server's TCP, as simple as it can be.

use super::{network::Flying, *};

/// A TCP that repeats everything from the first byte that is missing, and keeps nothing that is
/// out of order. Its own SYN is over, but for a server's, which it repeats.
#[derive(Debug)]
pub struct Peer {
    /// Number of its SYN.
    pub initial: SequenceNumber,
    pub says: Vec<u8>,
    /// What the other has acknowledged and what was sent, FIN counted.
    pub acknowledged: usize,
    pub sent: usize,
    pub window: u32,
    /// The other's scale.
    pub their_scale: u8,
    pub next: SequenceNumber,
    pub heard: Vec<u8>,
    pub their_fin: bool,
    /// How much it takes at once, its scale, and how far it has let the other go.
    pub room: u32,
    pub scale: u8,
    pub edge: SequenceNumber,
    pub mss: usize,
    pub retry_at: Duration,
    pub is_synchronized: bool,
    /// Takes of a segment what its window has room for: what a client has under way when it is led
    /// to a server is as much as the balancer has let it send.
    pub is_server: bool,
}

pub const RETRY: Duration = Duration::from_millis(300);

impl Peer {
    pub fn end(&self) -> usize {
        self.says.len() + 1
    }

    pub fn is_done(&self) -> bool {
        self.acknowledged == self.end() && self.their_fin
    }

    pub fn segment(&mut self, offset: usize, payload: &[u8], flags: Flags) -> Flying {
        let window = u16::try_from((self.room >> self.scale).max(1)).unwrap_or(u16::MAX);
        let edge = self.next.plus(u32::from(window) << self.scale);
        if self.edge.is_before(edge) {
            self.edge = edge;
        }
        Flying {
            sequence: self.initial.plus(1 + u32::try_from(offset).unwrap()),
            acknowledgement: self.next,
            flags,
            window,
            options: Options::default(),
            payload: payload.to_vec(),
        }
    }

    /// Sends what the window allows, and repeats what is late; at least one byte then.
    pub fn send(&mut self, now: Duration, out: &mut Vec<Flying>) {
        let mut room = self.window as usize;
        if now >= self.retry_at && self.acknowledged < self.end() {
            self.sent = self.acknowledged;
            self.retry_at = now + RETRY;
            room = room.max(1);
        }
        while self.sent < self.end() && self.sent < self.acknowledged + room {
            let length = self.mss.min(self.acknowledged + room - self.sent);
            let to = (self.sent + length).min(self.says.len());
            let is_fin = self.sent == self.says.len();
            let flags = if is_fin { FIN } else { Flags::ACK };
            let payload = self.says[self.sent.min(to)..to].to_vec();
            let segment = self.segment(self.sent, &payload, flags);
            out.push(segment);
            self.sent = to + usize::from(is_fin);
        }
    }

    pub fn receive(&mut self, segment: &Flying, now: Duration, out: &mut Vec<Flying>) {
        assert!(!segment.flags.rst, "reset by {segment:?}");
        let offset = segment.acknowledgement.since(self.initial.plus(1)) as usize;
        if segment.flags.ack && offset <= self.end() && !segment.flags.syn {
            self.is_synchronized = true;
            if offset > self.acknowledged {
                self.acknowledged = offset;
                self.sent = self.sent.max(offset);
                self.retry_at = now + RETRY;
            }
            if offset == self.acknowledged {
                self.window = u32::from(segment.window) << self.their_scale;
            }
        }
        let segment_length = segment.segment().length();
        if segment.sequence == self.next && !self.their_fin && !segment.flags.syn {
            let probe = u32::from(segment_length == 1);
            let (edge, end) = (self.edge.plus(probe), segment.segment().end());
            let fits = !edge.is_before(end);
            assert!(fits || self.is_server, "{end:?} is behind {edge:?}");
            let room = if fits { segment_length } else { edge.since(segment.sequence) };
            let taken = segment.payload.len().min(room as usize);
            self.heard.extend_from_slice(&segment.payload[..taken]);
            self.their_fin = segment.flags.fin && fits;
            self.next = self.next.plus(room);
        }
        if segment_length > 0 {
            let offset = self.sent;
            let answer = self.segment(offset, b"", Flags::ACK);
            out.push(answer);
        }
        self.send(now, out);
    }
}

/// What the server is to be.
#[derive(Clone, Debug)]
pub struct Accepts {
    pub says: Vec<u8>,
    pub room: u32,
    pub scale: Option<u8>,
    pub mss: u16,
}

impl Accepts {
    pub fn scale_with(&self, agreed: Data) -> Option<u8> {
        self.scale.filter(|_| agreed.window_scale().is_some())
    }

    pub fn peer(&self, agreed: Data, window: u16, now: Duration) -> Peer {
        let scale = self.scale_with(agreed);
        let next = SequenceNumber(CLIENT + 1);
        Peer {
            initial: SequenceNumber(SERVER),
            says: self.says.clone(),
            acknowledged: 0,
            sent: 0,
            window: window.into(),
            their_scale: scale.and(agreed.window_scale()).unwrap_or(0),
            next,
            heard: Vec::new(),
            their_fin: false,
            room: self.room,
            scale: scale.unwrap_or(0),
            edge: next.plus(self.room.min(65_535)),
            mss: agreed.mss().into(),
            retry_at: now + RETRY,
            is_synchronized: false,
            is_server: true,
        }
    }

    pub fn answer(&self, client: SequenceNumber) -> Flying {
        Flying {
            sequence: SequenceNumber(SERVER),
            acknowledgement: client.plus(1),
            flags: SYN_ACK,
            window: u16::try_from(self.room).unwrap_or(u16::MAX),
            options: Options {
                mss: Some(self.mss),
                window_scale: self.scale,
                sack_permitted: true,
            },
            payload: Vec::new(),
        }
    }
}
