//! A host's TCP (RFC 9293, 7323, 2018) with all that a splice can get wrong, and no congestion
//! control but a limit. Positions in a stream count from its SYN, in 64 bits: 0 is the SYN, 1 the
//! first byte. What must never reach a host is asserted, not forgiven.

use super::{
    random::Random,
    receiver::Receiver,
    sender::{Reach, Sender},
    wire::Segment,
};
use crate::wire::TcpFlags;

const ACK: u8 = TcpFlags::ACK;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Listen,
    SynSent,
    SynReceived,
    Established,
}

/// What a host offers and does.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    pub initial: u32,
    pub scale: Option<u8>,
    pub sack: bool,
    /// Bytes that it sends.
    pub bytes: u64,
    pub mss: u64,
    /// Bytes that it takes before somebody reads them.
    pub buffer: u64,
    /// How often and how much is read; 0 is at once.
    pub reads_every: u64,
    pub reads: u64,
    /// It sends nothing before it has got so many bytes (the FIN counts).
    pub waits_for: u64,
    /// Tells the bytes of one stream from another's.
    pub salt: u32,
}

pub struct Endpoint {
    pub habits: Habits,
    pub state: State,
    pub sender: Sender,
    pub receiver: Receiver,
    /// Whether scale and SACK were agreed on.
    scaled: bool,
    peer_scale: u8,
    sack: bool,
    next_read: u64,
    /// The window that each segment told, in bytes; the index is the segment's.
    pub windows: Vec<u64>,
    pub blocks_sent: u64,
    pub out: Vec<Segment>,
}

impl Endpoint {
    pub fn new(habits: Habits, peer: &Habits, state: State) -> Self {
        Self {
            habits,
            state,
            sender: Sender::new(&habits),
            receiver: Receiver::new(&habits, peer),
            scaled: false,
            peer_scale: 0,
            sack: false,
            next_read: 0,
            windows: vec![0],
            blocks_sent: 0,
            out: vec![],
        }
    }

    /// Everything was sent and acknowledged, and everything has come.
    pub fn is_done(&self) -> bool {
        self.state == State::Established && self.sender.is_done() && self.receiver.is_done()
    }

    /// Whether its numbers went over the end.
    pub fn wraps(&self) -> bool {
        self.habits.initial.checked_add(self.sender.most as u32).is_none()
    }

    /// When something is to be done though nothing comes.
    pub fn due(&self) -> u64 {
        let reads = if self.receiver.unread() > 0 { self.next_read } else { u64::MAX };
        self.sender.timer.min(reads)
    }

    pub fn tick(&mut self, now: u64, random: &mut Random) {
        if now >= self.next_read && self.receiver.unread() > 0 {
            let most = if self.habits.reads_every == 0 { u64::MAX } else { self.habits.reads };
            self.next_read = now + 1 + random.below(self.habits.reads_every.max(1) * 2);
            if self.receiver.read(most) {
                self.acknowledge();
            }
        }
        let late = now >= self.sender.timer;
        match self.state {
            State::SynSent | State::SynReceived if late => self.shake_hands(now),
            State::Established => {
                let may_send = self.receiver.next > self.habits.waits_for;
                for reach in self.sender.poll(now, late, may_send) {
                    self.send(reach);
                }
            }
            _ => {}
        }
    }

    /// Sends SYN or SYN-ACK.
    pub fn shake_hands(&mut self, now: u64) {
        let answers = self.state == State::SynReceived;
        let flags = if answers { TcpFlags::SYN | ACK } else { TcpFlags::SYN };
        let offers = !answers || self.scaled;
        let window = self.receiver.window(0);
        let segment = Segment {
            sequence: self.habits.initial,
            acknowledgement: if answers { self.receiver.number() } else { 0 },
            flags,
            window: window.min(65_535) as u16,
            scale: self.habits.scale.filter(|_| offers),
            sack_permitted: if answers { self.sack } else { self.habits.sack },
            ..Segment::default()
        };
        self.sender.timer = now + 200;
        self.emit(segment, window.min(65_535));
    }

