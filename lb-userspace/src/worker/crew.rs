//! All workers of an instance: who serves which queues on which core, started and stopped.

use std::{
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use arc_swap::ArcSwap;
use core_affinity::CoreId;
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::{mpsc, oneshot};

use super::{Command, Links, Passed, Port, Worker};
use crate::{
    control::{LogSender, network::view::NextHopView},
    engine::{Counters, Engine, Explanation, FirstPacket, Generation, Peer, Position, Shared},
    flow_table::SlotId,
    script::ScriptError,
};

/// Frames that may wait to be sent by another worker.
const PASSED: usize = 1024;
/// How long a worker may take to answer the control thread: a script may run for a while.
const ANSWER: Duration = Duration::from_secs(30);

/// Which queues each worker serves: worker n has queue n of every interface that has so many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Index and number of receive queues of each interface.
    pub interfaces: Vec<(u32, u32)>,
    /// Cores in turn; empty for all of the machine's.
    pub cores: Vec<usize>,
}

impl Plan {
    /// One worker a queue.
    pub fn workers(&self) -> u16 {
        let most = self.interfaces.iter().map(|(_, queues)| *queues).max();
        u16::try_from(most.unwrap_or(1).max(1)).unwrap_or(u16::MAX)
    }

    /// The worker that sends for `worker` on an interface with fewer queues than workers.
    fn sender_for(queues: u32, worker: u16) -> usize {
        (u32::from(worker) % queues.max(1)) as usize
    }

    fn core_of(&self, worker: u16) -> Option<CoreId> {
        let worker = usize::from(worker);
        if self.cores.is_empty() {
            let all = core_affinity::get_core_ids()?;
            return all.get(worker % all.len().max(1)).copied();
        }
        self.cores.get(worker % self.cores.len()).map(|id| CoreId { id: *id })
    }
}

/// What a worker is made of, besides what all share.
pub struct Seat {
    /// Its sockets.
    pub ports: Vec<Port>,
    /// Flows of an earlier daemon that it takes over.
    pub adopted: Vec<SlotId>,
}

/// What all workers get.
#[derive(Clone)]
pub struct Common {
    /// Flow table and the like.
    pub shared: Arc<Shared>,
    /// The configuration to start with.
    pub generation: Arc<Generation>,
    /// Finished flows.
    pub log: LogSender,
    /// Clients whose next hop is wanted.
    pub resolve: mpsc::Sender<IpAddr>,
    /// Servers toward which no SNAT port is left.
    pub exhausted: mpsc::Sender<Peer>,
    /// Where packets go.
    pub view: Arc<ArcSwap<NextHopView>>,
}

/// The running workers.
pub struct Crew {
    hands: Vec<Hand>,
}

struct Hand {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    counters: Arc<Counters>,
    thread: JoinHandle<io::Result<()>>,
}

impl Crew {
    /// Starts one thread a seat, each on its core. Fails if a worker cannot load the scripts.
    pub fn start(plan: &Plan, common: &Common, seats: Vec<Seat>) -> io::Result<Self> {
        let channels: Vec<(Sender<Passed>, Receiver<Passed>)> =
            seats.iter().map(|_| bounded(PASSED)).collect();
        let senders: Vec<_> = channels.iter().map(|(sender, _)| sender.clone()).collect();
        let workers = plan.workers();
        let wakes = seats.iter().map(|_| wake()).collect::<io::Result<Vec<_>>>()?;
        let mut hands = Vec::new();
        for (number, (seat, (_, passed))) in (0..).zip(seats.into_iter().zip(channels)) {
            let position = Position { worker: number, workers };
            let others = plan.interfaces.iter().map(|(interface, queues)| {
                (*interface, senders[Plan::sender_for(*queues, number)].clone())
            });
            let among = Among { others: others.collect(), wakes: wakes.clone(), passed };
            hands.push(Hand::start(plan, common, position, seat, among)?);
        }
        Ok(Self { hands })
    }

