//! Backup codes: twelve, each good once. Forty bits each, so they are kept as keyed
//! digests of their identity; beside them a sealed copy, for their owner to see again.

use cardea_storage::{Entropy, Secret};

/// How many there are.
pub const CODES: usize = 12;
const CODE_CHARS: usize = 8;
/// 32 letters and digits that are not mistaken for each other.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// New codes.
pub fn draw(entropy: &dyn Entropy) -> Vec<Secret<String>> {
    (0..CODES)
        .map(|_| {
            let bytes: [u8; CODE_CHARS] = entropy.bytes();
            Secret::new(bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)])).collect())
        })
        .collect()
}

/// A code as it was typed, without what people add: spaces, dashes, capitals.
pub fn normalized(typed: &str) -> String {
    let meant = typed.chars().filter(|c| !c.is_whitespace() && *c != '-');
    meant.flat_map(char::to_lowercase).collect()
}

/// Codes in the form that is sealed.
pub fn joined(codes: &[Secret<String>]) -> Secret<String> {
    let codes: Vec<&str> = codes.iter().map(|code| code.expose().as_str()).collect();
    Secret::new(codes.join(" "))
}

/// Reads that form.
pub fn split(text: &str) -> Vec<Secret<String>> {
    text.split(' ')
        .filter(|code| !code.is_empty())
        .map(|code| Secret::new(code.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use cardea_storage::SeededEntropy;

    use super::*;

    #[test]
    fn codes_are_many_alike_and_read_back() {
        let codes = draw(&SeededEntropy::new(1));
        assert_eq!(codes.len(), 12);
        let text = joined(&codes);
        let read = split(text.expose());
        let all: std::collections::BTreeSet<_> = read.iter().map(|code| code.expose()).collect();
        assert_eq!(all.len(), 12);
        for code in &read {
            assert_eq!(code.expose().len(), 8);
            assert_eq!(normalized(code.expose()), *code.expose());
        }
        assert_eq!(normalized(" ABCD-efgh "), "abcdefgh");
        assert!(split("").is_empty());
    }
}
