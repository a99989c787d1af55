//! How the demo speaks.

use crate::style::{BOLD, CYAN, DIM, GREEN, UNDERLINED, styled};

/// A sentence that says what comes.
pub fn step(sentence: &str) {
    println!("\n{} {}\n", styled(CYAN, "▶"), styled(BOLD, sentence));
}

/// A command that anyone could type.
pub fn command(line: &str) {
    println!("  {}", styled(DIM, &format!("$ {line}")));
}

/// What was to be shown.
pub fn result(sentence: &str) {
    println!("  {} {sentence}", styled(GREEN, "✔"));
}

/// Lines as they are, set off from the rest.
pub fn drawing(lines: &str) {
    for line in lines.lines() {
        println!("  {line}");
    }
}

/// A table with columns as wide as they must be.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    let header: Vec<_> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let widths = widths(&header, rows);
    println!("  {}", styled(UNDERLINED, &line(&header, &widths)));
    for row in rows {
        println!("  {}", line(row, &widths));
    }
    println!();
}

fn widths(header: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<_> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    padded.collect::<Vec<_>>().join("   ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let [header, row] = [["a", "bb"], ["→→→", "b"]].map(|cells| cells.map(str::to_owned));
        let widths = widths(&header, &[row.to_vec()]);
        assert_eq!(widths, [3, 2]);
        assert_eq!(line(&row, &widths), "→→→   b ");
    }
}
