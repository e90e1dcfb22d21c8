//! Columns of text.

/// Rows whose columns have the width of their widest cell.
pub struct TextTable {
    left: &'static [usize],
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table with these headings. Columns are right-aligned, except those in `left`.
    pub fn new(headings: &[&str], left: &'static [usize]) -> Self {
        Self { left, rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether it has no rows besides its headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The text; empty if there are no rows. Columns that are empty in all rows are left out.
    pub fn text(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &'_ Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let is_used = |column: &usize| self.rows.iter().skip(1).any(|row| !cell(row, *column).is_empty());
        let used: Vec<usize> = (0..columns).filter(is_used).collect();
        let width = |column| self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = used.iter().map(|column| width(*column)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, width) in used.iter().zip(&widths) {
                let cell = cell(row, *column);
                let gap = if line.is_empty() && *column == 0 { "" } else { "  " };
                line.push_str(gap);
                if self.left.contains(column) {
                    line.push_str(&format!("{cell:<width$}"));
                } else {
                    line.push_str(&format!("{cell:>width$}"));
                }
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
    fn columns_line_up_and_empty_ones_are_left_out() {
        let mut table = TextTable::new(&["name", "empty", "rate"], &[0]);
        assert_eq!(table.text(), "");
        table.row(vec!["a".into(), String::new(), "1,000".into()]);
        table.row(vec!["longer".into(), String::new(), "5".into()]);
        assert_eq!(table.text(), "name     rate\na       1,000\nlonger      5\n");
    }
}
