//! What is asked, and how an answer tells who has given it.

use std::net::Ipv4Addr;

/// What a load's connections ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// A GET over TCP, answered with `X-Server`.
    Http,
    /// The IPv4 address of a name over UDP; the answer is what the server calls itself.
    Dns {
        /// The name.
        name: String,
    },
}

/// What a connection has read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// Not the whole answer yet.
    Incomplete,
    /// A late answer to an earlier question.
    Late,
    /// A whole one, from this server.
    From(String),
    /// Anything else.
    Wrong(String),
}

/// The fields of a DNS header that precede the name asked for.
const DNS_HEADER: usize = 12;
/// From a record's type to its data: type, class, time to live, length.
const RECORD_HEAD: usize = 10;
/// A record of type A and class IN.
const INTERNET_ADDRESS: [u8; 4] = [0, 1, 0, 1];

impl Question {
    /// The bytes of the question with this number.
    pub(super) fn bytes(&self, number: u16) -> Vec<u8> {
        match self {
            Self::Http => b"GET / HTTP/1.1\r\nHost: load\r\n\r\n".to_vec(),
            Self::Dns { name } => dns_query(name, number),
        }
    }

    /// What has been read of the answer to the question with this number.
    pub(super) fn read(&self, number: u16, bytes: &[u8]) -> Answer {
        match self {
            Self::Http => http_answer(bytes),
            Self::Dns { .. } => dns_answer(number, bytes),
        }
    }
}

fn http_answer(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Answer::Incomplete;
    };
    let header = |name: &str| {
        head.lines().filter_map(|line| line.split_once(": ")).find(|x| x.0 == name).map(|x| x.1)
    };
    let length = header("Content-Length").and_then(|length| length.parse().ok());
    match (head.starts_with("HTTP/1.1 200"), header("X-Server"), length) {
        (true, Some(_), Some(length)) if body.len() < length => Answer::Incomplete,
        (true, Some(server), Some(length)) if body.len() == length => Answer::From(server.into()),
        _ => Answer::Wrong(text.into_owned()),
    }
}

fn dns_query(name: &str, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    // Recursion desired, one question (RFC 1035 §4.1.1).
    let mut query = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(INTERNET_ADDRESS);
    query
}

fn dns_answer(number: u16, bytes: &[u8]) -> Answer {
    if bytes.is_empty() {
        return Answer::Incomplete;
    }
    if bytes.get(2).is_some_and(|flags| flags & 0x80 != 0)
        && !bytes.starts_with(&number.to_be_bytes())
    {
        return Answer::Late;
    }
    match dns_address(bytes) {
        Some(address) => Answer::From(address.to_string()),
        None => Answer::Wrong(format!("{bytes:02x?}")),
    }
}

/// The address in the first record behind the question.
fn dns_address(bytes: &[u8]) -> Option<Ipv4Addr> {
    let question = end_of_name(bytes, DNS_HEADER)? + INTERNET_ADDRESS.len();
    let record = end_of_name(bytes, question)?;
    let data = record + RECORD_HEAD;
    if bytes.get(record..record + 4)? != INTERNET_ADDRESS {
        return None;
    }
    let octets: [u8; 4] = bytes.get(data..data + 4)?.try_into().ok()?;
    Some(octets.into())
}

/// Where a name ends that begins at `at`: with an empty label or with a pointer (RFC 1035 §4.1.4).
fn end_of_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_answer_is_whole_with_its_last_byte() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Server: b\r\n\r\none";
        for length in 0..whole.len() {
            assert_eq!(http_answer(&whole[..length]), Answer::Incomplete, "{length}");
        }
        assert_eq!(http_answer(whole), Answer::From("b".into()));
        let others = ["HTTP/1.1 502 Bad\r\nContent-Length: 0\r\nX-Server: b\r\n\r\n"];
        for other in others.iter().chain(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]) {
            assert!(matches!(http_answer(other.as_bytes()), Answer::Wrong(_)), "{other}");
        }
    }

    #[test]
    fn a_dns_answer_belongs_to_its_question() {
        let mut answer = dns_query("who.test", 7);
        answer[2] = 0x81;
        answer[7] = 1;
        // A pointer to the name, type, class, time to live, length, address.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 10, 0, 0, 2]);
        assert_eq!(dns_answer(7, &answer), Answer::From("10.0.0.2".into()));
        assert_eq!(dns_answer(8, &answer), Answer::Late);
        for length in 1..answer.len() {
            let cut = dns_answer(7, &answer[..length]);
            assert!(matches!(cut, Answer::Wrong(_)), "{length}: {cut:?}");
        }
    }
}
