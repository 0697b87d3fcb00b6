//! What documents say of the tree.

use std::path::{Component, Path, PathBuf};

use crate::CRATES;

/// Files that a document names and that are not there: the targets of its links, and
/// paths of code between backticks.
pub(crate) fn lost_files(path: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let path = Path::new(path);
    let documents = path.extension().is_some_and(|extension| extension == "md");
    let mut lost = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|_| documents) {
        let links = between(line, "](", ")").filter(|link| !link.contains(':'));
        let links = links.map(|link| link.split('#').next().unwrap_or_default());
        let links = links.filter(|link| !link.is_empty());
        let named = links.map(|link| resolved(path.parent().unwrap_or(Path::new("")), link));
        let code = between(line, "`", "`").filter(|name| is_path_of_code(name));
        for file in named.chain(code.map(PathBuf::from)).filter(|file| !exists(file)) {
            lost.push(format!(
                "{}:{}: {} is not there",
                path.display(),
                number + 1,
                file.display()
            ));
        }
    }
    lost
}

/// What stands between two marks, each pair apart.
fn between<'a>(line: &'a str, from: &'a str, to: &'a str) -> impl Iterator<Item = &'a str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let (_, behind) = rest.split_once(from)?;
        let (inside, behind) = behind.split_once(to)?;
        rest = behind;
        Some(inside)
    })
}

/// A file of one of our crates, and no pattern, command or sentence.
fn is_path_of_code(name: &str) -> bool {
    let crates = || CRATES.iter().map(|(name, ..)| *name);
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    plain
        && name.ends_with(".rs")
        && name.split_once('/').is_some_and(|(folder, _)| crates().any(|known| known == folder))
}

fn resolved(folder: &Path, link: &str) -> PathBuf {
    let mut file = folder.to_path_buf();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => _ = file.pop(),
            Component::Normal(name) => file.push(name),
            _ => {}
        }
    }
    file
}

#[test]
fn documents_that_name_what_is_not_there_are_rejected() {
    let lost = |text: &str| {
        let there = ["docs/a.md", "chaos/README.md", "raft/src/lib.rs"];
        lost_files("docs/b.md", text, |file| there.iter().any(|known| Path::new(known) == file))
            .len()
    };
    let fine = "[a](a.md#part) [here](#part) [far](https://example.com/x.md) [up](../chaos/README.md) `raft/src/lib.rs` `raft/src/*.rs`, `api/src/<service>/`";
    assert_eq!(lost(fine), 0);
    assert_eq!(lost("[a](c.md)\n[b](../a.md) `raft/src/gone.rs`"), 3);
    assert!(lost_files("raft/src/lib.rs", "//! [a](gone.md)", |_| false).is_empty());
}
