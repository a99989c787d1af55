//! The balancer: the program's own function over a flow table, and a small worker that shakes
//! hands, collects, opens the server, sends on what it collected, and splices.

use super::{
    tables::{Bytes, INTERFACE, Maps, NEXT_HOP},
    wire::{Segment, Style},
};
use crate::{
    address::{Port, Protocol},
    event::Event,
    flow::{Entry, Flags, FlowKeyV4},
    path::{self, Verdict},
    rewrite::{EndpointsV4, RewriteV4},
    splice::{ClientScales, Handshakes, Sender, Splice},
    wire::{IPV4_TCP, TcpFlags},
};

const ACK: u8 = TcpFlags::ACK;
/// What the client is told.
const OWN_SCALE: u8 = 7;
/// Bytes that are collected at most.
const MOST: usize = 65_535;
/// Bytes to the server in one segment.
const PIECE: usize = 1000;

/// What is broken on purpose: the model must not hold then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sabotage {
    Nothing,
    /// The server's numbers are off by one.
    Delta,
    /// Windows of the server are twice, or half, as large.
    Shift(i8),
    /// SACK blocks stay as they are.
    Sack,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing is kept.
    Cookie,
    Collecting,
    /// The server has been sent a SYN.
    Opening,
    /// It has answered, and gets what was collected.
    Replaying,
    Spliced,
}

/// The client's two addresses as it knows them, and the server's.
pub const FROM_CLIENT: EndpointsV4 = ends([198, 51, 100, 7], 40_000, [192, 0, 2, 10], 80);
pub const TO_SERVER: EndpointsV4 = ends([192, 0, 2, 9], 20_001, [10, 0, 0, 11], 8080);

const fn ends(source: [u8; 4], from: u16, destination: [u8; 4], to: u16) -> EndpointsV4 {
    let (source_port, destination_port) = (Port::new(from), Port::new(to));
    EndpointsV4 { source, destination, source_port, destination_port }
}

pub struct Middle {
    maps: Maps,
    phase: Phase,
    sabotage: Sabotage,
    cookie: u32,
    /// Bytes to collect before the server is opened.
    wanted: usize,
    client_initial: u32,
    client_window: u16,
    scales: Option<ClientScales>,
    sack: bool,
    collected: Vec<u8>,
    /// Of the collected, what the server has acknowledged, and how much more it takes.
    acknowledged: usize,
    server_window: usize,
    handshakes: Option<Handshakes>,
    pub timer: u64,
    /// Frames to send.
    pub out: Vec<Vec<u8>>,
    /// Frames that the program forwarded by itself once the flow was spliced, and others.
    pub by_program: u64,
    pub by_worker: u64,
}

impl Middle {
    pub fn new(cookie: u32, wanted: usize, sabotage: Sabotage) -> Self {
        Self {
            maps: Maps::default(),
            phase: Phase::Cookie,
            sabotage,
            cookie,
            wanted,
            client_initial: 0,
            client_window: 0,
            scales: None,
            sack: false,
            collected: vec![],
            acknowledged: 0,
            server_window: 0,
            handshakes: None,
            timer: u64::MAX,
            out: vec![],
            by_program: 0,
            by_worker: 0,
        }
    }

    /// A frame comes in. True if it is a worker's, which gets it later.
    pub fn receive(&mut self, mut frame: Vec<u8>) -> Option<Vec<u8>> {
        let before = frame.clone();
        match path::forward(&mut Bytes(&mut frame), &self.maps) {
            Verdict::Transmit => {
                self.by_program += 1;
                self.out.push(self.sabotaged(&before, frame));
                None
            }
            Verdict::Punt(event) => {
                let why = [Event::PuntFirstPacket, Event::PuntSyn];
                let why = [&why[..], &[Event::PuntInspected, Event::PuntOptions]].concat();
                let damaged = Segment::read(&frame).is_none();
                assert!(damaged || why.contains(&event), "{event:?}");
                assert_eq!(frame, before, "{event:?}: not as it came");
                Some(frame)
            }
            // Frames that were damaged on their way.
            Verdict::Pass(_) | Verdict::Drop(_) => None,
            Verdict::Answer(event) => panic!("{event:?}: the worker answers"),
            Verdict::Redirect { .. } => panic!("there is one interface, {INTERFACE}"),
        }
    }

    fn sabotaged(&self, before: &[u8], after: Vec<u8>) -> Vec<u8> {
        match (Segment::read(before), Segment::read(&after)) {
            (Some((_, before)), Some((endpoints, mut after)))
                if self.sabotage == Sabotage::Sack =>
            {
                after.sack = before.sack;
                after.frame(&endpoints, Style::Usual)
            }
            _ => after,
        }
    }

