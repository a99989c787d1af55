//! Checks against servers that behave, and against those that do not.

use std::{net::SocketAddr, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use simple_dns::{Packet, PacketFlag, RCODE};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::sleep,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::{super::testing, *};

/// What a server does with a connection.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// Nobody listens.
    Absent,
    /// Reads, and says nothing.
    Silent,
    /// Ends the connection at once.
    Closes,
    /// Says this, and ends the connection when the client does.
    Says(&'static str),
    /// Says this and then, a byte at a time, the other for ever.
    Drips(&'static str, &'static str),
    /// Says this and then the other for ever, as fast as it can.
    Floods(&'static str, &'static str),
}

impl Server {
    async fn start(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        if !matches!(self, Self::Absent) {
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(self.serve(stream));
                }
            });
        }
        address
    }

    /// The client may end the connection at any time.
    async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin + Send) {
        match self {
            Self::Absent | Self::Closes => return,
            Self::Silent => {}
            Self::Says(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
            }
            Self::Drips(start, text) => {
                let _ = stream.write_all(start.as_bytes()).await;
                for byte in text.bytes().cycle() {
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                    let _ = stream.flush().await;
                    sleep(Duration::from_millis(5)).await;
                }
            }
            Self::Floods(start, text) => {
                let _ = stream.write_all(start.as_bytes()).await;
                while stream.write_all(text.repeat(100).as_bytes()).await.is_ok() {}
            }
        }
        let mut ignored = [0; 1024];
        while let Ok(1..) = stream.read(&mut ignored).await {}
    }
}

/// One check by a monitor with these keys, within a fifth of a second.
async fn ask(keys: &str, server: SocketAddr) -> Answer {
    let keys = format!("interval = \"1s\"\ntimeout = \"200ms\"\n{keys}");
    check(testing::target(server, &testing::monitor(&keys, ""))).await
}

