//! Tables in Markdown that are readable as they stand: columns are padded, figures
//! are flush right.

use std::fmt;

/// A table under construction.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns. The first is text, the others are figures.
    pub fn new<const N: usize>(columns: [&str; N]) -> Self {
        Self { rows: vec![columns.map(str::to_owned).to_vec()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| cell.replace('|', "\\|")).to_vec());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default().max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, width) in widths.iter().copied().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                if column == 0 {
                    write!(f, "| {cell:<width$} ")?;
                } else {
                    write!(f, "| {cell:>width$} ")?;
                }
            }
            writeln!(f, "|")?;
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let (dashes, end) =
                        if column == 0 { (width + 2, "") } else { (width + 1, ":") };
                    write!(f, "|{}{end}", "-".repeat(dashes))?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// A count or rate with thousands apart.
pub fn whole(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A figure with about three digits that count.
pub fn figure(value: f64) -> String {
    match value.abs() {
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 100.0 => format!("{value:.1}"),
        _ => whole(value),
    }
}

/// A ratio such as `2.13×`; a dash if there is nothing to divide by.
pub fn ratio(ours: f64, theirs: f64) -> String {
    if theirs > 0.0 { format!("{:.2}×", ours / theirs) } else { "–".to_owned() }
}

/// Bytes as mebibytes.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_with_figures_flush_right() {
        let mut table = Table::new(["what", "writes/s", "p99 ms"]);
        table.row(["1 client".to_owned(), whole(1234.4), figure(0.873)]);
        table.row(["a|b".to_owned(), whole(99.0), figure(1234.0)]);
        assert_eq!(
            table.to_string(),
            "| what     | writes/s | p99 ms |\n\
             |----------|---------:|-------:|\n\
             | 1 client |    1,234 |   0.87 |\n\
             | a\\|b     |       99 |  1,234 |\n"
        );
    }

    #[test]
    fn figures_are_short() {
        let table = [
            (whole(0.0), "0"),
            (whole(999.6), "1,000"),
            (whole(1_234_567.0), "1,234,567"),
            (figure(9.999), "10.00"),
            (figure(12.34), "12.3"),
            (ratio(3.0, 2.0), "1.50×"),
            (ratio(3.0, 0.0), "–"),
            (mebibytes(3 << 20), "3.0 MiB"),
        ];
        for (text, wanted) in table {
            assert_eq!(text, wanted);
        }
    }
}
