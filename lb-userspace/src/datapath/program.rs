//! Loading: pins checked, maps opened or made, the program verified and attached.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
    sync::Arc,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapFd, MapInfo, MapType, XskMap},
    programs::{Program, ProgramError, SchedClassifier, Xdp},
};
use lb_common::{
    address::Address,
    admission::{ARRIVALS, CLIENT_PREFIXES, RateKey},
    event::EVENTS,
    filter::AddressFilter,
    flow::{BUCKET_SLOTS, FlowBucketV4, FlowRecord, Geometry},
    hash::HashSeed,
    layout::{
        CATALOG, CatalogEntry, INTERFACE_ENTRIES, INTERFACES, Instance, Interface, LAYOUT_VERSION,
        Pressure, QUEUES, SOCKETS,
    },
    next_hop::{NEXT_HOPS, NextHop, NextHopTarget},
    service::{ADDRESSES, Service, ServiceKey, VIRTUAL_SERVICES},
    tcp::cookie::Secrets,
};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{
    DatapathError,
    attach::{self, Attached, BufferPrograms, Detour, Mode},
    jiffies,
    maps::{
        AddressRoles, CatalogMap, ClientPrefixes, EventCounts, NextHopMap, PodInstance,
        PodInterface, ServiceMap, typed,
    },
    memory::{MappedFilter, MappedHandshakes, MappedTable},
    object,
    pins::Pins,
    socket::Socket,
};
use crate::config::AttachMode;

const PROGRAM: &str = "firstpacket";
const FORWARD: &str = "forward_buffers";
const TREAT: &str = "treat_punted";
const LEAVE: &str = "leave_detour";

/// How to load.
#[derive(Clone, Debug)]
pub struct Options {
    /// The instance: its name is the pins' folder.
    pub instance: String,
    /// Flows at once; a table that is pinned keeps its own size.
    pub flow_capacity: u32,
    /// Remove pins of another layout instead of refusing.
    pub replace_pins: bool,
    /// Log a line a packet.
    pub trace: bool,
}

impl Options {
    /// Pins of another layout are refused, and no packet is logged.
    pub fn new(instance: impl Into<String>, flow_capacity: u32) -> Self {
        Self { instance: instance.into(), flow_capacity, replace_pins: false, trace: false }
    }
}

/// The loaded program and its maps.
pub struct Datapath {
    pins: Pins,
    geometry: Geometry,
    ebpf: Ebpf,
    sockets: XskMap<aya::maps::MapData>,
    interfaces: HashMap<aya::maps::MapData, u32, PodInterface>,
    handshakes: Arc<MappedHandshakes>,
    /// Why the programs for socket buffers are not loaded, if they are not.
    refused: Option<String>,
}

impl Datapath {
    /// Opens what is pinned or makes it anew, and loads the programs over it. A kernel that does not take
    /// those for socket buffers may serve without.
    pub fn load(options: &Options) -> Result<Self, DatapathError> {
        let mut datapath = Self::prepare(options)?;
        datapath.program()?.load().map_err(verifier_error)?;
        datapath.refused = datapath.load_buffers().err().map(|error| error.to_string());
        Ok(datapath)
    }

    /// The same without loading a program. They must be before a map is taken: each names the maps by
    /// descriptors, which are closed with what was taken.
    pub fn prepare(options: &Options) -> Result<Self, DatapathError> {
        Self::load_object(options, object::bytes(), &[])
    }