/// Keys, a server, and what its answer begins with; `Err` if it is a failure.
type Case = (&'static str, Server, Result<&'static str, &'static str>);

async fn run(cases: &[Case]) {
    for (keys, server, expected) in cases {
        let answer = ask(keys, server.start().await).await;
        let fits = match (&answer, expected) {
            (Ok(words), Ok(expected)) => words == expected,
            (Err(Fault::Server(words)), Err(expected)) => words.starts_with(expected),
            _ => false,
        };
        assert!(fits, "{keys:?} of {server:?}: {answer:?} is not {expected:?}");
    }
}

const TCP: &str = "type = \"tcp\"";
const PING: &str = "type = \"tcp\"\nsend = \"PING\\r\\n\"\nexpect = \"PONG\"";

#[tokio::test]
async fn tcp_servers_that_behave_and_that_do_not() {
    run(&[
        (TCP, Server::Silent, Ok("connected")),
        (TCP, Server::Absent, Err("connection refused")),
        (PING, Server::Absent, Err("connection refused")),
        (PING, Server::Says("+PONG\r\n"), Ok("answered as expected")),
        (PING, Server::Drips("", "+PONG\r\n"), Ok("answered as expected")),
        (PING, Server::Silent, Err("timed out after 200ms waiting for an answer")),
        (PING, Server::Drips("abc", "x"), Err("timed out after 200ms")),
        (PING, Server::Floods("", "garbage"), Err("expected \"PONG\", which is not in the first")),
    ])
    .await;
    let closed = ask(PING, Server::Closes.start().await).await;
    let said = [
        "closed the connection without an answer",
        "connection reset",
        "cannot talk to it: Broken pipe (os error 32)",
    ];
    assert!(said.iter().any(|said| closed == Err(Fault::server(*said))), "{closed:?}");
}

const HTTP: &str = "type = \"http\"\nstatus = [\"2xx\", 401]";
const BODY: &str = "type = \"http\"\nbody = \"healthy\"";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall healthy";

#[tokio::test]
async fn http_servers_that_behave_and_that_do_not() {
    let late = "timed out after 200ms waiting for an answer";
    let redirect = "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
    run(&[
        (HTTP, Server::Says(OK), Ok("status 200")),
        (HTTP, Server::Says("HTTP/1.0 401 No\r\n\r\n"), Ok("status 401")),
        (HTTP, Server::Says("HTTP/1.1 503 No\r\n\r\n"), Err("status 503")),
        (HTTP, Server::Says(redirect), Err("status 302")),
        ("type = \"http\"", Server::Says(redirect), Ok("status 302")),
        (HTTP, Server::Absent, Err("connection refused")),
        (HTTP, Server::Silent, Err(late)),
        (HTTP, Server::Drips("HTTP/1.1 200 OK\r\n", "a: b\r\n"), Err(late)),
        (HTTP, Server::Says("SSH-2.0-OpenSSH\r\n"), Err("the answer is not HTTP")),
        (HTTP, Server::Says("HTTP/1.1 2000 OK\r\n\r\n"), Err("the answer is not HTTP")),
        (HTTP, Server::Floods("HTTP/1.1 200 OK\r\n", "a: b\r\n"), Err("the answer is not HTTP")),
        (BODY, Server::Says(OK), Ok("status 200, body as expected")),
        (
            BODY,
            Server::Says("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsick"),
            Err("expected \"healthy\", got \"sick\""),
        ),
        (
            BODY,
            Server::Says("HTTP/1.1 204 No Content\r\n\r\n"),
            Err("expected \"healthy\", got nothing"),
        ),
        (BODY, Server::Drips("HTTP/1.1 200 OK\r\n\r\n", "a"), Err("timed out after 200ms")),
        (
            BODY,
            Server::Floods("HTTP/1.1 200 OK\r\n\r\n", "a"),
            Err("expected \"healthy\", which is not in the first 64 KiB"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_request_is_sent_as_it_is_written_with_its_host() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 1024];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(OK.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let keys = "type = \"http\"\nrequest = \"POST /a?b HTTP/1.1\\r\\nX: y\\r\\n\\r\\nbody\"";
    assert_eq!(ask(keys, address).await, Ok("status 200".to_owned()));
    let request = server.await.unwrap();
    assert!(request.starts_with("POST /a?b HTTP/1.1\r\n"), "{request}");
    for part in
        ["x: y\r\n", &format!("host: {address}\r\n"), "content-length: 4\r\n", "\r\n\r\nbody"]
    {
        assert!(request.contains(part), "{part} is not in {request}");
    }
}

#[tokio::test]
async fn udp_servers_that_behave_and_that_do_not() {
    let keys = "type = \"udp\"\nsend = \"marco\"\nexpect = \"polo\"";
    for (says, expected) in [
        (Some("marco polo"), Ok("answered as expected".to_owned())),
        (Some("what?"), Err(Fault::server("expected \"polo\", got \"what?\""))),
        (None, Err(Fault::server("timed out after 200ms waiting for an answer"))),
    ] {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let answering = async {
            let mut asked = [0; 16];
            let (length, from) = server.recv_from(&mut asked).await.unwrap();
            assert_eq!(&asked[..length], b"marco");
            if let Some(says) = says {
                server.send_to(says.as_bytes(), from).await.unwrap();
            }
        };
        let (answer, ()) = tokio::join!(ask(keys, address), answering);
        assert_eq!(answer, expected, "{says:?}");
    }
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(ask(keys, nobody).await, Err(Fault::server("port unreachable")));
}

/// Answers a query by what `respond` makes of it.
async fn name_server(respond: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move {
        let mut query = [0; 512];
        let (length, from) = server.recv_from(&mut query).await.unwrap();
        for response in respond(&query[..length]) {
            server.send_to(&response, from).await.unwrap();
        }
    });
    address
}

fn response(query: &[u8], code: RCODE) -> Vec<u8> {
    let mut packet = Packet::parse(query).unwrap();
    assert_eq!(packet.questions[0].qname.to_string(), "www.example.com");
    packet.set_flags(PacketFlag::RESPONSE);
    *packet.rcode_mut() = code;
    packet.build_bytes_vec().unwrap()
}

#[tokio::test]
async fn name_servers_that_behave_and_that_do_not() {
    let keys = "type = \"dns\"\nquery_name = \"www.example.com\"\nrecord_type = \"AAAA\"";
    let good = Ok("answered noerror, 0 records".to_owned());
    let server = name_server(|query| vec![response(query, RCODE::NoError)]).await;
    assert_eq!(ask(keys, server).await, good);
    let server = name_server(|query| {
        let mut other = response(query, RCODE::ServerFailure);
        other[0] ^= 1;
        vec![b"x".to_vec(), other, response(query, RCODE::NoError)]
    });
    assert_eq!(ask(keys, server.await).await, good);
    let server = name_server(|query| vec![response(query, RCODE::Refused)]).await;
    assert_eq!(ask(keys, server).await, Err(Fault::server("answered refused, not noerror")));
    let any = format!("{keys}\nrcode = \"any\"");
    let server = name_server(|query| vec![response(query, RCODE::NameError)]).await;
    assert_eq!(ask(&any, server).await, Ok("answered nxdomain, 0 records".to_owned()));
    // An echo of the query is no response, nor is its beginning.
    for length in [2, 3, 11, 12, 33] {
        let server = name_server(move |query| vec![query[..length].to_vec()]).await;
        assert_eq!(ask(keys, server).await, Err(Fault::server("the answer is no DNS response")));
    }
    let server = name_server(|_| vec![]).await;
    let late = Fault::server("timed out after 200ms waiting for an answer");
    assert_eq!(ask(keys, server).await, Err(late));
}

/// An authority, and what it has certified.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server with a certificate for a name that ended in that year.
    async fn server(&self, name: &str, ended: i32, says: &'static str) -> SocketAddr {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(ended, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_tls(acceptor.clone(), stream, says));
            }
        });
        address
    }

    /// One check, with this authority as `ca_file`. A handshake of a debug build takes its time.
    async fn ask(&self, keys: &str, server: SocketAddr) -> Answer {
        let keys = format!("type = \"https\"\ntimeout = \"5s\"\n{keys}");
        check(testing::target(server, &testing::monitor(&keys, &self.0.pem()))).await
    }
}

