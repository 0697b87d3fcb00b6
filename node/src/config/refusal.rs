//! Why a configuration is refused, and the nearest name for a mistyped one.

use std::fmt;

use super::layers::Origin;

/// One thing wrong with a configuration. All that are found are reported at
/// once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where the value came from.
    pub origin: Option<Origin>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            // A flag such as `--set raft.heartbeat` names the setting itself.
            Some(Origin::Flag(flag)) if names_setting(flag, &self.message) => {
                write!(f, "--set {}", self.message)
            }
            Some(origin) => write!(f, "{origin}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

fn names_setting(flag: &str, message: &str) -> bool {
    let name = flag.strip_prefix("--set ");
    name.is_some_and(|name| message.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
}

/// A refused configuration: everything that was found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub Vec<Refusal>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is refused")?;
        for refusal in &self.0 {
            write!(f, "\n  {refusal}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

/// The candidate nearest to `name` by edit distance, if one is near enough to
/// be what was meant: at most a third of the name's length.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + name.len().max(candidate.len()) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between two
/// words (optimal string alignment).
pub fn edit_distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits_and_swaps() {
        for (left, right, wanted) in [
            ("", "", 0),
            ("a", "", 1),
            ("listen", "lisetn", 1),
            ("data_dir", "datadir", 1),
            ("abc", "xyz", 3),
        ] {
            assert_eq!(edit_distance(left, right), wanted, "{left} {right}");
            assert_eq!(edit_distance(right, left), wanted, "{right} {left}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        let names = ["public.listen", "admin.listen", "node.data_dir"];
        assert_eq!(nearest("public.lisen", names), Some("public.listen"));
        assert_eq!(nearest("node.datadir", names), Some("node.data_dir"));
        assert_eq!(nearest("zebra", names), None);
    }
}
