//! Which passwords are refused. NIST SP 800-63B: length counts, composition does
//! not, and neither do passwords that everybody tries first. Similarity to an identifier
//! is judged as Kratos does.

use super::known::is_common;
use crate::ui::Text;

/// Bytes compared for similarity; longer identifiers are cut. Bounds the work.
const COMPARED_CHARS_MAX: usize = 256;
/// A password that this few edits turn into the identifier is too similar.
const DISTANCE_MIN: usize = 5;

/// What a password must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Shortest password, in characters.
    pub length_min: usize,
    /// Longest password, in bytes. Nothing is ever cut off: longer is refused.
    pub length_bytes_max: usize,
    /// Whether a password may not resemble an identifier.
    pub identifier_similarity_check: bool,
    /// Whether a password may not be one of the most common ones.
    pub common_passwords_refused: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            length_min: 8,
            length_bytes_max: 1024,
            identifier_similarity_check: true,
            common_passwords_refused: true,
        }
    }
}

/// Why a password is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyViolation {
    /// Too short; characters.
    TooShort {
        /// The bound.
        length_min: usize,
        /// What it was.
        length: usize,
    },
    /// Too long; bytes.
    TooLong {
        /// The bound.
        length_max: usize,
        /// What it was.
        length: usize,
    },
    /// Too similar to an identifier.
    TooSimilar,
    /// Known to everybody.
    Common,
}

impl PolicyViolation {
    /// The message that an interface shows.
    pub fn text(self) -> Text {
        match self {
            Self::TooShort { length_min, length } => Text::password_too_short(length_min, length),
            Self::TooLong { length_max, length } => Text::password_too_long(length_max, length),
            Self::TooSimilar => Text::password_too_similar(),
            Self::Common => Text::password_breached(),
        }
    }
}

impl Policy {
    /// Judges a password.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn check(&self, password: &str, identifiers: &[String]) -> Result<(), PolicyViolation> {
        if password.len() > self.length_bytes_max {
            return Err(PolicyViolation::TooLong {
                length_max: self.length_bytes_max,
                length: password.len(),
            });
        }
        let length = password.chars().count();
        if length < self.length_min {
            return Err(PolicyViolation::TooShort { length_min: self.length_min, length });
        }
        if self.identifier_similarity_check
            && identifiers.iter().any(|identifier| is_similar(identifier, password))
        {
            return Err(PolicyViolation::TooSimilar);
        }
        if self.common_passwords_refused && is_common(password) {
            return Err(PolicyViolation::Common);
        }
        Ok(())
    }
}

/// Few edits apart, or more than half of the password is a stretch of the
/// identifier; letter case does not count.
fn is_similar(identifier: &str, password: &str) -> bool {
    let cut = |text: &str| -> Vec<char> {
        text.to_lowercase().chars().take(COMPARED_CHARS_MAX).collect()
    };
    let (identifier, password) = (cut(identifier), cut(password));
    if identifier.is_empty() || password.is_empty() {
        return false;
    }
    distance(&identifier, &password) < DISTANCE_MIN
        || 2 * common_stretch(&identifier, &password) > password.len()
}

/// Levenshtein distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = above[0];
        above[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = above[j + 1];
            above[j + 1] = cost.min(above[j] + 1).min(diagonal + 1);
        }
    }
    above[b.len()]
}

/// Length of the longest common substring.
fn common_stretch(a: &[char], b: &[char]) -> usize {
    let mut longest = 0;
    let mut above = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let run = if x == y { diagonal + 1 } else { 0 };
            diagonal = above[j + 1];
            above[j + 1] = run;
            longest = longest.max(run);
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_judged_by_length_and_similarity() {
        let policy = Policy::default();
        let long = "x".repeat(1025);
        let fits = "x".repeat(1024);
        let short = |length| Err(PolicyViolation::TooShort { length_min: 8, length });
        let table: [(&str, &str, Result<(), PolicyViolation>); 15] = [
            ("ann@example.org", "correct horse battery", Ok(())),
            ("ann@example.org", "1234567", short(7)),
            ("ann@example.org", "", short(0)),
            ("ann@example.org", "ééééééé", short(7)),
            ("ann@example.org", "éééééééé", Ok(())),
            (
                "ann@example.org",
                &long,
                Err(PolicyViolation::TooLong { length_max: 1024, length: 1025 }),
            ),
            ("ann@example.org", &fits, Ok(())),
            ("ann@example.org", "ann@example.org", Err(PolicyViolation::TooSimilar)),
            ("ann@example.org", "ANN@EXAMPLE.org1", Err(PolicyViolation::TooSimilar)),
            ("ann@example.org", "example.org", Err(PolicyViolation::TooSimilar)),
            ("ann@example.org", "example.12345678", Ok(())),
            ("annannann", "annannan1234", Err(PolicyViolation::TooSimilar)),
            ("a", "bcdefghij", Ok(())),
            ("", "bcdefghij", Ok(())),
            ("ann@example.org", "Baseball", Err(PolicyViolation::Common)),
        ];
        for (identifier, password, verdict) in table {
            assert_eq!(policy.check(password, &[identifier.to_owned()]), verdict, "{password:.20}");
        }
    }

    #[test]
    fn similarity_can_be_switched_off() {
        let policy = Policy { identifier_similarity_check: false, ..Policy::default() };
        assert_eq!(policy.check("ann@example.org", &["ann@example.org".to_owned()]), Ok(()));
    }

    #[test]
    fn common_passwords_can_be_let_through() {
        let policy = Policy { common_passwords_refused: false, ..Policy::default() };
        assert_eq!(policy.check("baseball", &[]), Ok(()));
    }

    #[test]
    fn every_identifier_is_compared() {
        let identifiers = ["other".to_owned(), "annannann".to_owned()];
        let verdict = Policy::default().check("annannann", &identifiers);
        assert_eq!(verdict, Err(PolicyViolation::TooSimilar));
    }

    #[test]
    fn distances_are_those_of_the_books() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let table = [("kitten", "sitting", 3, 3), ("", "abc", 3, 0), ("flaw", "lawn", 2, 3)];
        for (a, b, edits, stretch) in table {
            assert_eq!(distance(&chars(a), &chars(b)), edits, "{a} {b}");
            assert_eq!(common_stretch(&chars(a), &chars(b)), stretch, "{a} {b}");
        }
    }
}
