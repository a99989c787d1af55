//! What is wrong, where, and what would be right.

use std::{
    fmt,
    ops::{Deref, Range},
    path::{Path, PathBuf},
    sync::Arc,
};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// A text that problems point into: a configuration or a script.
#[derive(PartialEq, Eq)]
pub struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The text and the path that it was read from.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), text: text.into() })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Line and column, both from 1, the column in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line..].chars().count() + 1)
    }

    /// The characters that a range touches: a range from elsewhere may end within one.
    fn clip(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(range.start);
        let end = self.text.ceil_char_boundary(range.end.min(self.text.len()));
        start..end.max(start)
    }

    /// From `column` (from 1; the first character that is not a blank if `None`) to the end of
    /// `line`.
    fn rest_of_line(&self, line: usize, column: Option<usize>) -> Range<usize> {
        let Some(text) = self.text.split('\n').nth(line.saturating_sub(1)) else {
            return self.text.len()..self.text.len();
        };
        let start = text.as_ptr().addr() - self.text.as_ptr().addr();
        let skipped = match column {
            Some(column) => text.char_indices().nth(column.saturating_sub(1)).map(|(at, _)| at),
            None => text.find(|c: char| !c.is_whitespace()),
        };
        start + skipped.unwrap_or(0)..start + text.trim_end().len().max(skipped.unwrap_or(0))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// One thing that is wrong with a configuration or a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    source: Arc<Source>,
    message: String,
    help: Option<String>,
    /// First where the problem is, then what it has to do with.
    marks: Vec<Mark>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Mark {
    range: Range<usize>,
    label: Option<String>,
}

impl Problem {
    /// A problem with a file as a whole, such as one that cannot be read.
    pub fn of_file(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        let source = Source::new(path, "");
        Self { source, message: message.into(), help: None, marks: Vec::new() }
    }

    /// A problem with a range of bytes.
    pub fn at(source: &Arc<Source>, range: Range<usize>, message: impl Into<String>) -> Self {
        let marks = vec![Mark { range: source.clip(&range), label: None }];
        Self { source: Arc::clone(source), message: message.into(), help: None, marks }
    }

    /// A problem in a line, from 1, from a column on if one is known: as compilers tell it.
    pub fn at_line(
        source: &Arc<Source>,
        line: usize,
        column: Option<usize>,
        message: impl Into<String>,
    ) -> Self {
        Self::at(source, source.rest_of_line(line, column), message)
    }

    /// What would be right.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Another place in the same text that the problem has to do with.
    #[must_use]
    pub fn with_related(mut self, range: Range<usize>, label: impl Into<String>) -> Self {
        let range = self.source.clip(&range);
        self.marks.push(Mark { range, label: Some(label.into()) });
        self
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What would be right.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Line and column, both from 1, the column in characters; `None` for a file as a whole.
    pub fn position(&self) -> Option<(usize, usize)> {
        self.marks.first().map(|mark| self.source.position(mark.range.start))
    }

    /// Lines and columns of the other places that the problem has to do with.
    pub fn related(&self) -> impl Iterator<Item = (usize, usize)> {
        self.marks.iter().skip(1).map(|mark| self.source.position(mark.range.start))
    }

    /// Where in the file the problem starts, to sort by.
    pub(super) fn offset(&self) -> usize {
        self.marks.first().map_or(0, |mark| mark.range.start)
    }

    fn group<'a>(&'a self, path: &'a str) -> Group<'a> {
        let group = Group::with_title(Level::ERROR.primary_title(&self.message));
        let group = if self.marks.is_empty() {
            group.element(Origin::path(path))
        } else {
            group.element(
                Snippet::source(&self.source.text).path(path).annotations(self.annotations()),
            )
        };
        group.elements(self.help.as_deref().map(|help| Level::HELP.message(help)))
    }

    fn annotations(&self) -> impl Iterator<Item = Annotation<'_>> {
        self.marks.iter().enumerate().map(|(index, mark)| {
            let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            kind.span(mark.range.clone()).label(mark.label.as_deref())
        })
    }
}

/// As compilers print it: the message, the lines it is about, and help.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        render(f, self, &Renderer::plain())
    }
}

fn render(f: &mut impl fmt::Write, problem: &Problem, renderer: &Renderer) -> fmt::Result {
    let path = problem.path().display().to_string();
    f.write_str(&renderer.render(&[problem.group(&path)]))
}

/// Everything that is wrong, in the order in which it should be read. Never empty as an error.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// For a terminal: with colours, as `Display` without.
    pub fn styled(&self) -> String {
        let mut text = String::new();
        self.render(&mut text, &Renderer::styled()).expect("a String takes all that is written");
        text
    }

    fn render(&self, f: &mut impl fmt::Write, renderer: &Renderer) -> fmt::Result {
        for problem in &self.0 {
            render(f, problem, renderer)?;
            f.write_str("\n\n")?;
        }
        match self.0.as_slice() {
            [_] => f.write_str("1 problem found"),
            problems => write!(f, "{} problems found", problems.len()),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.render(f, &Renderer::plain())
    }
}

impl std::error::Error for Problems {}

impl Deref for Problems {
    type Target = [Problem];

    fn deref(&self) -> &[Problem] {
        &self.0
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(problems: I) -> Self {
        Self(problems.into_iter().collect())
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        self.0.extend(problems);
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Arc<Source> {
        Source::new("a.lua", "local x\n\tif é then\nend\n")
    }

    #[test]
    fn columns_count_characters() {
        let at = source().text.find("then").unwrap();
        assert_eq!(Problem::at(&source(), at..at + 4, "m").position(), Some((2, 7)));
    }

    #[test]
    fn a_line_without_a_column_starts_at_its_first_word() {
        let cases = [
            (1, None, (1, 1)),
            (2, None, (2, 2)),
            (2, Some(7), (2, 7)),
            (2, Some(99), (2, 1)),
            (4, None, (4, 1)),
            (9, Some(3), (4, 1)),
        ];
        for (line, column, position) in cases {
            let problem = Problem::at_line(&source(), line, column, "m");
            assert_eq!(problem.position(), Some(position), "{line}:{column:?}");
            assert!(problem.to_string().contains("a.lua"));
        }
    }

    #[test]
    fn ranges_that_cut_characters_or_leave_the_text_are_clipped() {
        let inside = source().text.find('é').unwrap() + 1;
        for range in [inside..inside, inside..999, 999..9999, 0..0] {
            assert!(Problem::at(&source(), range, "m").to_string().starts_with("error: m"));
        }
    }

    #[test]
    fn a_problem_of_a_whole_file_has_no_position() {
        let problem = Problem::of_file("lb.toml", "gone").with_help("look elsewhere");
        assert_eq!(problem.position(), None);
        assert_eq!(problem.to_string(), "error: gone\n--> lb.toml\n = help: look elsewhere");
    }
}