    /// The worker gets a frame. It believes only what has a good checksum.
    pub fn work(&mut self, now: u64, frame: Vec<u8>) {
        let Some((endpoints, segment)) = Segment::read(&frame) else { return };
        if endpoints == FROM_CLIENT {
            self.take_clients(now, &segment, frame);
        } else if endpoints == TO_SERVER.reversed() {
            self.take_servers(now, &segment, frame);
        }
    }

    fn take_clients(&mut self, now: u64, segment: &Segment, frame: Vec<u8>) {
        if segment.has(TcpFlags::SYN) {
            if self.phase == Phase::Cookie {
                self.answer(segment);
            }
            return;
        }
        if self.phase == Phase::Cookie {
            let good = segment.acknowledgement == self.cookie.wrapping_add(1)
                && segment.sequence == self.client_initial.wrapping_add(1);
            if !good {
                return;
            }
            self.phase = Phase::Collecting;
            self.insert(&FROM_CLIENT, &TO_SERVER, Flags::default());
        }
        match self.phase {
            Phase::Collecting | Phase::Opening => self.collect(now, segment),
            _ => {
                self.client_window = segment.window;
                self.forward(&FROM_CLIENT, frame);
            }
        }
    }

    /// Answers a SYN. What is kept of it here is in the cookie there.
    fn answer(&mut self, syn: &Segment) {
        self.client_initial = syn.sequence;
        self.scales = syn.scale.map(|its_own| ClientScales { its_own, ours: OWN_SCALE });
        self.sack = syn.sack_permitted;
        let answer = Segment {
            sequence: self.cookie,
            acknowledgement: syn.sequence.wrapping_add(1),
            flags: TcpFlags::SYN | ACK,
            window: 65_535,
            scale: self.scales.map(|scales| scales.ours),
            sack_permitted: self.sack,
            ..Segment::default()
        };
        self.out.push(answer.frame(&FROM_CLIENT.reversed(), Style::Usual));
    }

    fn collect(&mut self, now: u64, segment: &Segment) {
        self.client_window = segment.window;
        let end = self.client_initial.wrapping_add(1 + self.collected.len() as u32);
        let known = end.wrapping_sub(segment.sequence) as usize;
        if let Some(new) = segment.payload.get(known..) {
            let room = MOST - self.collected.len();
            self.collected.extend(&new[..new.len().min(room)]);
        }
        if segment.length() > 0 {
            self.acknowledge();
        }
        // A FIN is left to the client to send again.
        let all = segment.has(TcpFlags::FIN) && known <= segment.payload.len();
        let enough = all || self.collected.len() >= self.wanted;
        if self.phase == Phase::Collecting && enough {
            self.phase = Phase::Opening;
            self.insert(&TO_SERVER.reversed(), &FROM_CLIENT.reversed(), Flags::REPLY);
            self.tick(now);
        }
    }

    fn acknowledge(&mut self) {
        let window = MOST - self.collected.len();
        let scale = self.scales.map_or(0, |scales| scales.ours);
        let segment = Segment {
            sequence: self.cookie.wrapping_add(1),
            acknowledgement: self.client_initial.wrapping_add(1 + self.collected.len() as u32),
            flags: ACK,
            window: (window >> scale) as u16,
            ..Segment::default()
        };
        self.out.push(segment.frame(&FROM_CLIENT.reversed(), Style::Usual));
    }

    fn insert(&self, from: &EndpointsV4, to: &EndpointsV4, flags: Flags) {
        let entry = Entry { flags: flags.and(Flags::INSPECTED), ..Entry::default() };
        // Nothing of the entry but its flags may matter yet.
        let rewrite = RewriteV4 { addresses: [9; 8], ..RewriteV4::new(from, to) };
        self.maps.insert(&key(from), &Entry { rewrite, ..entry });
    }

    pub fn tick(&mut self, now: u64) {
        match self.phase {
            Phase::Opening => {
                let syn = Segment {
                    sequence: self.client_initial,
                    flags: TcpFlags::SYN,
                    window: self.client_window,
                    scale: self.scales.map(|scales| scales.its_own),
                    sack_permitted: self.sack,
                    ..Segment::default()
                };
                self.out.push(syn.frame(&TO_SERVER, Style::Usual));
            }
            Phase::Replaying => self.replay(1),
            _ => {}
        }
        let waits = matches!(self.phase, Phase::Opening | Phase::Replaying);
        self.timer = if waits { now + 150 } else { u64::MAX };
    }

