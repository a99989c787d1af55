//! The programs on an interface, by links that are pinned: they outlive the daemon.

use std::{fs, io};

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::XdpLink,
};

use super::{DatapathError, pins::Pins};
use crate::config::AttachMode;

/// How packets of an interface are got hold of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// XDP in the driver, before the kernel has made anything of the packet.
    Native,
    /// XDP in the kernel's generic hook.
    Generic,
    /// Socket buffers, at the ingress of traffic control.
    Tc,
}

impl Mode {
    /// As the pin's name and `lb status` say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tc => "tc",
        }
    }
}

/// Two ends of a link in this network namespace: what is sent into the near one comes by the far one,
/// where XDP sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detour {
    /// Index of the near end.
    pub near: u32,
    /// Index of the far end.
    pub far: u32,
    /// Name of the far end, which both go with.
    pub far_name: String,
}

/// What [`attach`] and [`attach_buffers`] did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The interface.
    pub interface: String,
    /// How packets are got hold of there.
    pub mode: Mode,
    /// The way by which packets are punted in [`Mode::Tc`].
    pub detour: Option<Detour>,
    /// Why not as was tried first, if that was refused.
    pub fell_back: Option<String>,
}

/// Where a program is attached.
struct Place<'a> {
    pins: &'a Pins,
    /// Name of the link's pin.
    pin: String,
    index: u32,
}

/// Of a link: `.` is not allowed in a pin's name (bpffs keeps it for itself).
fn pin_name(kind: &str, interface: &str) -> String {
    format!("{kind}-{}", interface.replace('.', "~"))
}

const XDP_MODES: [(Mode, XdpMode, &str); 2] =
    [(Mode::Native, XdpMode::Driver, "xdp-native"), (Mode::Generic, XdpMode::Skb, "xdp-generic")];
/// Kinds of pins beside those: a tcx link, and XDP at the far end of a detour.
const TC: &str = "tc";
const DETOUR: &str = "xdp-detour";
const DETOUR_EXIT: &str = "tc-detour";

/// The programs of an interface that has socket buffers.
pub(super) struct BufferPrograms<'a> {
    /// Of the interface itself.
    pub(super) forward: &'a mut SchedClassifier,
    /// Of the far end of its detour: what XDP does there,
    pub(super) treat: &'a mut Xdp,
    /// and with what that lets pass.
    pub(super) leave: &'a mut SchedClassifier,
}

/// Whether a pin is of a link.
pub(super) fn is_link(pin: &str) -> bool {
    ["xdp-", "tc-"].iter().any(|kind| pin.starts_with(kind))
}

/// How packets of an interface are got hold of already, by a daemon that is gone.
pub(super) fn pinned(pins: &Pins, interface: &str) -> Option<Mode> {
    let xdp = XDP_MODES.into_iter().map(|(mode, _, kind)| (mode, kind));
    let mut modes = xdp.chain([(Mode::Tc, TC)]);
    modes.find(|(_, kind)| pins.path(&pin_name(kind, interface)).exists()).map(|(mode, _)| mode)
}

/// Puts the XDP program on an interface. A pinned link of a daemon that is gone gets the new program
/// in one step, without a packet in between that meets none.
pub(super) fn attach(
    program: &mut Xdp,
    pins: &Pins,
    interface: &str,
    index: u32,
    wanted: AttachMode,
) -> Result<Attached, DatapathError> {
    let attached = |mode, fell_back| {
        Ok(Attached { interface: interface.to_owned(), mode, detour: None, fell_back })
    };
    for (mode, _, kind) in XDP_MODES {
        if take_over_xdp(program, pins, &pin_name(kind, interface)) {
            return attached(mode, None);
        }
    }
    let [native, generic] = XDP_MODES.map(|(mode, aya, kind)| {
        (mode, aya, Place { pins, pin: pin_name(kind, interface), index })
    });
    let (mode, aya, place) = match wanted {
        AttachMode::Auto | AttachMode::Native => &native,
        AttachMode::Generic | AttachMode::Tc => &generic,
    };
    match attach_xdp(program, place, *aya) {
        Ok(()) => attached(*mode, None),
        Err(error) if wanted == AttachMode::Auto && !is_busy(&error) => {
            attach_xdp(program, &generic.2, XdpMode::Skb)
                .map_err(|error| refused_xdp(interface, Mode::Generic, &error))?;
            attached(Mode::Generic, Some(reason(&error)))
        }
        Err(error) => Err(refused_xdp(interface, *mode, &error)),
    }
}

/// Puts the programs for socket buffers on an interface and on its detour, from there to here. Links are
/// taken over as [`attach`] does.
pub(super) fn attach_buffers(
    programs: BufferPrograms<'_>,
    pins: &Pins,
    interface: &str,
    detour: Detour,
) -> Result<Attached, DatapathError> {
    let BufferPrograms { forward, treat, leave } = programs;
    let far = &*detour.far_name;
    let ways =
        [(leave, far, pin_name(DETOUR_EXIT, far)), (forward, interface, pin_name(TC, interface))];
    let place = Place { pins, pin: pin_name(DETOUR, far), index: detour.far };
    if !take_over_xdp(treat, pins, &place.pin) {
        // Natively: what was redirected on its way the generic hook does not see.
        attach_xdp(treat, &place, XdpMode::Driver)
            .map_err(|error| refused_xdp(interface, Mode::Tc, &error))?;
    }
    for (program, at, pin) in ways {
        if !take_over_tcx(program, pins, &pin) {
            attach_tcx(program, pins, at, &pin)
                .map_err(|error| refused(interface, Mode::Tc, &error))?;
        }
    }
    let detour = Some(detour);
    Ok(Attached { interface: interface.to_owned(), mode: Mode::Tc, detour, fell_back: None })
}

