//! Which passwords are refused. NIST SP 800-63B-4 section 3.1.1.2: length counts, more of
//! it where the password stands alone; composition does not, and neither do passwords that
//! everybody tries first. Similarity to an identifier is judged as Kratos does. New
//! passwords are judged alone: what somebody has already keeps working.

use super::known::is_common;
use crate::ui::Text;

/// Bytes compared for similarity; longer identifiers are cut. Bounds the work.
const COMPARED_CHARS_MAX: usize = 256;
/// A password that this few edits turn into the identifier is too similar.
const DISTANCE_MIN: usize = 5;

/// What a password must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Shortest password that stands alone, in characters.
    pub length_min: usize,
    /// Shortest password beside a second factor, in characters, if that is less.
    pub length_min_beside_second: usize,
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
            length_min: 15,
            length_min_beside_second: 8,
            length_bytes_max: 1024,
            identifier_similarity_check: true,
            common_passwords_refused: true,
        }
    }
}

/// What a password stands beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It logs in by itself.
    Alone,
    /// Its identity has a second factor.
    BesideSecond,
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
    /// Known to everybody, or found in a breach.
    Common,
    /// Nobody could say whether it was found in a breach.
    NotJudged,
}

impl PolicyViolation {
    /// The message that an interface shows.
    pub fn text(self) -> Text {
        match self {
            Self::TooShort { length_min, length } => Text::password_too_short(length_min, length),
            Self::TooLong { length_max, length } => Text::password_too_long(length_max, length),
            Self::TooSimilar => Text::password_too_similar(),
            Self::Common => Text::password_breached(),
            Self::NotJudged => Text::password_not_judged(),
        }
    }
}

impl Policy {
    /// Judges a password.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn check(
        &self,
        password: &str,
        identifiers: &[String],
        standing: Standing,
    ) -> Result<(), PolicyViolation> {
        if password.len() > self.length_bytes_max {
            return Err(PolicyViolation::TooLong {
                length_max: self.length_bytes_max,
                length: password.len(),
            });
        }
        self.check_length(password.chars().count(), standing)?;
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

    /// The fewest characters of a password.
    pub fn least(&self, standing: Standing) -> usize {
        match standing {
            Standing::Alone => self.length_min,
            Standing::BesideSecond => self.length_min.min(self.length_min_beside_second),
        }
    }

    /// Judges the length of a password, in characters.
    ///
    /// # Errors
    /// If it is too short for what it stands beside.
    pub fn check_length(&self, length: usize, standing: Standing) -> Result<(), PolicyViolation> {
        let length_min = self.least(standing);
        if length < length_min {
            return Err(PolicyViolation::TooShort { length_min, length });
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

    /// So many characters that nobody would call obvious.
    fn various(length: usize) -> String {
        (0_u32..)
            .flat_map(|n| (n * n * 7919).to_string().into_bytes())
            .map(char::from)
            .take(length)
            .collect()
    }

    #[test]
    fn passwords_are_judged_by_length_and_similarity() {
        let policy = Policy::default();
        let fits = various(1024);
        let long = various(1025);
        let short = |length| Err(PolicyViolation::TooShort { length_min: 8, length });
        let table: [(&str, &str, Result<(), PolicyViolation>); 16] = [
            ("ann@example.org", "correct horse battery", Ok(())),
            ("ann@example.org", "1234567", short(7)),
            ("ann@example.org", "", short(0)),
            ("ann@example.org", "ééééééé", short(7)),
            ("ann@example.org", "éèêëéèêè", Ok(())),
            ("ann@example.org", "éééééééé", Err(PolicyViolation::Common)),
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
            ("a", "bdfhjlnpr", Ok(())),
            ("", "bdfhjlnpr", Ok(())),
            ("ann@example.org", "Baseball", Err(PolicyViolation::Common)),
        ];
        for (identifier, password, verdict) in table {
            let judged = policy.check(password, &[identifier.to_owned()], Standing::BesideSecond);
            assert_eq!(judged, verdict, "{password:.20}");
        }
    }

    #[test]
    fn passwords_that_stand_alone_are_longer() {
        let policy = Policy::default();
        let judged = |length: usize, standing| policy.check(&various(length), &[], standing);
        let short = |length_min, length| Err(PolicyViolation::TooShort { length_min, length });
        assert_eq!(judged(14, Standing::Alone), short(15, 14));
        assert_eq!(judged(15, Standing::Alone), Ok(()));
        assert_eq!(judged(7, Standing::BesideSecond), short(8, 7));
        assert_eq!(judged(8, Standing::BesideSecond), Ok(()));
        // A second factor never asks for more.
        let policy = Policy { length_min: 6, ..policy };
        assert_eq!(policy.check(&various(7), &[], Standing::BesideSecond), Ok(()));
        assert_eq!(policy.check(&various(5), &[], Standing::BesideSecond), short(6, 5));
    }

    #[test]
    fn similarity_can_be_switched_off() {
        let policy = Policy { identifier_similarity_check: false, ..Policy::default() };
        let identifiers = ["ann@example.org".to_owned()];
        assert_eq!(policy.check("ann@example.org", &identifiers, Standing::Alone), Ok(()));
    }

    #[test]
    fn common_passwords_can_be_let_through() {
        let policy = Policy { common_passwords_refused: false, ..Policy::default() };
        assert_eq!(policy.check("baseball", &[], Standing::BesideSecond), Ok(()));
    }

    #[test]
    fn every_identifier_is_compared() {
        let identifiers = ["other".to_owned(), "annannann".to_owned()];
        let policy = Policy::default();
        let verdict = policy.check("annannann", &identifiers, Standing::BesideSecond);
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
