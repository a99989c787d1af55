//! Additions to Lua's libraries, and functions of theirs that are made anew.

use super::{
    super::{library, math, parser, text, time},
    ANY, Function,
    Kind::*,
    function, optional, required,
};

pub(super) const ABOUT: &str = "Additions to Lua 5.1's libraries, and functions that do the same as Lua's within the run's \
    bounds and by the run's clock. See also [The standard library](#the-standard-library).";

pub(super) const STANDARD: &[Function] = &[
    function("require", ANY, parser::require)
        .takes(&[required("protocol parser", Parser)])
        .returns("the protocol parser, a module")
        .about("Gives a protocol parser that the set references, and nothing else: see [protocol parsers](protocol-parsers.md).")
        .fails("The set references no such protocol parser; its file requires itself, or returns no table."),
    function("string.beginswith", ANY, text::beginswith)
        .takes(&[required("source", Text), required("target", Text)])
        .returns("boolean")
        .about("Whether `source` begins with `target`, byte by byte: no patterns.")
        .example("if avi.l4.read():beginswith(\"GET \") then avi.pool.select(\"web\") end"),
    function("string.endswith", ANY, text::endswith)
        .takes(&[required("source", Text), required("target", Text)])
        .returns("boolean")
        .about("Whether `source` ends with `target`."),
    function("string.contains", ANY, text::contains)
        .takes(&[required("source", Text), required("target", Text)])
        .returns("boolean")
        .about("Whether `target` is in `source`."),
    function("string.split", ANY, text::split)
        .takes(&[required("text", Text), required("separator", Text)])
        .returns("table: the parts, from 1")
        .about("Cuts a text at each separator, which is no pattern. Without one in it, the only part is the text itself.")
        .fails("The separator is empty.")
        .example("local a, b = unpack((\"10.0.0.11-8080\"):split(\"-\"))"),
    function("string.lower", ANY, text::lower)
        .takes(&[required("text", Text)])
        .returns("string")
        .about("As Lua's, of ASCII letters."),
    function("string.upper", ANY, text::upper)
        .takes(&[required("text", Text)])
        .returns("string")
        .about("As Lua's, of ASCII letters."),
    function("string.reverse", ANY, text::reverse)
        .takes(&[required("text", Text)])
        .returns("string")
        .about("As Lua's."),
    function("string.rep", ANY, text::rep)
        .takes(&[required("text", Text), required("count", Number)])
        .returns("string")
        .about("As Lua's.")
        .fails("The result is larger than `memory` allows: refused before it is made."),
    function("string.find", ANY, text::find)
        .takes(&[required("text", Text), required("pattern", Text), optional("init", Number), optional("plain", Truth)])
        .returns("numbers: where the match begins and ends, then its captures; nil if there is none")
        .about("As Lua's. Every step of a match counts as an instruction, here and in `match`, `gmatch` and `gsub`: a \
                pattern that goes back and forth without end is stopped by the budget."),
    function("string.match", ANY, text::match_)
        .takes(&[required("text", Text), required("pattern", Text), optional("init", Number)])
        .returns("the captures, or the match if the pattern has none; nil if there is no match")
        .about("As Lua's; see `string.find`."),
    function("math.random", ANY, math::random)
        .takes(&[optional("m", Number), optional("n", Number)])
        .returns("number: from 0 to less than 1; whole from 1 to `m`; whole from `m` to `n`")
        .about("As Lua's, but a run draws the numbers that its time and its client give: the same again in a replay, \
                others for another flow. Not for secrets.")
        .fails("There is no number in the interval."),
    function("math.randomseed", ANY, math::randomseed)
        .takes(&[required("seed", Number)])
        .about("As Lua's, for this run only."),
    function("os.time", ANY, time::time)
        .takes(&[optional("time", Time)])
        .returns("number: seconds since 1970")
        .about("As Lua's, in UTC. Without an argument, when the run began: time stands still in a run.")
        .fails("A field of the table is missing or no number."),
    function("os.date", ANY, time::date)
        .takes(&[optional("format", Text), optional("time", Number)])
        .returns("string; a table for `\"*t\"`")
        .about("As Lua's, in UTC and English whatever the machine says. A `!` before the format changes nothing.")
        .fails("A time beyond some 30,000 years from now."),
    function("os.clock", ANY, time::clock)
        .returns("number: 0")
        .about("Always 0: how long a run takes is not told, for a replay could not give the same answer."),
];

/// For the prelude: scripts do not see them.
pub(super) const HOST: &[Function] = &[
    function("host.scan", ANY, text::scan).takes(&[
        required("text", Text),
        required("pattern", Text),
        required("start", Number),
    ]),
    function("host.keep", ANY, parser::keep)
        .takes(&[required("protocol parser", Parser), optional("module", Truth)]),
    function("host.settle", ANY, library::settle).takes(&[optional("caught", Truth)]),
    function("host.stopped", ANY, library::stopped),
    function("host.traverse", ANY, library::traverse),
    function("host.charge", ANY, library::charge).takes(&[required("steps", Number)]),
];
