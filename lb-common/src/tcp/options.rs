//! What a SYN offers (RFC 9293 §3.1, RFC 7323 §2.2, RFC 2018 §2).

use core::hint::black_box;

/// The longest TCP header, and what an option at its end may seem to hold.
pub const ROOM: usize = 64;

/// The longest TCP header.
const LONGEST: usize = 60;

const END: u32 = 0;
const NOTHING: u32 = 1;
const MSS: u32 = 2;
const WINDOW_SCALE: u32 = 3;
const SACK_PERMITTED: u32 = 4;

/// A window is scaled by no more than this (RFC 7323 §2.3).
pub const MOST_SCALE: u8 = 14;

/// The options of a SYN that outlive the handshake. Timestamps are not among them: they are never
/// agreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SynOptions {
    /// The longest segment that the sender wants to get; `None` if it does not say, or says 0.
    pub mss: Option<u16>,
    /// By how many bits the sender's windows are to be shifted; `None` if it cannot.
    pub window_scale: Option<u8>,
    /// Whether the sender understands selective acknowledgements.
    pub sack_permitted: bool,
}

/// [`SynOptions`] in plain numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Plain {
    /// 0 for none.
    pub mss: u16,
    /// [`Plain::NO_SCALE`] for none.
    pub window_scale: u8,
    /// 1 if so.
    pub sack_permitted: u8,
}

impl Plain {
    /// No scale is as large.
    pub const NO_SCALE: u8 = 15;

    /// Reads a TCP header of `length` bytes in a buffer that is zero behind it.
    ///
    /// What cannot be read ends the walk, and what was read before counts. An option that runs over
    /// the header's end holds zeros there, so it says less than was meant. One of a known kind but
    /// another length than it must have is as if it were not there. Of two of a kind the last
    /// counts, as with Linux.
    #[inline(always)]
    pub const fn read(header: &[u8; ROOM], length: usize) -> Self {
        let (mut walk, mut at) = (Walk::BEGIN, 20);
        while at < LONGEST && at < length {
            walk = walk.step(four(header, at));
            at += 1;
        }
        walk.end()
    }
}

/// The four bytes from there.
#[inline(always)]
const fn four(header: &[u8; ROOM], at: usize) -> [u32; 4] {
    // Never beyond the buffer, and the compiler sees it.
    let at = if at > ROOM - 4 { ROOM - 4 } else { at };
    [header[at] as u32, header[at + 1] as u32, header[at + 2] as u32, header[at + 3] as u32]
}

/// A walk over options, byte by byte, also through what they hold.
///
/// There is not a branch in it: each would double the ways that the program's verifier follows, and
/// there are forty bytes. A truth is a mask, all ones or zero.
#[derive(Clone, Copy)]
struct Walk {
    /// Bytes of an option that are still to come.
    inside: u32,
    mss: u32,
    scale: u32,
    sack: u32,
}

impl Walk {
    const BEGIN: Self = Self { inside: 0, mss: 0, scale: Plain::NO_SCALE as u32, sack: 0 };

    /// The next byte, and three after it.
    #[inline(always)]
    const fn step(self, [kind, size, a, b]: [u32; 4]) -> Self {
        let begins = is_zero(self.inside);
        // What is no size, and an end, lasts for longer than any header.
        let holds = (size.wrapping_sub(1) | is_less(size, 2) | is_zero(kind ^ END))
            & 0xffff
            & !is_zero(kind ^ NOTHING);
        let mss = begins & is_zero(kind ^ MSS | size ^ 4);
        let scale = begins & is_zero(kind ^ WINDOW_SCALE | size ^ 3);
        let sack = begins & is_zero(kind ^ SACK_PERMITTED | size ^ 2);
        Self {
            inside: choose(begins, holds, self.inside.wrapping_sub(1)),
            mss: choose(mss, a << 8 | b, self.mss),
            scale: choose(
                scale,
                choose(is_less(a, MOST_SCALE as u32), a, MOST_SCALE as u32),
                self.scale,
            ),
            sack: self.sack | sack,
        }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "one byte, or two, were put in")]
    const fn end(self) -> Plain {
        Plain {
            mss: self.mss as u16,
            window_scale: self.scale as u8,
            sack_permitted: (self.sack & 1) as u8,
        }
    }
}

/// Of numbers below 2^31.
#[inline(always)]
const fn is_zero(number: u32) -> u32 {
    is_less(number, 1)
}

/// Of numbers below 2^31: a mask, all ones if so. The compiler must not see that it is a truth: it
/// would branch by it.
#[inline(always)]
const fn is_less(number: u32, than: u32) -> u32 {
    0u32.wrapping_sub(black_box(number.wrapping_sub(than) >> 31))
}

#[inline(always)]
const fn choose(which: u32, yes: u32, no: u32) -> u32 {
    yes & which | no & !which
}

impl From<Plain> for SynOptions {
    fn from(plain: Plain) -> Self {
        Self {
            mss: Some(plain.mss).filter(|mss| *mss != 0),
            window_scale: Some(plain.window_scale).filter(|scale| *scale <= MOST_SCALE),
            sack_permitted: plain.sack_permitted != 0,
        }
    }
}

impl From<&SynOptions> for Plain {
    fn from(options: &SynOptions) -> Self {
        let scale = options.window_scale.map(|scale| scale.min(MOST_SCALE));
        Self {
            mss: options.mss.unwrap_or(0),
            window_scale: scale.unwrap_or(Self::NO_SCALE),
            sack_permitted: options.sack_permitted.into(),
        }
    }
}

