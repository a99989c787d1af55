//! The kernel's side of the balancer: the programs, their pinned maps and links, the AF_XDP
//! sockets. All of aya and nearly all `unsafe` of user space are here; no policy is.

mod attach;
mod drops;
mod environment;
mod grace;
mod jiffies;
mod maps;
mod memory;
mod object;
mod pins;
mod program;
mod socket;

pub use attach::{Attached, Detour, Mode};
pub use drops::DropCounts;
pub use environment::check as check_environment;
pub use grace::wait as wait_for_grace_period;
pub use maps::{AddressRoles, CatalogMap, ClientPrefixes, EventCounts, NextHopMap, ServiceMap};
pub use memory::{MappedHandshakes, MappedTable};
pub use pins::Pins;
pub use program::{Datapath, Options, open_pinned};
pub use socket::{Socket, queue_count};

/// What went wrong on the way to a running program, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// Not allowed to.
    #[error("this needs root (CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW): run it with sudo")]
    NotRoot,
    /// An older kernel.
    #[error(
        "kernel {found} is too old: the XDP program needs {least} or later (mapped flow tables, \
         coarse time, BPF links for XDP)"
    )]
    KernelTooOld {
        /// What runs here.
        found: String,
        /// What is needed.
        least: &'static str,
    },
    /// Nowhere to pin.
    #[error("no BPF file system at {0}: mount one with `mount -t bpf bpf {0}`")]
    NoBpffs(&'static str),
    /// A pin of another layout.
    #[error(
        "{path} was pinned by another version of lb ({found}, this one needs {needed}): its flows \
         cannot be adopted. `lb detach` ends them, or start with --replace-pins to do both at once"
    )]
    UnfitPin {
        /// The pin.
        path: String,
        /// What it is.
        found: String,
        /// What is needed.
        needed: String,
    },
    /// No such interface.
    #[error(
        "there is no interface {0}: `ip link` lists them; `interfaces` in [instance] names them"
    )]
    NoInterface(String),
    /// More interfaces or queues than the maps hold.
    #[error("{0}")]
    TooMany(String),
    /// Somebody else's program.
    #[error(
        "another XDP program is attached to {interface}: `ip link show {interface}` shows it, `ip \
         link set dev {interface} xdp off` removes it (or `bpftool net` tells whose it is)"
    )]
    Busy {
        /// Where.
        interface: String,
    },
    /// XDP in the driver wants frames that fit into a page.
    #[error(
        "cannot attach to {interface} in {mode} mode: frames are too long for XDP in the driver. \
         Lower the MTU, on a veth to 3498 bytes at both ends (`ip link set dev {interface} mtu \
         3498`), or set attach_mode = \"generic\""
    )]
    MtuTooLarge {
        /// Where.
        interface: String,
        /// How it was to be attached.
        mode: &'static str,
    },
    /// The kernel refused, with its reason.
    #[error("{what}: {reason}")]
    Kernel {
        /// What was asked.
        what: String,
        /// The kernel's answer.
        reason: String,
    },
}

impl DatapathError {
    fn kernel(what: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Kernel { what: what.into(), reason: reason.to_string() }
    }
}
