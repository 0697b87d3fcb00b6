//! What commands print: tables that a person enjoys, or JSON.

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use super::exit::Outcome;

/// The form of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Aligned text, coloured on a terminal.
    #[default]
    Human,
    /// One JSON document.
    Json,
}

/// How a cell is coloured on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// All is well.
    Good,
    /// Worth a look.
    Warning,
    /// Broken.
    Bad,
    /// Beside the point.
    Faint,
    /// A heading.
    Strong,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Good => "\x1b[32m",
            Tone::Warning => "\x1b[33m",
            Tone::Bad => "\x1b[31m",
            Tone::Faint => "\x1b[2m",
            Tone::Strong => "\x1b[1m",
        }
    }

    /// `text` in this tone.
    pub fn paint(self, text: &str, colour: bool) -> String {
        if colour && self != Tone::Plain {
            format!("{}{text}\x1b[0m", self.code())
        } else {
            text.to_owned()
        }
    }
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        // A name that a stranger chose must not steer the terminal.
        let text =
            text.into().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Self { text, tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Rows under headings; numbers stand to the right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    title: Option<String>,
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: impl IntoIterator<Item = &'static str>) -> Self {
        Self { title: None, headings: headings.into_iter().collect(), rows: Vec::new() }
    }

    /// The table under a title.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Adds a row; one of a single cell stands by itself, across all columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines of the table.
    pub fn render(&self, colour: bool) -> String {
        let columns = self.headings.len();
        let aligned = || self.rows.iter().filter(|row| columns == 1 || row.len() > 1);
        let width = |column: usize| {
            let cells = aligned().filter_map(|row| row.get(column)).map(|cell| length(&cell.text));
            cells.chain([length(self.headings[column])]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let numeric: Vec<bool> = (0..columns)
            .map(|column| {
                let mut cells = aligned().filter_map(|row| row.get(column)).peekable();
                cells.peek().is_some() && cells.all(|cell| is_number(&cell.text))
            })
            .collect();
        let mut text = String::new();
        if let Some(title) = &self.title {
            text.push_str(&Tone::Strong.paint(title, colour));
            text.push('\n');
        }
        let headings =
            self.headings.iter().map(|heading| Cell::toned(*heading, Tone::Faint)).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::from("  ");
            for (column, cell) in row.iter().enumerate().take(columns) {
                let gap = " ".repeat(widths[column].saturating_sub(length(&cell.text)));
                let painted = cell.tone.paint(&cell.text, colour);
                if numeric[column] {
                    line.push_str(&gap);
                    line.push_str(&painted);
                } else {
                    line.push_str(&painted);
                    line.push_str(&gap);
                }
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn is_number(text: &str) -> bool {
    text.is_empty()
        || text == "–"
        || text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
}

/// Where a command prints.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    format: Format,
    colour: bool,
}

impl Printer {
    /// Prints to standard output; in colour on a terminal, unless `NO_COLOR`
    /// is set.
    pub fn new(format: Format) -> Self {
        let colour = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { format, colour }
    }

    /// Whether colours are wanted.
    pub fn colour(self) -> bool {
        self.colour
    }

    /// Prints `state` as JSON, or as what `human` makes of it.
    pub fn print<T: Serialize>(self, state: &T, human: impl FnOnce(&T, bool) -> String) -> Outcome {
        let text = match self.format {
            Format::Json => {
                let mut text = serde_json::to_string_pretty(state).map_err(anyhow::Error::from)?;
                text.push('\n');
                text
            }
            Format::Human => human(state, self.colour),
        };
        write_out(&text)
    }
}

/// Writes to standard output. A reader that went away (`| head`) is no error.
pub fn write_out(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(|error| anyhow::Error::from(error).into()),
    }
}

/// Text without what would steer a terminal: a reason may quote what a stranger wrote.
pub fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() && !"\n\t".contains(c) { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// A number of bytes as a person reads it.
pub fn show_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_right() {
        let mut table = Table::new(["node", "region", "lag"]).titled("Nodes");
        table.row([Cell::from("1"), "eu-central".into(), "0".into()]);
        table.row(["2".into(), "us-east".into(), Cell::toned("120", Tone::Bad)]);
        assert_eq!(
            table.render(false),
            "Nodes\n  node  region      lag\n     1  eu-central    0\n     2  us-east     120\n"
        );
        assert!(table.render(true).contains("\x1b[31m120\x1b[0m"));
        table.row([Cell::from("  what stands by itself moves no column")]);
        let shown = table.render(false);
        assert!(shown.contains("\n     2  us-east     120\n"), "{shown}");
        assert!(shown.ends_with("\n    what stands by itself moves no column\n"), "{shown}");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let mut table = Table::new(["name"]);
        table.row([Cell::from("a\x1b[2Jb")]);
        assert!(!table.render(false).contains('\x1b'));
        assert_eq!(plain("a\x1b[2Jb\r\n\tc"), "a\u{fffd}[2Jb\u{fffd}\n\tc");
    }

    #[test]
    fn bytes_are_shown_in_the_unit_that_fits() {
        assert_eq!(
            [0, 1023, 1536, 5 << 30].map(show_bytes),
            ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
        );
    }
}
