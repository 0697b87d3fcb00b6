//! Request ids: one follows a request through forwarded hops and log lines.

use std::fmt;

use cardea_storage::Entropy;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The id of a request, among its extensions and in its answer's headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The header that carries it.
    pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");
    /// The longest id taken from outside.
    const LONGEST: usize = 128;

    /// The id that the caller sent, if it is a sane one (1 to 128 letters,
    /// digits, `-`, `_`, `.`, `:`, `/`, `+`, `=`), else a new one: a log must
    /// not carry whatever a stranger writes.
    pub fn of(headers: &HeaderMap, entropy: &dyn Entropy) -> Self {
        headers
            .get(Self::HEADER)
            .and_then(|value| value.to_str().ok())
            .filter(|text| is_sane(text))
            .map_or_else(|| Self(entropy.uuid().to_string()), |text| Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its text as a header.
    pub fn header(&self) -> HeaderValue {
        // Only header characters are let into an id.
        HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_sane(text: &str) -> bool {
    (1..=RequestId::LONGEST).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
        // A key in the wrong header must not end up in every log line.
        && !text.starts_with("cardea_key_")
        && !text.starts_with("ory_st_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RequestId::HEADER, HeaderValue::from_str(text).unwrap());
            RequestId::of(&headers, &SystemEntropy).to_string()
        };
        for kept in ["abc-123", "1-67891233-abcdef012345678912345678", "a/b:c=="] {
            assert_eq!(of(kept), kept);
        }
        for replaced in ["", "a b", "a\"b", "cardea_key_0_secret", &"x".repeat(129)] {
            assert_eq!(of(replaced).len(), 36, "{replaced}");
        }
        assert_eq!(RequestId::of(&HeaderMap::new(), &SystemEntropy).as_str().len(), 36);
    }
}
