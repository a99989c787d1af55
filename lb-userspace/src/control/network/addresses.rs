//! The balancer's own addresses: put onto its interfaces, and taken off again.
//!
//! An address that is there already belongs to whoever put it there: it is used and left alone.
//! Those that were added are written to a file, before they are: `lb detach` removes just these,
//! whatever became of the daemon.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    announce::announce,
    kernel::{Kernel, KernelError},
    topology::{Interface, Topology},
};

/// Between the two announcements of an address: `ANNOUNCE_INTERVAL` of RFC 5227 §1.1.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

/// An address that the balancer added.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OwnedAddress {
    /// The interface's name.
    pub interface: String,
    /// As a host address (/32 or /128).
    pub address: IpAddr,
}

/// The addresses that the balancer added: the state file's content.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Owned {
    /// In the order in which they were wanted.
    pub addresses: Vec<OwnedAddress>,
}

/// Why the balancer's addresses are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// An instance's interface does not exist.
    #[error("there is no interface `{0}` to put addresses on; see `ip link`")]
    NoInterface(String),
    /// The state file cannot be read or written.
    #[error("{}: {source}", path.display())]
    State {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Sees to it that the host has these addresses. One that is missing is added as a host address
/// to the interface (of the instance's, or a VLAN over one) whose subnet holds it, else to the
/// first, and announced: IPv4 by gratuitous ARP, at once and from a task two seconds later.
/// One that was added in an earlier call and is not wanted any more is removed.
///
/// # Errors
///
/// When an interface is missing, the kernel refuses, or the state file cannot be used. What was
/// added until then is in the state file.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub async fn ensure(
    state: &Path,
    addresses: &[IpAddr],
    interfaces: &[String],
) -> Result<Owned, AddressError> {
    let kernel = Kernel::connect()?;
    let topology = kernel.topology().await?;
    let plan = Plan::new(&topology, read(state)?, addresses, interfaces)?;
    write(state, &plan.whole())?;
    for owned in &plan.remove {
        remove(&kernel, &topology, owned).await?;
    }
    let mut owned = Owned { addresses: plan.keep };
    for address in plan.add {
        if add(&kernel, &topology, &address).await? {
            owned.addresses.push(address);
        }
    }
    write(state, &owned)?;
    Ok(owned)
}

/// Removes the addresses that [`ensure`] added, and the state file. Returns what was in it;
/// nothing, if there is no such file.
///
/// # Errors
///
/// When the kernel refuses, or the state file cannot be read or removed.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub async fn release(state: &Path) -> Result<Owned, AddressError> {
    let owned = read(state)?;
    let kernel = Kernel::connect()?;
    let topology = kernel.topology().await?;
    for address in &owned.addresses {
        remove(&kernel, &topology, address).await?;
    }
    match fs::remove_file(state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(state_error(state, error)),
        _ => Ok(owned),
    }
}

/// What has to be done.
#[derive(PartialEq, Eq, Debug, Default)]
struct Plan {
    keep: Vec<OwnedAddress>,
    add: Vec<OwnedAddress>,
    remove: Vec<OwnedAddress>,
}

impl Plan {
    fn new(
        topology: &Topology,
        before: Owned,
        wanted: &[IpAddr],
        interfaces: &[String],
    ) -> Result<Self, AddressError> {
        let places = places(topology, interfaces)?;
        let mut plan = Self::default();
        for (position, address) in wanted.iter().enumerate() {
            if wanted[..position].contains(address) {
                continue;
            }
            let ours = before.addresses.iter().find(|owned| owned.address == *address);
            match ours.filter(|ours| is_there(topology, ours)) {
                Some(ours) => plan.keep.push(ours.clone()),
                None if topology.addresses().any(|(_, there)| there.addr() == *address) => {}
                None => plan.add.push(place(topology, &places, *address)),
            }
        }
        plan.remove = before.addresses;
        plan.remove.retain(|owned| !plan.keep.contains(owned) && is_there(topology, owned));
        Ok(plan)
    }

    /// All that may be the balancer's before the plan is carried out in full.
    fn whole(&self) -> Owned {
        Owned { addresses: [&self.keep[..], &self.add, &self.remove].concat() }
    }
}

