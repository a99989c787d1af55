//! The maps, and how [`lb_common::path`] sees them. `ARCHITECTURE.md` says who writes which.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, XskMap, lpm_trie::Key},
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns},
    macros::btf_map,
    programs::XdpContext,
};
use lb_common::{
    address::Address,
    admission::{ARRIVALS, Admission, CLIENT_PREFIXES, PolicyClient, Rate, RateKey},
    atomic::AtomicU64,
    event::{EVENTS, Event},
    filter::AddressFilter,
    flow::{FlowBucketV4, FlowRecord, Geometry, SharedBucketV4},
    hash::HashSeed,
    layout::{CATALOG, CatalogEntry, INTERFACE_ENTRIES, Instance, Interface, Pressure, QUEUES, SOCKETS},
    next_hop::{NEXT_HOPS, NextHop, NextHopId, NextHopTarget},
    path::Tables,
    service::{ADDRESSES, Roles, Service, ServiceKey, VIRTUAL_SERVICES},
    tcp::cookie::{Secrets, SharedSecrets},
    time::{Jiffies, Tick},
};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// Established flows. Workers write it through mapped memory; the daemon sets its size.
#[btf_map(name = "flows_v4")]
static FLOWS_V4: Array<FlowBucketV4, 1, MMAPABLE> = Array::new();

/// What workers keep beside each slot of `flows_v4`. The program never touches it.
#[btf_map(name = "flow_records")]
static FLOW_RECORDS: Array<FlowRecord, 1, MMAPABLE> = Array::new();

/// Where rewritten packets go.
#[btf_map(name = "next_hops")]
static NEXT_HOPS_MAP: Array<NextHop, { NEXT_HOPS as usize }> = Array::new();

/// What each of these leads to. The program never touches it.
#[btf_map(name = "next_hop_targets")]
static NEXT_HOP_TARGETS: Array<NextHopTarget, { NEXT_HOPS as usize }> = Array::new();

/// Address, port and protocol of each virtual service.
#[btf_map(name = "virtual_services")]
static SERVICES: HashMap<ServiceKey, Service, { VIRTUAL_SERVICES as usize }> = HashMap::new();

/// Every address that means something to this instance.
#[btf_map(name = "addresses")]
static ADDRESS_ROLES: HashMap<Address, Roles, { ADDRESSES as usize }> = HashMap::new();

/// Which addresses are worth looking packets up for. Control writes it through mapped memory.
#[btf_map(name = "address_filter")]
static ADDRESS_FILTER: Array<[u64; 2048], 1, MMAPABLE> = Array::new();

/// Whom network security policies let in.
#[btf_map(name = "client_prefixes")]
static PREFIXES: LpmTrie<PolicyClient, Admission, { CLIENT_PREFIXES as usize }> = LpmTrie::new();

/// When the next flow of a client, or of all clients, of a service is due.
#[btf_map(name = "arrivals")]
static DUE: LruHashMap<RateKey, u64, { ARRIVALS as usize }> = LruHashMap::new();

/// What SYN cookies are made with. Control writes it through mapped memory.
#[btf_map(name = "cookies")]
static COOKIES: Array<Secrets, 1, MMAPABLE> = Array::new();

/// Whether services that may answer with cookies should. Control writes it through mapped memory.
#[btf_map(name = "pressure")]
static PRESSURE: Array<u32, 1, MMAPABLE> = Array::new();

/// One counter an [`Event`].
#[btf_map(name = "events")]
static EVENT_COUNTS: PerCpuArray<u64, { EVENTS as usize }> = PerCpuArray::new();

/// The AF_XDP sockets of the workers.
#[btf_map(name = "sockets")]
static WORKER_SOCKETS: XskMap<{ SOCKETS as usize }> = XskMap::new();

/// Which sockets belong to which interface, and where what came in by it leaves.
#[btf_map(name = "interfaces")]
static INTERFACES_MAP: HashMap<u32, Interface, { INTERFACE_ENTRIES as usize }> = HashMap::new();

/// What a restarted daemon must know. The program never touches it.
#[btf_map(name = "instance")]
static INSTANCE: Array<Instance, 1> = Array::new();

/// Names behind the numbers in flow records. The program never touches it.
#[btf_map(name = "catalog")]
static CATALOG_MAP: Array<CatalogEntry, { CATALOG as usize }> = Array::new();

/// The flow table's shape, set by the daemon before the program is loaded: constants to the
/// verifier and to the JIT compiler.
#[unsafe(no_mangle)]
static FLOW_BUCKETS: u32 = 1;
#[unsafe(no_mangle)]
static FLOW_SEED: [u64; 5] = [0; 5];

/// How `jiffies` tell the time, set by the daemon before the program is loaded.
#[unsafe(no_mangle)]
static JIFFY_NANOS: u64 = 0;
#[unsafe(no_mangle)]
static JIFFIES_BASE: u64 = 0;

