//! The house rules, as tests: what reviewers would otherwise have to watch for.
//!
//! Each rule is a function from sources or manifests to violations, and each violation says why. The
//! rules run over the whole tree in `the_house_keeps_its_rules`; every rule is also shown samples
//! that it must reject and others that it must accept, because a test that cannot fail is none. Only
//! the standard library is used, so that `make lint` compiles this file alone, in a second.
//! Limits and exceptions only ever tighten: an exception that is no longer needed is a violation.

#![allow(clippy::unwrap_used, reason = "a tree that cannot be read is a failed test")]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Code lines of one file before its tests.
const CODE_LINES_MAX: usize = 500;

/// Files that may be longer, with their present length: `(path, lines)`.
const LONGER_FILES: &[(&str, usize)] = &[];

/// Which of our crates each crate may name, and why. A new crate is entered here first.
const CRATES: &[(&str, &[&str], &str)] = &[
    ("storage", &[], "storage is the ground and knows nobody"),
    ("raft", &["storage"], "raft replicates entries and does not know what they mean"),
    ("cluster", &["raft", "storage"], "cluster places groups and knows no layer"),
    ("identity", &["storage"], "a layer holds a `Store` and never learns how it is replicated"),
    ("permission", &["storage"], "a layer holds a `Store` and never learns how it is replicated"),
    (
        "api",
        &["identity", "permission", "storage"],
        "api holds a `Store` and never learns how it is replicated",
    ),
    (
        "node",
        &["api", "cluster", "identity", "permission", "raft", "storage"],
        "node wires everything",
    ),
    ("chaos", &["cluster", "raft", "storage"], "chaos harms the cluster and speaks HTTP to it"),
    ("benches", &["permission", "storage"], "benches measure real processes, from outside"),
];

/// Foreign crates that only some of ours may depend on.
const FOREIGN: &[(&str, &[&str], &str)] = &[
    ("openraft", &["raft"], "one crate names openraft, so that one crate changes with it"),
    ("rocksdb", &["storage"], "the engine hides behind `Engine`"),
    ("axum", &["api", "node"], "HTTP ends where the layers begin"),
    ("hyper", &["api", "node", "chaos", "benches"], "HTTP ends where the layers begin"),
    (
        "hyper-util",
        &["api", "node", "chaos", "benches", "raft"],
        "HTTP ends where the layers begin",
    ),
    ("http", &["api", "node", "chaos", "benches", "raft"], "HTTP ends where the layers begin"),
    ("tonic", &["raft", "cluster", "node"], "storage and the layers never speak to a network"),
    ("getrandom", &["node", "chaos", "benches"], "node alone hands out `Entropy`"),
    ("rand", &["chaos", "benches"], "node alone hands out `Entropy`"),
    ("anyhow", &["node", "chaos", "benches"], "libraries have typed errors (thiserror)"),
];

/// Names in production code that have no place in some folders: `(names, folders, why)`.
const BANNED: &[(&[&str], &[&str], &str)] = &[
    (
        &["SystemTime::now", "Utc::now", "Zoned::now", "Timestamp::now", "Local::now"],
        &["storage", "raft", "cluster", "identity", "permission", "api"],
        "wall time comes from `Clock`, which `node` hands out, so that tests and simulation control it",
    ),
    (
        &["getrandom", "OsRng", "thread_rng", "Uuid::new_v4", "Uuid::now_v7", "rand", "fastrand"],
        &["storage", "raft", "cluster", "identity", "permission", "api"],
        "chance comes from `Entropy`, which `node` hands out, so that a seed repeats a run",
    ),
    (
        &["Instant::now"],
        &["storage", "identity", "permission", "api"],
        "these crates measure time with `Clock::monotonic`",
    ),
    (
        &["openraft"],
        &["storage", "cluster", "identity", "permission", "api", "node"],
        "only `raft` names openraft",
    ),
    (
        &["cardea_raft", "cardea_cluster"],
        &["identity", "permission", "api"],
        "layers hold a `Store`",
    ),
    (
        &[
            "SystemTime",
            "Instant",
            "HashMap",
            "HashSet",
            "RandomState",
            "async",
            "await",
            "tokio",
            "Clock",
            "Entropy",
        ],
        &["storage/src/machine/"],
        "apply must do the same on every replica and on every replay",
    ),
    (
        &["std::fs", "std::net", "std::env", "std::process", "thread::spawn"],
        &["storage/src/machine/"],
        "apply does no I/O but its engine's",
    ),
];

