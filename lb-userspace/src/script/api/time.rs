//! `os.time`, `os.date`, `os.clock`: by the time that the run was given, in UTC.

use std::{fmt::Write, time::SystemTime};

use super::call::{Answer, Call};
use crate::script::{errors::Raise, vm::Argument};

const DAY: i64 = 86_400;
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Seconds either side of 1970 for which there is a calendar: some 30,000 years.
const RANGE: f64 = 1e12;

/// `([table])`.
pub(super) fn time(call: &mut Call<'_>) -> Answer {
    match call.get(0) {
        Argument::Missing | Argument::Nil => call.reply(now(call)),
        Argument::Table => {
            let seconds = from_table(call)?;
            call.reply(seconds)
        }
        _ => Err(call.bad(0, "time", "table")),
    }
}

/// `([format [, time]])`; a `!` before the format changes nothing: all is UTC.
pub(super) fn date(call: &mut Call<'_>) -> Answer {
    let format = match call.count {
        0 => "%c".to_owned(),
        _ => {
            let format = call.string(0, "format")?;
            call.charge(format.len() as u64 / 4)?;
            String::from_utf8_lossy(&format).into_owned()
        }
    };
    let seconds = match call.stack.is_nil(1) {
        true => now(call),
        false => call.number(1, "time")?,
    };
    if seconds.is_nan() || seconds.abs() > RANGE {
        return Err(call.bad(1, "time", "time that a calendar has"));
    }
    let moment = Moment::at(seconds as i64);
    let format = format.trim_start_matches('!');
    if format.starts_with("*t") {
        moment.push_table(call);
        return Ok(());
    }
    call.reply(&*moment.format(format))
}

/// How much processor time was used is not measured: it would differ in a replay.
pub(super) fn clock(call: &mut Call<'_>) -> Answer {
    call.reply(0.0)
}

fn now(call: &Call<'_>) -> f64 {
    let since = call.run.wall.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs() as f64)
}

/// The moment that the first argument says.
fn from_table(call: &Call<'_>) -> Result<f64, Raise> {
    let field = |name: &str, default: Option<f64>| {
        let number = call.stack.field(0, name).or(default);
        number
            .filter(|number| number.abs() <= RANGE)
            .ok_or_else(|| call.error(format!("field \"{name}\" of the time must be a number")))
    };
    let months = field("year", None)? * 12.0 + field("month", None)? - 1.0;
    let (year, month) = ((months / 12.0).floor(), months.rem_euclid(12.0));
    let day = days_before(year as i64, month as i64) as f64 + field("day", None)? - 1.0;
    let (hour, minute) = (field("hour", Some(12.0))?, field("min", Some(0.0))?);
    Ok(day * DAY as f64 + hour * 3600.0 + minute * 60.0 + field("sec", Some(0.0))?)
}

/// A moment by the calendar.
struct Moment {
    year: i64,
    /// From 0.
    month: i64,
    /// From 1.
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    /// From Sunday, 0.
    weekday: i64,
    /// From 0.
    yearday: i64,
}

/// Days from 1970-01-01 to the first of a month, of the proleptic Gregorian calendar.
fn days_before(year: i64, month: i64) -> i64 {
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leaps + (153 * month + 2) / 5 - 719_468
}

impl Moment {
    fn at(seconds: i64) -> Self {
        let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // An estimate that is off by one at most, then put right.
        let mut year = 1970 + days.div_euclid(366);
        while days_before(year + 1, 0) <= days {
            year += (days - days_before(year + 1, 0)) / 366 + 1;
        }
        while days_before(year, 0) > days {
            year -= 1;
        }
        let begun = |month: &i64| days_before(year, *month) <= days;
        let month = (0..12).rev().find(begun).unwrap_or(0);
        Self {
            year,
            month,
            day: days - days_before(year, month) + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: (days + 4).rem_euclid(7),
            yearday: days - days_before(year, 0),
        }
    }

    fn push_table(&self, call: &Call<'_>) {
        let table = call.stack.push_table();
        for (name, value) in [
            ("year", self.year),
            ("month", self.month + 1),
            ("day", self.day),
            ("hour", self.hour),
            ("min", self.minute),
            ("sec", self.second),
            ("wday", self.weekday + 1),
            ("yday", self.yearday + 1),
        ] {
            table.set_field(name, value as f64);
        }
        table.set_field("isdst", false);
    }

    /// C's `strftime` in the C locale; what it does not know stays as it is.
    fn format(&self, format: &str) -> String {
        let mut text = String::with_capacity(format.len() + 16);
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            match (letter, letter == '%') {
                (_, true) => match letters.next() {
                    Some(directive) => self.directive(directive, &mut text),
                    None => text.push('%'),
                },
                (letter, _) => text.push(letter),
            }
        }
        text
    }

    fn directive(&self, directive: char, text: &mut String) {
        let day = DAYS[self.weekday as usize % 7];
        let month = MONTHS[self.month as usize % 12];
        let half = if self.hour < 12 { "AM" } else { "PM" };
        let week = |first: i64| (self.yearday + 7 - (self.weekday - first).rem_euclid(7)) / 7;
        let written = match directive {
            'a' => write!(text, "{}", &day[..3]),
            'A' => write!(text, "{day}"),
            'b' => write!(text, "{}", &month[..3]),
            'B' => write!(text, "{month}"),
            'c' => return text.push_str(&self.format("%a %b %d %H:%M:%S %Y")),
            'd' => write!(text, "{:02}", self.day),
            'H' => write!(text, "{:02}", self.hour),
            'I' => write!(text, "{:02}", (self.hour + 11) % 12 + 1),
            'j' => write!(text, "{:03}", self.yearday + 1),
            'm' => write!(text, "{:02}", self.month + 1),
            'M' => write!(text, "{:02}", self.minute),
            'p' => write!(text, "{half}"),
            'S' => write!(text, "{:02}", self.second),
            'U' => write!(text, "{:02}", week(0)),
            'w' => write!(text, "{}", self.weekday),
            'W' => write!(text, "{:02}", week(1)),
            'x' => return text.push_str(&self.format("%m/%d/%y")),
            'X' => return text.push_str(&self.format("%H:%M:%S")),
            'y' => write!(text, "{:02}", self.year.rem_euclid(100)),
            'Y' => write!(text, "{}", self.year),
            'Z' => write!(text, "UTC"),
            '%' => write!(text, "%"),
            other => write!(text, "%{other}"),
        };
        written.expect("writing into a String cannot fail");
    }
}