/// The maps as the packet path uses them.
pub struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn nanos(&self) -> u64 {
        // SAFETY: a helper without arguments, there since kernel 5.11.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn now(&self) -> Tick {
        // SAFETY: initialised statics. Volatile, for the daemon overrides what the compiler sees.
        let jiffies = unsafe {
            Jiffies {
                nanos: core::ptr::read_volatile(&JIFFY_NANOS),
                base: core::ptr::read_volatile(&JIFFIES_BASE),
            }
        };
        if jiffies.nanos == 0 {
            return Tick::from_nanos(self.nanos());
        }
        // SAFETY: a helper without arguments, there since kernel 5.6; compiled to a load.
        Tick::from_nanos(jiffies.nanos_at(unsafe { bpf_jiffies64() }))
    }

    #[inline(always)]
    fn geometry(&self) -> Geometry {
        // SAFETY: initialised statics. Volatile, for the daemon overrides what the compiler sees.
        let (buckets, seed) = unsafe {
            (core::ptr::read_volatile(&FLOW_BUCKETS), core::ptr::read_volatile(&FLOW_SEED))
        };
        Geometry { buckets, seed: HashSeed(seed) }
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&SharedBucketV4> {
        let bucket = FLOWS_V4.get_ptr(index)?;
        // SAFETY: same size and field offsets (asserted in lb-common), every access atomic; the
        // map lives as long as the program.
        Some(unsafe { &*bucket.cast::<SharedBucketV4>() })
    }

    #[inline(always)]
    fn next_hop(&self, id: NextHopId) -> Option<NextHop> {
        NEXT_HOPS_MAP.get(id.0).copied()
    }

    #[inline(always)]
    fn address_filter(&self) -> Option<&AddressFilter> {
        // SAFETY: same size (asserted in lb-common), every access atomic; the map lives as long as
        // the program.
        ADDRESS_FILTER.get_ptr(0).map(|filter| unsafe { &*filter.cast::<AddressFilter>() })
    }

    #[inline(always)]
    fn roles(&self, address: &Address) -> Roles {
        // SAFETY: the value is copied at once; an entry reused meanwhile can only be another
        // address's roles, for one packet, while the configuration changes.
        unsafe { ADDRESS_ROLES.get(address) }.copied().unwrap_or_default()
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<Service> {
        // SAFETY: copied at once, as above.
        unsafe { SERVICES.get(key) }.copied()
    }

    #[inline(always)]
    fn admission(&self, client: &PolicyClient) -> Option<Admission> {
        /// The compiler writes words where bytes follow each other; on the stack, the verifier
        /// wants these aligned.
        #[repr(align(8))]
        struct Aligned(Key<PolicyClient>);
        let bits = 8 * size_of::<PolicyClient>() as u32;
        PREFIXES.get(&Aligned(Key::new(bits, *client)).0).copied()
    }

    #[inline(always)]
    fn is_due(&self, key: &RateKey, rate: &Rate) -> bool {
        let due = DUE.get_ptr_mut(key).or_else(|| {
            let _ = DUE.insert(key, 0, 0);
            DUE.get_ptr_mut(key)
        });
        let Some(due) = due else { return false };
        // SAFETY: a map's value is aligned and lives as long as the program runs; every access is
        // of the whole word. An entry reused meanwhile is another client's, for one packet.
        rate.admits(unsafe { &*due.cast::<AtomicU64>() }, self.nanos())
    }

    #[inline(always)]
    fn secrets(&self) -> Secrets {
        COOKIES.get_ptr(0).map_or_else(Secrets::default, |secrets| {
            // SAFETY: same size (asserted in lb-common), every access atomic; the map lives as
            // long as the program.
            unsafe { &*secrets.cast::<SharedSecrets>() }.load()
        })
    }

    #[inline(always)]
    fn is_pressed(&self) -> bool {
        // SAFETY: as above.
        PRESSURE.get_ptr(0).is_some_and(|word| unsafe { &*word.cast::<Pressure>() }.is_on())
    }
}

/// Counts an event on this CPU.
#[inline(always)]
pub fn count(event: Event) {
    if let Some(counter) = EVENT_COUNTS.get_ptr_mut(event.number()) {
        // SAFETY: this CPU's own element, and programs do not interrupt each other on a CPU.
        unsafe { *counter += 1 }
    }
}

/// What is known of one of the instance's interfaces.
#[inline(always)]
pub fn interface(index: u32) -> Option<Interface> {
    // SAFETY: written before a program is attached, and copied at once.
    unsafe { INTERFACES_MAP.get(&index) }.copied()
}

/// Index in `sockets` of the queue that the packet came in by.
#[inline(always)]
pub fn socket(context: &XdpContext) -> Option<u32> {
    let interface = interface(context.ingress_ifindex() as u32)?;
    // SAFETY: the context is the one this program was called with.
    let queue = unsafe { (*context.ctx).rx_queue_index };
    (queue < QUEUES).then_some(interface.first_socket + queue)
}

/// Sends the packet to a worker's socket; `None` if nobody listens there.
#[inline(always)]
pub fn redirect_to(socket: u32) -> Option<u32> {
    WORKER_SOCKETS.redirect(socket, 0).ok()
}

/// Mentions the maps that only the daemon uses, or the linker would drop their symbols and the
/// loader could not make them with their types.
#[inline(always)]
pub fn daemon_maps_exist() -> bool {
    FLOW_RECORDS.get_ptr(0).is_some()
        && NEXT_HOP_TARGETS.get_ptr(0).is_some()
        && INSTANCE.get_ptr(0).is_some()
        && CATALOG_MAP.get_ptr(0).is_some()
}
