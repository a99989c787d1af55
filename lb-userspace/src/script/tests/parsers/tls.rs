use super::*;

pub(super) const SERVER_NAME: u16 = 0;
/// GREASE (RFC 8701).
const GREASE: u16 = 0x1a1a;

const OPENSSL: &[u8] = packet!("tls-openssl-x25519");
const OPENSSL_MLKEM: &[u8] = packet!("tls-openssl-mlkem");
const OPENSSL_SPLIT: &[u8] = packet!("tls-openssl-mlkem-split");
const OPENSSL_UNNAMED: &[u8] = packet!("tls-openssl-tls12-unnamed");
const CURL: &[u8] = packet!("tls-curl-x25519");
const CURL_MLKEM: &[u8] = packet!("tls-curl-mlkem");
const BORINGSSL: &[u8] = packet!("tls-boringssl-grease");

/// What real clients have sent, and the name they asked for.
pub(super) const REAL: [(&[u8], &str); 7] = [
    (OPENSSL, "www.example.com"),
    (OPENSSL_MLKEM, "www.example.com"),
    (OPENSSL_SPLIT, "www.example.com"),
    (OPENSSL_UNNAMED, "nil"),
    (CURL, "www.example.com"),
    (CURL_MLKEM, "www.example.com"),
    (BORINGSSL, "www.example.com"),
];

/// How Avi's documentation shows the use of the parser.
pub(super) const PUBLISHED: &str = r#"
local avi_tls = require "Default-TLS"
buffered = avi.l4.collect(20)
payload = avi.l4.read()
len = avi_tls.get_req_buffer_size(payload)
if ( buffered < len ) then buffered = avi.l4.collect(len) end
if ( avi_tls.sanity_check(payload) ) then
   local h = avi_tls.parse_record(payload)
   local sname = avi_tls.get_sni(h)
   if sname == nil then avi.vs.log('SNI not present'); avi.vs.close_conn(true)
   else avi.vs.log("SNI=".. sname); avi.pool.select(sname) end
else avi.vs.close_conn(true) end
avi.l4.ds_done()
avi_tls = nil
"#;

/// Logs the size wanted, whether it is sane, whether there is a handle, and the name.
fn facts() -> Bench {
    on_payload(
        BuiltInParser::Tls,
        "local handle = parser.parse_record(payload) \
         avi.vs.log(parser.get_req_buffer_size(payload), ' ', parser.sanity_check(payload), ' ', \
         handle ~= nil, ' ', parser.get_sni(handle))",
    )
}

/// The parts of a ClientHello.
#[derive(Clone)]
pub(super) struct Hello {
    session_id: Vec<u8>,
    cipher_suites: Vec<u8>,
    compression_methods: Vec<u8>,
    extensions: Option<Vec<(u16, Vec<u8>)>>,
}

impl Hello {
    pub(super) fn with(extensions: &[(u16, &[u8])]) -> Self {
        let own = |(number, body): &(u16, &[u8])| (*number, body.to_vec());
        Self {
            session_id: vec![7; 32],
            cipher_suites: vec![0x13, 0x01],
            compression_methods: vec![0],
            extensions: Some(extensions.iter().map(own).collect()),
        }
    }

    pub(super) fn message(&self) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([9; 32]);
        body.push(self.session_id.len() as u8);
        body.extend(&self.session_id);
        body.extend(vector(&self.cipher_suites));
        body.push(self.compression_methods.len() as u8);
        body.extend(&self.compression_methods);
        if let Some(extensions) = &self.extensions {
            let all = extensions
                .iter()
                .map(|(number, body)| [number.to_be_bytes().as_slice(), &vector(body)].concat());
            body.extend(vector(&all.collect::<Vec<_>>().concat()));
        }
        handshake(&body)
    }

    pub(super) fn record(&self) -> Vec<u8> {
        record(22, &self.message())
    }
}

