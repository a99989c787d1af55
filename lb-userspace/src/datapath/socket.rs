//! AF_XDP sockets: frames that the packet program punts come in here, decided ones go out.
//!
//! The `xdp` crate's packets point into their UMEM and must not outlive it, and its types do not
//! say so. So no packet leaves this module: callers see frames as byte slices.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use rustix::net::{SendFlags, send};
use xdp::{
    Packet, RingConfigBuilder, Umem, WakableRings,
    nic::NicIndex,
    slab::{HeapSlab, Slab as _},
    socket::{XdpSocket, XdpSocketBuilder},
    umem::{FrameSize, UmemCfgBuilder},
};

use super::{DatapathError, DropCounts, Mode};

const RING: u32 = 2048;
/// Half of the frames wait for packets, half carry what is sent.
const FRAMES: u32 = 2 * RING;
const BATCH: usize = 64;
/// Frames that one call makes a kernel send that copies them (`TX_BATCH_SIZE` of net/xdp/xsk.c).
const SENT_AT_ONCE: usize = 32;

/// One AF_XDP socket with memory of its own, bound to one receive queue.
pub struct Socket {
    // Before `umem`: packets in the slabs, in the batch and descriptors in the rings point into it.
    received: HeapSlab,
    batch: Vec<Packet>,
    to_send: HeapSlab,
    rings: WakableRings,
    socket: XdpSocket,
    umem: Umem,
    /// Whether the driver takes frames where they are, and has to be told of them.
    shares_memory: bool,
}

// SAFETY: the raw pointers inside point into the socket's own mappings, which any thread may use
// as long as only one does at a time; the socket is moved to its worker's thread and stays there.
unsafe impl Send for Socket {}

impl Socket {
    /// Opens and binds a socket. In native mode the kernel shares memory with the driver where the
    /// driver can; otherwise it can only copy.
    pub fn open(interface: u32, queue: u32, mode: Mode) -> Result<Self, DatapathError> {
        let what = || format!("cannot open an AF_XDP socket on queue {queue}");
        let failed =
            |error: &dyn std::fmt::Debug| DatapathError::kernel(what(), format!("{error:?}"));
        let config = UmemCfgBuilder {
            frame_size: FrameSize::FourK,
            frame_count: FRAMES,
            ..UmemCfgBuilder::default()
        };
        let mut umem = Umem::map(config.build().map_err(|error| failed(&error))?)
            .map_err(|error| failed(&error))?;
        let mut builder = XdpSocketBuilder::new().map_err(|error| failed(&error))?;
        let config = RingConfigBuilder {
            rx_count: RING,
            tx_count: RING,
            fill_count: RING,
            completion_count: RING,
        };
        let config = config.build().map_err(|error| failed(&error))?;
        let (mut rings, mut flags) =
            builder.build_wakable_rings(&umem, config).map_err(|error| failed(&error))?;
        if mode != Mode::Native {
            flags.force_copy();
        }
        let socket =
            builder.bind(NicIndex::new(interface), queue, flags).map_err(|error| failed(&error))?;
        // SAFETY: the frames belong to the UMEM that the ring was built for, and both stay here.
        unsafe { rings.fill_ring.enqueue(&mut umem, RING as usize, true) }
            .map_err(|error| failed(&error))?;
        let shares_memory =
            shares_memory(&socket).map_err(|error| DatapathError::kernel(what(), error))?;
        Ok(Self {
            shares_memory,
            received: HeapSlab::with_capacity(BATCH),
            batch: Vec::with_capacity(BATCH),
            to_send: HeapSlab::with_capacity(RING as usize),
            rings,
            socket,
            umem,
        })
    }

    /// What the kernel drops on the way to and from this socket, for another thread to read.
    pub fn drop_counts(&self) -> io::Result<DropCounts> {
        self.as_fd().try_clone_to_owned().map(DropCounts::new)
    }

    /// Takes in what has come, up to a batch. Returns how many frames there are.
    pub fn receive(&mut self) -> usize {
        if let Some(ring) = self.rings.rx_ring.as_mut() {
            // SAFETY: the packets stay in this socket, which they were received by, and go before
            // its UMEM.
            unsafe { ring.recv(&self.umem, &mut self.received) };
        }
        while let Some(packet) = self.received.pop_back() {
            self.batch.push(packet);
        }
        self.batch.len()
    }

