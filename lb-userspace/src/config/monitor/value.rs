//! Values that only monitors have.

use std::{ops::RangeInclusive, path::PathBuf};

use hyper::{
    HeaderMap, Method, Version,
    header::{HeaderName, HeaderValue},
    http::uri::PathAndQuery,
};
use toml::de::DeValue;

use super::{
    super::value::{Read, Wrong, integer, text},
    HttpRequest,
};

/// Bytes that may be sent, or waited for.
const MOST_BYTES: usize = 4096;

/// What is sent or expected: text, or bytes in hexadecimal digits.
pub(super) fn payload(value: &DeValue<'_>) -> Read<Vec<u8>> {
    let bytes = match value {
        DeValue::Table(table) if table.len() == 1 => {
            table.get("hex").and_then(|digits| hex(digits.get_ref().as_str()?))
        }
        other => other.as_str().map(|text| text.as_bytes().to_vec()),
    };
    bytes.filter(|bytes| (1..=MOST_BYTES).contains(&bytes.len())).ok_or_else(|| {
        Wrong::must_be(&format!("text or {{ hex = \"…\" }}, 1 to {MOST_BYTES} bytes"), value)
            .with_help(
                "such as \"PING\\r\\n\", or { hex = \"00 1f ff\" } for bytes that are no text",
            )
    })
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16));
    let digits: Vec<u32> = digits.collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    pairs.collect()
}

/// A status such as `301`, or a class of them such as `"2xx"`.
pub(super) fn status(value: &DeValue<'_>) -> Read<RangeInclusive<u16>> {
    let help = "a code such as 301, or a class in quotes such as \"2xx\"";
    if let Some(text) = value.as_str() {
        let class = ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().position(|class| *class == text);
        let class = class.and_then(|class| u16::try_from(class).ok());
        let class = class.map(|class| (class + 1) * 100..=(class + 1) * 100 + 99);
        return class.ok_or_else(|| Wrong::must_be("a status", value).with_help(help));
    }
    let code = integer(100..=599)(value).map_err(|wrong| wrong.with_help(help))?;
    Ok(code..=code)
}

/// A request as it is on the wire: `GET / HTTP/1.0`, headers, an empty line and a body.
pub(super) fn request(value: &DeValue<'_>) -> Read<HttpRequest> {
    const EXPECTED: &str = "an HTTP request";
    const EXAMPLE: &str = "GET / HTTP/1.0";
    let text = text(value, EXPECTED, EXAMPLE)?;
    parse_request(text).map_err(|why| {
        let help = format!("{why}; such as {EXAMPLE:?}, lines of headers may follow");
        Wrong::must_be(EXPECTED, value).with_help(help)
    })
}

fn parse_request(text: &str) -> Result<HttpRequest, String> {
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path, version) = (words.next(), words.next(), words.next());
    let method = method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let method = method.ok_or("it begins with a method")?;
    let path = path.filter(|path| path.starts_with('/') && path.parse::<PathAndQuery>().is_ok());
    let path = path.ok_or("a path follows the method, and begins with a slash")?.to_owned();
    let version = match (version, words.next()) {
        (Some("HTTP/1.0") | None, None) => Version::HTTP_10,
        (Some("HTTP/1.1"), None) => Version::HTTP_11,
        _ => return Err("the version is HTTP/1.0 or HTTP/1.1".to_owned()),
    };
    let headers = lines.filter(|line| !line.is_empty()).map(header).collect::<Result<_, _>>()?;
    Ok(HttpRequest { method, path, version, headers, body: body.to_owned() })
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("{line:?} is no header");
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    if ["content-length", "transfer-encoding"].contains(&name.as_str()) {
        return Err(format!("{name} is added by itself"));
    }
    Ok((name, value))
}

/// What is asked if nothing is said about it.
pub(super) fn default_request() -> HttpRequest {
    HttpRequest {
        method: Method::GET,
        path: "/".to_owned(),
        version: Version::HTTP_10,
        headers: HeaderMap::new(),
        body: String::new(),
    }
}

/// A name that certificates are made out to.
pub(super) fn server_name(value: &DeValue<'_>) -> Read<String> {
    let name = text(value, "a host's name", "www.example.com")?;
    match tokio_rustls::rustls::pki_types::ServerName::try_from(name) {
        Ok(_) => Ok(name.to_owned()),
        Err(_) => Err(Wrong::must_be("a host's name", value)
            .with_help("as the certificate has it, such as \"www.example.com\"")),
    }
}

