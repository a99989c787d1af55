//! Protocol parsers: those that are built in, and those that a configuration adds.

use std::{path::PathBuf, sync::Arc};

use serde_spanned::Spanned;

use super::{
    Config, Script,
    section::{Report, Section},
    value,
};

/// `[[protocol_parser]]`: a Lua module that scripts may `require`.
#[derive(Clone, PartialEq, Debug)]
pub struct ProtocolParser {
    /// Unique, and none of the built-in ones'.
    pub name: String,
    /// What returns the module.
    pub script: Arc<Script>,
}

/// Index into [`Config::protocol_parsers`](super::Config::protocol_parsers).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ParserIndex(pub usize);

/// A parser that is there without being configured, under Avi's name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BuiltInParser {
    /// `Default-TLS`: ClientHello.
    Tls,
    /// `Default-Radius`: packets and their attributes.
    Radius,
    /// `Default-DHCP`: DHCPv4 messages and their options.
    Dhcp,
}

impl BuiltInParser {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Tls, Self::Radius, Self::Dhcp];

    /// What scripts `require`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls => "Default-TLS",
            Self::Radius => "Default-Radius",
            Self::Dhcp => "Default-DHCP",
        }
    }
}

/// An entry of a set's `protocol_parsers`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ParserReference {
    /// One of ours.
    BuiltIn(BuiltInParser),
    /// One of the configuration's.
    Configured(ParserIndex),
}

impl Config {
    /// Every parser that a set may reference.
    pub fn parsers(&self) -> impl Iterator<Item = ParserReference> {
        let configured = (0..self.protocol_parsers.len()).map(ParserIndex);
        let built_in = BuiltInParser::ALL.into_iter().map(ParserReference::BuiltIn);
        built_in.chain(configured.map(ParserReference::Configured))
    }

    /// What scripts call a parser; `None` for an index of another configuration.
    pub fn parser_name(&self, parser: ParserReference) -> Option<&str> {
        match parser {
            ParserReference::BuiltIn(parser) => Some(parser.name()),
            ParserReference::Configured(index) => {
                self.protocol_parsers.get(index.0).map(|parser| parser.name.as_str())
            }
        }
    }
}

/// `[[protocol_parser]]` as it is written.
#[derive(Debug)]
pub(super) struct RawParser {
    pub name: Option<Spanned<String>>,
    pub file: Option<Spanned<PathBuf>>,
}

pub(super) fn read(mut section: Section<'_>) -> RawParser {
    let parser = RawParser {
        name: section.required("name", "\"My-Parser\"", value::name),
        file: section.required("file", "\"my-parser.lua\"", value::path),
    };
    section.finish();
    parser
}

/// The names that parsers of ours have are taken.
pub(super) fn check(parsers: &[RawParser], report: &Report) {
    for name in parsers.iter().filter_map(|parser| parser.name.as_ref()) {
        if BuiltInParser::ALL.iter().any(|own| own.name() == name.get_ref()) {
            let message = format!("protocol parser {:?} is built in", name.get_ref());
            let problem = report.at(name.span(), message);
            report.add(problem.with_help(
                "a set may reference it as it is; give a parser of your own another name",
            ));
        }
    }
}