    /// The frames that were taken in, in order.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.batch.iter().map(|packet| &**packet)
    }

    /// Forgets them, and gives their memory back to the kernel.
    pub fn release(&mut self) -> io::Result<()> {
        let count = self.batch.len();
        for packet in self.batch.drain(..) {
            self.umem.free_packet(packet);
        }
        self.refill(count)
    }

    fn refill(&mut self, mut missing: usize) -> io::Result<()> {
        missing = missing.min(RING as usize);
        if missing > 0 {
            // SAFETY: the frames belong to the UMEM that the ring was built for.
            let queued = unsafe {
                self.rings.fill_ring.enqueue(&mut self.umem, missing, self.shares_memory)
            };
            match queued {
                // They are in the ring, where the driver finds them when the interface is up again.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                other => {
                    other?;
                }
            }
        }
        Ok(())
    }

    /// Queues a frame. False if it does not fit into a frame of the UMEM or none is free.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        if self.to_send.available() == 0 || self.umem.allocatable() <= RING as usize / 8 {
            self.complete();
        }
        if self.to_send.available() == 0 {
            return false;
        }
        // SAFETY: the packet goes into `to_send` or back, and the UMEM outlives both.
        let Some(mut packet) = (unsafe { self.umem.alloc() }) else {
            return false;
        };
        if packet.append(frame).is_err() {
            self.umem.free_packet(packet);
            return false;
        }
        self.to_send.push_front(packet);
        true
    }

    /// Gives queued frames to the kernel.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.to_send.is_empty() {
            return Ok(());
        }
        let mut calls = self.to_send.len().div_ceil(SENT_AT_ONCE);
        if let Some(ring) = self.rings.tx_ring.as_mut() {
            // SAFETY: the packets lie in the UMEM that the ring was built for.
            let mut sent = unsafe { ring.send(&mut self.to_send, true) }.map(drop);
            while let Err(error) = sent {
                match error.raw_os_error() {
                    // It has sent what it does in one call.
                    Some(libc::EAGAIN) if calls > 1 => calls -= 1,
                    // A signal came, the kernel is busy sending what it has, or the interface is
                    // down: the rest is taken at a later call, of which the worker's poll(2) is one.
                    Some(
                        libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::ENETDOWN,
                    ) => break,
                    _ => return Err(error),
                }
                sent = send(self.as_fd(), &[], SendFlags::DONTWAIT).map(drop).map_err(Into::into);
            }
        }
        self.complete();
        Ok(())
    }

    /// Takes back frames that are sent.
    fn complete(&mut self) {
        self.rings.completion_ring.dequeue(&mut self.umem, RING as usize);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open for as long as the socket lives.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

/// Whether the driver shares the socket's memory; else the kernel copies every frame.
fn shares_memory(socket: &XdpSocket) -> io::Result<bool> {
    let mut options = libc::xdp_options { flags: 0 };
    let mut length = size_of_val(&options) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes of plain numbers into the structure.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_OPTIONS,
            (&raw mut options).cast(),
            &raw mut length,
        )
    };
    if failed != 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }
}

/// How many receive queues an interface has; 1 where the driver does not say.
pub fn queue_count(interface: u32) -> u32 {
    NicIndex::new(interface).queue_counts().map_or(1, |queues| queues.rx_count().max(1))
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index};

    use super::*;
    use crate::control::network::testing::{Peer, eventually, in_namespace, run};

    /// An ARP request (RFC 826) of 10.0.0.9 for 10.0.0.11.
    fn request() -> Vec<u8> {
        let (ours, sender, target) = ([2, 0, 0, 0, 1, 2], [10, 0, 0, 9], [10, 0, 0, 11]);
        let kind = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
        [&[0xff; 6][..], &ours, &kind, &ours, &sender, &[0; 6], &target].concat()
    }

    #[test]
    fn an_interface_that_goes_down_is_no_error_and_sends_again_when_it_is_up() {
        in_namespace(async || {
            let peer = Peer::listen();
            let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
            let eth0 = name_to_index(any, "eth0").unwrap();
            let mut socket = Socket::open(eth0, 0, Mode::Generic).unwrap();
            run("ip link set eth0 down");
            assert!(socket.send(&request()));
            socket.flush().unwrap();
            socket.refill(1).unwrap();
            run("ip link set eth0 up");
            eventually("a request", || {
                socket.send(&request());
                socket.flush().unwrap();
                peer.request()
            })
            .await;
        });
    }
}
