use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    thread::JoinHandle,
    time::Instant,
};

use super::*;
use crate::require_root;

const SOON: Duration = Duration::from_secs(30);
const AT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80);

fn plan() -> Plan {
    let (pause, patience) = (Duration::from_millis(10), Duration::from_secs(1));
    Plan { short_per_second: 200, long: 5, pause, patience, ..Plan::http(AT) }
}

/// A server that answers each question of each connection in the same way. Dropping it closes all.
struct Server {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(host: &Namespace, answer: &str) -> Self {
        let listener = Arc::new(host.enter(|| TcpListener::bind(AT)).unwrap().unwrap());
        let (shared, answer) = (listener.clone(), answer.to_owned());
        let thread = Some(thread::spawn(move || accept(&shared, &answer)));
        Self { listener, thread }
    }

    fn named(host: &Namespace, name: &str) -> Self {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n";
        Self::start(host, &format!("{head}X-Server: {name}\r\n\r\nok"))
    }
}

fn accept(listener: &TcpListener, answer: &str) {
    let mut streams = Vec::new();
    thread::scope(|scope| {
        while let Ok((stream, _)) = listener.accept() {
            streams.push(stream.try_clone().unwrap());
            scope.spawn(move || serve(stream, answer));
        }
        for stream in &streams {
            // The client may have closed it.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    });
}

fn serve(mut stream: TcpStream, answer: &str) {
    let mut question = [0; 1024];
    while stream.read(&mut question).is_ok_and(|length| length > 0) {
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Whether a connection has ended so.
fn some(report: &Report, kind: Kind, wanted: &Outcome) -> bool {
    let ended = |c: &Connection| c.end.as_ref().is_some_and(|(_, outcome)| outcome == wanted);
    report.connections().iter().any(|c| c.kind == kind && ended(c))
}

#[test]
fn every_connection_is_accounted_for() {
    if !require_root() {
        return;
    }
    let host = Namespace::new("host").unwrap();
    let _server = Server::named(&host, "one");
    let load = Load::start(&host, plan());
    load.wait_answers("one", 300, SOON).unwrap();
    load.wait_until("all long connections", SOON, |report| report.standing() == 5).unwrap();
    let report = load.finish().unwrap();

    assert_eq!(report.failures().count(), 0, "{report}");
    let all = report.connections();
    assert!(all.iter().all(|c| matches!(c.end, Some((_, Outcome::Closed)))), "{report}");
    assert!(all.iter().all(|c| c.was_on("one") && c.slowest > Duration::ZERO), "{report}");
    let ports: BTreeSet<_> = all.iter().map(|c| c.local).collect();
    assert_eq!(ports.len(), all.len(), "a port was used twice");
    let (long, short): (Vec<_>, Vec<_>) = all.iter().partition(|c| c.kind == Kind::Long);
    assert!(long.len() == 5 && long.iter().all(|c| c.exchanges > 1), "{long:#?}");
    assert!(short.len() > 10 && short.iter().all(|c| c.exchanges == 1), "{short:#?}");
    let exchanges: u64 = all.iter().map(|c| c.exchanges).sum();
    assert_eq!(exchanges, report.answers("one"));
}

#[test]
fn ends_are_told_apart_and_servers_too() {
    if !require_root() {
        return;
    }
    let host = Namespace::new("host").unwrap();
    let server = Server::named(&host, "one");
    let load = Load::start(&host, plan());
    load.wait_until("five on one", SOON, |report| report.standing() == 5).unwrap();

    drop(server);
    load.wait_until("a refusal", SOON, |report| {
        let closed = some(report, Kind::Long, &Outcome::ServerClosed);
        closed && some(report, Kind::Short, &Outcome::Refused)
    })
    .unwrap();
    let mute = Server::start(&host, "");
    let timed_out = |report: &Report| some(report, Kind::Short, &Outcome::TimedOut);
    load.wait_until("silence", SOON, timed_out).unwrap();
    drop(mute);
    let wrong = "HTTP/1.1 500 Error\r\n\r\n";
    let bad = Server::start(&host, wrong);
    let wrong = Outcome::WrongAnswer(wrong.into());
    load.wait_until("an error", SOON, |report| some(report, Kind::Long, &wrong)).unwrap();
    drop(bad);

    let two = Server::named(&host, "two");
    let moment = Instant::now();
    load.wait_until("five on two", SOON, |report| report.standing() == 5).unwrap();
    assert_eq!(load.so_far(|report| report.open_on("one")), 0);
    let mut report = load.finish().unwrap();
    drop(two);
    assert!(report.since(moment).all(|c| !c.failed()), "{report}");
    assert_eq!(report.servers_since(moment), BTreeSet::from(["two"]));
    assert!(report.failures().any(|c| c.server.is_none()), "{report}");
    report.attribute(|_| Some("log".into()));
    assert!(report.failures().all(|c| c.was_on("one") || c.was_on("log")), "{report}");
}

#[test]
fn a_reset_is_no_close() {
    if !require_root() {
        return;
    }
    let host = Namespace::new("host").unwrap();
    let listener = host.enter(|| TcpListener::bind(AT)).unwrap().unwrap();
    let load = Load::start(&host, Plan { short_per_second: 0, long: 1, ..plan() });
    // Closing a socket with unread data resets the connection (RFC 1122 §4.2.2.13).
    let (stream, _) = listener.accept().unwrap();
    stream.peek(&mut [0]).unwrap();
    drop(stream);
    let reset = |report: &Report| some(report, Kind::Long, &Outcome::Reset);
    load.wait_until("a reset", SOON, reset).unwrap();
}

#[test]
fn a_socket_that_two_servers_answer_has_failed() {
    if !require_root() {
        return;
    }
    let host = Namespace::new("host").unwrap();
    let server = host.enter(|| UdpSocket::bind(AT)).unwrap().unwrap();
    let dns = Plan { short_per_second: 0, long: 1, ..Plan::dns(AT, "who.test") };
    let load = Load::start(&host, dns);
    for address in [[10, 0, 0, 1], [10, 0, 0, 1], [10, 0, 0, 2]] {
        let mut answer = vec![0; 512];
        let (length, from) = server.recv_from(&mut answer).unwrap();
        answer.truncate(length);
        (answer[2], answer[7]) = (0x81, 1);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address);
        server.send_to(&answer, from).unwrap();
    }
    let wrong = Outcome::WrongAnswer("from 10.0.0.2, after 10.0.0.1".into());
    load.wait_until("a failure", SOON, |report| some(report, Kind::Long, &wrong)).unwrap();
    assert_eq!(load.so_far(|report| report.answers("10.0.0.1")), 2);
}