    /// Each worker's counters.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.hands.iter().map(|hand| Arc::clone(&hand.counters)).collect()
    }

    /// Has every worker decide new flows by `generation`. All have taken it on return.
    pub fn replace(&self, generation: &Arc<Generation>) -> Result<(), String> {
        let answers: Vec<_> = self
            .hands
            .iter()
            .map(|hand| {
                let (sender, answer) = bounded(1);
                hand.tell(Command::Replace(Arc::clone(generation), sender));
                answer
            })
            .collect();
        for (number, answer) in answers.into_iter().enumerate() {
            match answer.recv_timeout(ANSWER) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(format!("worker {number}: {error}")),
                Err(_) => return Err(format!("worker {number} does not answer")),
            }
        }
        Ok(())
    }

    /// Has a worker say what would become of a flow.
    pub fn explain(
        &self,
        worker: u16,
        flow: FirstPacket,
        answer: oneshot::Sender<Result<Explanation, String>>,
    ) {
        match self.hands.get(usize::from(worker)) {
            Some(hand) => hand.tell(Command::Explain(flow, answer)),
            None => {
                let last = self.hands.len().saturating_sub(1);
                let _ =
                    answer.send(Err(format!("there is no worker {worker}: the last is {last}")));
            }
        }
    }

    /// A worker that has ended though nobody asked it to, with its reason.
    pub fn casualty(&mut self) -> Option<String> {
        let number = self.hands.iter().position(|hand| hand.thread.is_finished())?;
        let hand = self.hands.swap_remove(number);
        let reason = match hand.thread.join() {
            Ok(Ok(())) => "it ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked; the log says where".to_owned(),
        };
        Some(format!("worker {number} stopped: {reason}"))
    }

    /// Stops all workers; the flows stay.
    pub fn stop(self) {
        for hand in &self.hands {
            hand.tell(Command::Stop);
        }
        for hand in self.hands {
            let _ = hand.thread.join();
        }
    }
}

/// What makes a worker one of several.
struct Among {
    passed: Receiver<Passed>,
    others: Vec<(u32, Sender<Passed>)>,
    /// By worker.
    wakes: Vec<Arc<OwnedFd>>,
}

fn wake() -> io::Result<Arc<OwnedFd>> {
    Ok(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
}

impl Hand {
    fn start(
        plan: &Plan,
        common: &Common,
        position: Position,
        seat: Seat,
        among: Among,
    ) -> io::Result<Self> {
        let (commands, orders) = unbounded();
        let Among { passed, others, wakes } = among;
        let own = wakes.get(usize::from(position.worker)).map_or_else(wake, |own| Ok(own.clone()));
        let wake = own?;
        let counters = Arc::new(Counters::default());
        let (ready, is_ready) = bounded(1);
        let links = Links {
            commands: orders,
            wake: Arc::clone(&wake),
            wakes,
            log: common.log.clone(),
            resolve: common.resolve.clone(),
            exhausted: common.exhausted.clone(),
            view: Arc::clone(&common.view),
            passed,
            others,
        };
        let (core, common) = (plan.core_of(position.worker), common.clone());
        let own = Arc::clone(&counters);
        let thread = thread::Builder::new().name(format!("worker-{}", position.worker)).spawn(
            move || {
                if let Some(core) = core {
                    core_affinity::set_for_current(core);
                }
                let engine = engine(&common, position, &own, &seat);
                let _ = ready.send(engine.as_ref().map(drop).map_err(ToString::to_string));
                match engine {
                    Ok(engine) => Worker::new(engine, own, seat.ports, links).run(),
                    Err(_) => Ok(()),
                }
            },
        )?;
        is_ready.recv().map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(Self { commands, wake, counters, thread })
    }

    fn tell(&self, command: Command) {
        // A worker that is gone is found out by `casualty`.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// Made on the worker's own thread, for Lua states stay where they are made.
fn engine(
    common: &Common,
    position: Position,
    counters: &Arc<Counters>,
    seat: &Seat,
) -> Result<Engine, ScriptError> {
    let (shared, generation) = (Arc::clone(&common.shared), Arc::clone(&common.generation));
    let mut engine = Engine::new(position, shared, Arc::clone(counters), generation)?;
    engine.take_over(&seat.adopted);
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_worker_for_every_queue_of_the_widest_interface() {
        let plan = Plan { interfaces: vec![(2, 1), (3, 4)], cores: vec![0, 1] };
        assert_eq!(plan.workers(), 4);
        assert_eq!(plan.core_of(3), Some(CoreId { id: 1 }));
        assert_eq!(Plan::sender_for(1, 3), 0);
    }
}
