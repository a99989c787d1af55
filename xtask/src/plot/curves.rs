//! Which figures make a curve: those whose cases are named `what: line, size`, as in
//! `hit: tcp, snat, 4 Ki flows`.

use lb_tests::report::Figure;

/// With fewer sizes a row says as much.
const LEAST_POINTS: usize = 3;

/// Lines that belong into one picture.
#[derive(PartialEq, Debug)]
pub struct Plot {
    /// The benchmark.
    bench: String,
    /// What was measured.
    pub what: String,
    /// Of the values.
    pub unit: String,
    /// What there is more and more of.
    pub thing: String,
    /// In the order of the file.
    pub lines: Vec<Line>,
}

/// One line.
#[derive(PartialEq, Debug)]
pub struct Line {
    pub name: String,
    pub points: Vec<Point>,
}

/// A median.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    pub size: f64,
    pub value: f64,
    /// Whether its spread was too wide for a ratio.
    pub doubtful: bool,
}

impl Plot {
    /// By what it shows.
    pub fn file_name(&self) -> String {
        let words = format!("{} {} by {}", self.bench, self.what, self.thing);
        let is_letter = |c: char| c.is_ascii_alphanumeric();
        let words = words.split(|c| !is_letter(c)).filter(|word| !word.is_empty());
        format!("{}.svg", words.collect::<Vec<_>>().join("-"))
    }

    /// All points of all lines.
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.lines.iter().flat_map(|line| &line.points)
    }

    fn is_of(&self, figure: &Figure, name: &Name<'_>) -> bool {
        (self.bench.as_str(), self.what.as_str()) == (figure.bench.as_str(), name.what)
            && (self.unit.as_str(), self.thing.as_str()) == (figure.unit.as_str(), name.thing)
    }
}

/// The pictures that these figures make.
pub fn of(figures: &[Figure]) -> Vec<Plot> {
    let mut plots: Vec<Plot> = Vec::new();
    for figure in figures {
        let Some(name) = Name::read(&figure.case) else { continue };
        let place = plots.iter().position(|plot| plot.is_of(figure, &name)).unwrap_or_else(|| {
            plots.push(Plot {
                bench: figure.bench.clone(),
                what: name.what.to_owned(),
                unit: figure.unit.clone(),
                thing: name.thing.to_owned(),
                lines: Vec::new(),
            });
            plots.len() - 1
        });
        let lines = &mut plots[place].lines;
        let line = lines.iter().position(|line| line.name == name.line).unwrap_or_else(|| {
            lines.push(Line { name: name.line.to_owned(), points: Vec::new() });
            lines.len() - 1
        });
        let doubtful = figure.ratio.is_none();
        lines[line].points.push(Point { size: name.size, value: figure.value, doubtful });
    }
    for plot in &mut plots {
        plot.lines.retain(|line| line.points.len() >= LEAST_POINTS);
        plot.lines
            .iter_mut()
            .for_each(|line| line.points.sort_by(|a, b| a.size.total_cmp(&b.size)));
    }
    plots.retain(|plot| !plot.lines.is_empty());
    plots
}

/// A case's name, taken apart.
#[derive(PartialEq, Debug)]
struct Name<'a> {
    what: &'a str,
    line: &'a str,
    size: f64,
    thing: &'a str,
}

impl<'a> Name<'a> {
    fn read(case: &'a str) -> Option<Self> {
        let (what, rest) = case.split_once(": ")?;
        let (line, size) = rest.rsplit_once(", ")?;
        let (number, unit) = size.split_once(' ')?;
        let (factor, things) = match unit.split_once(' ') {
            Some(("Ki", things)) => (1024.0, things),
            Some(("Mi", things)) => (1024.0 * 1024.0, things),
            _ => (1.0, unit),
        };
        let number: f64 = number.replace(',', "").parse().ok()?;
        let thing = things.strip_suffix('s').unwrap_or(things);
        Some(Self { what, line, size: number * factor, thing }).filter(|name| name.size > 0.0)
    }
}

#[cfg(test)]
pub mod tests {
    use lb_tests::report::Measured;

    use super::*;

    /// A figure of one value.
    pub fn figure(case: &str, value: f64) -> Figure {
        let measured = Measured { values: vec![value; 3], ..Measured::new(case, "ns") };
        Figure::new("scale", &measured, "control", &[1.0; 3])
    }

    #[test]
    fn names_are_taken_apart() {
        let name = |what, line, size, thing| Some(Name { what, line, size, thing });
        let cases = [
            ("hit: tcp, snat, 1 flow", name("hit", "tcp, snat", 1.0, "flow")),
            ("hit: tcp, snat, 4 Ki flows", name("hit", "tcp, snat", 4096.0, "flow")),
            ("decision: random, 10,000 servers", name("decision", "random", 10_000.0, "server")),
            ("sets: empty, 4 script sets", name("sets", "empty", 4.0, "script set")),
            ("rate: bare reflector, 64 bytes", name("rate", "bare reflector", 64.0, "byte")),
            ("control: return XDP_TX", None),
            ("first packet, p50: no script", None),
            ("a: b, 0 flows", None),
        ];
        for (case, expected) in cases {
            assert_eq!(Name::read(case), expected, "{case}");
        }
    }

    #[test]
    fn lines_of_one_thing_share_a_picture() {
        let mut figures = Vec::new();
        for (size, value) in [(16, 3.0), (1, 1.0), (4, 2.0)] {
            figures.push(figure(&format!("hit: tcp, {size} flows"), value));
            figures.push(figure(&format!("hit: udp, {size} flows"), value));
            figures.push(figure(&format!("hit: tcp, {size} servers"), value));
        }
        figures.push(figure("hit: sctp, 4 flows", 1.0));
        let plots = of(&figures);
        let files: Vec<_> = plots.iter().map(Plot::file_name).collect();
        assert_eq!(files, ["scale-hit-by-flow.svg", "scale-hit-by-server.svg"]);
        let names: Vec<_> = plots[0].lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["tcp", "udp"], "one point is no line");
        let values: Vec<_> = plots[0].lines[0].points.iter().map(|point| point.value).collect();
        assert_eq!(values, [1.0, 2.0, 3.0]);
    }
}
