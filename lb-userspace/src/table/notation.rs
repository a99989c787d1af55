//! Any bytes as text that loses nothing, and back: keys, values and names of scripts' tables.
//!
//! What is text stands for itself, but for control characters, which would spoil a terminal. Other
//! bytes are written `\xNN`, and a backslash `\\`, so that each text means one sequence of bytes.

use std::fmt::Write as _;

/// A backslash that begins nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "in {0:?} a backslash begins neither \\xNN, a byte in two hexadecimal digits, nor \\\\, itself"
)]
pub struct BadEscape(String);

/// Bytes as text.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                control if control.is_control() => {
                    escape(&mut text, control.encode_utf8(&mut [0; 4]).as_bytes());
                }
                other => text.push(other),
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Text as the bytes that it means.
pub fn bytes(text: &str) -> Result<Vec<u8>, BadEscape> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match *first {
            b'\\' => escaped(after).ok_or_else(|| BadEscape(text.to_owned()))?,
            byte => (byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Ok(bytes)
}

/// What a backslash and these begin with stand for, and what follows.
fn escaped(after: &[u8]) -> Option<(u8, &[u8])> {
    match after {
        [b'\\', rest @ ..] => Some((b'\\', rest)),
        [b'x', high, low, rest @ ..] => Some((digit(*high)? << 4 | digit(*low)?, rest)),
        _ => None,
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_stands_for_itself_and_everything_else_is_escaped() {
        let cases: [(&[u8], &str); 6] = [
            (b"10.0.0.1-80", "10.0.0.1-80"),
            ("grün 東京".as_bytes(), "grün 東京"),
            (&[b'a', 0xff, b'b', 0xc3], "a\\xffb\\xc3"),
            (b"a\\xff", "a\\\\xff"),
            (b"one\ntwo\x1b[2J", "one\\x0atwo\\x1b[2J"),
            ("\u{9b}".as_bytes(), "\\xc2\\x9b"),
        ];
        for (raw, text) in cases {
            assert_eq!(printable(raw), text);
            assert_eq!(bytes(text).unwrap(), raw);
        }
        assert_eq!(bytes("\\xFf").unwrap(), [0xff]);
    }

    #[test]
    fn a_backslash_that_begins_nothing_is_refused() {
        for text in ["\\", "a\\n", "\\x", "\\x1", "\\xg0", "\\x+1", "\\x1\u{e9}"] {
            let message = bytes(text).unwrap_err().to_string();
            assert!(message.contains(&format!("{text:?}")), "{message}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(raw: Vec<u8>) {
            let text = printable(&raw);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(bytes(&text), Ok(raw));
        }
    }
}
