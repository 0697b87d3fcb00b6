//! Rules on manifests and other texts: who may depend on whom, and no path of one machine.

use std::collections::BTreeSet;

use crate::{CRATES, FOREIGN, source::Source, words::names_word};

/// Edges between crates, and to foreign crates, in every table of dependencies (those of tests too,
/// for a layer's tests run without a network).
pub(crate) fn edges(name: &str, manifest: &str) -> Vec<String> {
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
pub(crate) fn dependencies(manifest: &str) -> BTreeSet<String> {
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
pub(crate) fn machine_paths(path: &str, text: &str) -> Vec<String> {
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

/// Tests that a document names (in backquotes, in words with `_` between) and that no source has.
pub(crate) fn unheld(path: &str, text: &str, sources: &[Source]) -> Vec<String> {
    let named = text.split('`').skip(1).step_by(2);
    let is_test = |name: &&str| {
        name.contains('_')
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
    };
    let has = |name: &str| {
        let function = format!("fn {name}");
        sources.iter().any(|source| names_word(&source.code, &function))
    };
    named
        .filter(is_test)
        .filter(|name| !has(name))
        .map(|name| format!("{path}: no test is called `{name}`"))
        .collect()
}