/// Where a banned name is right after all: `(path, names, why)`.
const EXCUSED: &[(&str, &[&str], &str)] = &[
    (
        "storage/src/machine/feed.rs",
        &["tokio", "async", "await"],
        "those who subscribe wait; apply only adds to the ring",
    ),
    (
        "identity/src/password/pool.rs",
        &["Instant::now"],
        "measures what hashing costs, and decides nothing by it",
    ),
];

/// Module names that say nothing.
const EMPTY_NAMES: &[&str] =
    &["utils", "util", "helpers", "helper", "common", "manager", "misc", "stuff"];

#[test]
fn the_house_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let house = House::read(&root);
    assert!(house.sources.len() > 20, "only {} sources found below {root:?}", house.sources.len());
    assert_eq!(
        house.manifests.len(),
        CRATES.len(),
        "a crate is missing from CRATES, or from the tree"
    );

    let mut violations = Vec::new();
    for source in &house.sources {
        violations.extend(source.violations());
    }
    for (name, text) in &house.manifests {
        violations.extend(edges(name, text));
    }
    for (path, text) in &house.texts {
        violations.extend(machine_paths(path, text));
    }
    violations.extend(stale_exceptions(&house.sources, LONGER_FILES));
    violations.extend(stale_excuses(&house.sources, EXCUSED));
    violations.sort();
    let mut report = String::new();
    violations.iter().for_each(|v| _ = writeln!(report, "  {v}"));
    assert!(violations.is_empty(), "{} house rules broken:\n{report}", violations.len());
}

/// What the rules look at.
struct House {
    sources: Vec<Source>,
    /// Crate folder and its `Cargo.toml`.
    manifests: Vec<(String, String)>,
    /// Every text of the tree, by path from the root.
    texts: Vec<(String, String)>,
}

impl House {
    fn read(root: &Path) -> Self {
        let mut files = Vec::new();
        walk(root, &mut files);
        let mut house = Self { sources: Vec::new(), manifests: Vec::new(), texts: Vec::new() };
        for file in files {
            let path = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            // What is no UTF-8 is no text.
            let Ok(text) = fs::read_to_string(&file) else { continue };
            if path.ends_with(".rs") {
                house.sources.push(Source::new(&path, &text));
            }
            if let Some(name) = path.strip_suffix("/Cargo.toml") {
                house.manifests.push((name.to_owned(), text.clone()));
            }
            house.texts.push((path, text));
        }
        house
    }
}

/// Every file below `folder`, except for what builds and tools leave behind (a
/// worktree has a file `.git`).
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap_or_default();
        let left_behind =
            name == "target" || name.starts_with('.') && name != ".ci" && name != ".cargo";
        if path.is_dir() && !left_behind {
            walk(&path, files);
        } else if path.is_file() && name != "Cargo.lock" && name != ".git" {
            files.push(path);
        }
    }
}

