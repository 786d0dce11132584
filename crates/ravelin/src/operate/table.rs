//! Tables for people.

use proxy::log::steers;

/// A table with aligned columns.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// One with these headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// One without headings.
    pub(super) fn bare() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Adds a row of as many cells as there are.
    pub(super) fn cells(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as lines; numbers stand at the right of their column.
    pub(super) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column: usize| {
            self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, width) in widths.iter().enumerate() {
                // What comes from elsewhere does not steer the terminal.
                let cell: String =
                    cell(row, column).chars().map(|c| if steers(c) { '?' } else { c }).collect();
                let number = !cell.is_empty() && cell.chars().all(|c| c.is_ascii_digit());
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                match number {
                    true => line.extend([padding, cell]),
                    false => line.extend([cell, padding]),
                }
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_right() {
        let mut table = Table::new(&["name", "count"]);
        table.row(["a".to_owned(), "7".to_owned()]);
        table.row(["longer\x1b[2J".to_owned(), "12".to_owned()]);
        assert_eq!(table.render(), "name        count\na               7\nlonger?[2J     12\n");
    }
}
