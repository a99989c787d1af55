//! Text in columns.

/// Lines of cells, each column as wide as its widest cell.
#[derive(Debug, Default)]
pub struct Columns(Vec<Line>);

#[derive(Debug)]
enum Line {
    Cells(Vec<String>),
    Text(String),
}

impl Columns {
    /// With a line of headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self(vec![Line::Cells(headings.map(str::to_owned).to_vec())])
    }

    /// Adds a line.
    pub fn push<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(Line::Cells(cells.into()));
    }

    /// Adds a line that keeps to no column.
    pub fn push_text(&mut self, text: String) {
        self.0.push(Line::Text(text));
    }
}

impl std::fmt::Display for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut widths: Vec<usize> = Vec::new();
        let cells = self.0.iter().filter_map(|line| match line {
            Line::Cells(cells) => Some(cells),
            Line::Text(_) => None,
        });
        for line in cells {
            widths.resize(widths.len().max(line.len()), 0);
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for line in &self.0 {
            match line {
                Line::Text(text) => writeln!(f, "{text}")?,
                Line::Cells(cells) => {
                    let cells = cells.iter().zip(&widths);
                    let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
                    writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut columns = Columns::new(["A", "LONG"]);
        columns.push(["wide".to_owned(), "x".to_owned()]);
        columns.push_text("  as long as it likes".to_owned());
        assert_eq!(columns.to_string(), "A     LONG\nwide  x\n  as long as it likes\n");
    }
}