/// A Rust file taken apart: `code` has comments and the insides of literals blanked, `comments` has
/// everything else blanked. Both keep the lines of the file.
struct Source {
    path: String,
    text: String,
    code: String,
    comments: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let (code, comments) = take_apart(text);
        Self { path: path.to_owned(), text: text.to_owned(), code, comments }
    }

    fn violations(&self) -> Vec<String> {
        let rules = [
            Self::too_long,
            Self::undocumented,
            Self::empty_names,
            Self::banned_names,
            Self::unfinished,
            Self::ignored_tests,
            Self::sleeping_tests,
            Self::prefixed_tests,
        ];
        rules.iter().flat_map(|rule| rule(self)).collect()
    }

    fn violation(&self, line: usize, why: impl AsRef<str>) -> String {
        format!("{}:{}: {}", self.path, line + 1, why.as_ref())
    }

    /// Whether the whole file is a test, or helps tests only.
    fn is_test(&self) -> bool {
        self.path
            .split('/')
            .any(|part| matches!(part, "tests" | "tests.rs" | "testing" | "testing.rs"))
            || self.path.ends_with("_tests.rs")
    }

    /// The line on which the tests at the end of the file begin; the number of lines without any.
    fn tests_begin(&self) -> usize {
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

    fn code_lines(&self) -> usize {
        self.code.lines().take(self.tests_begin()).filter(|line| !line.trim().is_empty()).count()
    }

    fn too_long(&self) -> Vec<String> {
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

    fn undocumented(&self) -> Vec<String> {
        let first = self.text.lines().find(|line| !line.trim().is_empty());
        if first.is_some_and(|line| line.starts_with("//!")) {
            return Vec::new();
        }
        vec![self.violation(0, "begin the file with `//!` and the idea that it holds")]
    }

    fn empty_names(&self) -> Vec<String> {
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

    fn banned_names(&self) -> Vec<String> {
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

    fn unfinished(&self) -> Vec<String> {
        let mut found = Vec::new();
        let both = self.code.lines().zip(self.comments.lines()).enumerate();
        for (number, (code, comment)) in both {
            let marked =
                ["TODO", "FIXME", "XXX", "HACK"].iter().any(|mark| names_word(comment, mark));
            if marked || code.contains("todo!") || code.contains("unimplemented!") {
                found.push(
                    self.violation(number, "finish it, or leave it out and say so in the README"),
                );
            }
        }
        found
    }

    fn ignored_tests(&self) -> Vec<String> {
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

    fn sleeping_tests(&self) -> Vec<String> {
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

    fn prefixed_tests(&self) -> Vec<String> {
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

/// Edges between crates, and to foreign crates, in every table of dependencies (those of tests too,
/// for a layer's tests run without a network).
fn edges(name: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed, why)) = CRATES.iter().find(|(known, ..)| *known == name) else {
        return vec![format!(
            "{name}/Cargo.toml: enter the crate in CRATES, with the crates that it may name"
        )];
    };
    let mut found = Vec::new();
    for dependency in dependencies(manifest) {
        if let Some(ours) = dependency.strip_prefix("cardea-") {
            if !allowed.contains(&ours) && ours != name {
                found.push(format!("{name}/Cargo.toml: must not name `{dependency}`: {why}"));
            }
        } else if let Some((_, users, why)) =
            FOREIGN.iter().find(|(foreign, ..)| *foreign == dependency)
            && !users.contains(&name)
        {
            found.push(format!("{name}/Cargo.toml: must not name `{dependency}`: {why}"));
        }
    }
    let inherits = manifest.lines().skip_while(|line| line.trim() != "[lints]").nth(1);
    if inherits.is_none_or(|line| line.trim() != "workspace = true") {
        found.push(format!("{name}/Cargo.toml: `[lints] workspace = true` is missing"));
    }
    found
}

/// The names in the dependency tables of a manifest, renamed ones by their real name too.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies");
            if let Some((head, name)) =
                table.rsplit_once('.').filter(|(head, _)| head.ends_with("dependencies"))
            {
                inside = !head.is_empty();
                names.insert(name.to_owned());
            }
        } else if inside && !line.starts_with('#') && line.contains('=') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            names.insert(name.trim_matches('"').to_owned());
            if let Some((_, renamed)) = line.split_once("package = \"") {
                names.extend(renamed.split('"').next().map(str::to_owned));
            }
        }
    }
    names
}

/// Folders that exist on one machine only.
fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let private = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/tmp/", "brief"),
    ];
    let lines =
        text.lines().enumerate().filter(|(_, line)| private.iter().any(|p| line.contains(p)));
    lines.map(|(n, _)| format!("{path}:{}: a path of one machine", n + 1)).collect()
}

/// Exceptions that are wider than what they excuse.
fn stale_exceptions(sources: &[Source], exceptions: &[(&str, usize)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, allowed) in exceptions {
        let lines =
            sources.iter().find(|source| source.path == *path).map_or(0, Source::code_lines);
        if lines < *allowed {
            found.push(format!(
                "{path}: has {lines} code lines; tighten or drop its exception of {allowed}"
            ));
        }
    }
    found
}

