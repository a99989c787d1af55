//! Reading what a host is called: its address, or its name.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use toml::de::DeValue;

use super::value::{Read, Wrong, text};

/// How a server's host is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Host {
    /// By its address.
    Address(IpAddr),
    /// By its name, in small letters.
    Name(Arc<str>),
}

/// The address of one host, or a DNS name. What looks like an address is one.
pub(super) fn address_or_name(value: &DeValue<'_>) -> Read<Host> {
    let name = value.as_str().filter(|text| !looks_like_address(text));
    match name {
        Some(text) => match wrong_in_name(text) {
            None => Ok(Host::Name(text.to_ascii_lowercase().into())),
            Some(why) => Err(Wrong::must_be("an IP address or a DNS name", value).with_help(why)),
        },
        None => address(value).map(Host::Address),
    }
}

/// Whether the text has a mark that only addresses have, or ends in digits as only they do: no
/// top-level domain is a number (RFC 1123 §2.1).
fn looks_like_address(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    text.is_empty()
        || text.contains([':', '/'])
        || last.bytes().all(|b| b.is_ascii_digit()) && !last.is_empty()
}

/// What keeps a text from being the name of a host (RFC 1035 §2.3.4, RFC 1123 §2.1). A dot at its
/// end says that no domain is to be searched for it.
fn wrong_in_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if !name.is_ascii() {
        return Some("in its ASCII form, which begins with \"xn--\"".to_owned());
    }
    if name.len() > 253 {
        return Some(format!("a name has 253 characters at most, not {}", name.len()));
    }
    name.split('.').find_map(wrong_in_label)
}

fn wrong_in_label(label: &str) -> Option<String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if label.is_empty() {
        return Some("one dot between two labels, and none before the first".to_owned());
    }
    if label.len() > 63 {
        return Some(format!("a label has 63 characters at most, not {}", label.len()));
    }
    if !label.bytes().all(fits) || label.starts_with('-') || label.ends_with('-') {
        let label = label.escape_debug();
        return Some(format!("label \"{label}\": letters, digits, and hyphens between them"));
    }
    None
}

/// Where a name server listens: an address, with a port if that is not 53. It may be on this host.
pub(super) fn name_server(value: &DeValue<'_>) -> Read<SocketAddr> {
    const EXPECTED: &str = "the address of a name server";
    const PORT: u16 = 53;
    let text = text(value, EXPECTED, "10.0.0.53")?;
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, PORT));
    let address = address.or_else(|_| text.parse::<SocketAddr>()).map_err(|_| {
        Wrong::must_be(EXPECTED, value).with_help("such as \"10.0.0.53\" or \"10.0.0.53:5353\"")
    })?;
    match unusable(address.ip()) {
        Some(help) if !address.ip().is_loopback() => {
            Err(Wrong::must_be(EXPECTED, value).with_help(help))
        }
        _ if address.port() == 0 => {
            Err(Wrong::must_be(EXPECTED, value).with_help("its port is from 1 to 65535"))
        }
        _ => Ok(address),
    }
}

/// The address of one host.
pub(super) fn address(value: &DeValue<'_>) -> Read<IpAddr> {
    const EXPECTED: &str = "an IP address";
    let text = text(value, EXPECTED, "192.0.2.10")?;
    let address = text.parse().map_err(|_| {
        let wrong = Wrong::must_be(EXPECTED, value);
        match address_help(text) {
            Some(help) => wrong.with_help(help),
            None => wrong,
        }
    })?;
    match unusable(address) {
        Some(help) => Err(Wrong::must_be("the address of one host", value).with_help(help)),
        None => Ok(address),
    }
}

