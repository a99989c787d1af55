//! Payload that comes in pieces, as that of an inspected TCP connection does.
//!
//! `avi.l4.collect` asks for more of it than is buffered by ending the run: nothing of it is left,
//! and once there is as much the whole chain of scripts runs again, from the first line of the
//! first. So a script that has read the payload before it asks for more reads all of it in the end.

use super::{Outcome, Place};

/// Whether more payload may come than is buffered. That a buffer is full is not among this: one
/// holds more than a script may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum More {
    /// The sender's side is open.
    MayCome,
    /// The sender has closed its side.
    Closed,
    /// `inspect_timeout` has run out: the scripts are to decide without payload.
    Late,
}

/// How far the scripts of an event came with what is buffered.
#[derive(Clone, PartialEq, Debug)]
pub enum Progress {
    /// They have run to their end.
    Decided(Outcome),
    /// They want to see more, and have left nothing behind.
    Waits(Wait),
}

/// `avi.l4.collect` of more than is buffered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    /// As much is to be buffered before the scripts run again: more than was, 65,000 at most.
    pub bytes: usize,
    /// What called it.
    pub by: Place,
}