/// Gives a pinned link this program. False if there is no such pin, or its interface is gone.
fn take_over_xdp(program: &mut Xdp, pins: &Pins, pin: &str) -> bool {
    take_over(pins, pin, |link| {
        XdpLink::try_from(link).is_ok_and(|link| program.attach_to_link(link).is_ok())
    })
}

fn take_over_tcx(program: &mut SchedClassifier, pins: &Pins, pin: &str) -> bool {
    take_over(pins, pin, |link| {
        SchedClassifierLink::try_from(link).is_ok_and(|link| program.attach_to_link(link).is_ok())
    })
}

fn take_over(pins: &Pins, pin: &str, update: impl FnOnce(FdLink) -> bool) -> bool {
    let path = pins.path(pin);
    let Ok(link) = PinnedLink::from_pin(&path) else {
        return false;
    };
    let taken = update(FdLink::from(link));
    if !taken {
        // The link of an interface that was deleted: it can do nothing any more.
        let _ = fs::remove_file(path);
    }
    taken
}

fn attach_xdp(program: &mut Xdp, place: &Place<'_>, mode: XdpMode) -> Result<(), ProgramError> {
    let id = program.attach_to_if_index(place.index, mode)?;
    let link = FdLink::try_from(program.take_link(id)?).map_err(|error| other(&error))?;
    link.pin(place.pins.path(&place.pin)).map_err(|error| other(&error))?;
    Ok(())
}

/// By tcx (kernel 6.6): its links can be pinned.
fn attach_tcx(
    program: &mut SchedClassifier,
    pins: &Pins,
    interface: &str,
    pin: &str,
) -> Result<(), ProgramError> {
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(interface, TcAttachType::Ingress, first)?;
    let link = FdLink::try_from(program.take_link(id)?).map_err(|error| other(&error))?;
    link.pin(pins.path(pin)).map_err(|error| other(&error))?;
    Ok(())
}

fn other(error: &dyn std::error::Error) -> ProgramError {
    ProgramError::IOError(io::Error::other(error.to_string()))
}

/// Removes the links of interfaces that the instance no longer has, given what it has: names, and
/// indices. Returns the detours' far ends that no longer serve.
pub(super) fn detach_others(
    pins: &Pins,
    interfaces: &[String],
    detours: &[String],
) -> io::Result<Vec<String>> {
    let of = |kind, names: &[String]| -> Vec<String> {
        names.iter().map(|name| pin_name(kind, name)).collect()
    };
    let kinds = XDP_MODES.map(|(_, _, kind)| kind).into_iter().chain([TC]);
    let kept: Vec<String> = kinds
        .flat_map(|kind| of(kind, interfaces))
        .chain([DETOUR, DETOUR_EXIT].into_iter().flat_map(|kind| of(kind, detours)))
        .collect();
    let links = pins.names()?.into_iter().filter(|name| is_link(name) && !kept.contains(name));
    let gone: Vec<String> = links.collect();
    gone.iter().try_for_each(|name| fs::remove_file(pins.path(name)))?;
    Ok(far_ends(gone))
}

/// Removes the links at a detour's far end; that there is none is no error.
pub(super) fn detach_detour(pins: &Pins, far_end: &str) -> io::Result<()> {
    [DETOUR, DETOUR_EXIT].into_iter().try_for_each(|kind| {
        match fs::remove_file(pins.path(&pin_name(kind, far_end))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    })
}

/// The far ends of all detours.
pub(super) fn detours(pins: &Pins) -> io::Result<Vec<String>> {
    Ok(far_ends(pins.names()?))
}

fn far_ends(pins: impl IntoIterator<Item = String>) -> Vec<String> {
    let prefix = pin_name(DETOUR, "");
    pins.into_iter().filter_map(|pin| pin.strip_prefix(&prefix).map(str::to_owned)).collect()
}

fn refused(interface: &str, mode: Mode, error: &ProgramError) -> DatapathError {
    if is_busy(error) {
        return DatapathError::Busy { interface: interface.to_owned() };
    }
    let what = format!("cannot attach to {interface} in {} mode", mode.name());
    DatapathError::kernel(what, reason(error))
}

/// The same of XDP, for which an MTU can be too large: a veth says it so.
fn refused_xdp(interface: &str, mode: Mode, error: &ProgramError) -> DatapathError {
    if is_one_of(error, &[libc::ERANGE]) {
        return DatapathError::MtuTooLarge { interface: interface.to_owned(), mode: mode.name() };
    }
    refused(interface, mode, error)
}

fn os_error(error: &ProgramError) -> Option<&io::Error> {
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
    is_one_of(error, &[libc::EBUSY, libc::EEXIST])
}

fn is_one_of(error: &ProgramError, codes: &[i32]) -> bool {
    os_error(error).and_then(io::Error::raw_os_error).is_some_and(|code| codes.contains(&code))
}
