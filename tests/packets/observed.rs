//! What a run moved, told alike by both runners.

use std::{collections::HashMap, thread, time::Duration};

use lb_common::{
    event::Event,
    flow::{Activity, FlowKeyV4},
    path::Verdict,
    tcp::cookie::Epoch,
    time::Tick,
};
use lb_userspace::flow_table::FlowTable;
use rustix::time::{ClockId, clock_gettime};

/// `enum xdp_action` of linux/bpf.h.
pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;
pub const XDP_TX: u32 = 3;
pub const XDP_REDIRECT: u32 = 4;

/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT` and `TC_ACT_REDIRECT` of linux/pkt_cls.h.
const TC_PASS: u32 = u32::MAX;
const TC_DROP: u32 = 2;
const TC_REDIRECT: u32 = 7;

/// By how much the program's time, which is of ticks, and the coarse clock may be apart: both are set
/// forward by the same interrupt, but one only by whole ticks (4 ms here and there), and a virtual
/// machine gets that interrupt late.
const SLACK: u32 = 50;

/// All that can be seen of a packet's way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observed {
    /// What becomes of it.
    pub action: u32,
    /// The frame afterwards.
    pub bytes: Vec<u8>,
    /// Which counters moved, and how far.
    pub events: Vec<(Event, u64)>,
    /// Which slots were written to.
    pub touched: Vec<(FlowKeyV4, Touch)>,
}

/// What was written to a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touch {
    /// Packets more than before.
    pub packets: u32,
    /// Bytes more than before.
    pub bytes: u64,
    /// Whether the first FIN was noted.
    pub fin: bool,
    /// Whether the first RST was noted.
    pub rst: bool,
    /// Whether the time is that of the run.
    pub on_time: bool,
}

/// What the program returns and counts for a verdict, where no worker listens.
pub fn consequence(verdict: Verdict) -> (u32, Vec<(Event, u64)>) {
    match verdict {
        Verdict::Pass(event) => (XDP_PASS, vec![(event, 1)]),
        Verdict::Drop(event) => (XDP_DROP, vec![(event, 1)]),
        Verdict::Punt(_) => (XDP_DROP, vec![(Event::DropNoWorker, 1)]),
        Verdict::Transmit => (XDP_TX, vec![]),
        Verdict::Answer(event) => (XDP_TX, vec![(event, 1)]),
        Verdict::Redirect { .. } => (XDP_REDIRECT, vec![]),
    }
}

/// The same of the program for socket buffers, where there is no detour.
pub fn consequence_of_buffer(verdict: Verdict) -> (u32, Vec<(Event, u64)>) {
    match verdict {
        Verdict::Pass(event) => (TC_PASS, vec![(event, 1)]),
        Verdict::Drop(event) => (TC_DROP, vec![(event, 1)]),
        Verdict::Punt(_) | Verdict::Answer(_) => (TC_DROP, vec![(Event::DropNoWorker, 1)]),
        Verdict::Transmit | Verdict::Redirect { .. } => (TC_REDIRECT, vec![]),
    }
}

/// The time that the program sees.
pub fn nanos() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    let [seconds, nanos] = [now.tv_sec, now.tv_nsec].map(|part| u64::try_from(part).unwrap());
    seconds * 1_000_000_000 + nanos
}

/// The time that flows are stamped with.
pub fn now() -> Tick {
    Tick::from_nanos(nanos())
}

/// Returns when the epoch of cookies that runs then goes on for long enough for any test: two
/// runners must not see two.
pub fn wait_for_an_epoch() {
    const ENOUGH: u64 = 15_000_000_000;
    while Epoch::at(nanos()) != Epoch::at(nanos() + ENOUGH) {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs something, and says what it wrote to the table's slots.
pub fn watch<R>(table: &FlowTable, run: impl FnOnce() -> R) -> (R, Vec<(FlowKeyV4, Touch)>) {
    let before = activities(table);
    let start = now();
    let result = run();
    let span = now().since(start);
    let moved = activities(table).into_iter().filter_map(|(key, after)| {
        let before = before.get(&key).copied().unwrap_or_default();
        let touch = Touch {
            packets: after.packets.wrapping_sub(before.packets),
            bytes: after.bytes.wrapping_sub(before.bytes),
            fin: after.fin && !before.fin,
            rst: after.rst && !before.rst,
            on_time: after.last_seen.0.wrapping_sub(start.0.wrapping_sub(SLACK))
                <= span + 2 * SLACK,
        };
        (before != after).then_some((key, touch))
    });
    let moved = moved.collect();
    (result, moved)
}

/// Of every slot with a key in it, shown to readers or not.
fn activities(table: &FlowTable) -> HashMap<FlowKeyV4, Activity> {
    let slots = table.slots().map(|id| table.slot(id));
    let with_key = slots.map(|slot| (slot.raw_key(), slot.activity()));
    with_key.filter(|(key, _)| key.protocol != 0).collect()
}