/// A name to ask a DNS server for.
pub(super) fn domain(value: &DeValue<'_>) -> Read<String> {
    let name = text(value, "a domain name", "www.example.com")?;
    let labels = name.strip_suffix('.').unwrap_or(name);
    let fits = |label: &str| (1..=63).contains(&label.len()) && label.is_ascii();
    match labels.len() <= 253 && labels.split('.').all(fits) {
        true => Ok(labels.to_owned()),
        false => Err(Wrong::must_be("a domain name", value)
            .with_help("labels of 1 to 63 letters and digits, such as \"www.example.com\"")),
    }
}

/// A word of a command.
pub(super) fn word(value: &DeValue<'_>) -> Read<String> {
    let word = text(value, "a word of the command", "--verbose")?;
    match word.contains('\0') {
        true => Err(Wrong::must_be("a word of the command", value)),
        false => Ok(word.to_owned()),
    }
}

/// Variables for a program.
pub(super) fn environment(value: &DeValue<'_>) -> Read<Vec<(String, String)>> {
    let variables = value.as_table().and_then(|table| {
        let variables = table.iter().map(|(name, value)| {
            let (name, value) = (name.get_ref().to_string(), value.get_ref().as_str()?.to_owned());
            let fits = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
            fits.then_some((name, value))
        });
        variables.collect::<Option<Vec<_>>>()
    });
    variables.ok_or_else(|| {
        Wrong::must_be("a table of texts", value).with_help("such as { USER_NAME = \"probe\" }")
    })
}

/// The program that is the first word of a command, and the words that follow.
pub(super) fn split_command(words: &[String]) -> Option<(PathBuf, Vec<String>)> {
    let (program, arguments) = words.split_first()?;
    (!program.is_empty()).then(|| (program.into(), arguments.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> DeValue<'_> {
        DeValue::parse(text).unwrap().into_inner()
    }

    #[test]
    fn payloads_are_text_or_hexadecimal_digits() {
        assert_eq!(payload(&toml(r#""PING\r\n""#)), Ok(b"PING\r\n".to_vec()));
        assert_eq!(payload(&toml("{ hex = '00 1f FF' }")), Ok(vec![0, 0x1f, 0xff]));
        for text in ["''", "5", "{ hex = '1' }", "{ hex = 'gg' }", "{ hex = '' }", "{ text = 'a' }"]
        {
            assert!(payload(&toml(text)).is_err(), "{text}");
        }
        let long = format!("'{}'", "a".repeat(MOST_BYTES + 1));
        assert!(payload(&toml(&long)).is_err());
    }

    #[test]
    fn statuses_are_codes_or_classes() {
        assert_eq!(status(&toml("301")), Ok(301..=301));
        assert_eq!(status(&toml("'2xx'")), Ok(200..=299));
        assert_eq!(status(&toml("'5xx'")), Ok(500..=599));
        for text in ["99", "600", "'6xx'", "'2XX'", "'200'", "true"] {
            assert!(status(&toml(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_request_is_read_with_its_headers_and_body() {
        let read = request(&toml(r#""POST /a?b=c HTTP/1.1\r\nHost: x\r\nA:  b \r\n\r\nhello""#));
        let read = read.unwrap();
        assert_eq!((read.method, read.path.as_str()), (Method::POST, "/a?b=c"));
        assert_eq!((read.version, read.body.as_str()), (Version::HTTP_11, "hello"));
        assert_eq!(
            (&read.headers["host"], &read.headers["a"]),
            (&"x".parse().unwrap(), &"b".parse().unwrap())
        );
        assert_eq!(request(&toml("'GET / HTTP/1.0'")), Ok(default_request()));
        assert_eq!(request(&toml("'GET /'")), Ok(default_request()));
        for text in [
            "''",
            "'/'",
            "'GET'",
            "'GET index.html'",
            "'GET / HTTP/2'",
            "'GET / HTTP/1.0 x'",
            r#""GET / HTTP/1.0\nno header""#,
            r#""GET / HTTP/1.0\nContent-Length: 5""#,
        ] {
            assert!(request(&toml(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_such() {
        for text in ["'www.example.com'", "'www.example.com.'"] {
            assert_eq!(domain(&toml(text)), Ok("www.example.com".to_owned()));
        }
        let long = format!("'{}.com'", "a".repeat(64));
        for text in ["''", "'a..b'", &long, "'é.com'"] {
            assert!(domain(&toml(text)).is_err(), "{text}");
        }
        assert!(server_name(&toml("'10.0.0.1'")).is_ok());
        for text in ["''", "'a b'", "5"] {
            assert!(server_name(&toml(text)).is_err(), "{text}");
        }
    }
}