    /// Sends what the server has not acknowledged, as much as it takes but at least so much.
    fn replay(&mut self, least: usize) {
        let Some(handshakes) = self.handshakes else { return };
        let rest = &self.collected[self.acknowledged..];
        let rest = &rest[..rest.len().min(self.server_window.max(least))];
        let mut at = self.client_initial.wrapping_add(1 + self.acknowledged as u32);
        let empty: &[u8] = &[];
        let pieces = rest.chunks(PIECE).chain(rest.is_empty().then_some(empty));
        for piece in pieces {
            let mut segment = Segment {
                sequence: at,
                // As the client would send it; the splice makes it the server's.
                acknowledgement: handshakes.cookie.wrapping_add(1),
                flags: ACK,
                window: self.client_window,
                payload: piece.to_vec(),
                ..Segment::default()
            }
            .frame(&TO_SERVER, Style::Usual);
            assert!(self.splice(Sender::Client).segment(&mut segment[34..]));
            self.out.push(segment);
            at = at.wrapping_add(piece.len() as u32);
        }
    }

    fn take_servers(&mut self, now: u64, segment: &Segment, frame: Vec<u8>) {
        let syn = segment.has(TcpFlags::SYN);
        match self.phase {
            Phase::Opening if syn => {
                self.handshakes = Some(Handshakes {
                    cookie: self.cookie.wrapping_sub(u32::from(self.sabotage == Sabotage::Delta)),
                    server: segment.sequence,
                    client_scales: self.scales,
                    server_scale: segment.scale,
                });
                self.server_window = segment.window.into();
                self.phase = Phase::Replaying;
                self.replay(0);
                self.timer = now + 150;
                self.splice_if_acknowledged();
            }
            Phase::Replaying if syn => self.replay(0),
            Phase::Replaying => {
                let first = self.client_initial.wrapping_add(1);
                let acknowledged = segment.acknowledgement.wrapping_sub(first) as usize;
                let more = (self.acknowledged..=MOST * 2).contains(&acknowledged);
                if more {
                    let scale = self.scales.and(self.handshakes.and_then(|h| h.server_scale));
                    self.server_window = usize::from(segment.window) << scale.unwrap_or(0);
                    let moved = acknowledged > self.acknowledged;
                    self.acknowledged = acknowledged.min(self.collected.len());
                    if moved && self.acknowledged < self.collected.len() {
                        self.replay(0);
                    }
                }
                self.forward(&TO_SERVER.reversed(), frame);
                self.splice_if_acknowledged();
            }
            Phase::Spliced => self.forward(&TO_SERVER.reversed(), frame),
            _ => {}
        }
    }

    fn splice(&self, sender: Sender) -> Splice {
        let mut splice = self.handshakes.expect("both handshakes").splice(sender);
        if let (Sabotage::Shift(by), Sender::Server) = (self.sabotage, sender) {
            splice.shift += by;
        }
        splice
    }

    fn splice_if_acknowledged(&mut self) {
        if self.acknowledged < self.collected.len() {
            return;
        }
        self.phase = Phase::Spliced;
        self.timer = u64::MAX;
        for (sender, from, to) in [
            (Sender::Client, FROM_CLIENT, TO_SERVER),
            (Sender::Server, TO_SERVER.reversed(), FROM_CLIENT.reversed()),
        ] {
            let (slot, rewrite) = (self.maps.slot(&key(&from)), RewriteV4::new(&from, &to));
            slot.amend(NEXT_HOP, &rewrite, &self.splice(sender));
        }
    }

    /// Forwards a frame as a worker does: whatever its options, by the flow's entry once it is
    /// spliced.
    fn forward(&mut self, from: &EndpointsV4, mut frame: Vec<u8>) {
        let client = *from == FROM_CLIENT;
        let sender = if client { Sender::Client } else { Sender::Server };
        let to = if client { TO_SERVER } else { FROM_CLIENT.reversed() };
        let (_, entry) = path::find(&self.maps, &key(from).packed()).expect("the flow");
        let spliced = self.phase == Phase::Spliced;
        assert_eq!(entry.flags.has(Flags::SPLICED), spliced);
        let splice = Splice::of(&entry).unwrap_or_else(|| self.splice(sender));
        assert!(splice.segment(&mut frame[34..]), "a good checksum and a bad header");
        let packet: &mut [u8; IPV4_TCP] = frame[14..].first_chunk_mut().unwrap();
        RewriteV4::new(from, &to).apply_tcp(packet);
        self.by_worker += 1;
        self.out.push(frame);
    }
}

fn key(endpoints: &EndpointsV4) -> FlowKeyV4 {
    FlowKeyV4::new(endpoints, Protocol::Tcp)
}
