//! Passwords that everybody tries first: refused without asking anybody.
//!
//! The list is bundled, as the beginnings of SHA-1 digests: small, sorted, and nothing
//! to read over a shoulder. It was made by `scripts/known-passwords` from the frequency
//! lists of zxcvbn (MIT license, Dropbox, Inc.), and holds what has eight characters or
//! more. Of passwords that are not on it, one in a hundred million is refused for its
//! digest.
//!
//! Few of them have the fifteen characters that a password needs which stands alone, and
//! people make those of what they know: `passwordpassword`, `qwertyuiopasdfgh`,
//! `password12345678`. So what is put together of two parts that are known, are in a row or
//! repeat a few characters is refused with them (NIST SP 800-63B-4, 3.1.1.2: values that
//! are commonly used or expected).

use sha1::{Digest as _, Sha1};

/// Bytes of each digest.
const BYTES: usize = 5;
static LIST: &[u8] = include_bytes!("known.bin");

/// What is in a row, from any character to any other, and back.
const ROWS: [&str; 5] = [
    "012345678901234567890",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
];
/// Characters of a part that is in a row or repeats itself, at least.
const PART_MIN: usize = 4;
/// Characters of what is repeated, at most, if it is not on the list.
const REPEATED_MAX: usize = 4;
/// Longer passwords are not looked at in parts.
const DIVIDED_MAX: usize = 64;

/// Whether a password is among the most common ones, or made of two such parts. Letter
/// case does not count.
pub(super) fn is_common(password: &str) -> bool {
    let text = password.to_lowercase();
    if is_obvious(&text) {
        return true;
    }
    let mut places = text.char_indices().skip(1);
    text.len() <= DIVIDED_MAX
        && places.any(|(at, _)| is_obvious(&text[..at]) && is_obvious(&text[at..]))
}

/// Whether it is on the list, in a row, or the same again and again.
fn is_obvious(text: &str) -> bool {
    is_listed(text) || (text.chars().count() >= PART_MIN && (is_in_a_row(text) || repeats(text)))
}

fn is_in_a_row(text: &str) -> bool {
    let back: String = text.chars().rev().collect();
    ROWS.iter().any(|row| row.contains(text) || row.contains(&back))
}

fn repeats(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    let again = |len: usize| chars.iter().zip(&chars[len..]).all(|(one, next)| one == next);
    let known = |len: usize| len <= REPEATED_MAX || is_listed(&String::from_iter(&chars[..len]));
    (1..=chars.len() / 2).any(|len| again(len) && known(len))
}

fn is_listed(text: &str) -> bool {
    let digest = Sha1::digest(text.as_bytes());
    let (mut from, mut to) = (0, LIST.len() / BYTES);
    while from < to {
        let middle = usize::midpoint(from, to);
        let entry = &LIST[middle * BYTES..(middle + 1) * BYTES];
        match entry.cmp(&digest[..BYTES]) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => from = middle + 1,
            std::cmp::Ordering::Greater => to = middle,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_common_passwords_are_known_and_others_are_not() {
        for common in ["password", "12345678", "trustno1", "Iloveyou", "QWERTYUIOP"] {
            assert!(is_common(common), "{common}");
        }
        for other in ["correct horse battery", "", "pass", "iloveyou iloveyou", "qwertyuiop "] {
            assert!(!is_common(other), "{other}");
        }
    }

    #[test]
    fn what_is_made_of_two_obvious_parts_is_no_better() {
        for common in [
            "passwordpassword",
            "passwordpasswordpassword",
            "Password12345678",
            "123456789012345",
            "098765432109876",
            "qwertyuiopasdfgh",
            "abcabcabcabcabcabc",
            "aaaaaaaaaaaaaaaa",
            "ääääääääääääääää",
            "1234abcdefghijkl",
            "sunshineababababa",
        ] {
            assert!(is_common(common), "{common}");
        }
        for other in [
            "password and 1234",
            "mypasswordissafe",
            "sunshine over kiel",
            "aaaaaaaaaaaaaaab",
            "horse-horse-horse-horse",
        ] {
            assert!(!is_common(other), "{other}");
        }
    }

    #[test]
    fn list_is_sorted_and_whole() {
        assert_eq!(LIST.len() % BYTES, 0);
        let entries: Vec<_> = LIST.chunks(BYTES).collect();
        assert!(entries.len() > 10_000);
        assert!(entries.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
