//! The clients: one thread with one or many connections.

use std::{
    io::{ErrorKind, Read, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    fd::OwnedFd,
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with},
};

/// A request, and its answer.
const MESSAGE: [u8; 64] = [b'x'; 64];
/// Who waits longer waits in vain.
const PATIENCE: Duration = Duration::from_secs(10);

/// Short connections a second: each connects, asks once, reads the answer and closes.
pub fn short(server: SocketAddr, connections: usize, time: Duration) -> Result<f64> {
    let start = Instant::now();
    let answered = Clients::new(server, connections, true)?.run(time)?.len();
    Ok(answered as f64 / start.elapsed().as_secs_f64())
}

/// Nanoseconds that each request over standing connections took.
pub fn requests(server: SocketAddr, connections: usize, time: Duration) -> Result<Vec<f64>> {
    Clients::new(server, connections, false)?.run(time)
}

/// How long it takes to send so many bytes.
pub fn bulk(server: SocketAddr, bytes: usize) -> Result<Duration> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let chunk = vec![0; 128 << 10];
    let start = Instant::now();
    for _ in 0..bytes / chunk.len() {
        stream.write_all(&chunk)?;
    }
    // The server closes when it has everything.
    stream.shutdown(Shutdown::Write)?;
    ensure!(stream.read(&mut [0])? == 0, "the server answered");
    Ok(start.elapsed())
}

/// Some connections at once.
struct Clients {
    server: SocketAddr,
    /// A new connection for each request.
    short: bool,
    epoll: OwnedFd,
    open: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    asked: Option<Instant>,
}

impl Clients {
    fn new(server: SocketAddr, connections: usize, short: bool) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = Self { server, short, epoll, open: Vec::new() };
        for index in 0..connections {
            let connection = clients.connect(index)?;
            clients.open.push(connection);
        }
        Ok(clients)
    }

    /// Runs for so long; returns what each request took.
    fn run(mut self, time: Duration) -> Result<Vec<f64>> {
        let start = Instant::now();
        let patience = Timespec::try_from(PATIENCE)?;
        let mut events = Vec::with_capacity(64);
        let mut nanos = Vec::new();
        while start.elapsed() < time {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience)) {
                Ok(0) => bail!("nobody has answered for {PATIENCE:?}"),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll"),
            }
            for event in &events {
                let index = event.data.u64() as usize;
                nanos.extend(self.go_on(index).context("a connection failed")?);
            }
        }
        Ok(nanos)
    }

    /// Reports each change of its state once: when it is connected, and when the answer is there.
    fn connect(&self, index: usize) -> Result<Connection> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match connect(&socket, &self.server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error).context("cannot connect"),
        }
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, &socket, EventData::new_u64(index as u64), events)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(Connection { stream, asked: None })
    }

    /// Asks if it has not been done, else looks for the answer; what that took, if it is there.
    fn go_on(&mut self, index: usize) -> Result<Option<f64>> {
        let connection = &mut self.open[index];
        let Some(asked) = connection.asked else {
            if let Some(error) = connection.stream.take_error()? {
                return Err(error.into());
            }
            connection.ask()?;
            return Ok(None);
        };
        let mut answer = [0; MESSAGE.len()];
        match connection.stream.read(&mut answer) {
            Ok(length) => ensure!(length == MESSAGE.len(), "an answer of {length} bytes"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let nanos = asked.elapsed().as_nanos() as f64;
        if self.short {
            let next = self.connect(index)?;
            self.open[index] = next;
        } else {
            self.open[index].ask()?;
        }
        Ok(Some(nanos))
    }
}

impl Connection {
    fn ask(&mut self) -> Result<()> {
        match self.stream.write(&MESSAGE) {
            Ok(length) => ensure!(length == MESSAGE.len(), "only {length} bytes were taken"),
            // Not connected yet.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.asked = Some(Instant::now());
        Ok(())
    }
}