/// Excuses for names that the file does not contain.
fn stale_excuses(sources: &[Source], excuses: &[(&str, &[&str], &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, names, _) in excuses {
        let code = sources.iter().find(|source| source.path == *path).map_or("", |s| &s.code);
        for name in names.iter().filter(|name| !names_word(code, name)) {
            found.push(format!("{path}: drop its excuse for `{name}`, which it does not name"));
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `folder` (a crate's production code, or a folder with a slash at its end) holds `path`.
fn is_below(path: &str, folder: &str) -> bool {
    let below = if folder.ends_with('/') { folder.to_owned() } else { format!("{folder}/src/") };
    path.starts_with(&below)
}

/// Whether `line` has `name` as words of its own.
fn names_word(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(is_word)
            && !line[at + name.len()..].chars().next().is_some_and(is_word)
    })
}

/// Splits Rust into code and comments, see [`Source`].
fn take_apart(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let starts = |at: usize, what: &str| {
        what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c))
    };
    let mut at = 0;
    while at < chars.len() {
        let (end, comment) = if starts(at, "//") {
            let length = chars[at..].iter().position(|c| *c == '\n').unwrap_or(chars.len() - at);
            (at + length, true)
        } else if starts(at, "/*") {
            let (mut depth, mut end) = (1, at + 2);
            while depth > 0 && end < chars.len() {
                let step = if starts(end, "/*") {
                    1
                } else if starts(end, "*/") {
                    -1
                } else {
                    0
                };
                depth += step;
                end += if step == 0 { 1 } else { 2 };
            }
            (end, true)
        } else {
            (literal_end(&chars, at), false)
        };
        for (i, &c) in chars[at..end.max(at + 1)].iter().enumerate() {
            // The quotes of a literal stay, so that `concat!("", x)` still looks like code.
            let blanked_literal = end > at + 1 && !comment && i > 0 && i + 1 < end - at;
            let blank = if c == '\n' { '\n' } else { ' ' };
            code.push(if comment || blanked_literal { blank } else { c });
            comments.push(if comment { c } else { blank });
        }
        at = end.max(at + 1);
    }
    (code, comments)
}

/// The end of the string, raw string or character that begins at `at`; `at + 1` if none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let escaped = |quote: char, mut i: usize| {
        while i < chars.len() && chars[i] != quote {
            i += if chars[i] == '\\' { 2 } else { 1 };
        }
        (i + 1).min(chars.len())
    };
    let joined = at > 0 && is_word(chars[at - 1]) && !matches!(chars[at - 1], 'b' | 'c');
    match get(at) {
        '"' => escaped('"', at + 1),
        'r' if !joined && matches!(get(at + 1), '"' | '#') => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            if get(at + 1 + hashes) != '"' {
                return at + 1;
            }
            let mut end = at + 2 + hashes;
            let closes = |i: usize| get(i) == '"' && (1..=hashes).all(|k| get(i + k) == '#');
            while end < chars.len() && !closes(end) {
                end += 1;
            }
            (end + 1 + hashes).min(chars.len())
        }
        // A character, not a lifetime.
        '\'' if get(at + 1) == '\\' || get(at + 2) == '\'' => escaped('\'', at + 1),
        _ => at + 1,
    }
}

