//! What the rows showed the last time, in a file for people: a summary, then a section
//! a row. A run writes only the rows that it ran and leaves the others as they are,
//! so that the file can be made row by row; each says when, how long, and at which
//! commit it was run.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use crate::{row::ROWS, wan::namespace::run};

/// The machine of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine(String);

impl Machine {
    /// This one, with the file system that a folder is on.
    pub fn here(folder: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let processor = field(&read("/proc/cpuinfo"), "model name").unwrap_or_default();
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: u64 = memory.trim_end_matches("kB").trim().parse().unwrap_or_default();
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        let system = field(&read("/etc/os-release").replace('=', ":"), "PRETTY_NAME");
        let system = system.unwrap_or_default().replace('"', "");
        let path = folder.display().to_string();
        let disk = run("stat", &["--file-system", "--format=%T", &path]).unwrap_or_default();
        let disk = disk.trim().replace("ext2/ext3", "ext4");
        Self(format!(
            "{cores} cores of {processor}, {} GiB, {disk}, {system}, Linux {kernel}",
            (kib + (1 << 19)) >> 20
        ))
    }
}

/// How a row was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// When, in UTC.
    pub date: String,
    /// The commit of the tree; empty outside of one.
    pub commit: String,
    /// Of a hundred, how much of its length was run.
    pub percent: usize,
    /// How long it took.
    pub seconds: u64,
    /// Processes that wanted a core when it began, on average of a minute: others'
    /// work on this machine.
    pub load: String,
}

impl Circumstances {
    /// Those of a row that begins now.
    pub fn now(percent: usize) -> Self {
        let said = |program: &str, arguments: &[&str]| {
            run(program, arguments).map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            date: said("date", &["--utc", "+%F %H:%M"]),
            commit: said("git", &["rev-parse", "--short", "HEAD"]),
            percent,
            seconds: 0,
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

impl Circumstances {
    /// A sentence of them, for a file that one run makes whole.
    pub fn told(&self, machine: &Machine) -> String {
        let Self { date, commit, load, .. } = self;
        let commit = if commit.is_empty() { String::new() } else { format!(", at {commit}") };
        format!("{date} UTC{commit}; {}; load {load} at its beginning.", machine.0)
    }
}

/// The sections of a file, by the names of their rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Results(BTreeMap<String, String>);

impl Results {
    /// Reads a file; one that is not there has none.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(file) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    fn parse(text: &str) -> Self {
        let sections = text.split("\n## ").skip(1).filter_map(|section| {
            let (heading, body) = section.split_once('\n')?;
            let name = heading.split(':').next()?.trim();
            Some((name.to_owned(), body.trim().to_owned()))
        });
        Self(sections.collect())
    }

    /// Notes what a row said, in place of what it said before.
    pub fn note(&mut self, row: &str, how: &Circumstances, lines: &[String]) {
        let Circumstances { date, commit, percent, seconds, load } = how;
        let mut body = format!("{date} UTC");
        if !commit.is_empty() {
            write!(body, ", {commit}").ok();
        }
        if *percent != 100 {
            write!(body, ", {percent} % of its length").ok();
        }
        write!(body, "; {seconds} s, load {load} at its beginning\n\n```\n").ok();
        for line in lines {
            writeln!(body, "{line}").ok();
        }
        body.push_str("```");
        self.0.insert(row.to_owned(), body);
    }

    /// The file.
    pub fn render(&self, machine: &Machine) -> String {
        let mut text = format!(
            "# What the scoreboard showed\n\n\
             Written by `scripts/chaos scoreboard --write chaos/RESULTS.md`; with names of rows behind \
             it, only those are run\nand the others stay. A line is `name value unit bar \
             PASS|FAIL`; `chaos/README.md` says what rows do.\n\n\
             Machine: {}. The load is told with each row:\nwhere it is above 1 or so, others \
             worked on the machine, and times are longer than they need be.\n\n\
             | row | shows | | when |\n|---|---|---|---|\n",
            machine.0
        );
        for row in ROWS {
            let (verdict, when) = match self.0.get(row.name) {
                None => ("not run".to_owned(), String::new()),
                Some(body) => {
                    let count = |word: &str| {
                        body.lines().filter(|line| line.split(' ').any(|part| part == word)).count()
                    };
                    let verdict = match (count("PASS"), count("FAIL")) {
                        (0, 0) => "nothing said".to_owned(),
                        (_, 0) => "pass".to_owned(),
                        (passed, failed) => format!("**{failed} of {} fail**", passed + failed),
                    };
                    let when = body.split([',', ';']).next().unwrap_or_default();
                    (verdict, when.trim_end_matches(" UTC").to_owned())
                }
            };
            writeln!(text, "| {} | {} | {verdict} | {when} |", row.name, row.title).ok();
        }
        for row in ROWS {
            if let Some(body) = self.0.get(row.name) {
                write!(text, "\n## {}: {}\n\n{body}\n", row.name, row.title).ok();
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(date: &str) -> Circumstances {
        Circumstances {
            date: date.to_owned(),
            commit: "abc1234".to_owned(),
            percent: 50,
            seconds: 77,
            load: "0.31".to_owned(),
        }
    }

    #[test]
    fn a_run_replaces_its_own_rows_and_leaves_the_others() {
        let machine = Machine("2 cores".to_owned());
        let mut results = Results::default();
        results.note("R6", &how("2026-01-01 10:00"), &["R6.median 1 ms <2 PASS".to_owned()]);
        results.note("R7", &how("2026-01-01 10:00"), &["R7.median 9 ms <2 FAIL".to_owned()]);
        let text = results.render(&machine);
        assert_eq!(Results::parse(&text), results, "{text}");
        assert!(text.contains("| R6 | writes after a leader's death, LAN | pass |"), "{text}");
        assert!(text.contains("**1 of 1 fail** | 2026-01-01 10:00 |"), "{text}");
        assert!(text.contains("| not run |"), "{text}");

        let mut later = Results::parse(&text);
        later.note("R7", &how("2026-01-02 10:00"), &["R7.median 1 ms <2 PASS".to_owned()]);
        let text = later.render(&machine);
        assert!(text.contains("R6.median 1 ms <2 PASS") && !text.contains("FAIL\n"), "{text}");
        assert!(text.contains("2026-01-02 10:00 UTC, abc1234, 50 % of its length; 77 s"));
    }
}