    pub fn receive(&mut self, now: u64, segment: &Segment, told: Option<u64>, random: &mut Random) {
        let syn = segment.has(TcpFlags::SYN);
        assert!(!segment.has(TcpFlags::RST), "nobody resets");
        match self.state {
            State::Listen if syn && !segment.has(ACK) => {
                self.agree(segment);
                self.state = State::SynReceived;
                self.shake_hands(now);
            }
            State::Listen => panic!("a server that listens got {segment:?}"),
            State::SynSent if syn => {
                let expected = self.habits.initial.wrapping_add(1);
                assert_eq!(segment.acknowledgement, expected, "{segment:?}");
                self.agree(segment);
                self.establish();
                self.acknowledge();
            }
            State::SynSent => {}
            State::SynReceived if syn => self.shake_hands(now),
            // RFC 5961 §4.
            State::Established if syn => self.acknowledge(),
            State::SynReceived | State::Established => {
                if self.state == State::SynReceived {
                    self.establish();
                }
                self.take(now, segment, told, random);
            }
        }
    }

    fn agree(&mut self, segment: &Segment) {
        self.receiver.begin(segment.sequence);
        self.scaled = segment.scale.is_some() && self.habits.scale.is_some();
        self.peer_scale = segment.scale.filter(|_| self.scaled).unwrap_or(0);
        self.sack = segment.sack_permitted && self.habits.sack;
        self.sender.window = segment.window.into();
    }

    fn establish(&mut self) {
        self.state = State::Established;
        self.sender.begin();
    }

    fn take(&mut self, now: u64, segment: &Segment, told: Option<u64>, random: &mut Random) {
        assert!(segment.has(ACK), "{segment:?}");
        let start = self.receiver.position(segment.sequence);
        let window = u64::from(segment.window) << self.peer_scale;
        self.check_window(window, told);
        self.sender.acknowledged(now, start, segment, window);
        if segment.length() == 0 {
            return;
        }
        self.receiver.take(start, segment, random.per_mille(500));
        if self.habits.reads_every == 0 {
            self.receiver.read(u64::MAX);
        }
        self.acknowledge();
    }

    /// A window may become coarser on its way, closed only if it was, and never larger, but for
    /// one that is too small for the coarser unit.
    fn check_window(&self, window: u64, told: Option<u64>) {
        let Some(told) = told else { return };
        let unit = 1 << self.peer_scale;
        assert_eq!(window == 0, told == 0, "{told} became {window}");
        assert!(told == 0 || window <= told.max(unit), "{told} became {window}");
        assert!(window + unit > told.min(65_535 * unit), "{told} became {window}");
    }

    fn scale(&self) -> u8 {
        self.habits.scale.filter(|_| self.scaled).unwrap_or(0)
    }

    fn acknowledge(&mut self) {
        self.send(Reach { start: self.sender.most, bytes: 0, fin: false });
    }

    fn send(&mut self, reach: Reach) {
        let window = self.receiver.window(self.scale());
        let sack = if self.sack { self.receiver.blocks() } else { vec![] };
        let payload = (0..reach.bytes).map(|at| byte(self.habits.salt, reach.start + at));
        let segment = Segment {
            sequence: self.habits.initial.wrapping_add(reach.start as u32),
            acknowledgement: self.receiver.number(),
            flags: if reach.fin { ACK | TcpFlags::FIN } else { ACK },
            window: (window >> self.scale()) as u16,
            sack,
            payload: payload.collect(),
            ..Segment::default()
        };
        self.emit(segment, window);
    }

    fn emit(&mut self, mut segment: Segment, window: u64) {
        segment.id = u16::try_from(self.windows.len()).expect("a run of too many segments");
        self.windows.push(window);
        self.blocks_sent += segment.sack.len() as u64;
        self.out.push(segment);
    }
}

/// The byte at a position of a stream: neighbours differ in no simple way.
pub fn byte(salt: u32, position: u64) -> u8 {
    ((position as u32 ^ salt).wrapping_mul(0x9e37_79b1) >> 24) as u8
}
