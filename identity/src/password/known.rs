//! Passwords that everybody tries first: refused without asking anybody.
//!
//! The list is bundled, as the beginnings of SHA-1 digests: small, sorted, and nothing
//! to read over a shoulder. It was made by `scripts/known-passwords` from the frequency
//! lists of zxcvbn (MIT license, Dropbox, Inc.), and holds what has eight characters or
//! more. Of passwords that are not on it, one in a hundred million is refused for its
//! digest.

use sha1::{Digest as _, Sha1};

/// Bytes of each digest.
const BYTES: usize = 5;
static LIST: &[u8] = include_bytes!("known.bin");

/// Whether a password is among the most common ones. Letter case does not count.
pub(super) fn is_common(password: &str) -> bool {
    let digest = Sha1::digest(password.to_lowercase().as_bytes());
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
    fn list_is_sorted_and_whole() {
        assert_eq!(LIST.len() % BYTES, 0);
        let entries: Vec<_> = LIST.chunks(BYTES).collect();
        assert!(entries.len() > 10_000);
        assert!(entries.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
