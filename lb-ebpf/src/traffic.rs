//! Traffic for `cargo xtask bench`: a generator of live frames (`BPF_F_TEST_XDP_LIVE_FRAMES`), what
//! takes them in again, and a bare reflector to compare with. No map of the product is in it.
#![no_std]
#![no_main]

mod counter;
mod extent;
mod frame;
mod global;
mod object;

use aya_ebpf::{
    bindings::xdp_action, btf_maps::Array, helpers::generated::bpf_ktime_get_ns, macros::btf_map,
    macros::xdp, programs::XdpContext,
};
use lb_common::{
    address::Protocol,
    path::Frame as _,
    wire::{ETHERNET, ETHERTYPE_IPV4, IPV4, IPV4_UDP},
};

use crate::{
    counter::{BUCKETS, COUNTERS, Counter, STANDING, STANDING_FLOWS, bucket},
    frame::XdpFrame,
    global::global,
};

/// Headers, then when the frame was sent and what it is.
const HEADERS: usize = ETHERNET + IPV4_UDP;
const STAMP: usize = 16;
/// What marks packets of the few flows that are there all the time.
const IS_STANDING: u64 = 1;

/// How many of a flow number's lower bits are the client's address; the others are its port.
#[unsafe(no_mangle)]
static ADDRESS_BITS: u32 = 0;
/// Addresses as numbers.
#[unsafe(no_mangle)]
static CLIENT: u32 = 0;
#[unsafe(no_mangle)]
static SERVICE: u32 = 0;
/// The service's port, which is the servers' too: by it packets are known when they are back.
#[unsafe(no_mangle)]
static PORT: u32 = 0;
/// One number a [`Counter`]. Generator and sink run on one CPU, and the sink does not interrupt
/// the generator: no access needs to be atomic.
#[btf_map(name = "counters")]
static NUMBERS: Array<u64, COUNTERS> = Array::new();

/// How many packets came back after how long: see [`bucket`].
#[btf_map(name = "delays")]
static DELAYS: Array<u64, BUCKETS> = Array::new();

/// Makes a packet and sends it out by the interface that the test run names, or drops it if it is
/// too early: a program that runs without end is the only clock that is fine enough.
#[xdp]
pub fn generate(context: XdpContext) -> u32 {
    let now = nanos();
    if !is_due(now) {
        return xdp_action::XDP_DROP;
    }
    let number = add(Counter::Made, 1) as u32;
    let standing = get(Counter::Standing) != 0 && number % STANDING == 0;
    if number == 0 {
        put(Counter::FirstSent, now);
    }
    if !write(&context, number, standing, now) {
        return xdp_action::XDP_ABORTED;
    }
    add(if standing { Counter::StandingSent } else { Counter::Sent }, 1);
    xdp_action::XDP_TX
}

/// Counts what comes back and drops it; all else is the kernel's.
#[xdp]
pub fn absorb(context: XdpContext) -> u32 {
    let mut frame = XdpFrame::new(&context);
    let Some(window) = frame.window::<0, { HEADERS + STAMP }>() else {
        return xdp_action::XDP_PASS;
    };
    let port = u16::from_be_bytes([window[ETHERNET + 22], window[ETHERNET + 23]]);
    let ours = [window[12], window[13]] == ETHERTYPE_IPV4
        && window[ETHERNET + 9] == Protocol::Udp.number()
        && u32::from(port) == global(&PORT);
    if !ours {
        return xdp_action::XDP_PASS;
    }
    let [.., a, b, c, d, e, f, g, h, _, _, _, _, _, _, _, kind] = *window;
    let sent = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let now = nanos();
    put(Counter::LastReceived, now);
    if u64::from(kind) == IS_STANDING {
        add(Counter::StandingReceived, 1);
        return xdp_action::XDP_DROP;
    }
    add(Counter::Received, 1);
    if let Some(count) = DELAYS.get_ptr_mut(bucket(now.saturating_sub(sent))) {
        // SAFETY: a map's value lives as long as the program; one CPU writes it.
        unsafe { *count += 1 };
    }
    xdp_action::XDP_DROP
}

