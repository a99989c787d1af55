//! Text in columns.

/// Lines of cells, each column as wide as its widest cell.
#[derive(Debug, Default)]
pub struct Columns(Vec<Vec<String>>);

impl Columns {
    /// With a line of headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self(vec![headings.map(str::to_owned).to_vec()])
    }

    /// Adds a line.
    pub fn push<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.into());
    }
}

impl std::fmt::Display for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut widths: Vec<usize> = Vec::new();
        for line in &self.0 {
            widths.resize(widths.len().max(line.len()), 0);
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for line in &self.0 {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
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
        assert_eq!(columns.to_string(), "A     LONG\nwide  x\n");
    }
}