mod rules {
    //! Every rule is shown what it must reject, and what it must let pass.

    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path, text)
    }

    fn rejects(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> bool {
        !rule(&source(path, text)).is_empty()
    }

    #[test]
    fn a_long_file_is_rejected_and_its_tests_and_comments_do_not_count() {
        let code = "let a = 1;\n".repeat(CODE_LINES_MAX);
        let rest = format!("\n// why\n/* and\nwhy */\n#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert!(!rejects(Source::too_long, "raft/src/a.rs", &format!("//! A.\n{code}{rest}")));
        assert!(rejects(Source::too_long, "raft/src/a.rs", &format!("{code}let b = 2;\n{rest}")));
        // A marker that opens no module at the end hides nothing.
        for hidden in ["#[cfg(test)]\nmod tests;\n", "#[cfg(test)]\nuse a::b;\n"] {
            assert!(rejects(
                Source::too_long,
                "raft/src/a.rs",
                &format!("{hidden}{code}let b = 2;\n")
            ));
        }
    }

    #[test]
    fn an_exception_that_is_too_wide_is_rejected() {
        let sources = [source("raft/src/a.rs", "let a = 1;\n".repeat(7).as_str())];
        assert!(stale_exceptions(&sources, &[("raft/src/a.rs", 7)]).is_empty());
        assert_eq!(
            stale_exceptions(&sources, &[("raft/src/a.rs", 8), ("raft/src/gone.rs", 1)]).len(),
            2
        );
    }

    #[test]
    fn an_excuse_for_what_is_not_there_is_rejected() {
        let sources = [source("raft/src/a.rs", "// rand\nlet now = Instant::now();\n")];
        let excuse: &[&str] = &["Instant::now", "rand"];
        assert_eq!(stale_excuses(&sources, &[("raft/src/a.rs", excuse, "why")]).len(), 1);
        assert_eq!(stale_excuses(&sources, &[("raft/src/b.rs", excuse, "why")]).len(), 2);
    }

    #[test]
    fn a_file_without_its_idea_is_rejected() {
        assert!(!rejects(Source::undocumented, "raft/src/a.rs", "\n//! A.\n"));
        for text in ["", "use a;\n//! A.\n", "// A.\n", "/// A.\nstruct A;\n"] {
            assert!(rejects(Source::undocumented, "raft/src/a.rs", text), "{text:?}");
        }
    }

    #[test]
    fn names_that_say_nothing_are_rejected() {
        for path in ["api/src/utils.rs", "api/src/helpers/a.rs", "api/src/common/mod.rs"] {
            assert!(rejects(Source::empty_names, path, "//! A.\n"), "{path}");
        }
        assert!(rejects(Source::empty_names, "api/src/a.rs", "pub(crate) mod manager {\n}\n"));
        let fine = "//! mod utils;\nmod utility_bill;\nlet manager = misc;\n";
        assert!(!rejects(Source::empty_names, "api/src/commons.rs", fine));
    }

    #[test]
    fn clocks_and_chance_are_rejected_outside_of_node() {
        let clock = "let now = SystemTime::now();\n";
        assert!(rejects(Source::banned_names, "identity/src/a.rs", clock));
        assert!(!rejects(Source::banned_names, "node/src/clock.rs", clock));
        assert!(!rejects(Source::banned_names, "identity/tests/a.rs", clock));
        assert!(!rejects(
            Source::banned_names,
            "identity/src/a.rs",
            "// SystemTime::now()\nlet a = \"rand\";\n"
        ));
        assert!(!rejects(
            Source::banned_names,
            "identity/src/a.rs",
            &format!("#[cfg(test)]\nmod tests {{\n{clock}}}\n")
        ));
        for line in ["getrandom::fill(b)", "let id = Uuid::new_v4();", "use rand::Rng;"] {
            assert!(rejects(Source::banned_names, "raft/src/a.rs", line), "{line}");
        }
        assert!(!rejects(Source::banned_names, "raft/src/a.rs", "let operand = brand;\n"));
        assert!(rejects(Source::banned_names, "api/src/a.rs", "let t = Instant::now();\n"));
    }

    #[test]
    fn apply_may_not_iterate_hash_maps_wait_or_read_files() {
        let lines = [
            "use std::collections::HashMap;",
            "async fn f() {}",
            "f().await;",
            "std::fs::read(p)",
            "Instant::now()",
        ];
        for line in lines {
            assert!(rejects(Source::banned_names, "storage/src/machine/apply.rs", line), "{line}");
        }
        assert!(!rejects(
            Source::banned_names,
            "storage/src/machine/apply.rs",
            "let m = BTreeMap::new();"
        ));
        assert!(!rejects(
            Source::banned_names,
            "storage/src/tablet/mod.rs",
            "let m = HashMap::new();"
        ));
    }

    #[test]
    fn openraft_is_named_by_raft_alone() {
        let line = "use openraft::Raft;\n";
        assert!(rejects(Source::banned_names, "cluster/src/a.rs", line));
        assert!(!rejects(Source::banned_names, "raft/src/a.rs", line));
        assert!(rejects(Source::banned_names, "api/src/a.rs", "use cardea_cluster::Router;\n"));
    }

    #[test]
    fn unfinished_work_is_rejected() {
        let marks = [
            "// TODO later",
            "/* FIXME */",
            "let a = 1; // XXX",
            "todo!()",
            "unimplemented!(\"b\")",
        ];
        for line in marks {
            assert!(rejects(Source::unfinished, "raft/src/a.rs", line), "{line}");
        }
        assert!(!rejects(
            Source::unfinished,
            "raft/src/a.rs",
            "let a = \"TODO\"; // TODOS of a person\n"
        ));
    }

    #[test]
    fn ignored_tests_are_rejected() {
        for line in ["#[ignore]", "#[ignore = \"slow\"]", "#[cfg_attr(miri, ignore)]"] {
            assert!(rejects(Source::ignored_tests, "raft/tests/a.rs", line), "{line}");
        }
        assert!(!rejects(
            Source::ignored_tests,
            "raft/tests/a.rs",
            "// #[ignore]\nlet ignore = 1;\n"
        ));
    }

    #[test]
    fn a_sleep_in_a_test_needs_its_reason() {
        for line in ["thread::sleep(a);", "tokio::time::sleep(a).await;", "    sleep(a).await;"] {
            assert!(rejects(Source::sleeping_tests, "raft/tests/a.rs", line), "{line}");
            assert!(rejects(
                Source::sleeping_tests,
                "raft/src/a.rs",
                &format!("#[cfg(test)]\nmod tests {{\n{line}\n}}")
            ));
            assert!(!rejects(Source::sleeping_tests, "raft/src/a.rs", line), "{line}");
            let why = format!("// Nothing announces the end of a lease.\n{line}");
            assert!(!rejects(Source::sleeping_tests, "raft/tests/a.rs", &why), "{line}");
            let line = line.trim();
            let poll = format!("while !done() {{\n    step();\n    {line}\n}}\n");
            assert!(!rejects(Source::sleeping_tests, "raft/tests/a.rs", &poll), "{line}");
            assert!(rejects(Source::sleeping_tests, "raft/tests/a.rs", &format!("{poll}{line}")));
        }
    }

    #[test]
    fn tests_named_test_are_rejected() {
        assert!(rejects(Source::prefixed_tests, "raft/tests/a.rs", "#[test]\nfn test_it() {}\n"));
        assert!(rejects(
            Source::prefixed_tests,
            "raft/tests/a.rs",
            "#[tokio::test]\nasync fn test_it() {}\n"
        ));
        assert!(!rejects(
            Source::prefixed_tests,
            "raft/tests/a.rs",
            "#[test]\nfn a_vote_survives() {}\n"
        ));
    }

    #[test]
    fn paths_of_one_machine_are_rejected() {
        assert_eq!(machine_paths("a.md", concat!("see /wo", "rk/main\nand /ho", "me/me")).len(), 2);
        assert!(machine_paths("a.md", "homework/1, $HOME/.cache, /var/lib/cardea").is_empty());
    }

    #[test]
    fn forbidden_edges_are_rejected() {
        let manifest =
            |rest: &str| format!("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n\n{rest}");
        let wrong = [
            ("storage", "[dependencies]\ncardea-raft.workspace = true\n"),
            ("identity", "[dev-dependencies]\ncardea-cluster = { path = \"../cluster\" }\n"),
            ("cluster", "[dependencies]\nopenraft.workspace = true\n"),
            (
                "cluster",
                "[dependencies]\nagreement = { package = \"openraft\", version = \"1\" }\n",
            ),
            ("cluster", "[dependencies.openraft]\nversion = \"1\"\n"),
            ("storage", "[target.'cfg(unix)'.dependencies]\naxum = \"1\"\n"),
            ("api", "[build-dependencies]\nanyhow = \"1\"\n"),
            ("oauth", "[dependencies]\n"),
        ];
        for (name, rest) in wrong {
            assert_eq!(edges(name, &manifest(rest)).len(), 1, "{name}: {rest}");
        }
        assert!(!edges("api", "[package]\nname = \"a\"\n").is_empty(), "lints are inherited");
        let fine = "[dependencies]\ncardea-storage.workspace = true\n# openraft\n[features]\nopenraft = []\n";
        assert_eq!(edges("identity", &manifest(fine)), Vec::<String>::new());
    }

    #[test]
    fn sources_are_taken_apart_into_code_and_comments() {
        let text = "let a = r#\"// \"x\" no\"#; // yes\nlet b = '\"'; /* /* in */ on */ f::<'_>(b\"\\\"// no\");\n";
        let (code, comments) = take_apart(text);
        assert!(!code.contains("no") && !comments.contains("no"), "{code}{comments}");
        assert!(
            code.contains("let b") && code.contains("f::<'_>(b\"") && code.ends_with(");\n"),
            "{code}"
        );
        assert!(comments.contains("// yes") && comments.contains("on */"), "{comments}");
        assert_eq!((code.lines().count(), comments.lines().count()), (2, 2));
    }
}
