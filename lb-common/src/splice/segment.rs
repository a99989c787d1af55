//! Segments with whatever options, as workers meet them: correct and slow.

use super::{END, NOP, SACK, Splice};
use crate::{
    checksum::{self, Sum, WideSum},
    splice::Sender,
    wire::{TCP, at, put},
};

impl Splice {
    /// Splices a segment: TCP header, options and the rest. False if its header is longer than it
    /// is, or too short to be one; then nothing has changed.
    pub fn segment(&self, segment: &mut [u8]) -> bool {
        let Some((tcp, rest)) = segment.split_first_chunk_mut::<TCP>() else { return false };
        let length = usize::from(tcp[12] >> 4) * 4;
        let options = length.checked_sub(TCP).and_then(|length| rest.get_mut(..length));
        let Some(options) = options else { return false };
        let sum = match self.sender {
            Sender::Client => self.options(options),
            // What a server has received is named as the client named it.
            Sender::Server => WideSum::default(),
        };
        let changed = self.header(tcp, sum);
        put::<16, 2, TCP>(tcp, checksum::update(at::<16, 2, TCP>(tcp), changed));
        true
    }

    /// Translates the SACK blocks among a client's options, wherever they are; returns what that
    /// changed in the checksum's sum. What a receiver would not read stays as it is.
    fn options(&self, options: &mut [u8]) -> WideSum {
        let before = Sum::default().bytes(options).fold();
        let mut rest = &mut options[..];
        while let Some((option, others)) = split_option(rest) {
            // A length that is no whole number of blocks makes it no SACK.
            if let [SACK, _, blocks @ ..] = option
                && let (edges, []) = blocks.as_chunks_mut::<4>()
                && edges.len() % 2 == 0
            {
                for edge in edges {
                    self.translate(edge, WideSum::default());
                }
            }
            rest = others;
        }
        let after = Sum::default().bytes(options).fold();
        WideSum::default().change(before.to_ne_bytes(), after.to_ne_bytes())
    }
}

/// The first option and what follows it; `None` where the options end, by themselves or because
/// a length makes no sense.
fn split_option(options: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    let length = match options {
        [] | [END, ..] => return None,
        [NOP, ..] => 1,
        [_, length, ..] if *length >= 2 => usize::from(*length),
        _ => return None,
    };
    options.split_at_mut_checked(length)
}
