//! A link that delays, reorders, doubles and loses frames, from a seed.
//!
//! `tc netem` is not in every kernel. So this is a host of its own between the two ends, on which a
//! thread of ours carries every frame from one interface to the other.

mod impairment;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lb_tests::{End, Namespace, veth};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::impairment::Queue;
pub use self::impairment::{Impairment, Tally};
use crate::packet_socket::PacketSocket;

/// No frame is longer: nobody merges segments on a road.
const FRAME: usize = 1514;
/// How long an end may take to be noticed.
const PATIENCE: Duration = Duration::from_millis(20);

/// A link. It is gone, with its thread, when it is dropped.
pub struct Road {
    _namespace: Namespace,
    is_over: Arc<AtomicBool>,
    tallies: Arc<Mutex<[Tally; 2]>>,
    carrier: Option<JoinHandle<()>>,
}

impl Road {
    /// Joins two hosts, as [`veth`] does.
    pub fn join(near: &End, far: &End, queues: u32, impairment: Impairment) -> Self {
        let namespace = Namespace::new("road").unwrap();
        for (end, device) in [(near, "near"), (far, "far")] {
            veth(end, &End { namespace: &namespace, device, addresses: &[] }, queues).unwrap();
            // GRO stays on, for a veth polls only with it; no two segments fit below this size.
            namespace.ip(&["link", "set", device, "gro_max_size", "1"]).unwrap();
            namespace.ip(&["link", "set", device, "promisc", "on"]).unwrap();
        }
        let ends = ["near", "far"].map(|device| PacketSocket::open(&namespace, device));
        let (is_over, tallies) = <(Arc<AtomicBool>, Arc<Mutex<_>>)>::default();
        let (ended, told) = (Arc::clone(&is_over), Arc::clone(&tallies));
        let carrier = thread::spawn(move || {
            let back = Impairment { seed: impairment.seed + 1, ..impairment };
            let mut queues = [impairment, back].map(Queue::new);
            let begun = Instant::now();
            while !ended.load(Ordering::Relaxed) {
                wait(&ends, &queues, begun.elapsed());
                carry(&ends, &mut queues, begun);
                *told.lock().unwrap() = queues.each_ref().map(Queue::tally);
            }
        });
        Self { _namespace: namespace, is_over, tallies, carrier: Some(carrier) }
    }

    /// What happened so far, from the near end and from the far one.
    pub fn tallies(&self) -> [Tally; 2] {
        *self.tallies.lock().unwrap()
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.carrier.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "{ended:?}");
    }
}

/// Waits until a frame comes, or one is due.
fn wait(ends: &[PacketSocket; 2], queues: &[Queue; 2], now: Duration) {
    let due = queues.iter().filter_map(Queue::next_due).min();
    let wait = due.map_or(PATIENCE, |due| due.saturating_sub(now).min(PATIENCE));
    let mut sockets = ends.each_ref().map(|end| PollFd::new(end, PollFlags::IN));
    // A signal is as good a reason to look as any.
    let _ = poll(&mut sockets, Timespec::try_from(wait).ok().as_ref());
}

/// Takes what came, and hands on what is due.
fn carry(ends: &[PacketSocket; 2], queues: &mut [Queue; 2], begun: Instant) {
    let mut buffer = [0; FRAME];
    for (from, queue) in ends.iter().zip(&mut *queues) {
        while let Some(length) = from.receive(&mut buffer) {
            let frame = buffer.get(..length).expect("nobody merges segments on a road");
            queue.take(frame, begun.elapsed());
        }
    }
    for (to, queue) in ends.iter().rev().zip(queues) {
        while let Some(frame) = queue.hand_on(begun.elapsed()) {
            to.send(&frame);
        }
    }
}