    /// The same with another object over the same maps and with globals of its own, and without
    /// loading a program of it: for the benchmark, whose programs feed the packet path with
    /// varying packets.
    pub fn load_object(
        options: &Options,
        object: &[u8],
        globals: &[(&str, u32)],
    ) -> Result<Self, DatapathError> {
        let pins = Pins::new(&options.instance);
        let pinned = match pinned_geometry(&pins) {
            Err(DatapathError::UnfitPin { .. }) if options.replace_pins => {
                pins.remove().map_err(|error| DatapathError::kernel("cannot unpin", error))?;
                None
            }
            other => other?,
        };
        let geometry = pinned.map_or_else(|| new_geometry(options.flow_capacity), Ok)?;
        pins.create()?;
        let mut ebpf = make_maps(object, &pins, &geometry, options, globals)?;
        let mut instance: Array<_, PodInstance> = typed("instance", take(&mut ebpf, "instance")?)?;
        let stamp = Instance {
            layout_version: LAYOUT_VERSION,
            flow_buckets: geometry.buckets,
            seed: geometry.seed,
        };
        instance
            .set(0, PodInstance(stamp), 0)
            .map_err(|error| DatapathError::kernel("cannot stamp the pinned maps", error))?;
        let sockets = typed("sockets", take(&mut ebpf, "sockets")?)?;
        let interfaces = typed("interfaces", take(&mut ebpf, "interfaces")?)?;
        let handshakes = Arc::new(map_handshakes(&ebpf)?);
        Ok(Self { pins, geometry, ebpf, sockets, interfaces, handshakes, refused: None })
    }

    /// The flow table's shape.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The pins.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The XDP program, for test runs and for what the kernel says of it.
    pub fn program(&mut self) -> Result<&mut Xdp, DatapathError> {
        find(&mut self.ebpf, PROGRAM)
    }

    /// The program for socket buffers, likewise.
    pub fn buffers(&mut self) -> Result<&mut SchedClassifier, DatapathError> {
        find(&mut self.ebpf, FORWARD)
    }

    fn load_buffers(&mut self) -> Result<(), DatapathError> {
        for name in [FORWARD, LEAVE] {
            find::<SchedClassifier>(&mut self.ebpf, name)?.load().map_err(verifier_error)?;
        }
        find::<Xdp>(&mut self.ebpf, TREAT)?.load().map_err(verifier_error)
    }

    /// The object, for its log.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Maps the flow table into memory.
    pub fn map_flow_table(&mut self) -> Result<MappedTable, DatapathError> {
        let (flows, records) =
            (take(&mut self.ebpf, "flows_v4")?, take(&mut self.ebpf, "flow_records")?);
        let (Map::Array(flows), Map::Array(records)) = (&flows, &records) else {
            return Err(DatapathError::kernel("flows_v4", "is not an array"));
        };
        MappedTable::new(flows.fd(), records.fd(), &self.geometry)
    }

    /// `cookies` and `pressure`.
    pub fn handshakes(&self) -> Arc<MappedHandshakes> {
        Arc::clone(&self.handshakes)
    }

    /// `next_hops` and `next_hop_targets`.
    pub fn take_next_hops(&mut self) -> Result<NextHopMap, DatapathError> {
        let entries = typed("next_hops", take(&mut self.ebpf, "next_hops")?)?;
        let targets = typed("next_hop_targets", take(&mut self.ebpf, "next_hop_targets")?)?;
        Ok(NextHopMap { entries, targets })
    }

    /// `virtual_services`.
    pub fn take_services(&mut self) -> Result<ServiceMap, DatapathError> {
        Ok(ServiceMap(typed("virtual_services", take(&mut self.ebpf, "virtual_services")?)?))
    }

    /// `client_prefixes`.
    pub fn take_client_prefixes(&mut self) -> Result<ClientPrefixes, DatapathError> {
        Ok(ClientPrefixes(typed("client_prefixes", take(&mut self.ebpf, "client_prefixes")?)?))
    }

    /// `addresses` and `address_filter`.
    pub fn take_addresses(&mut self) -> Result<AddressRoles, DatapathError> {
        let filter = MappedFilter::new(array_fd(&self.ebpf, "address_filter")?)?;
        Ok(AddressRoles { map: typed("addresses", take(&mut self.ebpf, "addresses")?)?, filter })
    }

    /// `events`.
    pub fn take_events(&mut self) -> Result<EventCounts, DatapathError> {
        Ok(EventCounts(typed("events", take(&mut self.ebpf, "events")?)?))
    }

