//! A worker's thread: moves frames between AF_XDP sockets and the engine, carries out what the
//! engine wants. It decides nothing.

mod clock;
mod crew;

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, Sender};
use lb_common::event::Event;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::{mpsc, oneshot};

pub use clock::now;
pub use crew::{Common, Crew, Plan, Seat};

use crate::{
    control::{LogSender, network::view::NextHopView},
    datapath::Socket,
    engine::{Counters, Effects, Engine, Explanation, FirstPacket, Generation, Peer},
    script::ScriptError,
};

/// How long a worker sleeps when nothing comes: the grain of timeouts, and how late it notices
/// that a neighbour it waits for is known.
const SLEEP: Duration = Duration::from_millis(10);

/// What the control thread asks of a worker.
pub enum Command {
    /// Decide new flows by this configuration; the answer says whether its scripts loaded.
    Replace(Arc<Generation>, Sender<Result<(), ScriptError>>),
    /// Say what would become of a flow.
    Explain(FirstPacket, oneshot::Sender<Result<Explanation, String>>),
    /// Stop, leaving every flow where it is.
    Stop,
}

/// Where packets of an interface come in and go out.
pub struct Port {
    /// Index of the interface.
    pub interface: u32,
    /// Bound to this worker's receive queue of it, or to the far end of its detour.
    pub receiving: Socket,
    /// Bound to the interface itself, where the other is not.
    pub sending: Option<Socket>,
}

impl Port {
    /// Its one or two sockets.
    pub fn sockets(&self) -> impl Iterator<Item = &Socket> {
        [&self.receiving].into_iter().chain(&self.sending)
    }

    /// The socket by which frames leave.
    fn out(&mut self) -> &mut Socket {
        self.sending.as_mut().unwrap_or(&mut self.receiving)
    }
}

/// A frame that leaves by an interface of which another worker has the socket.
pub struct Passed {
    interface: u32,
    frame: Vec<u8>,
}

/// Ends of channels to everybody else.
pub struct Links {
    /// From the control thread.
    pub commands: Receiver<Command>,
    /// Wakes the worker when a command has been sent, or another has left it a frame.
    pub wake: Arc<OwnedFd>,
    /// The same of each worker.
    pub wakes: Vec<Arc<OwnedFd>>,
    /// Finished flows, to the connection log.
    pub log: LogSender,
    /// Clients whose next hop is wanted.
    pub resolve: mpsc::Sender<IpAddr>,
    /// Servers toward which no SNAT port is left.
    pub exhausted: mpsc::Sender<Peer>,
    /// Where packets go.
    pub view: Arc<ArcSwap<NextHopView>>,
    /// Frames that others passed on.
    pub passed: Receiver<Passed>,
    /// Who has the socket of an interface that this worker has none of.
    pub others: Vec<(u32, Sender<Passed>)>,
}

/// A worker, ready to run on its thread.
pub struct Worker {
    engine: Engine,
    counters: Arc<Counters>,
    ports: Vec<Port>,
    links: Links,
    effects: Effects,
}

impl Worker {
    /// Puts together what a worker needs.
    pub fn new(engine: Engine, counters: Arc<Counters>, ports: Vec<Port>, links: Links) -> Self {
        Self { engine, counters, ports, links, effects: Effects::default() }
    }

    /// Runs until told to stop. An error is of a socket that failed for good.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            if self.obey() {
                return Ok(());
            }
            let view = self.links.view.load_full();
            // What has waited for a next hop goes first: what comes now may be of the same flow,
            // and must not overtake it. For the same reason both see the same view.
            self.engine.tick(now(), &*view, &mut self.effects);
            let received = self.receive(&view)?;
            self.carry_out();
            let passed = self.send_passed();
            self.flush()?;
            if received == 0 && !passed {
                self.sleep()?;
            }
        }
    }

    /// True if it is time to stop.
    fn obey(&mut self) -> bool {
        for command in self.links.commands.try_iter() {
            match command {
                Command::Stop => return true,
                Command::Replace(generation, answer) => {
                    let _ = answer.send(self.engine.replace(generation));
                }
                Command::Explain(flow, answer) => {
                    let explanation = self.engine.explain(now(), flow.query());
                    let gone = || "the virtual service is gone by now".to_owned();
                    let _ = answer.send(explanation.ok_or_else(gone));
                }
            }
        }
        false
    }

    fn receive(&mut self, view: &NextHopView) -> io::Result<usize> {
        let Self { engine, ports, effects, .. } = self;
        let now = now();
        let mut received = 0;
        for Port { interface, receiving: socket, .. } in ports {
            received += socket.receive();
            socket.frames().for_each(|frame| engine.expect(frame));
            for frame in socket.frames() {
                engine.receive(now, *interface, frame, view, effects);
            }
            socket.release()?;
        }
        Ok(received)
    }

    fn carry_out(&mut self) {
        let Self { ports, links, effects, counters, .. } = self;
        for transmit in effects.frames() {
            let port = ports.iter_mut().find(|port| port.interface == transmit.interface);
            let sent = match port {
                Some(port) => port.out().send(transmit.frame),
                None => pass(&links.others, transmit.interface, transmit.frame),
            };
            if !sent {
                counters.count(Event::DropTransmitFull);
            }
        }
        for record in effects.log.drain(..) {
            links.log.send(record);
        }
        for client in effects.resolve.drain(..) {
            // Asked again with the next packet if the queue is full.
            let _ = links.resolve.try_send(client);
        }
        for peer in effects.out_of_ports.drain(..) {
            // Said again in a minute if the queue is full.
            let _ = links.exhausted.try_send(peer);
        }
        for worker in effects.wake.drain(..) {
            if let Some(wake) = links.wakes.get(usize::from(worker)) {
                let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
            }
        }
        effects.clear();
    }

    fn send_passed(&mut self) -> bool {
        let mut any = false;
        for Passed { interface, frame } in self.links.passed.try_iter() {
            any = true;
            let port = self.ports.iter_mut().find(|port| port.interface == interface);
            if !port.is_some_and(|port| port.out().send(&frame)) {
                self.counters.count(Event::DropTransmitFull);
            }
        }
        any
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ports.iter_mut().try_for_each(|port| port.out().flush())
    }

    fn sleep(&self) -> io::Result<()> {
        let sockets = self.ports.iter().flat_map(Port::sockets).map(AsFd::as_fd);
        let mut polled: Vec<PollFd<'_>> = sockets
            .chain([self.links.wake.as_fd()])
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(SLEEP).map_err(io::Error::other)?;
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let woken = polled.last().is_some_and(|wake| wake.revents().contains(PollFlags::IN));
        if woken {
            // The count behind an eventfd is of no interest, only that it is taken.
            let _ = rustix::io::read(&self.links.wake, &mut [0; 8]);
        }
        Ok(())
    }
}

fn pass(others: &[(u32, Sender<Passed>)], interface: u32, frame: &[u8]) -> bool {
    let Some((_, other)) = others.iter().find(|(index, _)| *index == interface) else {
        return false;
    };
    other.try_send(Passed { interface, frame: frame.to_vec() }).is_ok()
}
