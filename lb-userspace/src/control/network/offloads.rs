//! What an interface does for the stack, switched off: by the ioctl of ethtool(8).

use std::{io, os::fd::AsRawFd as _};

use rustix::net::{AddressFamily, SocketType, socket};

use super::kernel::KernelError;

/// Commands of `linux/ethtool.h` that switch one thing.
const CHECKSUMS: u32 = 0x17;
const TCP_SEGMENTATION: u32 = 0x1f;
const GENERIC_SEGMENTATION: u32 = 0x24;
/// The one that switches those of a bit each: VLAN tags, receive hashing and filters, LRO.
const FLAGS: u32 = 0x26;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Has an interface be sent packets as they are on a wire: cut, with checksums, tags inside.
///
/// # Errors
///
/// When the kernel refuses, or there is no such interface.
pub(super) fn disable(interface: &str) -> Result<(), KernelError> {
    [GENERIC_SEGMENTATION, TCP_SEGMENTATION, CHECKSUMS, FLAGS].into_iter().try_for_each(|command| {
        match set(interface, Value { command, data: 0 }) {
            // What an interface does not offer is off: a veth cuts no segments for a far end with XDP.
            Err(error) if error.raw_os_error() != Some(libc::EOPNOTSUPP) => {
                Err(KernelError::new(format!("switching offloads of {interface} off"), error))
            }
            _ => Ok(()),
        }
    })
}

fn set(interface: &str, mut value: Value) -> io::Result<()> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: plain numbers and pointers, for which zeroes are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, byte) in request.ifr_name.iter_mut().take(room).zip(interface.bytes()) {
        *to = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request is the one that this ioctl takes, and what it points to outlives the call.
    match unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
