//! The servers: one thread that answers each request with as many bytes, and takes what comes.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use lb_tests::Namespace;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    fd::OwnedFd,
};

use super::site::CORE;
use crate::cpu;

/// Answers at port 80 and swallows at port 81 until it is dropped.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Server {
    /// Starts on a host.
    pub fn start(host: &Namespace) -> Result<Self> {
        let listeners = host.enter(|| -> Result<_> {
            Ok([TcpListener::bind("0.0.0.0:80")?, TcpListener::bind("0.0.0.0:81")?])
        })??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || serve(&listeners, &stopped));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the servers ended: {error:#}");
        }
    }
}

struct Connections {
    epoll: OwnedFd,
    next: u64,
    open: HashMap<u64, (TcpStream, bool)>,
    buffer: Vec<u8>,
}

fn serve(listeners: &[TcpListener; 2], stop: &AtomicBool) -> Result<()> {
    cpu::pin(CORE)?;
    cpu::come_first()?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        epoll::add(&epoll, listener, EventData::new_u64(index as u64), EventFlags::IN)?;
    }
    let mut connections =
        Connections { epoll, next: 2, open: HashMap::new(), buffer: vec![0; 256 << 10] };
    let mut events = Vec::with_capacity(64);
    let patience = Timespec::try_from(Duration::from_millis(50))?;
    while !stop.load(Ordering::Relaxed) {
        events.clear();
        match epoll::wait(&connections.epoll, spare_capacity(&mut events), Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll"),
        }
        for event in &events {
            match event.data.u64() {
                listener @ (0 | 1) => {
                    connections.accept(&listeners[listener as usize], listener == 0)?;
                }
                id => connections.answer(id),
            }
        }
    }
    Ok(())
}

impl Connections {
    fn accept(&mut self, listener: &TcpListener, answers: bool) -> Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // Gone before it was taken.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error).context("accept"),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            epoll::add(&self.epoll, &stream, EventData::new_u64(self.next), EventFlags::IN)?;
            self.open.insert(self.next, (stream, answers));
            self.next += 1;
        }
    }

    /// A connection that ended or failed is closed; nobody asks why.
    fn answer(&mut self, id: u64) {
        let Some((stream, answers)) = self.open.get_mut(&id) else { return };
        let goes_on = match stream.read(&mut self.buffer) {
            Ok(0) => false,
            Ok(length) if *answers => stream.write_all(&self.buffer[..length]).is_ok(),
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        if !goes_on {
            self.open.remove(&id);
        }
    }
}
