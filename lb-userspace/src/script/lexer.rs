//! Lua's tokens, as far as it takes to find literal names in calls.

/// A token and where it begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    /// From 1.
    pub(super) line: u32,
    /// In characters, from 1.
    pub(super) column: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind<'a> {
    /// A name or a keyword.
    Name(&'a str),
    /// A string literal's value.
    Text(Vec<u8>),
    /// Anything else, by its first character: an operator's further characters are further tokens.
    Symbol(char),
}

/// The tokens of a script. Where it is no Lua, they end: the compiler says what is wrong.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { source, at: 0, line: 1, column: 1 };
    if source.starts_with('#') {
        lexer.skip_line();
    }
    std::iter::from_fn(|| lexer.token()).collect()
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: u32,
    column: u32,
}

impl<'a> Lexer<'a> {
    fn token(&mut self) -> Option<Token<'a>> {
        self.skip_blank()?;
        let (line, column) = (self.line, self.column);
        let kind = match self.peek()? {
            letter if letter.is_ascii_alphabetic() || letter == '_' => Kind::Name(self.name()),
            digit if digit.is_ascii_digit() => {
                self.name();
                Kind::Symbol(digit)
            }
            quote @ ('"' | '\'') => Kind::Text(self.quoted(quote)?),
            '[' => match self.long_bracket() {
                Some(level) => Kind::Text(self.long_text(level)?.into()),
                None => Kind::Symbol(self.next()?),
            },
            _ => Kind::Symbol(self.next()?),
        };
        Some(Token { kind, line, column })
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        if next == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(next)
    }

    fn skip(&mut self, characters: usize) {
        for _ in 0..characters {
            self.next();
        }
    }

    fn skip_line(&mut self) {
        while self.peek().is_some_and(|next| next != '\n') {
            self.next();
        }
    }

    /// White space and comments. `None` in a comment without end.
    fn skip_blank(&mut self) -> Option<()> {
        loop {
            if self.rest().starts_with("--") {
                self.skip(2);
                match self.long_bracket() {
                    Some(level) => _ = self.long_text(level)?,
                    None => self.skip_line(),
                }
            } else if self.peek().is_some_and(|next| next.is_ascii_whitespace() || next == '\x0b') {
                self.next();
            } else {
                return Some(());
            }
        }
    }

    fn name(&mut self) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(|next| next.is_ascii_alphanumeric() || next == '_') {
            self.next();
        }
        &self.source[start..self.at]
    }

    /// How many `=` are between the brackets, if a long bracket opens here.
    fn long_bracket(&self) -> Option<usize> {
        let inner = self.rest().strip_prefix('[')?;
        let after = inner.trim_start_matches('=');
        after.starts_with('[').then_some(inner.len() - after.len())
    }

    fn long_text(&mut self, level: usize) -> Option<&'a str> {
        self.skip(level + 2);
        if self.rest().starts_with("\r\n") {
            self.skip(2);
        } else if self.rest().starts_with('\n') {
            self.skip(1);
        }
        let rest = self.rest();
        let end = rest.find(&format!("]{}]", "=".repeat(level)))?;
        let text = &rest[..end];
        self.skip(text.chars().count() + level + 2);
        Some(text)
    }

    fn quoted(&mut self, quote: char) -> Option<Vec<u8>> {
        self.next();
        let mut text = Vec::new();
        loop {
            match self.next()? {
                '\n' => return None,
                '\\' => self.escape(&mut text)?,
                end if end == quote => return Some(text),
                other => text.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Option<()> {
        let byte = match self.next()? {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            digit @ '0'..='9' => return self.decimal(digit, text),
            other => {
                text.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                return Some(());
            }
        };
        text.push(byte);
        Some(())
    }

    /// `\065`: up to three digits.
    fn decimal(&mut self, first: char, text: &mut Vec<u8>) -> Option<()> {
        let mut value = first.to_digit(10)?;
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|next| next.to_digit(10)) else {
                break;
            };
            self.next();
            value = value * 10 + digit;
        }
        text.push(u8::try_from(value).ok()?);
        Some(())
    }
}