fn address_help(text: &str) -> Option<String> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        let (ip, port) = (socket.ip(), socket.port());
        return Some(format!("the port has a key of its own: address = \"{ip}\", port = {port}"));
    }
    if let Some((name, port)) =
        text.split_once(':').filter(|(name, _)| wrong_in_name(name).is_none())
        && let Ok(port) = port.parse::<u16>()
    {
        return Some(format!("the port has a key of its own: address = \"{name}\", port = {port}"));
    }
    if let Some(ip) = text.split_once('/').and_then(|(ip, _)| ip.parse::<IpAddr>().ok()) {
        return Some(format!("without the length of the prefix: \"{ip}\""));
    }
    let name = text.chars().any(|c| c.is_ascii_alphabetic()) && !text.contains(':');
    name.then(|| "only servers may be given by name: write the address itself".to_owned())
}

/// Why an address is none of a single host that can be reached; `None` if it is.
pub(super) fn unusable(address: IpAddr) -> Option<String> {
    let canonical = address.to_canonical();
    if canonical != address {
        return Some(format!("an IPv4 address is written as such: \"{canonical}\""));
    }
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let why = match address {
        _ if address.is_unspecified() => "stands for no host in particular",
        _ if address.is_multicast() => "stands for a group of hosts",
        _ if broadcast => "stands for all hosts",
        _ if address.is_loopback() => "never leaves the machine, so it passes no interface",
        _ => return None,
    };
    Some(format!("{address} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> DeValue<'_> {
        DeValue::parse(text).unwrap().into_inner()
    }

    #[test]
    fn names_have_labels_of_letters_digits_and_hyphens() {
        let long = format!("{}.example", ["a"; 123].join("."));
        for text in
            ["app.internal", "web", "3com.example", "a-1.b", "x.y.", "xn--bcher-kva.ch", &long]
        {
            let quoted = format!("'{text}'");
            assert_eq!(address_or_name(&toml(&quoted)), Ok(Host::Name(text.into())), "{text}");
        }
        assert_eq!(address_or_name(&toml("'App.Internal'")), Ok(Host::Name("app.internal".into())));
        let address = Host::Address("10.0.0.1".parse().unwrap());
        assert_eq!(address_or_name(&toml("'10.0.0.1'")), Ok(address));
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        let (label, long) = ("a".repeat(64), ["abc"; 64].join("."));
        for (text, help) in [
            ("app_1.internal", "label \"app_1\": letters, digits, and hyphens between them"),
            ("-a.b", "label \"-a\": letters, digits, and hyphens between them"),
            ("a-.b", "label \"a-\": letters, digits, and hyphens between them"),
            ("app internal", "label \"app internal\": letters, digits, and hyphens between them"),
            ("*.internal", "label \"*\": letters, digits, and hyphens between them"),
            ("a..b", "one dot between two labels, and none before the first"),
            (".", "one dot between two labels, and none before the first"),
            (".a", "one dot between two labels, and none before the first"),
            ("bücher.example", "in its ASCII form, which begins with \"xn--\""),
            (&label, "a label has 63 characters at most, not 64"),
            (&long, "a name has 253 characters at most, not 255"),
            (
                "app.internal:80",
                "the port has a key of its own: address = \"app.internal\", port = 80",
            ),
        ] {
            let wrong = address_or_name(&toml(&format!("'{text}'"))).unwrap_err();
            assert_eq!(wrong.help.as_deref(), Some(help), "{text}");
        }
        for text in ["", "10.0.0", "10.0.0.256", "1", "10.0.0.0/8", "[::1]:53", "::", "127.0.0.1"] {
            assert!(address_or_name(&toml(&format!("'{text}'"))).is_err(), "{text}");
        }
        assert!(address_or_name(&toml("10")).is_err());
    }

    #[test]
    fn only_addresses_of_single_hosts_are_taken() {
        assert_eq!(address(&toml("'10.0.0.1'")), Ok("10.0.0.1".parse().unwrap()));
        assert_eq!(address(&toml("'2001:db8::1'")), Ok("2001:db8::1".parse().unwrap()));
        for text in [
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "127.0.0.1",
            "::1",
            "::ffff:10.0.0.1",
            "10.0.0.1:53",
            "[::2]:53",
            "10.0.0.0/24",
            "web.example",
            "10.0.0",
        ] {
            let quoted = format!("'{text}'");
            assert!(address(&toml(&quoted)).is_err(), "{text}");
        }
    }
}
