//! Walking a table of the file key by key.

use std::{cell::RefCell, ops::Range, sync::Arc};

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    problem::{Problem, Problems, Source},
    value::{Read, Wrong, nearest},
};

/// Bytes of the file.
pub(super) type Span = Range<usize>;

/// Where problems with one file are gathered.
#[derive(Debug)]
pub(super) struct Report {
    source: Arc<Source>,
    /// Sections of one file report side by side, so adding must not need `&mut`.
    problems: RefCell<Vec<Problem>>,
}

impl Report {
    pub fn new(source: Arc<Source>) -> Self {
        Self { source, problems: RefCell::default() }
    }

    /// A problem in this file, still to be added.
    pub fn at(&self, span: Span, message: impl Into<String>) -> Problem {
        Problem::at(&self.source, span, message)
    }

    pub fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// What was found, in the file's order.
    pub fn into_result(self) -> Result<(), Problems> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(Problem::offset);
        if problems.is_empty() { Ok(()) } else { Err(problems.into_iter().collect()) }
    }

    fn wrong(&self, span: Span, subject: &str, wrong: Wrong) {
        let problem = self.at(span, format!("{subject} {}", wrong.predicate));
        self.add(match wrong.help {
            Some(help) => problem.with_help(help),
            None => problem,
        });
    }
}

/// A table that is being read. Every key that is asked for is known; [`Section::finish`] reports
/// the others.
#[derive(Debug)]
pub(super) struct Section<'d> {
    /// As it is written in the file, such as `[[pool]]`.
    kind: &'static str,
    /// What problems with the table itself point at: its header.
    pub place: Span,
    table: &'d DeTable<'d>,
    known: Vec<&'static str>,
    report: &'d Report,
}

impl<'d> Section<'d> {
    pub fn new(
        kind: &'static str,
        place: Span,
        table: &'d DeTable<'d>,
        report: &'d Report,
    ) -> Self {
        Self { kind, place, table, known: Vec::new(), report }
    }

    /// The value of a key, if it is there and right. What is wrong is reported.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Read<T>,
    ) -> Option<Spanned<T>> {
        let value = self.get(key)?;
        self.read(&format!("`{key}`"), value, read)
    }

    /// As [`Section::optional`], for a key that has a default.
    pub fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl Fn(&DeValue<'_>) -> Read<T>,
    ) -> T {
        self.optional(key, read).map_or(default, Spanned::into_inner)
    }

    /// As [`Section::optional`]; that the key is missing is reported too. `example` is a value
    /// as one would write it in the file.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl Fn(&DeValue<'_>) -> Read<T>,
    ) -> Option<Spanned<T>> {
        if self.get(key).is_none() {
            self.missing(key, example);
        }
        self.optional(key, read)
    }

    /// The entries of an array that are right; none if the key is missing.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Read<T>,
    ) -> Vec<Spanned<T>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            let wrong = Wrong::must_be("an array", value.get_ref())
                .with_help(format!("in brackets, even if there is one: {key} = [ … ]"));
            self.report.wrong(value.span(), &format!("`{key}`"), wrong);
            return Vec::new();
        };
        let subject = format!("an entry of `{key}`");
        array.iter().filter_map(|entry| self.read(&subject, entry, &read)).collect()
    }

    /// The tables of an array of tables; `kind` is what problems call one. A single table is
    /// reported and then taken as meant, so that names in it count.
    pub fn tables(&mut self, key: &'static str, kind: &'static str) -> Vec<Section<'d>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        if let Some(array) = value.get_ref().as_array() {
            return array.iter().filter_map(|entry| self.section(key, kind, entry)).collect();
        }
        let wrong = Wrong::must_be("an array of tables", value.get_ref());
        let wrong = wrong.with_help(match kind.strip_prefix("[[") {
            Some(_) => format!("write {kind}, in double brackets"),
            None => format!("in brackets, even if there is one: {key} = [{{ … }}]"),
        });
        self.report.wrong(value.span(), &format!("`{key}`"), wrong);
        let table = value.get_ref().as_table();
        table
            .map(|table| Section::new(kind, value.span(), table, self.report))
            .into_iter()
            .collect()
    }

    /// A table within this one.
    pub fn table(&mut self, key: &'static str, kind: &'static str) -> Option<Section<'d>> {
        let value = self.get(key)?;
        self.section(key, kind, value)
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                let message = format!("{} has no key `{}`", self.kind, name.escape_debug());
                let problem = self.report.at(key.span(), message);
                self.report.add(problem.with_help(self.known_keys(name)));
            }
        }
    }

    /// What a key that is not known may have been meant to be: rather one that is still free.
    fn known_keys(&self, name: &str) -> String {
        let known = || self.known.iter().copied();
        let free = known().filter(|key| !self.table.contains_key(*key));
        match nearest(name, free).or_else(|| nearest(name, known())) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("its keys are {}", self.known.join(", ")),
        }
    }

    /// Reports that a key is missing, or that there is nothing in it.
    pub fn missing(&self, key: &str, example: &str) {
        let place = self.key_span(key).unwrap_or_else(|| self.place.clone());
        let message = format!("{} needs `{key}`", self.kind);
        let help = format!("such as {key} = {example}");
        self.report.add(self.report.at(place, message).with_help(help));
    }

    /// Whether a list is missing or has no entries, right or wrong ones.
    pub fn is_empty(&self, key: &str) -> bool {
        self.table
            .get(key)
            .is_none_or(|value| value.get_ref().as_array().is_some_and(|array| array.is_empty()))
    }

    /// Where a key is written.
    pub fn key_span(&self, key: &str) -> Option<Span> {
        self.table.get_key_value(key).map(|(key, _)| key.span())
    }

    /// Where problems are gathered.
    pub fn report(&self) -> &'d Report {
        self.report
    }

    fn get(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key)
    }

    fn read<T>(
        &self,
        subject: &str,
        value: &Spanned<DeValue<'_>>,
        read: impl Fn(&DeValue<'_>) -> Read<T>,
    ) -> Option<Spanned<T>> {
        match read(value.get_ref()) {
            Ok(read) => Some(Spanned::new(value.span(), read)),
            Err(wrong) => {
                self.report.wrong(value.span(), subject, wrong);
                None
            }
        }
    }

    fn section(
        &self,
        key: &str,
        kind: &'static str,
        value: &'d Spanned<DeValue<'d>>,
    ) -> Option<Section<'d>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let wrong = Wrong::must_be("a table", value.get_ref());
            self.report.wrong(value.span(), &format!("`{key}`"), wrong);
        }
        Some(Section::new(kind, value.span(), table?, self.report))
    }
}
