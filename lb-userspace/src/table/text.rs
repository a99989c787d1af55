//! Keys and values as people see them.

use std::fmt::Write as _;

/// Bytes as text that loses nothing: those that are no text are shown with `\xNN`.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown_and_not_lost() {
        assert_eq!(printable(b"10.0.0.1-80"), "10.0.0.1-80");
        assert_eq!(printable(&[b'a', 0xff, b'b', 0xc3]), "a\\xffb\\xc3");
    }
}
