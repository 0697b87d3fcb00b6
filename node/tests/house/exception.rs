//! Exceptions only ever tighten: one that is not needed any more is a violation.

use crate::{source::Source, words::names_word};

/// Exceptions that are wider than what they excuse.
pub(crate) fn stale_exceptions(sources: &[Source], exceptions: &[(&str, usize)]) -> Vec<String> {
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
pub(crate) fn stale_excuses(sources: &[Source], excuses: &[(&str, &[&str], &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, names, _) in excuses {
        let code = sources.iter().find(|source| source.path == *path).map_or("", |s| &s.code);
        for name in names.iter().filter(|name| !names_word(code, name)) {
            found.push(format!("{path}: drop its excuse for `{name}`, which it does not name"));
        }
    }
    found
}
