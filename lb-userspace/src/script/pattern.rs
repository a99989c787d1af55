//! Lua 5.1's patterns (reference manual §5.4.1), with every step counted.
//!
//! Lua's own matcher is one long call that no instruction hook interrupts, and a few `.-` in a row
//! keep it busy for hours. This one stops when the run's budget does.

/// Captures of a pattern, at most.
const CAPTURES: usize = 32;

/// Parts of a pattern that may be nested in each other while matching.
const DEPTH: u32 = 200;

/// Why a match was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The pattern is wrong.
    Malformed(&'static str),
    /// It took more steps than there were.
    Exhausted,
}

type Outcome<T> = Result<T, Fault>;

/// Something between parentheses.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Capture {
    /// From here, not closed yet.
    Open(usize),
    /// From, to.
    Text(usize, usize),
    /// `()`: the position itself, from 0.
    Position(usize),
}

/// A match: from, to (exclusive), and what was captured.
pub(super) type Found = (usize, usize, Vec<Capture>);

/// Finds the first match at or after `start`; also how many steps that took.
pub(super) fn find(
    source: &[u8],
    pattern: &[u8],
    start: usize,
    limit: u64,
) -> (Outcome<Option<Found>>, u64) {
    let mut matcher = Matcher {
        source,
        pattern,
        captures: [Capture::Open(0); CAPTURES],
        level: 0,
        depth: 0,
        steps: 0,
        limit,
    };
    (matcher.find(start), matcher.steps)
}

struct Matcher<'a> {
    source: &'a [u8],
    pattern: &'a [u8],
    captures: [Capture; CAPTURES],
    level: usize,
    depth: u32,
    steps: u64,
    limit: u64,
}