fn handshake(body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    [&[1], &length[1..], body].concat()
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

pub(super) fn record(content: u8, fragment: &[u8]) -> Vec<u8> {
    [&[content, 3, 1], &*vector(fragment)].concat()
}

/// A message in records of this many bytes each.
pub(super) fn split(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|fragment| record(22, fragment)).collect()
}

/// The body of the extension with this name.
pub(super) fn named(name: &str) -> Vec<u8> {
    vector(&[&[0], &*vector(name.as_bytes())].concat())
}

/// What `facts` logs of a payload that is nothing but `hello`.
fn facts_of_hello(payload: &[u8], name: &str) -> String {
    format!("{} true true {name}", first_record(payload))
}

pub(super) fn first_record(payload: &[u8]) -> usize {
    5 + usize::from(u16::from_be_bytes([payload[3], payload[4]]))
}

#[test]
fn names_are_found_in_what_real_clients_send() {
    let mut facts = facts();
    for (payload, name) in REAL {
        assert_eq!(facts.log_about(payload), facts_of_hello(payload, name));
    }
    assert!(CURL_MLKEM.len() > 1400 && first_record(OPENSSL_SPLIT) < OPENSSL_SPLIT.len());
}

/// How many bytes to wait for when this many are there, by the records' boundaries.
fn wanted(payload: &[u8], there: usize) -> usize {
    let mut start = 0;
    while start < payload.len() {
        let end = start + first_record(&payload[start..]);
        if there < start + 5 {
            return start + 5;
        } else if there < end {
            return end;
        }
        start = end;
    }
    first_record(payload)
}

#[test]
fn a_hello_that_is_cut_anywhere_is_not_there_yet() {
    let mut facts = facts();
    for (payload, name) in REAL {
        for there in 0..payload.len() {
            let (size, sane) = (wanted(payload, there), there > 5);
            let expected = format!("{size} {sane} false nil");
            assert_eq!(facts.log_about(&payload[..there]), expected, "{there} bytes");
        }
        let more = [payload, b"more"].concat();
        assert_eq!(facts.log_about(&more), facts_of_hello(payload, name));
    }
}

#[test]
fn collecting_what_is_asked_for_ends_with_the_hello() {
    let mut facts = facts();
    for (payload, name) in REAL {
        let mut there = 20;
        loop {
            let log = facts.log_about(&payload[..there]);
            let wanted: usize = log.split(' ').next().unwrap().parse().unwrap();
            if wanted <= there {
                assert!(log.ends_with(name), "{log}");
                break;
            }
            there = wanted;
        }
        assert_eq!(there, payload.len());
    }
}

#[test]
fn the_published_script_selects_by_name() {
    let mut config = config_with(&[PUBLISHED], &built_in(), &[]);
    config.pools[1].name = "www.example.com".to_owned();
    let mut bench = Bench::with(config, BUDGET);
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        bench.protocol = protocol;
        for (payload, name) in REAL {
            bench.payload = payload.to_vec();
            let outcome = bench.run();
            assert_eq!(outcome.failure, None);
            let selected = outcome.selection.map(|selection| selection.chosen);
            let closed = outcome.close.map(|close| close.reset);
            match name {
                "nil" => {
                    assert_eq!((selected, closed), (None, Some(true)));
                    assert_eq!(outcome.log, "SNI not present");
                }
                name => {
                    assert_eq!((selected, closed), (Some(Chosen::Pool(PoolIndex(1))), None));
                    assert_eq!(outcome.log, format!("SNI={name}"));
                }
            }
        }
        for other in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 40], &[22; 40]] {
            bench.payload = other.to_vec();
            let outcome = bench.run();
            assert_eq!((outcome.failure, outcome.close.unwrap().reset), (None, true));
        }
    }
}

