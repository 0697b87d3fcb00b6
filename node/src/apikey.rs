//! API keys: what they look like, what they allow, how one is recognised.
//!
//! A key is `cardea_key_<id>_<secret>`: the id (16 hex digits) finds its
//! record, the secret (256 random bits, base64url) proves it. It is shown once,
//! at creation; what is kept is a plain BLAKE3 digest, enough for a secret that
//! nobody can guess. Digests are compared in constant time.

pub mod store;
pub(crate) mod table;

use std::{fmt, str::FromStr};

use base64::Engine as _;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

const PREFIX: &str = "cardea_key_";
const SECRET_BYTES: usize = 32;
const SECRET_CHARS: usize = 43;

/// Identifies a key; no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKeyId(pub u64);

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for ApiKeyId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let lower =
            text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        lower.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self).ok_or(Malformed)
    }
}

/// The text is no API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not an API key of Cardea")]
pub struct Malformed;

/// Digest of a key's secret: all that is kept of it.
#[derive(Clone, Copy)]
pub struct KeyDigest(pub [u8; 32]);

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<digest>")
    }
}

/// A key as its holder presents it.
pub struct ApiKey {
    id: ApiKeyId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_<secret>", self.id)
    }
}

impl ApiKey {
    /// A new key from 40 random bytes.
    pub fn from_random(random: [u8; 40]) -> Self {
        let random = Zeroizing::new(random);
        let (id, secret) = random.split_at(8);
        let mut key = Self { id: ApiKeyId(0), secret: Zeroizing::new([0; SECRET_BYTES]) };
        key.secret.copy_from_slice(secret);
        key.id = ApiKeyId(id.iter().fold(0, |id, byte| id << 8 | u64::from(*byte)));
        key
    }

    /// Reads a presented key.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (id, secret) =
            text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(Malformed)?;
        if secret.len() != SECRET_CHARS {
            return Err(Malformed);
        }
        let mut key = Self { id: id.parse()?, secret: Zeroizing::new([0; SECRET_BYTES]) };
        let length = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode_slice(secret, key.secret.as_mut())
            .map_err(|_| Malformed)?;
        if length == SECRET_BYTES { Ok(key) } else { Err(Malformed) }
    }

    /// The whole key, to be shown once.
    pub fn reveal(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.secret.as_ref()),
        );
        Zeroizing::new(format!("{PREFIX}{}_{}", self.id, secret.as_str()))
    }

    /// Its id.
    pub fn id(&self) -> ApiKeyId {
        self.id
    }

    /// What is kept of it. The id is part of it, so that a digest moved to
    /// another key's record proves nothing.
    pub fn digest(&self) -> KeyDigest {
        let mut hasher = blake3::Hasher::new_derive_key("cardea api key v1");
        hasher.update(&self.id.0.to_be_bytes());
        hasher.update(self.secret.as_ref());
        KeyDigest(*hasher.finalize().as_bytes())
    }

    /// Whether this key is the one that left `kept`; takes the same time
    /// whatever the answer.
    pub fn is(&self, kept: &KeyDigest) -> bool {
        self.digest().0.ct_eq(&kept.0).into()
    }
}

/// The areas that a scope may name.
pub const AREAS: [&str; 9] = [
    "identity",
    "session",
    "courier",
    "audit",
    "oauth",
    "permission",
    "cluster",
    "apikey",
    "metrics",
];

/// What a route needs or a key allows: `identity:read`, `identity:write`, all
/// of an area (`session:*`), or everything (`admin`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything.
    Admin,
    /// Reading in an area.
    Read(&'static str),
    /// Changing in an area; does not include reading.
    Write(&'static str),
    /// Reading and changing in an area.
    All(&'static str),
}

impl Scope {
    /// Whether a key with this scope may do what needs `wanted`.
    pub fn allows(self, wanted: Scope) -> bool {
        match (self, wanted) {
            (Scope::Admin, _) => true,
            (Scope::All(area), Scope::Read(other) | Scope::Write(other) | Scope::All(other)) => {
                area == other
            }
            (held, wanted) => held == wanted,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Admin => f.write_str("admin"),
            Scope::Read(area) => write!(f, "{area}:read"),
            Scope::Write(area) => write!(f, "{area}:write"),
            Scope::All(area) => write!(f, "{area}:*"),
        }
    }
}

/// The text is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no scope; a scope is \"admin\", or one of {areas} with :read, :write or :*", areas = AREAS.join(", "))]
pub struct UnknownScope(String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        if text == "admin" {
            return Ok(Scope::Admin);
        }
        let unknown = || UnknownScope(text.to_owned());
        let (area, verb) = text.split_once(':').ok_or_else(unknown)?;
        let area = AREAS.into_iter().find(|known| *known == area).ok_or_else(unknown)?;
        match verb {
            "read" => Ok(Scope::Read(area)),
            "write" => Ok(Scope::Write(area)),
            "*" => Ok(Scope::All(area)),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_is_recognised_by_its_digest_alone() {
        let key = ApiKey::from_random(std::array::from_fn(|i| i as u8));
        let text = key.reveal();
        assert!(text.starts_with("cardea_key_0001020304050607_"), "{}", text.as_str());
        let read = ApiKey::parse(&text).unwrap();
        assert_eq!(read.id(), key.id());
        assert!(read.is(&key.digest()));
        assert!(!format!("{key:?} {:?}", key.digest()).contains(&text[28..]));
    }

    #[test]
    fn digests_are_frozen() {
        let digest = ApiKey::from_random([7; 40]).digest().0;
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        // BLAKE3, key derivation mode, context "cardea api key v1", over 40 bytes 07.
        assert_eq!(hex, "5f58d9036bcc447cadb7e9097f90c71028563df84a270e2fd77d96170de30b95");
    }

    #[test]
    fn altered_short_and_foreign_keys_are_refused() {
        let key = ApiKey::from_random([9; 40]);
        let text = key.reveal().to_string();
        for cut in 0..text.len() {
            assert!(ApiKey::parse(&text[..cut]).is_err(), "{cut}");
        }
        for foreign in [
            "",
            "ory_pat_abc",
            &format!("{text}x"),
            &text.replace("cardea", "Cardea"),
            &text.to_uppercase(),
        ] {
            assert!(ApiKey::parse(foreign).is_err(), "{foreign}");
        }
        let other = ApiKey::from_random([8; 40]);
        assert!(!other.is(&key.digest()));
        let mut moved = ApiKey::from_random([9; 40]);
        moved.id = ApiKeyId(1);
        assert!(!moved.is(&key.digest()), "a digest is bound to its id");
    }

    #[test]
    fn scopes_allow_what_they_name_and_no_more() {
        let cases = [
            ("admin", "cluster:write", true),
            ("session:*", "session:read", true),
            ("session:*", "session:write", true),
            ("session:*", "identity:read", false),
            ("identity:write", "identity:read", false),
            ("identity:read", "identity:read", true),
            ("identity:read", "identity:write", false),
            ("identity:*", "admin", false),
        ];
        for (held, wanted, answer) in cases {
            let (held, wanted): (Scope, Scope) = (held.parse().unwrap(), wanted.parse().unwrap());
            assert_eq!(held.allows(wanted), answer, "{held} {wanted}");
        }
        for text in ["", "root", "identity", "identity:", "identity:delete", "zebra:read", "*:read"]
        {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }
}
