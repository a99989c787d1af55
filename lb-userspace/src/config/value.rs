//! From a TOML value to a value of ours: every reader refuses what is out of bounds.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use ipnet::IpNet;
use toml::de::{DeInteger, DeValue};

/// What a reader gives.
pub(super) type Read<T> = Result<T, Wrong>;

/// Why a value does not do. Continues the sentence "`key` …".
#[derive(PartialEq, Debug)]
pub(super) struct Wrong {
    /// Such as `must be an integer, not a string`.
    pub predicate: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Wrong {
    pub fn must_be(expected: &str, found: &DeValue<'_>) -> Self {
        Self { predicate: format!("must be {expected}, not {}", shown(found)), help: None }
    }

    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A value in a message: itself if it is short, else what it is.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() <= 60 => format!("{text:?}"),
        DeValue::String(_) => "this string".to_owned(),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().ok_or_else(|| Wrong::must_be("true or false", value))
}

/// A string; `expected` and `example` tell what should be in it.
pub(super) fn text<'v>(value: &'v DeValue<'_>, expected: &str, example: &str) -> Read<&'v str> {
    value.as_str().ok_or_else(|| {
        Wrong::must_be(expected, value).with_help(format!("in quotes, such as {example:?}"))
    })
}

/// A whole number within bounds.
pub(super) fn integer<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| {
        let number = value.as_integer().and_then(number).filter(|number| range.contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            let bounds = format!("{} to {}", grouped(*range.start()), grouped(*range.end()));
            let wrong = Wrong::must_be(&format!("an integer from {bounds}"), value);
            match value.as_str().map(str::trim) {
                Some(digits) if digits.parse::<u64>().is_ok() => {
                    wrong.with_help(format!("without the quotes: {digits}"))
                }
                _ => wrong,
            }
        })
    }
}

fn number(integer: &DeInteger<'_>) -> Option<u64> {
    // Through `i128`, so that `-0` is a number as well.
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()?.try_into().ok()
}

/// `16_777_216`, as one would write it in the file.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digits.len() > 4 {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| {
        let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let all: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            let wrong = Wrong::must_be(&all.join(" or "), value);
            match value.as_str().and_then(|text| nearest(text, words.iter().map(|(word, _)| *word)))
            {
                Some(word) => wrong.with_help(format!("did you mean {word:?}?")),
                None => wrong,
            }
        })
    }
}

/// The candidate that a slip of the keyboard would turn into `word`, if there is one: up to a
/// third of the letters, and one in any case.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            let (word, lower) = (word.to_lowercase(), candidate.to_lowercase());
            (strsim::damerau_levenshtein(&word, &lower), candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The name of a service, pool or script set: any text on one line.
pub(super) fn name(value: &DeValue<'_>) -> Read<String> {
    let name = text(value, "a name", "web")?;
    let wrong = |help: &str| Wrong::must_be("a name", value).with_help(help);
    match name.chars().count() {
        0 => Err(wrong("at least one character")),
        1..=128 if name.chars().any(char::is_control) => {
            Err(wrong("without control characters such as line breaks"))
        }
        1..=128 => Ok(name.to_owned()),
        _ => Err(wrong("128 characters at most")),
    }
}

/// The name of the instance: part of paths, so letters, digits, `-` and `_`.
pub(super) fn instance_name(value: &DeValue<'_>) -> Read<String> {
    let name = text(value, "a name", "edge")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=32).contains(&name.len()) && name.chars().all(fits) {
        Ok(name.to_owned())
    } else {
        Err(Wrong::must_be("1 to 32 letters, digits, - and _", value)
            .with_help("the name is part of paths in /sys/fs/bpf/lb and /run/lb"))
    }
}

/// The name of a network interface, by the kernel's rules (`dev_valid_name`).
pub(super) fn interface(value: &DeValue<'_>) -> Read<String> {
    let name = text(value, "an interface's name", "eth0")?;
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
    if (1..=15).contains(&name.len()) && name.chars().all(fits) && name != "." && name != ".." {
        Ok(name.to_owned())
    } else {
        Err(Wrong::must_be("an interface's name of 1 to 15 bytes", value)
            .with_help("as `ip link` shows it, such as \"eth0\""))
    }
}

/// A path, not empty.
pub(super) fn path(value: &DeValue<'_>) -> Read<PathBuf> {
    let path = text(value, "a path", "by-client.lua")?;
    if path.is_empty() || path.contains('\0') {
        return Err(Wrong::must_be("a path", value));
    }
    Ok(path.into())
}

/// A span of time, as in `"10s"` or `"1h 30m"`, within bounds.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Read<Duration> {
    move |value| {
        let (least, most) = (*range.start(), *range.end());
        let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
        let expected = format!("a duration from {least} to {most}");
        let parsed = humantime::parse_duration(text(value, &expected, "10s")?);
        match parsed {
            Ok(duration) if range.contains(&duration) => Ok(duration),
            Ok(_) => Err(Wrong::must_be(&expected, value)),
            Err(error) => Err(Wrong::must_be(&expected, value)
                .with_help(format!("{error}; write \"10s\", \"500ms\" or \"1h 30m\""))),
        }
    }
}

