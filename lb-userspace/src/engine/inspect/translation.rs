//! What makes one connection of two: numbers and windows of either side as the other has to see
//! them. The program does this to every packet; here it is done to the few that the machine writes.

use super::segment::SequenceNumber;

/// By how much the windows are shifted that the balancer announces to clients that offer scaling.
pub const WINDOW_SCALE: u8 = 7;

/// How packets are translated from now on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Splice {
    /// `S - K`: added to the client's acknowledgements, taken from the server's numbers.
    pub delta: u32,
    /// Shift of windows that go to the client: to the left if positive.
    pub to_client: i8,
    /// Shift of windows that go to the server.
    pub to_server: i8,
}

impl Splice {
    /// `client`: the client's scale, if it agreed with us to scale; `server`: the server's, if it
    /// did. What the client offered was offered to the server, so a server can only agree if the
    /// client did.
    pub fn new(delta: u32, client: Option<u8>, server: Option<u8>) -> Self {
        let ours = if client.is_some() { WINDOW_SCALE } else { 0 };
        let to_server = if server.is_some() { 0 } else { client.unwrap_or(0) };
        let shift = |shift: u8| i8::try_from(shift.min(14)).unwrap_or(0);
        Self {
            delta,
            to_client: shift(server.unwrap_or(0)) - shift(ours),
            to_server: shift(to_server),
        }
    }

    /// A number of the server's as the client knows it.
    pub fn number_to_client(self, server: SequenceNumber) -> SequenceNumber {
        server.minus(self.delta)
    }

    /// A number that the client knows as the server's own.
    pub fn number_to_server(self, client: SequenceNumber) -> SequenceNumber {
        client.plus(self.delta)
    }

    /// A client's window field for the server.
    pub fn window_to_server(self, field: u16) -> u16 {
        shifted(field, self.to_server)
    }
}

/// No window that is open is closed by this.
fn shifted(field: u16, shift: i8) -> u16 {
    let (field, by) = (u32::from(field), u32::from(shift.unsigned_abs()));
    let window = if shift < 0 { field.unbounded_shr(by) } else { field.unbounded_shl(by) };
    let least = field.min(1);
    u16::try_from(window.max(least)).unwrap_or(u16::MAX)
}
