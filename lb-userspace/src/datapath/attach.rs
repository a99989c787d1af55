//! The program on an interface, by a link that is pinned: it outlives the daemon.

use std::fs;

use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};

use super::{DatapathError, pins::Pins};
use crate::config::AttachMode;

/// How the program runs on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver, before the kernel has made anything of the packet.
    Native,
    /// In the kernel's generic hook.
    Generic,
}

impl Mode {
    /// As the pin's name and `lb status` say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn aya(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }
}

/// What [`attach`] did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The interface.
    pub interface: String,
    /// How the program runs there.
    pub mode: Mode,
    /// Why not native, if native was tried and refused.
    pub fell_back: Option<String>,
}

/// Name of the pin: `.` is not allowed there (bpffs keeps it for itself).
fn pin_name(interface: &str, mode: Mode) -> String {
    format!("xdp-{}-{}", mode.name(), interface.replace('.', "~"))
}

/// Puts the program on an interface. A pinned link of a daemon that is gone gets the new program
/// in one step, without a packet in between that meets none.
pub(super) fn attach(
    program: &mut Xdp,
    pins: &Pins,
    interface: &str,
    index: u32,
    wanted: AttachMode,
) -> Result<Attached, DatapathError> {
    for mode in [Mode::Native, Mode::Generic] {
        if take_over(program, pins, &pin_name(interface, mode)) {
            return Ok(Attached { interface: interface.to_owned(), mode, fell_back: None });
        }
    }
    let first = match wanted {
        AttachMode::Auto | AttachMode::Native => Mode::Native,
        AttachMode::Generic => Mode::Generic,
    };
    match attach_new(program, pins, interface, index, first) {
        Ok(()) => Ok(Attached { interface: interface.to_owned(), mode: first, fell_back: None }),
        Err(error) if wanted == AttachMode::Auto && !is_busy(&error) => {
            attach_new(program, pins, interface, index, Mode::Generic)
                .map_err(|error| refused(interface, Mode::Generic, &error))?;
            let fell_back = Some(reason(&error));
            Ok(Attached { interface: interface.to_owned(), mode: Mode::Generic, fell_back })
        }
        Err(error) => Err(refused(interface, first, &error)),
    }
}

/// Gives a pinned link this program. False if there is no such pin, or its interface is gone.
fn take_over(program: &mut Xdp, pins: &Pins, pin: &str) -> bool {
    let path = pins.path(pin);
    let Ok(link) = PinnedLink::from_pin(&path) else {
        return false;
    };
    let taken = XdpLink::try_from(FdLink::from(link))
        .is_ok_and(|link| program.attach_to_link(link).is_ok());
    if !taken {
        // The link of an interface that was deleted: it can do nothing any more.
        let _ = fs::remove_file(path);
    }
    taken
}

fn attach_new(
    program: &mut Xdp,
    pins: &Pins,
    interface: &str,
    index: u32,
    mode: Mode,
) -> Result<(), ProgramError> {
    let id = program.attach_to_if_index(index, mode.aya())?;
    let other = |error: &dyn std::error::Error| {
        ProgramError::IOError(std::io::Error::other(error.to_string()))
    };
    let link = FdLink::try_from(program.take_link(id)?).map_err(|error| other(&error))?;
    link.pin(pins.path(&pin_name(interface, mode))).map_err(|error| other(&error))?;
    Ok(())
}

/// Removes the links of interfaces that the instance no longer has.
pub(super) fn detach_others(pins: &Pins, interfaces: &[String]) -> std::io::Result<()> {
    let kept: Vec<String> = interfaces
        .iter()
        .flat_map(|name| [Mode::Native, Mode::Generic].map(|mode| pin_name(name, mode)))
        .collect();
    let links = pins.names()?.into_iter().filter(|name| name.starts_with("xdp-"));
    links.filter(|name| !kept.contains(name)).try_for_each(|name| fs::remove_file(pins.path(&name)))
}

fn refused(interface: &str, mode: Mode, error: &ProgramError) -> DatapathError {
    if is_busy(error) {
        return DatapathError::Busy { interface: interface.to_owned() };
    }
    let what = format!("cannot attach to {interface} in {} mode", mode.name());
    DatapathError::kernel(what, reason(error))
}

fn os_error(error: &ProgramError) -> Option<&std::io::Error> {
    match error {
        ProgramError::SyscallError(error) => Some(&error.io_error),
        ProgramError::IOError(error) => Some(error),
        _ => None,
    }
}

fn reason(error: &ProgramError) -> String {
    os_error(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn is_busy(error: &ProgramError) -> bool {
    let codes = [libc::EBUSY, libc::EEXIST];
    os_error(error).and_then(std::io::Error::raw_os_error).is_some_and(|code| codes.contains(&code))
}