    /// `catalog`.
    pub fn take_catalog(&mut self) -> Result<CatalogMap, DatapathError> {
        Ok(CatalogMap(typed("catalog", take(&mut self.ebpf, "catalog")?)?))
    }

    /// Says of an interface where what came by it is punted to and answered. `position` is its place
    /// among the instance's; `answers` is [`Interface::answers`]. What is to be punted makes the
    /// detour, if there is one.
    pub fn register(
        &mut self,
        position: u32,
        interface: u32,
        answers: u32,
        detour: Option<&Detour>,
    ) -> Result<(), DatapathError> {
        if position >= INTERFACES {
            return Err(too_many());
        }
        let first_socket = position * QUEUES;
        let direct = Interface { first_socket, answers, punts: 0 };
        let mut set = |index, entry| {
            let set = self.interfaces.insert(index, PodInterface(entry), 0);
            set.map_err(|error| DatapathError::kernel("cannot register an interface", error))
        };
        match detour {
            None => set(interface, direct),
            Some(detour) => {
                set(detour.far, Interface { answers: interface, ..direct })?;
                set(interface, Interface { punts: detour.near, ..direct })
            }
        }
    }

    /// Lets a socket receive what is punted from this queue of the interface in this place.
    pub fn listen(
        &mut self,
        socket: &Socket,
        position: u32,
        queue: u32,
    ) -> Result<(), DatapathError> {
        if position >= INTERFACES || queue >= QUEUES {
            return Err(too_many());
        }
        let first_socket = position * QUEUES;
        self.sockets
            .set(first_socket + queue, socket.as_fd().as_raw_fd(), 0)
            .map_err(|error| DatapathError::kernel("cannot register an AF_XDP socket", error))
    }

    /// How packets of an interface are got hold of already, by a daemon that is gone.
    pub fn pinned_mode(&self, interface: &str) -> Option<Mode> {
        attach::pinned(&self.pins, interface)
    }

    /// Puts the XDP program on an interface.
    pub fn attach(
        &mut self,
        interface: &str,
        index: u32,
        mode: AttachMode,
    ) -> Result<Attached, DatapathError> {
        let pins = self.pins.clone();
        attach::attach(self.program()?, &pins, interface, index, mode)
    }

    /// Puts the programs for socket buffers on an interface and on the detour that it punts by.
    pub fn attach_buffers(
        &mut self,
        interface: &str,
        detour: Detour,
    ) -> Result<Attached, DatapathError> {
        if let Some(reason) = &self.refused {
            return Err(DatapathError::kernel(format!("cannot attach to {interface}"), reason));
        }
        let (mut forward, mut treat, mut leave) = (None, None, None);
        for (name, program) in self.ebpf.programs_mut() {
            match name {
                FORWARD => forward = program.try_into().ok(),
                TREAT => treat = program.try_into().ok(),
                LEAVE => leave = program.try_into().ok(),
                _ => {}
            }
        }
        let programs = BufferPrograms {
            forward: forward.ok_or_else(|| missing(FORWARD))?,
            treat: treat.ok_or_else(|| missing(TREAT))?,
            leave: leave.ok_or_else(|| missing(LEAVE))?,
        };
        attach::attach_buffers(programs, &self.pins, interface, detour)
    }

    /// Takes the programs off the far end of a detour.
    pub fn detach_detour(&self, far_end: &str) -> std::io::Result<()> {
        attach::detach_detour(&self.pins, far_end)
    }

    /// Takes the programs off interfaces that are not among these, and off detours whose far ends are
    /// not. Returns the far ends that no longer serve.
    pub fn detach_others(
        &self,
        interfaces: &[String],
        detours: &[String],
    ) -> std::io::Result<Vec<String>> {
        attach::detach_others(&self.pins, interfaces, detours)
    }
}

/// A program of the object.
fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, DatapathError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    let program = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    program.ok_or_else(|| missing(name))
}

fn missing(program: &str) -> DatapathError {
    DatapathError::kernel("the embedded object", format!("has no program {program}"))
}

