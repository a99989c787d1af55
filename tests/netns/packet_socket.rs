//! Frames of an interface, as they are: a packet socket (packet(7)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lb_tests::Namespace;
use rustix::{
    io::{self, Errno},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque},
        bind, eth, netdevice, recv, send, socket_with, sockopt,
    },
};

/// What waits in it while its reader does not come to run.
const BUFFER: usize = 16 << 20;

/// A socket for the frames of one interface. It never waits.
pub struct PacketSocket(OwnedFd);

/// The address of an interface: `sockaddr_ll` in linux/if_packet.h, of which a socket that is bound
/// asks for no more than these.
#[repr(C)]
struct LinkAddress {
    family: u16,
    /// In network byte order.
    protocol: u16,
    index: i32,
    unused: [u8; 12],
}

// SAFETY: The pointer is to a value that lives for the call, and of its length; it is laid out as
// the kernel's `sockaddr_ll`, 20 bytes without padding.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f(std::ptr::from_ref(self).cast(), size_of::<Self>() as SocketAddrLen)
    }
}

impl PacketSocket {
    pub fn open(host: &Namespace, device: &str) -> Self {
        let open = || {
            let protocol = Some(eth::ALL);
            let kind = (AddressFamily::PACKET, SocketType::RAW, SocketFlags::NONBLOCK);
            let socket = socket_with(kind.0, kind.1, kind.2, protocol)?;
            let index = netdevice::name_to_index(&socket, device)?;
            sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
            let address = LinkAddress {
                family: AddressFamily::PACKET.as_raw(),
                protocol: 3u16.to_be(),
                index: index.try_into().map_err(|_| Errno::RANGE)?,
                unused: [0; 12],
            };
            bind(&socket, &address)?;
            io::Result::Ok(socket)
        };
        Self(host.enter(open).unwrap().unwrap())
    }

    /// The next frame that the interface has sent or received, but by this socket, and how long it is:
    /// what does not fit into the buffer is cut off.
    pub fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        recv(&self.0, buffer, RecvFlags::TRUNC).ok().map(|(_, length)| length)
    }

    /// Whatever does not fit into the interface's queue is lost, as anywhere.
    pub fn send(&self, frame: &[u8]) {
        let _ = send(&self.0, frame, SendFlags::empty());
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
