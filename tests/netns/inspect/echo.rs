//! A server that says who it is, then sends back what it gets.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
};

use crate::site::Site;

/// The length of a server's name, a line of its own.
pub const NAME: usize = 2;

/// It ends when it is dropped; its connections end with their clients.
pub struct Echo {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

/// When a server says its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    First,
    WhenSpokenTo,
}

impl Echo {
    /// The server `number` of a site, at this port.
    pub fn start(site: &Site, number: u8, port: u16, speaks: Speaks) -> Self {
        let address = SocketAddr::from(([10, 0, 0, 10 + number], port));
        let listener = site.servers.enter(|| TcpListener::bind(address)).unwrap().unwrap();
        let listener = Arc::new(listener);
        let accepting = Arc::clone(&listener);
        let accept = move || {
            while let Ok((stream, _)) = accepting.accept() {
                thread::spawn(move || serve(stream, number, speaks));
            }
        };
        Self { listener, thread: Some(thread::spawn(accept)) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Wakes who waits for a connection.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Whatever fails here, the client sees.
fn serve(mut stream: TcpStream, number: u8, speaks: Speaks) {
    let name = format!("{number}\n");
    if speaks == Speaks::First {
        let _ = stream.write_all(name.as_bytes());
    }
    let mut is_named = speaks == Speaks::First;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if !is_named {
            let _ = stream.write_all(name.as_bytes());
            is_named = true;
        }
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

/// Sends `content` and closes its side while reading; returns the server's name, and whether the
/// content came back whole.
pub fn exchange(stream: &mut TcpStream, content: &[u8]) -> (String, bool) {
    let mut answer = Vec::new();
    thread::scope(|scope| {
        let mut writing = stream.try_clone().unwrap();
        scope.spawn(move || {
            writing.write_all(content).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut answer).unwrap();
    });
    let (name, echoed) = answer.split_at_checked(NAME).unwrap_or_default();
    (String::from_utf8_lossy(name).trim().into(), echoed == content)
}

/// Sends a few bytes and reads them back.
pub fn ping(stream: &mut TcpStream, content: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(content)?;
    let mut answer = vec![0; content.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Reads the name of the server.
pub fn name(stream: &mut TcpStream) -> String {
    let mut name = [0; NAME];
    stream.read_exact(&mut name).unwrap();
    String::from_utf8_lossy(&name).trim().into()
}