fn too_many() -> DatapathError {
    DatapathError::TooMany(format!(
        "an instance can have {INTERFACES} interfaces of {QUEUES} receive queues; lower the queues \
         with `ethtool -L`"
    ))
}

/// Opens the pinned flow table alone, for looking at flows while no daemon runs.
pub fn open_pinned(pins: &Pins) -> Result<(Geometry, MappedTable, CatalogMap), DatapathError> {
    let geometry = pinned_geometry(pins)?.ok_or_else(|| {
        let what = format!("nothing is pinned under {}", pins.folder().display());
        DatapathError::kernel(what, "the instance never ran, or was detached")
    })?;
    let open = |name: &str| {
        aya::maps::MapData::from_pin(pins.path(name))
            .map_err(|error| DatapathError::kernel(format!("cannot open pin {name}"), error))
    };
    let table = MappedTable::new(open("flows_v4")?.fd(), open("flow_records")?.fd(), &geometry)?;
    let catalog = CatalogMap(typed("catalog", Map::Array(open("catalog")?))?);
    Ok((geometry, table, catalog))
}

fn map_handshakes(ebpf: &Ebpf) -> Result<MappedHandshakes, DatapathError> {
    MappedHandshakes::new(array_fd(ebpf, "cookies")?, array_fd(ebpf, "pressure")?)
}