/// The interfaces that addresses may go to: the instance's, then the VLANs over them.
fn places<'a>(
    topology: &'a Topology,
    interfaces: &[String],
) -> Result<Vec<&'a Interface>, AddressError> {
    let named = |name: &String| {
        topology.interface_named(name).ok_or_else(|| AddressError::NoInterface(name.clone()))
    };
    let mut places = interfaces.iter().map(named).collect::<Result<Vec<_>, _>>()?;
    let is_below = |index| places.iter().any(|place| place.index == index);
    let vlans = topology.interfaces().filter(|device| {
        device.vlan.is_some_and(|vlan| is_below(vlan.parent)) && !is_below(device.index)
    });
    let mut vlans: Vec<_> = vlans.collect();
    vlans.sort_by_key(|device| device.index);
    places.extend(vlans);
    Ok(places)
}

fn place(topology: &Topology, places: &[&Interface], address: IpAddr) -> OwnedAddress {
    let holds = |interface: &Interface| {
        let subnets = topology.addresses().filter(|(index, _)| *index == interface.index);
        let holding = subnets.filter(|(_, subnet)| subnet.contains(&address));
        holding.map(|(_, subnet)| subnet.prefix_len()).max()
    };
    // Of equals the last is taken.
    let longest = places.iter().rev().max_by_key(|place| holds(place));
    let interface = longest.map(|place| place.name.clone()).unwrap_or_default();
    OwnedAddress { interface, address }
}

/// Whether what was added is still there: the operator may have put the address elsewhere, or
/// there with the subnet's prefix length.
fn is_there(topology: &Topology, owned: &OwnedAddress) -> bool {
    let Some(interface) = topology.interface_named(&owned.interface) else {
        return false;
    };
    let added = (interface.index, IpNet::from(owned.address));
    topology.addresses().any(|there| there == added)
}

/// Whether it was added: someone else may have been faster.
async fn add(
    kernel: &Kernel,
    topology: &Topology,
    owned: &OwnedAddress,
) -> Result<bool, AddressError> {
    let missing = || AddressError::NoInterface(owned.interface.clone());
    let interface = topology.interface_named(&owned.interface).ok_or_else(missing)?;
    match kernel.add_address(interface.index, owned.address).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        result => result?,
    }
    announce_twice(interface, owned.address);
    Ok(true)
}

async fn remove(
    kernel: &Kernel,
    topology: &Topology,
    owned: &OwnedAddress,
) -> Result<(), AddressError> {
    let Some(interface) = topology.interface_named(&owned.interface) else {
        return Ok(());
    };
    match kernel.remove_address(interface.index, owned.address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(()),
        result => Ok(result?),
    }
}

/// An address works unannounced too, only its neighbours may hold an older MAC for a while:
/// failures are warnings.
fn announce_twice(interface: &Interface, address: IpAddr) {
    let (IpAddr::V4(v4), Some(mac)) = (address, interface.mac) else {
        return;
    };
    let (index, name) = (interface.index, interface.name.clone());
    let send = move || {
        if let Err(error) = announce(index, mac, v4) {
            warn!(%address, interface = name, %error, "the address could not be announced");
        }
    };
    send();
    tokio::spawn(async move {
        tokio::time::sleep(ANNOUNCE_INTERVAL).await;
        send();
    });
}

fn read(state: &Path) -> Result<Owned, AddressError> {
    match fs::read(state) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| state_error(state, error.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Owned::default()),
        Err(error) => Err(state_error(state, error)),
    }
}

/// By way of a temporary file: the state is the one before or the one after, even in a crash.
fn write(state: &Path, owned: &Owned) -> Result<(), AddressError> {
    let written = || -> io::Result<()> {
        if let Some(folder) = state.parent() {
            fs::create_dir_all(folder)?;
        }
        let temporary = state.with_extension("json.new");
        fs::write(&temporary, serde_json::to_vec_pretty(owned)?)?;
        fs::rename(&temporary, state)
    };
    written().map_err(|error| state_error(state, error))
}

fn state_error(path: &Path, source: io::Error) -> AddressError {
    AddressError::State { path: path.to_owned(), source }
}

#[cfg(test)]
#[path = "addresses_tests.rs"]
mod tests;
