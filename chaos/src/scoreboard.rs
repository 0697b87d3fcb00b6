//! The scoreboard: one line a figure, `name value unit bar PASS|FAIL`.
//!
//! A row is a set of figures that one run gives, and runs alone, in less than ten
//! minutes on two cores. What it tells meanwhile goes to standard error, its lines
//! to standard output.

use std::{fmt, path::PathBuf};

use crate::{lab::LabPlan, row, wan::profile::Profile};

/// A figure, its bar, and whether it is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The row and the figure: `R6.median`.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it is held against, such as `<1000`.
    pub bar: Bar,
}

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// Exactly this.
    Is(f64),
    /// Less than this.
    Below(f64),
    /// At least this.
    AtLeast(f64),
}

impl Bar {
    fn holds(self, value: f64) -> bool {
        match self {
            Bar::Is(wanted) => (value - wanted).abs() < 1e-9,
            Bar::Below(bound) => value < bound,
            Bar::AtLeast(bound) => value >= bound,
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bar::Is(wanted) => write!(f, "={wanted}"),
            Bar::Below(bound) => write!(f, "<{bound}"),
            Bar::AtLeast(bound) => write!(f, ">={bound}"),
        }
    }
}

impl Line {
    /// A line.
    pub fn new(name: &str, value: impl Into<f64>, unit: &'static str, bar: Bar) -> Self {
        Self { name: name.to_owned(), value: value.into(), unit, bar }
    }

    /// A line of something that was counted.
    pub fn count(name: &str, value: usize, unit: &'static str, bar: Bar) -> Self {
        // Counts of a run are far below the 2^53 that a double counts to.
        Self::new(name, value as f64, unit, bar)
    }

    /// A line of milliseconds.
    pub fn ms(name: &str, value: std::time::Duration, bar: Bar) -> Self {
        Self::new(name, value.as_secs_f64() * 1000.0, "ms", bar)
    }

    /// Whether the bar is reached.
    pub fn is_good(&self) -> bool {
        self.bar.holds(self.value)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self.value {
            whole if whole.fract().abs() < 1e-9 => format!("{whole:.0}"),
            large if large.abs() >= 100.0 => format!("{large:.0}"),
            small => format!("{small:.2}"),
        };
        let verdict = if self.is_good() { "PASS" } else { "FAIL" };
        write!(f, "{} {value} {} {} {verdict}", self.name, self.unit, self.bar)
    }
}

/// What rows are run with.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The binary.
    pub binary: PathBuf,
    /// One with bugs that can be planted, for rows that must find them.
    pub planted: Option<PathBuf>,
    /// A binary that knows an older cluster version, which a row upgrades.
    pub older: Option<PathBuf>,
    /// The seed of every choice.
    pub seed: u64,
    /// Of a hundred, how much of the full length is run.
    pub percent: usize,
    /// Told what happens, line by line.
    pub say: fn(&str),
}

impl Bench {
    /// A part of a count, at least one.
    pub fn part(&self, full: usize) -> usize {
        (full * self.percent / 100).max(1)
    }

    /// A laboratory of three nodes as they ship.
    pub fn lab(&self, profile: Profile) -> LabPlan {
        LabPlan::new(&self.binary, profile, 3, self.seed)
    }
}

/// A row.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its name in the notes that the bars come from.
    pub name: &'static str,
    /// What it shows.
    pub title: &'static str,
    /// Runs it.
    pub run: row::Runner,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_name_value_unit_bar_and_verdict() {
        let line = Line::ms("R6.median", std::time::Duration::from_millis(812), Bar::Below(1000.0));
        assert_eq!(line.to_string(), "R6.median 812 ms <1000 PASS");
        let line = Line::count("R1.lost", 3, "promises", Bar::Is(0.0));
        assert_eq!(line.to_string(), "R1.lost 3 promises =0 FAIL");
        let line = Line::new("R10.goodput", 69.5, "%", Bar::AtLeast(70.0));
        assert_eq!(line.to_string(), "R10.goodput 69.50 % >=70 FAIL");
    }

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<&str> =
            row::ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), row::ROWS.len());
    }
}
