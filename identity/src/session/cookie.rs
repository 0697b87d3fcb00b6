//! The value of the session cookie: the session token and when the browser was told
//! that it ends, sealed. A cookie that was
//! altered, or sealed by another cluster or tenant, is refused before any read.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_storage::{Entropy, Keyring, Secret, Tenant, Timestamp};

/// The longest cookie value that is looked at, in bytes.
const COOKIE_BYTES_MAX: usize = 512;

/// What a cookie holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSession {
    /// The session token.
    pub token: Secret<String>,
    /// When the session ended, as the browser was told; it may have moved since.
    pub expires_at: Timestamp,
}

/// Makes and opens cookie values.
#[derive(Debug, Clone)]
pub struct CookieKeys(Keyring);

impl CookieKeys {
    /// Keys derived from the cluster's.
    pub fn new(cluster: &Keyring) -> Self {
        Self(cluster.derive("cardea session cookie v1"))
    }

    /// The value of a cookie that carries a session token.
    pub fn seal(
        &self,
        entropy: &dyn Entropy,
        tenant: Tenant,
        token: &Secret<String>,
        expires_at: Timestamp,
    ) -> Secret<String> {
        let mut plain = expires_at.as_millis().to_be_bytes().to_vec();
        plain.extend_from_slice(token.expose().as_bytes());
        let plain = Secret::new(plain);
        let sealed = self.0.seal(entropy, &purpose(tenant), plain.expose());
        Secret::new(URL_SAFE_NO_PAD.encode(&sealed))
    }

    /// What a cookie's value holds; `None` if it is not one of ours.
    pub fn open(&self, tenant: Tenant, value: &str) -> Option<SealedSession> {
        if value.len() > COOKIE_BYTES_MAX {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(value).ok()?;
        let plain = self.0.open(&purpose(tenant), &sealed).ok()?;
        let (expires_at, token) = plain.expose().split_first_chunk::<8>()?;
        Some(SealedSession {
            token: Secret::new(String::from_utf8(token.to_vec()).ok()?),
            expires_at: Timestamp(u64::from_be_bytes(*expires_at)),
        })
    }
}

fn purpose(tenant: Tenant) -> String {
    format!("session cookie of tenant {}", tenant.0)
}

#[cfg(test)]
mod tests {
    use cardea_storage::{KeyId, SeededEntropy};

    use super::*;

    fn keys(byte: u8) -> CookieKeys {
        CookieKeys::new(&Keyring::new(vec![(KeyId(1), Secret::new([byte; 32]))]).unwrap())
    }

    #[test]
    fn cookie_opens_to_its_token_and_nothing_else_does() {
        let token = Secret::new("ory_st_x".to_owned());
        let value = keys(1).seal(&SeededEntropy::new(1), Tenant(2), &token, Timestamp(7));
        assert!(!value.expose().contains("ory_st"));
        assert_eq!(
            keys(1).open(Tenant(2), value.expose()),
            Some(SealedSession { token, expires_at: Timestamp(7) })
        );
        assert_eq!(keys(1).open(Tenant(3), value.expose()), None);
        assert_eq!(keys(2).open(Tenant(2), value.expose()), None);
        assert_eq!(keys(1).open(Tenant(2), "ory_st_x"), None);
        assert_eq!(keys(1).open(Tenant(2), &"A".repeat(513)), None);
        let mut altered = value.expose().clone().into_bytes();
        altered[40] ^= 1;
        assert_eq!(keys(1).open(Tenant(2), &String::from_utf8(altered).unwrap()), None);
    }
}
