//! Tokens that stand for a session: what a client holds, and what is kept.
//!
//! A token is a prefix that names its kind, and 33 bytes in URL-safe base64:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, `01` |
//! | 2 | the session's slot, masked by a keyed function of the random bytes |
//! | 18 | random: 144 bits |
//! | 12 | message authentication code over kind, tenant and all before it, cut |
//!
//! A node that meets a token knows where its session lives without reading
//! anything, and an outsider learns nothing from it. What was cut short, altered,
//! made for another tenant or by another cluster is refused before any read. The
//! store keeps only a digest: who reads a disk cannot log in.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_storage::{Entropy, Keyring, Secret, Slot, Space, Tenant};
use subtle::ConstantTimeEq;

const VERSION: u8 = 1;
const RANDOM: usize = 18;
const MAC: usize = 12;
const BYTES: usize = 1 + 2 + RANDOM + MAC;

/// What a token is for. One kind is never taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// It proves the session: `ory_st_`.
    Session,
    /// It may end the session, and nothing else: `ory_lo_`.
    Logout,
}

impl TokenKind {
    /// The beginning of such tokens.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Session => "ory_st_",
            Self::Logout => "ory_lo_",
        }
    }
}

/// The digest of a token, as it is kept. The token has enough random bits for a
/// plain digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenDigest(pub [u8; 32]);

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A token fresh from minting.
#[derive(Debug, Clone)]
pub struct Minted {
    /// What the client gets; it is kept nowhere.
    pub token: Secret<String>,
    /// What is kept.
    pub digest: TokenDigest,
}

/// A token whose code was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Where its session lives.
    pub slot: Slot,
    /// Under which digest.
    pub digest: TokenDigest,
}

/// Makes and checks tokens.
#[derive(Debug, Clone)]
pub struct TokenKeys {
    mac: Keyring,
    mask: Keyring,
}

impl TokenKeys {
    /// Keys derived from the cluster's. Tokens made with older keys of the ring
    /// stay good.
    pub fn new(cluster: &Keyring) -> Self {
        Self {
            mac: cluster.derive("cardea token authentication v1"),
            mask: cluster.derive("cardea token slot mask v1"),
        }
    }

    /// The digest of a token that another system made: Kratos's are letters and digits
    /// behind the prefix. `None` for what is none.
    pub fn imported(tenant: Tenant, token: &str) -> Option<TokenDigest> {
        let text = token.strip_prefix(TokenKind::Session.prefix())?;
        let is_one = (24..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_one.then(|| digest(tenant, token))
    }

    /// Makes a token for a session in a slot of the home space.
    pub fn mint(
        &self,
        entropy: &dyn Entropy,
        kind: TokenKind,
        tenant: Tenant,
        slot: Slot,
    ) -> Minted {
        self.make(entropy.bytes(), kind, tenant, slot)
    }

    /// The logout token of a session: a keyed function of its session token, so that
    /// who holds the one can be given the other, and never the reverse.
    pub fn logout_of(&self, session_token: &Secret<String>, tenant: Tenant, slot: Slot) -> Minted {
        let mut seed = b"logout token of ".to_vec();
        seed.extend_from_slice(session_token.expose().as_bytes());
        let digest = self.mac.digest(&seed);
        let mut random = [0; RANDOM];
        random.copy_from_slice(&digest[..RANDOM]);
        self.make(random, TokenKind::Logout, tenant, slot)
    }

    fn make(&self, random: [u8; RANDOM], kind: TokenKind, tenant: Tenant, slot: Slot) -> Minted {
        let masked = slot.bits() ^ mask(&self.mask.digest(&random));
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&masked.to_be_bytes());
        bytes.extend_from_slice(&random);
        let code = self.mac.digest(&authenticated(kind, tenant, &bytes));
        bytes.extend_from_slice(&code[..MAC]);
        let token = format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(&bytes));
        let digest = digest(tenant, &token);
        Minted { token: Secret::new(token), digest }
    }

    /// Reads a token; `None` if this cluster did not make it for this use and tenant.
    pub fn parse(&self, kind: TokenKind, tenant: Tenant, token: &str) -> Option<Parsed> {
        let text = token.strip_prefix(kind.prefix())?;
        // Refuses bits behind the last byte, so that a token has one form only.
        let bytes: [u8; BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (said, code) = bytes.split_at(BYTES - MAC);
        if said[0] != VERSION {
            return None;
        }
        let authenticated = authenticated(kind, tenant, said);
        let codes = self.mac.digests(&authenticated);
        let by = codes.iter().position(|right| bool::from(right[..MAC].ct_eq(code)))?;
        let masks = self.mask.digests(&said[3..]);
        let slot = u16::from_be_bytes([said[1], said[2]]) ^ mask(masks.get(by)?);
        let slot = Slot::from_bits(slot).filter(|slot| slot.space() == Space::Home)?;
        Some(Parsed { slot, digest: digest(tenant, token) })
    }
}

