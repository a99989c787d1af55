//! How the demo speaks.

/// A sentence that says what comes.
pub fn step(sentence: &str) {
    println!("\n\x1b[1;36m▶\x1b[0m \x1b[1m{sentence}\x1b[0m\n");
}

/// A command that anyone could type.
pub fn command(line: &str) {
    println!("  \x1b[2m$ {line}\x1b[0m");
}

/// What was to be shown.
pub fn result(sentence: &str) {
    println!("  \x1b[1;32m✔\x1b[0m {sentence}");
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
    println!("  \x1b[4m{}\x1b[0m", line(&header, &widths));
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