/// A number of bytes: an integer, or text with a unit as in `"32MiB"`.
pub(super) fn bytes(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Read<usize> {
    move |value| {
        let size = match value {
            DeValue::Integer(integer) => number(integer),
            DeValue::String(text) => parse_bytes(text),
            _ => None,
        };
        size.filter(|size| range.contains(size)).and_then(|size| size.try_into().ok()).ok_or_else(
            || {
                let (least, most) = (shown_bytes(*range.start()), shown_bytes(*range.end()));
                Wrong::must_be(&format!("a size from {least} to {most}"), value).with_help(
                    "bytes as an integer, or with a unit: \"64KiB\", \"32MiB\", \"1GiB\"",
                )
            },
        )
    }
}

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == &text[digits.len()..])?;
    let number = digits.trim();
    // `parse` would also take a sign.
    number.starts_with(|c: char| c.is_ascii_digit()).then_some(())?;
    number.parse::<u64>().ok()?.checked_mul(*unit)
}

fn shown_bytes(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// A range of ports, as in `"1024-65535"`.
pub(super) fn ports(value: &DeValue<'_>) -> Read<RangeInclusive<u16>> {
    const EXPECTED: &str = "a range of ports";
    const EXAMPLE: &str = "1024-65535";
    let range = text(value, EXPECTED, EXAMPLE)?.split_once('-').and_then(|(low, high)| {
        let (low, high): (u16, u16) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        (1 <= low && low <= high).then_some(low..=high)
    });
    range.ok_or_else(|| {
        Wrong::must_be(EXPECTED, value)
            .with_help(format!("lowest and highest port, from 1 to 65535, such as {EXAMPLE:?}"))
    })
}

/// A port, or a range of them.
pub(super) fn port_or_range(value: &DeValue<'_>) -> Read<RangeInclusive<u16>> {
    if value.as_str().is_some() {
        return ports(value);
    }
    let port = integer(1..=65535)(value).map_err(|wrong| {
        wrong.with_help("a port such as 53, or a range in quotes such as \"8000-8099\"")
    })?;
    Ok(port..=port)
}

/// A prefix such as `10.1.0.0/16`; an address alone is the prefix of one host.
pub(super) fn prefix(value: &DeValue<'_>) -> Read<IpNet> {
    const EXPECTED: &str = "a prefix";
    let text = text(value, EXPECTED, "10.1.0.0/16")?;
    let host = text.parse::<IpAddr>().map(IpNet::from);
    let prefix = host.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
        Wrong::must_be(EXPECTED, value).with_help("an address and a length: \"10.1.0.0/16\"")
    })?;
    if prefix.addr() != prefix.network() {
        let meant = format!("the bits behind the length are zero: \"{}\"", prefix.trunc());
        return Err(Wrong::must_be(EXPECTED, value).with_help(meant));
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> DeValue<'_> {
        DeValue::parse(text).unwrap().into_inner()
    }

    #[test]
    fn sizes_are_bytes_or_have_a_binary_unit() {
        let read = bytes(1..=1 << 40);
        for (text, size) in
            [("4096", 4096), ("\"64KiB\"", 65_536), ("\"32 MiB\"", 33_554_432), ("'1GiB'", 1 << 30)]
        {
            assert_eq!(read(&toml(text)), Ok(size), "{text}");
        }
        for text in
            ["\"32MB\"", "\"MiB\"", "\"+1MiB\"", "\"1.5MiB\"", "\"99999999999GiB\"", "0", "true"]
        {
            assert!(read(&toml(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_are_read_in_any_radix_and_keep_their_bounds() {
        let read = integer::<u16>(1..=1000);
        for (text, number) in [("1", 1), ("1_000", 1000), ("0x10", 16), ("+7", 7)] {
            assert_eq!(read(&toml(text)), Ok(number));
        }
        for text in ["0", "-0", "-5", "1001", "70000", "1.0", "99999999999999999999999999"] {
            assert!(read(&toml(text)).is_err(), "{text}");
        }
        assert_eq!(read(&toml("\"53\"")).unwrap_err().help.unwrap(), "without the quotes: 53");
    }

    #[test]
    fn ports_are_a_range_that_is_not_empty() {
        assert_eq!(ports(&toml("'1024 - 65535'")), Ok(1024..=65535));
        assert_eq!(ports(&toml("'80-80'")), Ok(80..=80));
        for text in ["'0-80'", "'81-80'", "'80'", "'1-65536'", "80", "'a-b'", "'-'"] {
            assert!(ports(&toml(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_names_ports_alone_or_as_ranges() {
        assert_eq!(port_or_range(&toml("53")), Ok(53..=53));
        assert_eq!(port_or_range(&toml("'80-90'")), Ok(80..=90));
        for text in ["0", "65536", "'53'", "[53]"] {
            assert!(port_or_range(&toml(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_has_nothing_behind_its_length() {
        assert_eq!(prefix(&toml("'10.1.0.0/16'")), Ok("10.1.0.0/16".parse().unwrap()));
        assert_eq!(prefix(&toml("'192.0.2.7'")), Ok("192.0.2.7/32".parse().unwrap()));
        assert_eq!(prefix(&toml("'0.0.0.0/0'")), Ok("0.0.0.0/0".parse().unwrap()));
        for text in ["'10.1.0.0/33'", "'10.1.2.0/16'", "'web'", "10", "''", "'10.1/16'"] {
            assert!(prefix(&toml(text)).is_err(), "{text}");
        }
        let help = prefix(&toml("'10.1.2.0/16'")).unwrap_err().help.unwrap();
        assert_eq!(help, "the bits behind the length are zero: \"10.1.0.0/16\"");
    }

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let keys = ["name", "port", "address", "algorithm"];
        for (word, found) in [
            ("algoritm", Some("algorithm")),
            ("Port", Some("port")),
            ("adress", Some("address")),
            ("weight", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), found, "{word}");
        }
    }
}