/// Swaps the MAC addresses and sends the packet back: the least that anybody must do.
#[xdp]
pub fn reflect(context: XdpContext) -> u32 {
    let mut frame = XdpFrame::new(&context);
    let Some(ethernet) = frame.window::<0, ETHERNET>() else { return xdp_action::XDP_PASS };
    if [ethernet[12], ethernet[13]] != ETHERTYPE_IPV4 {
        return xdp_action::XDP_PASS;
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = *ethernet;
    *ethernet = [g, h, i, j, k, l, a, b, c, d, e, f, m, n];
    xdp_action::XDP_TX
}

/// Whether a packet may be sent: by their number, how many are on their way, and by the clock.
#[inline(always)]
fn is_due(now: u64) -> bool {
    let limit = get(Counter::Limit);
    if limit != 0 && get(Counter::Made) >= limit {
        return false;
    }
    let window = get(Counter::Window);
    if window != 0 {
        let missing = get(Counter::Sent).wrapping_sub(get(Counter::Received));
        // Less than none if some that were given up came after all.
        if missing.wrapping_sub(get(Counter::GivenUp)) as i64 >= window as i64 {
            if now.saturating_sub(get(Counter::LastReceived)) > GIVE_UP {
                put(Counter::GivenUp, missing);
                put(Counter::LastReceived, now);
            }
            return false;
        }
    }
    let interval = get(Counter::Interval);
    if interval != 0 {
        let due = get(Counter::Due);
        if now < due {
            return false;
        }
        // Who was held up for long does not make up for it.
        let late = now.saturating_sub(CATCH_UP);
        put(Counter::Due, if due > late { due } else { late } + interval);
    }
    true
}

/// Nanoseconds after which packets that have not come back are taken for lost.
const GIVE_UP: u64 = 1_000_000_000;
/// Nanoseconds whose packets are sent late rather than not.
const CATCH_UP: u64 = 100_000;

/// Writes the whole packet: its memory is used again and again, as it came back.
#[inline(always)]
fn write(context: &XdpContext, number: u32, standing: bool, now: u64) -> bool {
    let mut frame = XdpFrame::new(context);
    let length = frame.length() as u32;
    let Some(window) = frame.window::<0, { HEADERS + STAMP }>() else { return false };
    // Neighbours in time are not neighbours in memory; each flow comes once before any comes again.
    let flow = number.wrapping_mul(0x9e37_79b1) & get(Counter::FlowMask) as u32;
    let bits = global(&ADDRESS_BITS) & 31;
    let (client, port) = match standing {
        true => (number / STANDING % STANDING_FLOWS, 1000),
        false => (flow & !(u32::MAX << bits), 1024 + (flow >> bits & 0x7fff)),
    };
    let [sa, sb, sc, sd] = (global(&CLIENT) + client).to_be_bytes();
    let [da, db, dc, dd] = global(&SERVICE).to_be_bytes();
    let [ta, tb] = (length as u16 - ETHERNET as u16).to_be_bytes();
    let [ua, ub] = (length as u16 - (ETHERNET + IPV4) as u16).to_be_bytes();
    let [pa, pb] = (port as u16).to_be_bytes();
    let [qa, qb] = (global(&PORT) as u16).to_be_bytes();
    let addresses = word(sa, sb) + word(sc, sd) + word(da, db) + word(dc, dd);
    let sum = 0x4500 + 0x4011 + word(ta, tb) + addresses;
    let sum = (sum & 0xffff) + (sum >> 16);
    let [ca, cb] = (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes();
    let [n0, n1, n2, n3, n4, n5, n6, n7] = now.to_be_bytes();
    *window = [
        2,
        0,
        0,
        0,
        0,
        1,
        2,
        0,
        0,
        0,
        0,
        2,
        8,
        0, // Ethernet: to the balancer's end
        0x45,
        0,
        ta,
        tb,
        0,
        0,
        0,
        0,
        64,
        17,
        ca,
        cb,
        sa,
        sb,
        sc,
        sd,
        da,
        db,
        dc,
        dd, // IPv4
        pa,
        pb,
        qa,
        qb,
        ua,
        ub,
        0,
        0, // UDP without a checksum
        n0,
        n1,
        n2,
        n3,
        n4,
        n5,
        n6,
        n7,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        standing as u8,
    ];
    true
}

#[inline(always)]
fn word(a: u8, b: u8) -> u32 {
    u32::from(u16::from_be_bytes([a, b]))
}

#[inline(always)]
fn nanos() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn get(counter: Counter) -> u64 {
    // SAFETY: a map's value lives as long as the program. Volatile, for user space writes it too.
    NUMBERS.get_ptr(counter as u32).map_or(0, |number| unsafe { number.read_volatile() })
}

#[inline(always)]
fn put(counter: Counter, value: u64) {
    if let Some(number) = NUMBERS.get_ptr_mut(counter as u32) {
        // SAFETY: as above; nobody else writes this one while the programs run.
        unsafe { number.write_volatile(value) };
    }
}

/// Adds, and returns what it was before.
#[inline(always)]
fn add(counter: Counter, more: u64) -> u64 {
    let before = get(counter);
    put(counter, before + more);
    before
}
