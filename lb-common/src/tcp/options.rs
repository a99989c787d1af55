//! What a SYN offers (RFC 9293 §3.1, RFC 7323 §2.2, RFC 2018 §2).

/// The longest TCP header, and bytes behind it that stop whoever walks over the options.
pub const ROOM: usize = 64;

/// Options that are read at most: nobody sends so many, and the program's verifier walks as far.
const MOST: usize = 16;

const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;

/// A window is scaled by no more than this (RFC 7323 §2.3).
pub const MOST_SCALE: u8 = 14;

/// The options of a SYN that outlive the handshake. Timestamps are not among them: they are never
/// agreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SynOptions {
    /// The longest segment that the sender wants to get; `None` if it does not say.
    pub mss: Option<u16>,
    /// By how many bits the sender's windows are to be shifted; `None` if it cannot.
    pub window_scale: Option<u8>,
    /// Whether the sender understands selective acknowledgements.
    pub sack_permitted: bool,
}

impl SynOptions {
    /// Reads a TCP header of `length` bytes in a buffer that is zero behind it.
    ///
    /// What cannot be read ends the walk, and what was read before counts: an option that is
    /// shorter than itself, or longer than the header. An option of a known kind but another
    /// length than it must have is as if it were not there. Of two of a kind the last counts, as
    /// with Linux.
    #[inline(always)]
    #[must_use]
    pub const fn read(header: &[u8; ROOM], length: usize) -> Self {
        let mut options = Self { mss: None, window_scale: None, sack_permitted: false };
        let (mut at, mut steps) = (20, 0);
        while steps < MOST {
            steps += 1;
            // The header ends before the buffer does, and what follows it is zero: an end.
            let kind = header[at & (ROOM - 1)];
            if kind == END {
                break;
            }
            if kind == NOTHING {
                at += 1;
                continue;
            }
            let size = header[(at + 1) & (ROOM - 1)] as usize;
            if size < 2 || at + size > length {
                break;
            }
            let (a, b) = (header[(at + 2) & (ROOM - 1)], header[(at + 3) & (ROOM - 1)]);
            match (kind, size) {
                (MSS, 4) => options.mss = Some(u16::from_be_bytes([a, b])),
                (WINDOW_SCALE, 3) => {
                    options.window_scale = Some(if a > MOST_SCALE { MOST_SCALE } else { a });
                }
                (SACK_PERMITTED, 2) => options.sack_permitted = true,
                _ => {}
            }
            at += size;
        }
        options
    }

    /// Reads the options of a TCP header, cut out of its packet. `None` if it is none: shorter
    /// than 20 bytes or than it says, or longer than a header can be.
    #[must_use]
    pub fn of(header: &[u8]) -> Option<Self> {
        let length = usize::from(*header.get(12)? >> 4) * 4;
        let header = header.get(..length).filter(|header| header.len() >= 20)?;
        let mut buffer = [0; ROOM];
        buffer.get_mut(..length)?.copy_from_slice(header);
        Some(Self::read(&buffer, length))
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
        // Sizes zero and one, and one that is longer than the header.
        for rest in [[3, 0, 7, 1], [4, 1, 4, 2], [99, 0, 4, 2], [3, 5, 7, 0], [99, 255, 4, 2]] {
            assert_eq!(after(rest), is(Some(1460), None, false), "{rest:?}");
        }
        // No room for a size, or for the value.
        assert_eq!(after([1, 1, 1, 3]), is(Some(1460), None, false));
        assert_eq!(after([1, 1, 3, 3]), is(Some(1460), None, false));
        assert_eq!(after([1, 1, 2, 4]), is(Some(1460), None, false));
    }

    #[test]
    fn a_known_kind_of_another_size_is_as_if_it_were_not_there() {
        let sized = [2, 3, 5, 4, 3, 180, 3, 4, 7, 0, 2, 4, 5, 180, 1, 1];
        assert_eq!(read(&sized), is(Some(1460), None, false));
    }

    #[test]
    fn more_options_than_are_read_at_most_are_ignored() {
        let many = |nothings: usize| {
            let mut options = vec![1; nothings];
            options.extend([4, 2]);
            options.resize(40, 0);
            read(&options)
        };
        assert_eq!(many(MOST - 1), is(None, None, true));
        assert_eq!(many(MOST), NONE);
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
            // It knows fewer lengths that are right, and no limit: it may stop earlier, not read
            // something else.
            let mut expected = NONE;
            for option in tcp.options_iterator().take(MOST) {
                match option {
                    Ok(TcpOptionElement::MaximumSegmentSize(mss)) => expected.mss = Some(mss),
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
