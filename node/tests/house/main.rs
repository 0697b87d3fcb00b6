//! The house rules, as tests: what reviewers would otherwise have to watch for.
//!
//! Each rule is a function from sources or manifests to violations, and each violation says why. The
//! rules run over the whole tree in `the_house_keeps_its_rules`; every rule is also shown samples
//! that it must reject and others that it must accept, because a test that cannot fail is none. Only
//! the standard library is used, so that `make lint` compiles this folder alone, in a second.
//! Limits and exceptions only ever tighten: an exception that is no longer needed is a violation.

#![allow(clippy::unwrap_used, reason = "a tree that cannot be read is a failed test")]

mod documents;
mod exception;
mod manifest;
mod samples;
mod source;
mod words;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use documents::lost_files;
use exception::{stale_exceptions, stale_excuses};
use manifest::{edges, machine_paths, unheld};
use source::Source;

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
    (
        "tonic",
        &["raft", "cluster", "api", "node"],
        "storage and the layers never speak to a network",
    ),
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
    ("raft/src/clockwork.rs", &["thread_rng"], "names what openraft is given, and draws nothing"),
    (
        "identity/src/password/pool.rs",
        &["Instant::now"],
        "measures what hashing costs, and decides nothing by it",
    ),
];

/// Where secrets are compared with what strangers bring.
const COMPARED_IN: &[&str] = &["identity", "api", "node", "permission"];

/// Comparisons that look as if they were of secrets: `(path, name, why they may end early)`.
const COMPARED: &[(&str, &str, &str)] = &[
    ("identity/src/audit/mod.rs", "digest", "links of the chain, both from the store"),
    ("identity/src/flow/login/lookup_secret.rs", "digest", "the same code in a newer record"),
    ("identity/src/flow/login/password.rs", "password_hash", "the same hash in a newer record"),
    ("identity/src/identity/draft.rs", "digest", "addresses of one identity"),
    ("identity/src/identity/import.rs", "import_digest", "what an administrator imports twice"),
    ("identity/src/jsonnet/lexer.rs", "token", "a word of a program"),
    ("identity/src/schema/phone.rs", "code", "of a country"),
    ("identity/src/session/revoke.rs", "logout_digest", "both made here"),
];

/// Says of each class of advisories which tests hold it.
const SECURITY: &str = "docs/security.md";

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
        if path == SECURITY {
            violations.extend(unheld(path, text, &house.sources));
        }
        violations.extend(lost_files(path, text, |file| root.join(file).exists()));
    }
    violations.extend(stale_exceptions(&house.sources, LONGER_FILES));
    violations.extend(stale_excuses(&house.sources, EXCUSED));
    let compared: Vec<(&str, &[&str], &str)> = COMPARED
        .iter()
        .map(|(path, name, why)| (*path, std::slice::from_ref(name), *why))
        .collect();
    violations.extend(stale_excuses(&house.sources, &compared));
    assert!(house.texts.iter().any(|(path, _)| path == SECURITY), "{SECURITY} is gone");
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
/// worktree has a file `.git`), and for what others wrote.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap_or_default();
        let left_behind =
            name == "target" || name.starts_with('.') && name != ".ci" && name != ".cargo";
        if path.is_dir() && !left_behind && name != "third_party" {
            walk(&path, files);
        } else if path.is_file() && name != "Cargo.lock" && name != ".git" {
            files.push(path);
        }
    }
}
