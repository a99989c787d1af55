//! Reading the address of a host.

use std::net::{IpAddr, SocketAddr};

use toml::de::DeValue;

use super::value::{Read, Wrong, text};

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
    if let Some(ip) = text.split_once('/').and_then(|(ip, _)| ip.parse::<IpAddr>().ok()) {
        return Some(format!("without the length of the prefix: \"{ip}\""));
    }
    let name = text.chars().any(|c| c.is_ascii_alphabetic()) && !text.contains(':');
    name.then(|| "names are not looked up: write the address itself".to_owned())
}

fn unusable(address: IpAddr) -> Option<String> {
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
