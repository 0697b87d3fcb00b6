//! Rules on Rust sources: what reads as code, what as comment, and what either must not hold.

use crate::{
    BANNED, CODE_LINES_MAX, COMPARED, COMPARED_IN, EMPTY_NAMES, EXCUSED, LONGER_FILES,
    words::{compared, is_below, is_secret, is_word, names_word, take_apart},
};

/// A Rust file taken apart: `code` has comments and the insides of literals blanked, `comments` has
/// everything else blanked. Both keep the lines of the file.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) code: String,
    pub(crate) comments: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, comments) = take_apart(text);
        Self { path: path.to_owned(), text: text.to_owned(), code, comments }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        let rules = [
            Self::too_long,
            Self::undocumented,
            Self::empty_names,
            Self::banned_names,
            Self::leaking_comparisons,
            Self::unfinished,
            Self::ignored_tests,
            Self::sleeping_tests,
            Self::prefixed_tests,
        ];
        rules.iter().flat_map(|rule| rule(self)).collect()
    }

    pub(crate) fn violation(&self, line: usize, why: impl AsRef<str>) -> String {
        format!("{}:{}: {}", self.path, line + 1, why.as_ref())
    }

    /// Whether the whole file is a test, or helps tests only.
    pub(crate) fn is_test(&self) -> bool {
        self.path
            .split('/')
            .any(|part| matches!(part, "tests" | "tests.rs" | "testing" | "testing.rs"))
            || self.path.ends_with("_tests.rs")
    }

    /// The line on which the tests at the end of the file begin; the number of lines without any.
    pub(crate) fn tests_begin(&self) -> usize {
        if self.is_test() {
            return 0;
        }
        let lines: Vec<&str> = self.code.lines().collect();
        let opens = |line: usize| {
            lines[line].starts_with("#[cfg(test)]")
                && lines[line + 1..]
                    .iter()
                    .find(|next| !next.trim().is_empty() && !next.starts_with("#["))
                    .is_some_and(|next| next.contains("mod ") && next.trim_end().ends_with('{'))
        };
        (0..lines.len()).find(|&line| opens(line)).unwrap_or(lines.len())
    }

    pub(crate) fn code_lines(&self) -> usize {
        self.code.lines().take(self.tests_begin()).filter(|line| !line.trim().is_empty()).count()
    }

    pub(crate) fn too_long(&self) -> Vec<String> {
        let most = LONGER_FILES
            .iter()
            .find(|(path, _)| *path == self.path)
            .map_or(CODE_LINES_MAX, |(_, lines)| *lines);
        let lines = self.code_lines();
        let why = format!(
            "{lines} code lines before the tests, {most} are allowed: split the file by noun"
        );
        if lines > most { vec![self.violation(0, why)] } else { Vec::new() }
    }

    pub(crate) fn undocumented(&self) -> Vec<String> {
        let first = self.text.lines().find(|line| !line.trim().is_empty());
        if first.is_some_and(|line| line.starts_with("//!")) {
            return Vec::new();
        }
        vec![self.violation(0, "begin the file with `//!` and the idea that it holds")]
    }

    pub(crate) fn empty_names(&self) -> Vec<String> {
        let why = |name: &str| format!("`{name}` says nothing: name the module for what it holds");
        let parts = self.path.split('/').map(|part| part.trim_end_matches(".rs"));
        let mut found: Vec<String> = parts
            .filter(|part| EMPTY_NAMES.contains(part))
            .map(|name| self.violation(0, why(name)))
            .collect();
        for (number, line) in self.code.lines().enumerate() {
            let words: Vec<&str> =
                line.split(|c: char| !is_word(c)).filter(|word| !word.is_empty()).collect();
            for pair in
                words.windows(2).filter(|pair| pair[0] == "mod" && EMPTY_NAMES.contains(&pair[1]))
            {
                found.push(self.violation(number, why(pair[1])));
            }
        }
        found
    }

    pub(crate) fn banned_names(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (names, folders, why) in BANNED {
            if !folders.iter().any(|folder| is_below(&self.path, folder)) {
                continue;
            }
            for (number, line) in self.code.lines().enumerate().take(self.tests_begin()) {
                let excused = |name: &str| {
                    EXCUSED
                        .iter()
                        .any(|(path, names, _)| *path == self.path && names.contains(&name))
                };
                for name in names.iter().filter(|name| names_word(line, name) && !excused(name)) {
                    found.push(self.violation(number, format!("`{name}`: {why}")));
                }
            }
        }
        found
    }

    /// Secrets are compared in constant time: `ct_eq`, `Secret`'s own equality, or a MAC's
    /// verification, which do not end at the first byte that differs.
    pub(crate) fn leaking_comparisons(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !COMPARED_IN.iter().any(|folder| is_below(&self.path, folder)) {
            return found;
        }
        let lines: Vec<&str> = self.code.lines().take(self.tests_begin()).collect();
        let code = lines.join("\n");
        for name in compared(&code).filter(|(_, name)| is_secret(name)) {
            let (number, name) = (code[..name.0].matches('\n').count(), name.1);
            let excused =
                COMPARED.iter().any(|(path, excused, _)| *path == self.path && *excused == name);
            if !excused {
                let why =
                    "a comparison that ends at the first difference tells how far a guess is right";
                found.push(self.violation(number, format!("`{name}`: use `ct_eq`: {why}")));
            }
        }
        found
    }

    pub(crate) fn unfinished(&self) -> Vec<String> {
        let mut found = Vec::new();
        let both = self.code.lines().zip(self.comments.lines()).enumerate();
        for (number, (code, comment)) in both {
            let marked = [
                concat!("TO", "DO"),
                concat!("FIX", "ME"),
                concat!("XX", "X"),
                concat!("HA", "CK"),
            ]
            .iter()
            .any(|mark| names_word(comment, mark));
            if marked
                || code.contains(concat!("to", "do!"))
                || code.contains(concat!("unimple", "mented!"))
            {
                found.push(
                    self.violation(number, "finish it, or leave it out and say so in the README"),
                );
            }
        }
        found
    }

    pub(crate) fn ignored_tests(&self) -> Vec<String> {
        let ignores = |line: &&str| {
            line.contains("#[ignore") || line.contains("cfg_attr") && names_word(line, "ignore")
        };
        let lines = self.code.lines().enumerate().filter(|(_, line)| ignores(line));
        lines
            .map(|(n, _)| {
                self.violation(n, "a test that does not run holds nothing: mend or delete it")
            })
            .collect()
    }

    pub(crate) fn sleeping_tests(&self) -> Vec<String> {
        let comments: Vec<&str> = self.comments.lines().collect();
        let explained = |line: usize| {
            let said =
                |line: usize| comments.get(line).is_some_and(|comment| comment.trim().len() > 10);
            said(line) || line > 0 && said(line - 1)
        };
        let sleeps = |line: &str| names_word(line, "sleep") && line.contains("sleep(");
        // A sleep directly inside of a loop paces the wait for a condition.
        let code: Vec<&str> = self.code.lines().collect();
        let depth = |line: &str| line.len() - line.trim_start().len();
        let polls = |number: usize| {
            let outer = |line: &&&str| !line.trim().is_empty() && depth(line) < depth(code[number]);
            code[..number].iter().rev().find(outer).is_some_and(|line| {
                ["for ", "while ", "loop "].iter().any(|word| line.trim_start().starts_with(word))
            })
        };
        let tests = self.code.lines().enumerate().skip(self.tests_begin());
        tests
            .filter(|(number, line)| sleeps(line) && !explained(*number) && !polls(*number))
            .map(|(n, _)| {
                self.violation(
                    n,
                    "wait for a condition; if only time will do, say why in a comment above",
                )
            })
            .collect()
    }

    pub(crate) fn prefixed_tests(&self) -> Vec<String> {
        let lines = self.code.lines().enumerate().skip(self.tests_begin());
        let named = lines.filter(|(_, line)| {
            line.trim_start().trim_start_matches("async ").starts_with("fn test_")
        });
        named
            .map(|(n, _)| {
                self.violation(n, "a test's name is a sentence that it proves, without `test_`")
            })
            .collect()
    }
}