/// Of a map that stays where it is: the program, if it is not loaded yet, goes by it.
fn array_fd<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a MapFd, DatapathError> {
    match ebpf.map(name) {
        Some(Map::Array(map)) => Ok(map.fd()),
        _ => Err(DatapathError::kernel(format!("map {name}"), "is not an array in the object")),
    }
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, DatapathError> {
    ebpf.take_map(name).ok_or_else(|| {
        DatapathError::kernel(format!("map {name}"), "is not in the object, or taken")
    })
}

fn make_maps(
    object: &[u8],
    pins: &Pins,
    geometry: &Geometry,
    options: &Options,
    globals: &[(&str, u32)],
) -> Result<Ebpf, DatapathError> {
    let shapes = shapes(geometry.total());
    let trace = u8::from(options.trace);
    let jiffies = jiffies::measure()?;
    let mut loader = EbpfLoader::new();
    loader
        .override_global("FLOW_BUCKETS", &geometry.buckets, true)
        .override_global("FLOW_SEED", &geometry.seed.0, true)
        .override_global("TRACE", &trace, false)
        .override_global("JIFFY_NANOS", &jiffies.nanos, true)
        .override_global("JIFFIES_BASE", &jiffies.base, true);
    for (name, value) in globals {
        loader.override_global(name, value, true);
    }
    for shape in &shapes {
        loader.map_max_entries(shape.name, shape.entries);
        loader.map_pin_path(shape.name, pins.path(shape.name));
    }
    loader
        .load(object)
        .map_err(|error| DatapathError::kernel("cannot make the maps", chain(&error)))
}

/// The error and its causes, joined.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The verifier's last words are what matters; its whole log can be a megabyte.
fn verifier_error(error: ProgramError) -> DatapathError {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return DatapathError::kernel("the kernel did not take the program", chain(&error));
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    let log = lines.into_iter().rev().collect::<Vec<_>>().join("\n  ");
    DatapathError::kernel("the kernel did not take the program", format!("{io_error}\n  {log}"))
}

/// What a pinned map must be to be adopted: aya does not compare.
struct Shape {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

#[expect(clippy::cast_possible_truncation, reason = "4")]
fn shapes(buckets: u32) -> Vec<Shape> {
    let array = |name, value, entries| Shape { name, kind: MapType::Array, key: 4, value, entries };
    let hash = |name, key, value, entries| Shape { name, kind: MapType::Hash, key, value, entries };
    vec![
        array("instance", size_of::<Instance>(), 1),
        array("flows_v4", size_of::<FlowBucketV4>(), buckets),
        array("flow_records", size_of::<FlowRecord>(), buckets * BUCKET_SLOTS as u32),
        array("next_hops", size_of::<NextHop>(), NEXT_HOPS),
        array("next_hop_targets", size_of::<NextHopTarget>(), NEXT_HOPS),
        array("catalog", size_of::<CatalogEntry>(), CATALOG),
        array("cookies", size_of::<Secrets>(), 1),
        array("pressure", size_of::<Pressure>(), 1),
        hash("virtual_services", size_of::<ServiceKey>(), size_of::<Service>(), VIRTUAL_SERVICES),
        // A trie's key is the prefix's length and what it is of.
        Shape { kind: MapType::LpmTrie, ..hash("client_prefixes", 24, 4, CLIENT_PREFIXES) },
        Shape { kind: MapType::LruHash, ..hash("arrivals", size_of::<RateKey>(), 8, ARRIVALS) },
        array("address_filter", size_of::<AddressFilter>(), 1),
        hash("addresses", size_of::<Address>(), 4, ADDRESSES),
        hash("interfaces", 4, size_of::<Interface>(), INTERFACE_ENTRIES),
        Shape { kind: MapType::PerCpuArray, ..array("events", 8, EVENTS) },
        Shape { kind: MapType::XskMap, ..array("sockets", 4, SOCKETS) },
    ]
}

/// The shape of the pinned flow table; `None` if nothing is pinned.
fn pinned_geometry(pins: &Pins) -> Result<Option<Geometry>, DatapathError> {
    if !pins.path("instance").exists() {
        return Ok(None);
    }
    let instance = Shape { entries: 1, ..shapes(0).swap_remove(0) };
    check_pin(pins, &instance)?;
    let stamp = read_instance(pins.path("instance"))?;
    if stamp.layout_version != LAYOUT_VERSION {
        return Err(DatapathError::UnfitPin {
            path: pins.folder().display().to_string(),
            found: format!("layout {}", stamp.layout_version),
            needed: format!("layout {LAYOUT_VERSION}"),
        });
    }
    let geometry = Geometry { buckets: stamp.flow_buckets, seed: stamp.seed };
    shapes(geometry.total()).iter().try_for_each(|shape| check_pin(pins, shape))?;
    Ok(Some(geometry))
}

fn read_instance(path: PathBuf) -> Result<Instance, DatapathError> {
    let failed = |error| DatapathError::kernel("cannot read the pinned instance", error);
    let data = aya::maps::MapData::from_pin(path).map_err(failed)?;
    let map: Array<_, PodInstance> = typed("instance", Map::Array(data))?;
    Ok(map.get(&0, 0).map_err(failed)?.0)
}

fn check_pin(pins: &Pins, shape: &Shape) -> Result<(), DatapathError> {
    let path = pins.path(shape.name);
    let unfit = |found: String| DatapathError::UnfitPin {
        path: path.display().to_string(),
        found,
        needed: describe(shape.kind, shape.key, shape.value, shape.entries),
    };
    let info = MapInfo::from_pin(&path).map_err(|error| unfit(chain(&error)))?;
    let kind = info.map_type().map_err(|error| unfit(chain(&error)))?;
    let (key, value) = (info.key_size() as usize, info.value_size() as usize);
    let fits = kind == shape.kind
        && key == shape.key
        && value == shape.value
        && info.max_entries() == shape.entries;
    if fits { Ok(()) } else { Err(unfit(describe(kind, key, value, info.max_entries()))) }
}

fn describe(kind: MapType, key: usize, value: usize, entries: u32) -> String {
    format!("{kind:?} of {entries} entries, keys of {key} and values of {value} bytes")
}

fn new_geometry(flow_capacity: u32) -> Result<Geometry, DatapathError> {
    let mut bytes = [0; 40];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| DatapathError::kernel("cannot get random numbers", error))?;
    let (words, _) = bytes.as_chunks::<8>();
    let seed = HashSeed(std::array::from_fn(|index| u64::from_ne_bytes(words[index])));
    Ok(Geometry { buckets: Geometry::buckets_for(flow_capacity), seed })
}