fn mask(digest: &[u8; 32]) -> u16 {
    u16::from_be_bytes([digest[0], digest[1]])
}

fn authenticated(kind: TokenKind, tenant: Tenant, said: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + BYTES);
    bytes.extend_from_slice(kind.prefix().as_bytes());
    bytes.extend_from_slice(&tenant.0.to_be_bytes());
    bytes.extend_from_slice(said);
    bytes
}

fn digest(tenant: Tenant, token: &str) -> TokenDigest {
    let mut hasher = blake3::Hasher::new_derive_key("cardea token digest v1");
    hasher.update(&tenant.0.to_be_bytes());
    hasher.update(token.as_bytes());
    TokenDigest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use cardea_storage::{KeyId, SeededEntropy};

    use super::*;

    fn ring(keys: &[(u32, u8)]) -> Keyring {
        let keys = keys.iter().map(|(id, byte)| (KeyId(*id), Secret::new([*byte; 32])));
        Keyring::new(keys.collect()).unwrap()
    }

    fn keys() -> TokenKeys {
        TokenKeys::new(&ring(&[(1, 1)]))
    }

    fn slot(number: u16) -> Slot {
        Slot::new(Space::Home, number)
    }

    #[test]
    fn token_leads_to_its_slot_and_digest() {
        for number in [0, 1, 0xabc, 4095] {
            let entropy = SeededEntropy::new(u64::from(number));
            let minted = keys().mint(&entropy, TokenKind::Session, Tenant(3), slot(number));
            let token = minted.token.expose();
            assert!(token.starts_with("ory_st_") && token.len() == 7 + 44, "{token}");
            let parsed = keys().parse(TokenKind::Session, Tenant(3), token).unwrap();
            assert_eq!(parsed, Parsed { slot: slot(number), digest: minted.digest });
        }
    }

    /// Frozen: tokens outlive versions of this program.
    #[test]
    fn form_of_a_token_is_frozen() {
        let minted =
            keys().mint(&SeededEntropy::new(1), TokenKind::Session, Tenant(0), slot(0xabc));
        assert_eq!(minted.token.expose(), FROZEN);
        assert_eq!(keys().parse(TokenKind::Session, Tenant(0), FROZEN).unwrap().slot, slot(0xabc));
    }

    const FROZEN: &str = "ory_st_ATx6ula5HfHjngkPiHTYpLQc2FksPzYMtmVCfDaP-sdi";

    /// Classes of advisories: cut tokens taken for whole ones (CVE-2026-27840),
    /// tokens of another kind or tenant.
    #[test]
    fn cut_altered_and_foreign_tokens_are_refused() {
        let minted = keys().mint(&SeededEntropy::new(1), TokenKind::Session, Tenant(0), slot(5));
        let token = minted.token.expose().clone();
        for at in 0..token.len() {
            assert_eq!(keys().parse(TokenKind::Session, Tenant(0), &token[..at]), None, "{at}");
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(keys().parse(TokenKind::Session, Tenant(0), &altered), None, "{at}");
        }
        for longer in [format!("{token}A"), format!("{token}="), format!(" {token}")] {
            assert_eq!(keys().parse(TokenKind::Session, Tenant(0), &longer), None);
        }
        assert_eq!(keys().parse(TokenKind::Session, Tenant(1), &token), None);
        assert_eq!(keys().parse(TokenKind::Logout, Tenant(0), &token), None);
        let renamed = token.replace("ory_st_", "ory_lo_");
        assert_eq!(keys().parse(TokenKind::Logout, Tenant(0), &renamed), None);
        let other_cluster = TokenKeys::new(&ring(&[(1, 2)]));
        assert_eq!(other_cluster.parse(TokenKind::Session, Tenant(0), &token), None);
    }

    #[test]
    fn tokens_of_older_keys_stay_good_until_the_key_goes() {
        let old = TokenKeys::new(&ring(&[(1, 1)]));
        let both = TokenKeys::new(&ring(&[(2, 2), (1, 1)]));
        let new = TokenKeys::new(&ring(&[(2, 2)]));
        let minted = old.mint(&SeededEntropy::new(1), TokenKind::Session, Tenant(0), slot(9));
        let token = minted.token.expose();
        assert_eq!(both.parse(TokenKind::Session, Tenant(0), token).unwrap().slot, slot(9));
        assert_eq!(new.parse(TokenKind::Session, Tenant(0), token), None);
    }

    #[test]
    fn slot_is_not_seen_in_the_token() {
        let text = |seed| {
            let minted =
                keys().mint(&SeededEntropy::new(seed), TokenKind::Session, Tenant(0), slot(7));
            minted.token.expose()[7..11].to_owned()
        };
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn digest_in_debug_output_is_cut() {
        assert_eq!(format!("{:?}", TokenDigest([0xab; 32])), "abababab");
    }
}