async fn serve_tls(acceptor: TlsAcceptor, stream: TcpStream, says: &'static str) {
    if let Ok(stream) = acceptor.accept(stream).await {
        Server::Says(says).serve(stream).await;
    }
}

#[tokio::test]
async fn https_servers_have_to_prove_who_they_are_unless_they_need_not() {
    let (trusted, other) = (Authority::new("trusted"), Authority::new("other"));
    let named = "ca_file = \"ca.pem\"\nserver_name = \"www.example.com\"";
    let good = trusted.server("www.example.com", 2100, OK).await;
    let by_address = trusted.server("127.0.0.1", 2100, OK).await;
    let expired = trusted.server("www.example.com", 2001, OK).await;
    let foreign = other.server("www.example.com", 2100, OK).await;
    let sick = trusted.server("www.example.com", 2100, "HTTP/1.1 503 No\r\n\r\n").await;
    let untrusted = "the certificate is of an issuer that is not trusted";
    let misnamed = "the certificate is not made out to this name";
    for (keys, server, expected) in [
        (named, good, Ok("status 200")),
        ("ca_file = \"ca.pem\"", by_address, Ok("status 200")),
        ("verify = false", expired, Ok("status 200")),
        ("verify = false", foreign, Ok("status 200")),
        (named, expired, Err("the certificate has expired")),
        (named, foreign, Err(untrusted)),
        ("server_name = \"www.example.com\"", good, Err(untrusted)),
        ("ca_file = \"ca.pem\"", good, Err(misnamed)),
        (named, sick, Err("status 503")),
        (
            named,
            Server::Says("HTTP/1.1 400 No\r\n\r\n").start().await,
            Err("the answer is not TLS"),
        ),
        (named, Server::Absent.start().await, Err("connection refused")),
    ] {
        let expected = expected.map(str::to_owned).map_err(Fault::server);
        assert_eq!(trusted.ask(keys, server).await, expected, "{keys}");
    }
    let silent = ask("type = \"https\"", Server::Silent.start().await).await;
    let late = "timed out after 200ms during the TLS handshake";
    assert_eq!(silent, Err(Fault::server(late)));
}

async fn run_program(command: &str, more: &str, port: u16) -> Answer {
    let keys = format!("type = \"external\"\ncommand = {command}\n{more}");
    ask(&keys, ([127, 0, 0, 1], port).into()).await
}

#[tokio::test]
async fn a_program_that_prints_something_says_that_the_server_is_well() {
    let said = run_program("[\"/bin/echo\", \"-x\", \"a b\"]", "port = 5353", 80).await;
    assert_eq!(said, Ok("printed \"127.0.0.1 5353 -x a b\"".to_owned()));
    // It prints the variables that its arguments name, of which address and port are none.
    let variables =
        "[\"/usr/bin/printenv\", \"IP\", \"PORT\", \"POOL\", \"HM_NAME\", \"USER_NAME\", \"HOME\"]";
    let said = run_program(variables, "environment = { USER_NAME = \"probe\" }", 80).await;
    assert_eq!(said, Ok("printed \"127.0.0.1\\n80\\nweb\\nit\\nprobe\"".to_owned()));
    let said = run_program("[\"/bin/true\"]", "", 80).await;
    assert_eq!(said, Err(Fault::server("printed nothing (exit status: 0)")));
    let Err(Fault::Server(said)) = run_program("[\"/bin/cat\"]", "", 80).await else { panic!() };
    assert!(said.starts_with("printed nothing (exit status: 1); errors: "), "{said}");
    let Err(Fault::Own(said)) = run_program("[\"no-such-program\"]", "", 80).await else {
        panic!()
    };
    assert!(said.starts_with("the balancer cannot run /etc/lb/no-such-program: "), "{said}");
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed() {
    let late = "timed out after 200ms while the program ran, which was killed";
    // An argument that no other process has.
    let word = format!("lb-{}", std::process::id());
    let said = run_program(&format!("[\"/usr/bin/yes\", {word:?}]"), "", 80).await;
    assert_eq!(said, Err(Fault::server(late)));
    let runs = || {
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
        lines
            .into_iter()
            .any(|line| search::contains(&line, format!("yes\0127.0.0.1\080\0{word}").as_bytes()))
    };
    for _ in 0..1000 {
        if !runs() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("it still runs");
}