impl Matcher<'_> {
    fn find(&mut self, start: usize) -> Outcome<Option<Found>> {
        let anchored = self.pattern.first() == Some(&b'^');
        for at in start..=self.source.len() {
            self.level = 0;
            if let Some(end) = self.at(at, usize::from(anchored))? {
                return Ok(Some((at, end, self.captures()?)));
            }
            if anchored {
                break;
            }
        }
        Ok(None)
    }

    fn captures(&self) -> Outcome<Vec<Capture>> {
        let captures = &self.captures[..self.level];
        if captures.iter().any(|it| matches!(it, Capture::Open(_))) {
            return Err(Fault::Malformed("unfinished capture"));
        }
        Ok(captures.to_vec())
    }

    fn step(&mut self) -> Outcome<()> {
        self.steps += 1;
        if self.steps > self.limit {
            return Err(Fault::Exhausted);
        }
        Ok(())
    }

    /// Matches the pattern from `p` at `s`; where the match ends.
    fn at(&mut self, s: usize, p: usize) -> Outcome<Option<usize>> {
        if self.depth == DEPTH {
            return Err(Fault::Malformed("pattern too complex"));
        }
        self.depth += 1;
        let end = self.sequence(s, p);
        self.depth -= 1;
        end
    }

    fn sequence(&mut self, mut s: usize, mut p: usize) -> Outcome<Option<usize>> {
        loop {
            self.step()?;
            let next = self.pattern.get(p + 1).copied();
            match (self.pattern.get(p), next) {
                (None, _) => return Ok(Some(s)),
                (Some(b'('), Some(b')')) => return self.open(s, p + 2, Capture::Position(s)),
                (Some(b'('), _) => return self.open(s, p + 1, Capture::Open(s)),
                (Some(b')'), _) => return self.close(s, p + 1),
                (Some(b'$'), None) => return Ok((s == self.source.len()).then_some(s)),
                (Some(b'%'), Some(b'b')) => match self.balanced(s, p + 2)? {
                    None => return Ok(None),
                    Some(end) => (s, p) = (end, p + 4),
                },
                (Some(b'%'), Some(b'f')) => match self.frontier(s, p + 2)? {
                    None => return Ok(None),
                    Some(after) => p = after,
                },
                (Some(b'%'), Some(digit @ b'0'..=b'9')) => match self.again(s, digit)? {
                    None => return Ok(None),
                    Some(end) => (s, p) = (end, p + 2),
                },
                _ => {
                    let after = self.class_end(p)?;
                    self.steps += (after - p) as u64 / 8;
                    match self.pattern.get(after) {
                        Some(b'?') => {
                            if self.single(s, p, after)
                                && let Some(end) = self.at(s + 1, after + 1)?
                            {
                                return Ok(Some(end));
                            }
                            p = after + 1;
                        }
                        Some(b'*') => return self.longest(s, p, after, 0),
                        Some(b'+') => return self.longest(s, p, after, 1),
                        Some(b'-') => return self.shortest(s, p, after),
                        _ if self.single(s, p, after) => (s, p) = (s + 1, after),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    /// As many as can be, and fewer while the rest does not match.
    fn longest(
        &mut self,
        s: usize,
        p: usize,
        after: usize,
        least: usize,
    ) -> Outcome<Option<usize>> {
        let mut count = 0;
        while self.single(s + count, p, after) {
            self.steps += (after - p) as u64 / 8;
            self.step()?;
            count += 1;
        }
        while count >= least {
            if let Some(end) = self.at(s + count, after + 1)? {
                return Ok(Some(end));
            }
            let Some(fewer) = count.checked_sub(1) else {
                break;
            };
            count = fewer;
        }
        Ok(None)
    }

    /// As few as can be, and more while the rest does not match.
    fn shortest(&mut self, mut s: usize, p: usize, after: usize) -> Outcome<Option<usize>> {
        loop {
            if let Some(end) = self.at(s, after + 1)? {
                return Ok(Some(end));
            }
            self.steps += (after - p) as u64 / 8;
            if !self.single(s, p, after) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn open(&mut self, s: usize, p: usize, capture: Capture) -> Outcome<Option<usize>> {
        if self.level == CAPTURES {
            return Err(Fault::Malformed("too many captures"));
        }
        self.captures[self.level] = capture;
        self.level += 1;
        let end = self.at(s, p)?;
        if end.is_none() {
            self.level -= 1;
        }
        Ok(end)
    }

    fn close(&mut self, s: usize, p: usize) -> Outcome<Option<usize>> {
        let open = |capture: &Capture| matches!(capture, Capture::Open(_));
        let Some(index) = self.captures[..self.level].iter().rposition(open) else {
            return Err(Fault::Malformed("invalid pattern capture"));
        };
        let before = self.captures[index];
        if let Capture::Open(from) = before {
            self.captures[index] = Capture::Text(from, s);
        }
        let end = self.at(s, p)?;
        if end.is_none() {
            self.captures[index] = before;
        }
        Ok(end)
    }

    /// `%b()`.
    fn balanced(&mut self, s: usize, p: usize) -> Outcome<Option<usize>> {
        let (Some(&open), Some(&close)) = (self.pattern.get(p), self.pattern.get(p + 1)) else {
            return Err(Fault::Malformed("unbalanced pattern"));
        };
        if self.source.get(s) != Some(&open) {
            return Ok(None);
        }
        let mut nested = 1u32;
        for at in s + 1..self.source.len() {
            self.step()?;
            let byte = self.source[at];
            if byte == close {
                nested -= 1;
                if nested == 0 {
                    return Ok(Some(at + 1));
                }
            } else if byte == open {
                nested += 1;
            }
        }
        Ok(None)
    }

    /// `%f[set]`: where the set begins. Beyond both ends there is a zero byte.
    fn frontier(&mut self, s: usize, p: usize) -> Outcome<Option<usize>> {
        if self.pattern.get(p) != Some(&b'[') {
            return Err(Fault::Malformed("missing '[' after '%f' in pattern"));
        }
        let after = self.class_end(p)?;
        let before = s.checked_sub(1).map_or(0, |before| self.source[before]);
        let here = self.source.get(s).copied().unwrap_or(0);
        let begins = !self.in_set(before, p, after) && self.in_set(here, p, after);
        Ok(begins.then_some(after))
    }

    /// `%1`: what was captured, again.
    fn again(&mut self, s: usize, digit: u8) -> Outcome<Option<usize>> {
        let index = usize::from(digit).wrapping_sub(usize::from(b'1'));
        let captured = self.captures[..self.level].get(index);
        let (from, to) = match captured.copied() {
            Some(Capture::Text(from, to)) => (from, to),
            Some(Capture::Position(_)) => return Ok(None),
            None | Some(Capture::Open(_)) => {
                return Err(Fault::Malformed("invalid capture index"));
            }
        };
        self.steps += (to - from) as u64;
        self.step()?;
        let rest = &self.source[s..];
        let same = rest.starts_with(&self.source[from..to]);
        Ok(same.then(|| s + (to - from)))
    }

    /// Where the single-character class at `p` ends.
    fn class_end(&self, p: usize) -> Outcome<usize> {
        match self.pattern[p] {
            b'%' if p + 1 == self.pattern.len() => {
                Err(Fault::Malformed("malformed pattern (ends with '%')"))
            }
            b'%' => Ok(p + 2),
            b'[' => self.set_end(p + 1),
            _ => Ok(p + 1),
        }
    }

    fn set_end(&self, mut p: usize) -> Outcome<usize> {
        let missing = Fault::Malformed("malformed pattern (missing ']')");
        if self.pattern.get(p) == Some(&b'^') {
            p += 1;
        }
        // A `]` that comes first stands for itself.
        loop {
            match self.pattern.get(p) {
                None => return Err(missing),
                Some(b'%') => p += 2,
                Some(_) => p += 1,
            }
            if self.pattern.get(p) == Some(&b']') {
                return Ok(p + 1);
            }
        }
    }

    /// Whether the class from `p` to `after` has the byte at `s`.
    fn single(&self, s: usize, p: usize, after: usize) -> bool {
        let Some(&byte) = self.source.get(s) else {
            return false;
        };
        match self.pattern[p] {
            b'.' => true,
            b'%' => in_class(byte, self.pattern[p + 1]),
            b'[' => self.in_set(byte, p, after),
            own => own == byte,
        }
    }

    /// Whether the set from its `[` at `p` to behind its `]` has a byte.
    fn in_set(&self, byte: u8, p: usize, after: usize) -> bool {
        let inner = &self.pattern[p + 1..after - 1];
        let (negated, inner) = match inner.strip_prefix(b"^") {
            Some(rest) => (true, rest),
            None => (false, inner),
        };
        set_has(byte, inner) != negated
    }
}

fn set_has(byte: u8, mut set: &[u8]) -> bool {
    loop {
        let (has, rest) = match set {
            [] => return false,
            [b'%', class, rest @ ..] => (in_class(byte, *class), rest),
            [low, b'-', high, rest @ ..] => ((*low..=*high).contains(&byte), rest),
            [own, rest @ ..] => (*own == byte, rest),
        };
        if has {
            return true;
        }
        set = rest;
    }
}

/// `%a` and its kin, in the C locale; an upper-case letter is the complement.
fn in_class(byte: u8, class: u8) -> bool {
    let has = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        // The vertical tab is white space to C and not to Rust.
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    has != class.is_ascii_uppercase()
}
