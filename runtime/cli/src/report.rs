//! Tables for people, and numbers as people read them.

use core::fmt;

/// Rows under a header; a column of numbers, with a unit or without, is aligned right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(str::to_owned).to_vec()] }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.column(column).map(|cell| cell.chars().count()).max().unwrap_or(0);
        (0..columns).map(width).collect()
    }

    fn column(&self, column: usize) -> impl Iterator<Item = &String> {
        self.rows.iter().filter_map(move |row| row.get(column))
    }

    fn is_numeric(&self, column: usize) -> bool {
        let number = |cell: &String| {
            let digits = cell.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit());
            cell.is_empty() || digits && cell.split(' ').count() <= 2
        };
        self.column(column).skip(1).all(number)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let numeric: Vec<bool> = (0..widths.len()).map(|column| self.is_numeric(column)).collect();
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&numeric) {
                let gap = if line.is_empty() { "" } else { "  " };
                line += &if right { format!("{gap}{cell:>width$}") } else { format!("{gap}{cell:<width$}") };
            }
            let end = if number + 1 == self.rows.len() { "" } else { "\n" };
            write!(f, "{}{end}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A byte count with a unit.
pub(crate) fn bytes(count: usize) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

/// A hash as lower-case hexadecimal.
pub(crate) fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A shape as NumPy prints it.
pub(crate) fn shape(dims: &[usize]) -> String {
    format!("{dims:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_right_and_nothing_trails() {
        let mut table = Table::new(["name", "bytes", "note"]);
        table.row(["conv".to_owned(), "12".to_owned(), String::new()]);
        table.row(["é".to_owned(), "-1234".to_owned(), "x".to_owned()]);
        assert_eq!(table.to_string(), "name  bytes  note\nconv     12\né     -1234  x");
    }

    #[test]
    fn byte_counts_keep_three_digits() {
        assert_eq!([9_999, 10_000, 12_345_678].map(bytes), ["9999 B", "10.0 kB", "12.3 MB"]);
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
    }
}