impl SynOptions {
    /// Reads the options of a TCP header, cut out of its packet. `None` if it is none: shorter
    /// than 20 bytes or than it says, or longer than a header can be.
    #[must_use]
    pub fn of(header: &[u8]) -> Option<Self> {
        let length = usize::from(*header.get(12)? >> 4) * 4;
        let header = header.get(..length).filter(|header| header.len() >= 20)?;
        let mut buffer = [0; ROOM];
        buffer.get_mut(..length)?.copy_from_slice(header);
        Some(Plain::read(&buffer, length).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{TcpHeader, TcpOptionElement};
    use proptest::prelude::*;

    fn header(options: &[u8]) -> Vec<u8> {
        assert!(options.len().is_multiple_of(4));
        let mut header = vec![0; 20];
        header[12] = u8::try_from(5 + options.len() / 4).unwrap() << 4;
        header.extend(options);
        header
    }

    fn read(options: &[u8]) -> SynOptions {
        SynOptions::of(&header(options)).unwrap()
    }

    fn is(mss: Option<u16>, window_scale: Option<u8>, sack_permitted: bool) -> SynOptions {
        SynOptions { mss, window_scale, sack_permitted }
    }

    const NONE: SynOptions = SynOptions { mss: None, window_scale: None, sack_permitted: false };

    #[test]
    fn what_systems_send() {
        let linux = [2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(read(&linux), is(Some(1460), Some(7), true));
        let windows = [2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2];
        assert_eq!(read(&windows), is(Some(1460), Some(8), true));
        let macos = [2, 4, 5, 180, 1, 3, 3, 6, 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 4, 2, 0, 0];
        assert_eq!(read(&macos), is(Some(1460), Some(6), true));
        assert_eq!(read(&[]), NONE);
        assert_eq!(read(&[2, 4, 2, 24]), is(Some(536), None, false));
    }

    #[test]
    fn an_end_ends_and_nothing_is_passed_over() {
        assert_eq!(read(&[0, 2, 4, 5, 180, 0, 0, 0]), NONE);
        assert_eq!(read(&[1, 1, 1, 1, 2, 4, 5, 180]), is(Some(1460), None, false));
        assert_eq!(read(&[1; 40]), NONE);
    }

    #[test]
    fn what_is_cut_or_garbage_ends_the_walk_and_what_was_read_counts() {
        let mss = [2, 4, 5, 180];
        let after = |rest: [u8; 4]| read(&[mss, rest].concat());
        // Sizes zero, one, too much, and one that there is no room for.
        for rest in
            [[3, 0, 7, 1], [4, 1, 4, 2], [99, 0, 4, 2], [3, 5, 7, 0], [99, 255, 4, 2], [1, 1, 1, 3]]
        {
            assert_eq!(after(rest), is(Some(1460), None, false), "{rest:?}");
        }
    }

    /// As if zeros followed: never more than was meant.
    #[test]
    fn an_option_that_is_cut_says_less() {
        assert_eq!(read(&[1, 1, 3, 3]), is(None, Some(0), false));
        assert_eq!(read(&[1, 2, 4, 5]), is(Some(1280), None, false));
        assert_eq!(read(&[4, 2, 2, 4]), is(None, None, true));
    }

    #[test]
    fn a_known_kind_of_another_size_is_as_if_it_were_not_there() {
        let sized = [2, 3, 5, 4, 3, 180, 3, 4, 7, 0, 2, 4, 5, 180, 1, 1];
        assert_eq!(read(&sized), is(Some(1460), None, false));
    }

    #[test]
    fn the_last_place_is_read_too() {
        let last = |option: &[u8]| read(&[&vec![1; 40 - option.len()], option].concat());
        assert_eq!(last(&[4, 2]), is(None, None, true));
        assert_eq!(last(&[2, 4, 5, 180]), is(Some(1460), None, false));
        assert_eq!(last(&[3, 3, 4]), is(None, Some(4), false));
        assert_eq!(last(&[4]), NONE);
        assert_eq!(last(&[2, 4]), NONE);
    }

    #[test]
    fn a_scale_is_fourteen_at_most_and_of_two_options_the_last_counts() {
        assert_eq!(read(&[3, 3, 255, 1]).window_scale, Some(14));
        assert_eq!(read(&[2, 4, 1, 0, 2, 4, 2, 0]).mss, Some(512));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        assert_eq!(SynOptions::of(&[]), None);
        assert_eq!(SynOptions::of(&[0; 20]), None);
        let mut cut = header(&[2, 4, 5, 180]);
        cut.pop();
        assert_eq!(SynOptions::of(&cut), None);
        cut[12] = 4 << 4;
        assert_eq!(SynOptions::of(&cut), None);
    }

    proptest! {
        /// As another parser reads them, as long as it reads.
        #[test]
        fn any_bytes_are_read_as_etherparse_reads_them(
            mut options in prop::collection::vec(prop_oneof![0..6u8, any::<u8>()], 0..=40),
        ) {
            options.resize(options.len().next_multiple_of(4), 0);
            let mut tcp = TcpHeader::default();
            tcp.set_options_raw(&options).unwrap();
            // It knows fewer lengths that are right: it may stop earlier, not read something else.
            let mut expected = NONE;
            for option in tcp.options_iterator() {
                match option {
                    Ok(TcpOptionElement::MaximumSegmentSize(mss)) => {
                        expected.mss = Some(mss).filter(|mss| *mss != 0);
                    }
                    Ok(TcpOptionElement::WindowScale(scale)) => {
                        expected.window_scale = Some(scale.min(MOST_SCALE));
                    }
                    Ok(TcpOptionElement::SelectiveAcknowledgementPermitted) => {
                        expected.sack_permitted = true;
                    }
                    Ok(_) => {}
                    // What follows is for `read` alone.
                    Err(_) => return Ok(()),
                }
            }
            prop_assert_eq!(read(&options), expected);
        }
    }
}
