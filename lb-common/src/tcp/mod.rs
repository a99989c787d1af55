//! TCP handshakes that cost no memory: SYN cookies (RFC 4987 §3.6), and answers made of the very
//! packets that ask.
//!
//! The program answers a SYN with a number of its own choice from which all that it must know can
//! be read back ([`cookie`]). Nothing is kept until the client returns that number, and with it
//! proves that it is where it says it is. What the client offers is in its SYN's options
//! ([`options`]); what it gets is written over its own packet ([`answer`]). [`stateless`] is the way
//! of such a packet.

pub mod answer;
pub mod cookie;
pub mod options;
pub mod segment;
pub mod siphash;
pub mod stateless;
