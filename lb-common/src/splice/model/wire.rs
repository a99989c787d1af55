//! Segments and the frames that carry them, told apart from what is tested: nothing of
//! [`crate::splice`], [`crate::rewrite`] or [`crate::checksum`] is used here.

use crate::{address::Port, rewrite::EndpointsV4, wire::TcpFlags};

/// A segment in words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Tells segments of one sender apart: the IPv4 header's identification.
    pub id: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    /// Of a SYN.
    pub scale: Option<u8>,
    /// Of a SYN.
    pub sack_permitted: bool,
    pub sack: Vec<[u32; 2]>,
    pub payload: Vec<u8>,
}

/// In which order a stack writes SACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// Behind two NOPs.
    Usual,
    /// Before two NOPs.
    Before,
    /// At odd places, behind an option that nobody knows.
    Odd,
}

impl Segment {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Bytes and FIN.
    pub fn length(&self) -> u64 {
        self.payload.len() as u64 + u64::from(self.has(TcpFlags::FIN))
    }

    fn options(&self, style: Style) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some(scale) = self.scale {
            options.extend([1, 3, 3, scale]);
        }
        if self.sack_permitted {
            options.extend([1, 1, 4, 2]);
        }
        let most = if style == Style::Odd { 3 } else { 4 };
        let blocks = &self.sack[..self.sack.len().min(most)];
        if blocks.is_empty() {
            return options;
        }
        match style {
            Style::Usual => options.extend([1, 1]),
            Style::Before => {}
            Style::Odd => options.extend([253, 3, 9]),
        }
        options.extend([5, 2 + 8 * blocks.len() as u8]);
        options.extend(blocks.iter().flatten().flat_map(|edge| edge.to_be_bytes()));
        options.resize(options.len().next_multiple_of(4), 1);
        options
    }

    /// The frame, with the checksums that belong to it.
    pub fn frame(&self, endpoints: &EndpointsV4, style: Style) -> Vec<u8> {
        let options = self.options(style);
        let header = 20 + options.len();
        let total = (20 + header + self.payload.len()) as u16;
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend(self.id.to_be_bytes());
        frame.extend([0x40, 0, 64, 6, 0, 0]);
        frame.extend(endpoints.source);
        frame.extend(endpoints.destination);
        frame.extend(endpoints.source_port.0);
        frame.extend(endpoints.destination_port.0);
        frame.extend(self.sequence.to_be_bytes());
        frame.extend(self.acknowledgement.to_be_bytes());
        frame.extend([(header as u8 / 4) << 4, self.flags]);
        frame.extend(self.window.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(options);
        frame.extend(&self.payload);
        let sum = (!sum(&frame[14..34], 0)).to_be_bytes();
        frame[24..26].copy_from_slice(&sum);
        let sum = (!transport_sum(&frame)).to_be_bytes();
        frame[50..52].copy_from_slice(&sum);
        frame
    }

    /// What a host makes of a frame: nothing, if a checksum is wrong.
    pub fn read(frame: &[u8]) -> Option<(EndpointsV4, Self)> {
        let two = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let four = |at: usize| u32::from(two(at)) << 16 | u32::from(two(at + 2));
        let is_whole = frame.len() >= 54 && frame[14] == 0x45 && frame[23] == 6;
        if !is_whole || usize::from(two(16)) + 14 != frame.len() {
            return None;
        }
        if sum(&frame[14..34], 0) != 0xffff || transport_sum(frame) != 0xffff {
            return None;
        }
        let endpoints = EndpointsV4 {
            source: four(26).to_be_bytes(),
            destination: four(30).to_be_bytes(),
            source_port: Port::new(two(34)),
            destination_port: Port::new(two(36)),
        };
        let mut segment = Self {
            id: two(18),
            sequence: four(38),
            acknowledgement: four(42),
            flags: frame[47],
            window: two(48),
            ..Self::default()
        };
        let end = 34 + usize::from(frame[46] >> 4) * 4;
        segment.read_options(frame.get(54..end)?);
        segment.payload = frame[end..].to_vec();
        Some((endpoints, segment))
    }

    fn read_options(&mut self, mut options: &[u8]) {
        loop {
            options = match options {
                [1, rest @ ..] | [253, 3, 9, rest @ ..] => rest,
                [3, 3, scale, rest @ ..] => {
                    self.scale = Some(*scale);
                    rest
                }
                [4, 2, rest @ ..] => {
                    self.sack_permitted = true;
                    rest
                }
                [5, length, rest @ ..] => {
                    let (edges, rest) = rest.split_at(usize::from(*length) - 2);
                    let edges = edges.as_chunks::<4>().0;
                    let edges: Vec<u32> = edges.iter().map(|e| u32::from_be_bytes(*e)).collect();
                    self.sack = edges.as_chunks::<2>().0.to_vec();
                    rest
                }
                [] => return,
                other => panic!("options that nobody sent: {other:?}"),
            }
        }
    }
}

fn sum(bytes: &[u8], start: u32) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let odd = rest.first().map_or(0, |last| u32::from(*last) << 8);
    let all = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>();
    let folded = |sum: u32| (sum & 0xffff) + (sum >> 16);
    folded(folded(all + odd + start)) as u16
}

/// Of the pseudo-header and the segment.
fn transport_sum(frame: &[u8]) -> u16 {
    sum(&frame[26..], 6 + frame.len() as u32 - 34)
}
