//! One connection of a load: its socket and where it stands.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use rustix::{
    io::Errno,
    net::sockopt::socket_error,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, getsockname,
        recv, send, socket_with,
    },
};

use super::{
    question::{Answer, Question},
    report::{Kind, Outcome},
};

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Connecting since.
    Connecting(Instant),
    /// Waiting since for an answer.
    Asked(Instant),
    /// Answered; to ask again at.
    Idle(Instant),
}

/// What a look at a connection has brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Nothing to record.
    None,
    /// An answer to what was asked at this moment, from this server.
    Answered(Instant, String),
    /// Its end.
    Ended(Outcome),
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Open {
    socket: OwnedFd,
    pub kind: Kind,
    pub local: SocketAddr,
    state: State,
    /// Of the question that was asked last.
    number: u16,
    read: Vec<u8>,
}

impl Open {
    /// Begins to connect from this local port.
    pub fn begin(
        question: &Question,
        target: SocketAddr,
        port: u16,
        kind: Kind,
        now: Instant,
    ) -> rustix::io::Result<Self> {
        let transport = match question {
            Question::Http => SocketType::STREAM,
            Question::Dns { .. } => SocketType::DGRAM,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, transport, flags, None)?;
        bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
        match connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let local = getsockname(&socket)?.try_into()?;
        let state = State::Connecting(now);
        Ok(Self { socket, kind, local, state, number: 0, read: Vec::new() })
    }

    /// Since when it waits for somebody else; `None` if it does not.
    pub fn waiting_since(&self) -> Option<Instant> {
        match self.state {
            State::Connecting(since) | State::Asked(since) => Some(since),
            State::Idle(_) => None,
        }
    }

    /// Whether it is time to ask again.
    pub fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Idle(next) if next <= now)
    }

    /// Rests until it asks again.
    pub fn rest(&mut self, until: Instant) {
        self.state = State::Idle(until);
    }

    /// Takes up what the socket has to say. `writable` ends connecting.
    pub fn advance(&mut self, question: &Question, writable: bool) -> Progress {
        if let State::Connecting(since) = self.state {
            if !writable {
                return Progress::None;
            }
            if let Err(error) = socket_error(&self.socket).and_then(|result| result) {
                return Progress::Ended(outcome(error));
            }
            let asked = self.ask(question, since);
            if asked != Progress::None {
                return asked;
            }
        }
        self.receive(question)
    }

    /// Asks; the answer is waited for since `since`.
    pub fn ask(&mut self, question: &Question, since: Instant) -> Progress {
        self.number = self.number.wrapping_add(1);
        self.read.clear();
        self.state = State::Asked(since);
        // A question is short and the only one under way: it fits into any socket's buffer.
        match send(&self.socket, &question.bytes(self.number), SendFlags::NOSIGNAL) {
            Ok(_) => Progress::None,
            Err(error) => Progress::Ended(outcome(error)),
        }
    }

    fn receive(&mut self, question: &Question) -> Progress {
        let mut chunk = [0; 2048];
        loop {
            match recv(&self.socket, &mut chunk[..], RecvFlags::empty()) {
                Ok((0, _)) => return Progress::Ended(Outcome::ServerClosed),
                Ok((length, _)) => self.read.extend_from_slice(&chunk[..length]),
                Err(Errno::AGAIN) => return Progress::None,
                Err(Errno::INTR) => continue,
                Err(error) => return Progress::Ended(outcome(error)),
            }
            let progress = self.understand(question);
            if progress != Progress::None {
                return progress;
            }
        }
    }

    fn understand(&mut self, question: &Question) -> Progress {
        match (question.read(self.number, &self.read), self.state) {
            (Answer::Incomplete, _) => Progress::None,
            (Answer::Late, _) => {
                self.read.clear();
                Progress::None
            }
            (Answer::From(server), State::Asked(since)) => Progress::Answered(since, server),
            (Answer::From(server), _) => {
                Progress::Ended(Outcome::WrongAnswer(format!("{server} answered unasked")))
            }
            (Answer::Wrong(text), _) => Progress::Ended(Outcome::WrongAnswer(text)),
        }
    }
}

impl AsFd for Open {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn outcome(error: Errno) -> Outcome {
    match error {
        Errno::CONNREFUSED => Outcome::Refused,
        Errno::CONNRESET | Errno::PIPE => Outcome::Reset,
        Errno::TIMEDOUT => Outcome::TimedOut,
        other => Outcome::Error(io::Error::from(other).to_string()),
    }
}