#[test]
fn a_hello_may_have_much_or_little_in_it() {
    let name = named("a.example");
    let grease: &[u8] = &[0; 3];
    let ech: &[u8] = &[0; 200];
    let only_other = vector(&[7, 0, 2, 1, 1]);
    let other_name = vector(&[&[7, 0, 2, 1, 1, 0], &*vector(b"a.example")].concat());
    let long = "x".repeat(250);
    let long_name = named(&long);
    let hello = Hello::with(&[(GREASE, grease), (43, &[2, 3, 4]), (SERVER_NAME, &name)]);
    let mut facts = facts();
    for (what, hello, name) in [
        ("the name last", hello.clone(), "a.example"),
        ("the name first", Hello::with(&[(0, &name), (10, ech), (GREASE, &[])]), "a.example"),
        ("an outer name, beside ECH", Hello::with(&[(0xfe0d, ech), (0, &name)]), "a.example"),
        ("another type of name before", Hello::with(&[(0, &other_name)]), "a.example"),
        ("only another type of name", Hello::with(&[(0, &only_other)]), "nil"),
        ("a long name", Hello::with(&[(0, &long_name)]), &long[..]),
        ("no extension", Hello::with(&[]), "nil"),
        ("no extensions", Hello { extensions: None, ..hello.clone() }, "nil"),
        ("no session id", Hello { session_id: vec![], ..hello.clone() }, "a.example"),
        (
            "many ciphers and methods",
            Hello {
                cipher_suites: vec![0x5a; 2000],
                compression_methods: vec![1; 255],
                ..hello.clone()
            },
            "a.example",
        ),
    ] {
        let payload = hello.record();
        let expected: String = facts_of_hello(&payload, name).chars().take(256).collect();
        assert_eq!(facts.log_about(&payload), expected, "{what}");
    }
}

#[test]
fn records_may_split_a_hello_as_they_like() {
    let message = Hello::with(&[(SERVER_NAME, &named("a.example"))]).message();
    let mut facts = facts();
    for size in 1..=message.len() {
        let payload = split(&message, size);
        assert_eq!(facts.log_about(&payload), facts_of_hello(&payload, "a.example"), "{size}");
    }
    let two_messages = record(22, &[&*message, &[11, 0, 0, 0]].concat());
    assert_eq!(facts.log_about(&two_messages), facts_of_hello(&two_messages, "a.example"));
    let then_other = [record(22, &message), record(20, &[1])].concat();
    assert_eq!(facts.log_about(&then_other), facts_of_hello(&then_other, "a.example"));
}

#[test]
fn what_is_no_record_of_a_client_that_begins_is_not_sane() {
    let message = Hello::with(&[]).message();
    let whole = |payload: &[u8]| first_record(payload);
    for (what, payload, size) in [
        ("nothing", vec![], 5),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 5),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), 5),
        ("SSL 2", vec![0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10], 5),
        ("another version", [&[22, 2], &record(22, &message)[2..]].concat(), 5),
        ("an empty record", record(22, &[]), 5),
        ("a record that is too long", vec![22, 3, 1, 0x48, 1, 1, 0, 0], 5),
        ("a record too long for plain text", vec![22, 3, 1, 0x40, 1, 1, 0, 0], 5 + 0x4001),
        ("application data", record(23, &message), whole(&record(23, &message))),
        ("an alert", record(21, &[2, 40]), 7),
        ("a ServerHello", record(22, &[2, 0, 0, 0]), 9),
    ] {
        assert_eq!(facts().log_about(&payload), format!("{size} false false nil"), "{what}");
    }
}

