//! The number that a SYN is answered with, from which the answer's receiver is known again.
//!
//! ```text
//! 31                8 7         0
//! | number + proof    | data ^ mask |
//! ```
//!
//! The mask and the proof are bits of keyed hashes over addresses, ports and epoch, the proof's also
//! over the data. To the proof the client's initial number is added, modulo 2^24: so an
//! acknowledgement shows how far behind that number its own is. Zero completes a handshake. What is
//! within our first window ([`Check::Follows`]) comes from the same client a little later: its second
//! segment may be here before a worker has made the flow of the first, or instead of the first,
//! which was lost. It must neither be answered with a reset nor begin anything: not even by chance,
//! for what came before it would be missing. A hash over the number as well, in a tag of its own,
//! would let that happen once in as many as the tag has values.
//!
//! Of what nobody was given a cookie for, one packet in 2^23 completes a handshake, and one in 128
//! seems to follow one.
//!
//! A cookie is good in its epoch and in the next: 69 to 137 seconds. The data is masked so that
//! nothing can be read off the number.

use core::sync::atomic::Ordering::Relaxed;

use super::{
    answer::{WINDOW, WINDOW_SCALE},
    options::{Plain, SynOptions},
    siphash::SipHash,
};
use crate::{atomic::AtomicU64, rewrite::EndpointsV4, splice::ClientScales};

/// Segment sizes that a cookie can remember, ascending. What a client says is rounded down: above
/// 1,220 bytes it loses 6 % at most, but for what lies between Ethernet's own and jumbo frames'.
///
/// The least is what every host takes (RFC 1122 §3.3.2), be it that it says less. Above: tunnels
/// of 1,280 bytes; mobile networks; WireGuard; DS-Lite; PPPoE; Ethernet; jumbo frames.
pub const SEGMENT_SIZES: [u16; 8] = [536, 1220, 1300, 1380, 1440, 1452, 1460, 8960];

/// What a cookie says of the client that it was given to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Data(u8);

impl Data {
    /// Of what a SYN offers. Without a segment size it is the least (RFC 9293 §3.7.1).
    #[must_use]
    pub fn new(offered: &SynOptions) -> Self {
        Self::of(offered.into())
    }

    #[inline(always)]
    pub(super) const fn of(offered: Plain) -> Self {
        let (mss, [_, b, c, d, e, f, g, h]) = (offered.mss, SEGMENT_SIZES);
        let class = (mss >= b) as u8
            + (mss >= c) as u8
            + (mss >= d) as u8
            + (mss >= e) as u8
            + (mss >= f) as u8
            + (mss >= g) as u8
            + (mss >= h) as u8;
        Self(class | offered.window_scale << 3 | offered.sack_permitted << 7)
    }

    /// In a byte.
    #[inline(always)]
    pub(super) const fn byte(self) -> u8 {
        self.0
    }

    /// Back from [`byte`](Self::byte).
    #[inline(always)]
    pub(super) const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The longest segment that the client wants to get, rounded down.
    #[must_use]
    pub const fn mss(self) -> u16 {
        SEGMENT_SIZES[(self.0 & 7) as usize]
    }

    /// By how many bits the client's windows are to be shifted, if it offered that.
    #[inline(always)]
    #[must_use]
    pub const fn window_scale(self) -> Option<u8> {
        match self.0 >> 3 & 0xf {
            Plain::NO_SCALE => None,
            scale => Some(scale),
        }
    }

    /// The scales that were agreed with the client: it got ours if it offered its own.
    #[must_use]
    pub const fn scales(self) -> Option<ClientScales> {
        match self.window_scale() {
            Some(its_own) => Some(ClientScales { its_own, ours: WINDOW_SCALE }),
            None => None,
        }
    }

    /// Whether the client offered selective acknowledgements: then they are agreed.
    #[inline(always)]
    #[must_use]
    pub const fn sack_permitted(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// As the SYN to a server offers it.
    #[must_use]
    pub const fn options(self) -> SynOptions {
        SynOptions {
            mss: Some(self.mss()),
            window_scale: self.window_scale(),
            sack_permitted: self.sack_permitted(),
        }
    }
}

/// A part of the monotonic clock in which cookies are made alike: 2^36 nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epoch(pub u32);

impl Epoch {
    const SHIFT: u32 = 36;

    /// How long one lasts, in nanoseconds.
    pub const LENGTH: u64 = 1 << Self::SHIFT;

    /// The one at this time, in nanoseconds of the monotonic clock.
    #[inline(always)]
    #[must_use]
    pub const fn at(nanos: u64) -> Self {
        Self((nanos >> Self::SHIFT) as u32)
    }

    /// The one before.
    #[inline(always)]
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.wrapping_sub(1))
    }

    /// Which of the two secrets is this epoch's: each is that of an even epoch and the odd one
    /// after it.
    #[inline(always)]
    #[must_use]
    pub const fn place(self) -> usize {
        (self.0 >> 1 & 1) as usize
    }

    /// The secret that no good cookie needs any more and the next epoch will: there is one in odd
    /// epochs, when the cookies of the epoch before are of the same secret. It is to be replaced
    /// early in them.
    #[must_use]
    pub const fn replaceable(self) -> Option<usize> {
        if self.0 & 1 == 1 { Some(self.place() ^ 1) } else { None }
    }
}

