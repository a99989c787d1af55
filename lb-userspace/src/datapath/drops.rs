//! What the kernel drops between the XDP program and a worker, and on a worker's way out.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use lb_common::event::Event;

/// A look at one AF_XDP socket's counters. It holds a descriptor of its own, so that counting
/// costs the socket's worker nothing and goes on while the worker hangs.
#[derive(Debug)]
pub struct DropCounts(OwnedFd);

impl DropCounts {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// How often each event has happened since the socket was opened.
    pub fn read(&self) -> io::Result<[(Event, u64); 3]> {
        statistics(&self.0).map(|statistics| events(&statistics))
    }
}

/// A socket that copies counts a frame for which the worker has left no memory twice: as dropped,
/// and as an empty fill ring. What else it drops is too long. One that shares memory with the
/// driver counts the driver's attempts at an empty fill ring, which lose no frame by themselves.
fn events(statistics: &libc::xdp_statistics) -> [(Event, u64); 3] {
    let no_memory = statistics.rx_dropped.min(statistics.rx_fill_ring_empty_descs);
    [
        (Event::DropReceiveFull, statistics.rx_ring_full + no_memory),
        (Event::DropReceiveTooLong, statistics.rx_dropped - no_memory),
        (Event::DropTransmitRefused, statistics.tx_invalid_descs),
    ]
}

fn statistics(socket: &OwnedFd) -> io::Result<libc::xdp_statistics> {
    let mut statistics = libc::xdp_statistics {
        rx_dropped: 0,
        rx_invalid_descs: 0,
        tx_invalid_descs: 0,
        rx_ring_full: 0,
        rx_fill_ring_empty_descs: 0,
        tx_ring_empty_descs: 0,
    };
    let mut length = size_of_val(&statistics) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes of plain numbers into the structure.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(statistics) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_was_counted_twice_by_the_kernel_is_counted_once() {
        let statistics = libc::xdp_statistics {
            rx_dropped: 7,
            rx_invalid_descs: 0,
            tx_invalid_descs: 1,
            rx_ring_full: 3,
            rx_fill_ring_empty_descs: 5,
            tx_ring_empty_descs: 9,
        };
        let counted = events(&statistics).map(|(_, count)| count);
        assert_eq!(counted, [8, 2, 1]);
    }

    #[test]
    fn attempts_at_an_empty_fill_ring_are_no_drops() {
        let statistics = libc::xdp_statistics {
            rx_dropped: 0,
            rx_invalid_descs: 0,
            tx_invalid_descs: 0,
            rx_ring_full: 0,
            rx_fill_ring_empty_descs: 1_000,
            tx_ring_empty_descs: 0,
        };
        assert!(events(&statistics).iter().all(|(_, count)| *count == 0));
    }
}