#[test]
fn a_malformed_hello_is_none() {
    let name = named("a.example");
    let hello = Hello::with(&[(SERVER_NAME, &name)]);
    let message = hello.message();
    let sni = |body: Vec<u8>| Hello { extensions: Some(vec![(0, body)]), ..hello.clone() }.record();
    let changed = |at: usize, by: u8| {
        let mut message = message.clone();
        message[at] = message[at].wrapping_add(by);
        record(22, &message)
    };
    let body = &message[4..];
    let extension = message.len() - 4 - name.len();
    let two = vector(&[&[0], &*vector(b"a"), &[0], &*vector(b"b")].concat());
    for (what, payload) in [
        ("an empty message", record(22, &handshake(&[]))),
        ("a message that ends in its random", record(22, &handshake(&body[..20]))),
        ("one that ends before its ciphers", record(22, &handshake(&body[..67]))),
        ("one that ends before its methods", record(22, &handshake(&body[..71]))),
        ("one that ends in its extensions", record(22, &handshake(&body[..90]))),
        ("one that goes on behind them", record(22, &handshake(&[body, b"x"].concat()))),
        ("a session id of 33 bytes", Hello { session_id: vec![0; 33], ..hello.clone() }.record()),
        ("half a cipher", Hello { cipher_suites: vec![0; 3], ..hello.clone() }.record()),
        ("no ciphers", Hello { cipher_suites: vec![], ..hello.clone() }.record()),
        ("no methods", Hello { compression_methods: vec![], ..hello.clone() }.record()),
        ("extensions that end too late", changed(extension - 1, 1)),
        ("extensions that end too soon", changed(extension - 1, 255)),
        ("an extension that is too long", changed(extension + 3, 1)),
        ("an extension that is too short", changed(extension + 3, 255)),
        ("no list of names", sni(vec![])),
        ("an empty list of names", sni(vec![0, 0])),
        ("a list that is too long", sni([&[0, 13], &name[2..]].concat())),
        ("a list that is too short", sni([&[0, 11], &name[2..]].concat())),
        ("a name that is too long", sni(vec![0, 4, 0, 0, 9, b'a'])),
        ("a name that is too short", sni(vec![0, 5, 0, 0, 1, b'a', b'b'])),
        ("an empty name", sni(vec![0, 3, 0, 0, 0])),
        ("two names", sni(two)),
        ("names twice", Hello::with(&[(0, &name), (5, &[]), (0, &name)]).record()),
        ("a record of another type within", {
            [record(22, &message[..9]), record(23, &message[9..])].concat()
        }),
        ("an empty record within", {
            [record(22, &message[..9]), record(22, &[]), record(22, &message[9..])].concat()
        }),
    ] {
        let expected = format!("{} true false nil", first_record(&payload));
        assert_eq!(facts().log_about(&payload), expected, "{what}");
    }
}

#[test]
fn a_hello_that_no_script_can_read_is_not_waited_for() {
    let endless = record(22, &[1, 0xff, 0xff, 0xff, 3, 3]);
    assert_eq!(facts().log_about(&endless), "11 true false nil");
    let message = Hello::with(&[(5, &[0; 30_000]), (0, &named("a.example"))]).message();
    let whole = split(&message, 1 << 14);
    assert_eq!(facts().log_about(&whole), facts_of_hello(&whole, "a.example"));
    let crumbs = split(&message[..300], 1);
    assert_eq!(facts().log_about(&crumbs), "6 true false nil");
}

#[test]
fn arguments_that_are_no_payload_are_errors_at_the_scripts_line() {
    for function in ["get_req_buffer_size", "sanity_check", "parse_record"] {
        let source = format!("local t = require 'Default-TLS'\nlocal x = t.{function}(nil)");
        let failure = Bench::with(config_with(&[&source], &built_in(), &[]), BUDGET).failure();
        let message = format!("Default-TLS.{function}: a string expected, got nil");
        assert_eq!((failure.line, failure.message), (2, message));
    }
    let log = "avi.vs.log(parser.get_sni(nil), parser.get_sni(7), parser.get_sni({}))";
    assert_eq!(on_payload(BuiltInParser::Tls, log).log(), "nilnilnil");
}

#[test]
fn the_dearest_payloads_stay_within_a_bound() {
    let many: Vec<_> = (0..8_000).map(|_| (GREASE, &[][..])).collect();
    let names = vector(&[[7, 0, 1, 1].as_slice(); 8_000].concat());
    for payload in [
        split(&Hello::with(&many).message(), 300),
        split(&Hello::with(&[(0, &names)]).message(), 300),
        vec![22; 65_000],
        split(&vec![1; 10_000], 1),
    ] {
        facts().log_about(&payload);
    }
}