/// Who shakes hands: what a cookie is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    /// The client's address and the service's, as in the client's packets.
    pub addresses: [u8; 8],
    /// The client's port and the service's.
    pub ports: [u8; 4],
    /// The client's initial sequence number.
    pub sequence: u32,
}

impl Handshake {
    /// Of a client's packets with these endpoints.
    #[must_use]
    pub const fn new(endpoints: &EndpointsV4, sequence: u32) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (endpoints.source, endpoints.destination);
        let ([i, j], [k, l]) = (endpoints.source_port.0, endpoints.destination_port.0);
        Self { addresses: [a, b, c, d, e, f, g, h], ports: [i, j, k, l], sequence }
    }
}

/// What an acknowledgement shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// It completes the handshake that this was offered in.
    Completes(Data),
    /// Its sender was given this cookie, and has sent something since.
    Follows,
    /// Nothing.
    Foreign,
}

/// The value of the one-element `cookies` map: the secrets, by [`Epoch::place`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Secrets {
    /// Even pairs of epochs.
    pub even: [u64; 2],
    /// Odd pairs of epochs.
    pub odd: [u64; 2],
}

const _: () = assert!(size_of::<Secrets>() == 32);

/// Secrets are written nowhere.
impl core::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// The cookie of a client that offers this now.
    #[inline(always)]
    #[must_use]
    pub const fn make(&self, nanos: u64, handshake: &Handshake, data: Data) -> u32 {
        let whose = self.whose(Epoch::at(nanos), handshake);
        let proof = upper(whose.hash(last(data.0)));
        proof.wrapping_add(handshake.sequence) << 8 | (data.0 ^ whose.mask()) as u32
    }

    /// What it shows that somebody acknowledges this cookie now.
    #[inline(always)]
    #[must_use]
    pub const fn check(&self, nanos: u64, handshake: &Handshake, cookie: u32) -> Check {
        let epoch = Epoch::at(nanos);
        let now = self.check_in(epoch, handshake, cookie);
        if let Check::Completes(_) = now {
            return now;
        }
        match self.check_in(epoch.previous(), handshake, cookie) {
            Check::Foreign => now,
            before => before,
        }
    }

    #[inline(always)]
    const fn check_in(&self, epoch: Epoch, handshake: &Handshake, cookie: u32) -> Check {
        let whose = self.whose(epoch, handshake);
        #[expect(clippy::cast_possible_truncation, reason = "the lowest byte")]
        let data = cookie as u8 ^ whose.mask();
        let proof = upper(whose.hash(last(data)));
        let initial = (cookie >> 8).wrapping_sub(proof);
        match handshake.sequence.wrapping_sub(initial) & 0xff_ffff {
            0 => Check::Completes(Data(data)),
            1..=FIRST_WINDOW => Check::Follows,
            _ => Check::Foreign,
        }
    }

    #[inline(always)]
    const fn whose(&self, epoch: Epoch, handshake: &Handshake) -> Whose {
        let secret = if epoch.place() == 0 { self.even } else { self.odd };
        let ports = u32::from_le_bytes(handshake.ports) as u64;
        let addresses = u64::from_le_bytes(handshake.addresses);
        Whose { secret, addresses, ports: ports | (epoch.0 as u64) << 32 }
    }
}

/// How much a client may send before it has heard more of us than the number.
const FIRST_WINDOW: u32 = WINDOW as u32;

/// A secret, and what both messages begin with.
struct Whose {
    secret: [u64; 2],
    addresses: u64,
    /// And the epoch.
    ports: u64,
}

impl Whose {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lowest byte")]
    const fn mask(&self) -> u8 {
        self.hash(0) as u8
    }

    #[inline(always)]
    const fn hash(&self, last: u64) -> u64 {
        let [k0, k1] = self.secret;
        hash(k0, k1, self.addresses, self.ports, last)
    }
}

/// Not inlined: the program's stack is 512 bytes, of all functions that call each other, and five
/// words are what a function of its can be given.
#[inline(never)]
const fn hash(k0: u64, k1: u64, first: u64, second: u64, last: u64) -> u64 {
    SipHash::new([k0, k1]).word(first).word(second).finish(last)
}

/// The end of the proof's message; the mask's is zero, which this never is.
#[inline(always)]
const fn last(data: u8) -> u64 {
    data as u64 | 1 << 8
}

#[inline(always)]
const fn upper(hash: u64) -> u32 {
    (hash >> 40) as u32
}

/// [`Secrets`] as they are shared: the program and workers read, control writes what nobody reads.
#[derive(Default)]
#[repr(C)]
pub struct SharedSecrets([AtomicU64; 4]);

impl SharedSecrets {
    /// Both, as they are now.
    #[inline(always)]
    pub fn load(&self) -> Secrets {
        let [a, b, c, d] = &self.0;
        let even = [a.load(Relaxed), b.load(Relaxed)];
        Secrets { even, odd: [c.load(Relaxed), d.load(Relaxed)] }
    }

    /// Replaces one, by [`Epoch::place`].
    #[cfg(not(target_arch = "bpf"))]
    pub fn replace(&self, place: usize, secret: [u64; 2]) {
        for (cell, word) in self.0.iter().skip(place % 2 * 2).zip(secret) {
            cell.store(word, Relaxed);
        }
    }
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<SharedSecrets>() == size_of::<Secrets>());

#[cfg(all(test, not(loom)))]
mod tests;
