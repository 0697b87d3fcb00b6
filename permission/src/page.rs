//! Page tokens: where a list goes on, sealed together with what was asked, so that a
//! token of one list does not continue another.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_storage::{Entropy, Keyring, Tenant};
use thiserror::Error;

/// The longest page token that is looked at, in bytes: a key of the store, sealed.
const TOKEN_BYTES_MAX: usize = 4096;

/// The page token is not one that this list gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the page token is not valid for this list")]
pub struct BadPageToken;

/// Makes and opens page tokens.
#[derive(Debug, Clone)]
pub struct PageKeys(Keyring);

impl PageKeys {
    /// Keys derived from the cluster's.
    pub fn new(cluster: &Keyring) -> Self {
        Self(cluster.derive("cardea permission page token v1"))
    }

    pub(crate) fn seal(
        &self,
        entropy: &dyn Entropy,
        tenant: Tenant,
        list: &str,
        position: &[u8],
    ) -> String {
        URL_SAFE_NO_PAD.encode(self.0.seal(entropy, &purpose(tenant, list), position))
    }

    pub(crate) fn open(
        &self,
        tenant: Tenant,
        list: &str,
        token: &str,
    ) -> Result<Vec<u8>, BadPageToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadPageToken);
        }
        let sealed = URL_SAFE_NO_PAD.decode(token).map_err(|_| BadPageToken)?;
        let plain = self.0.open(&purpose(tenant, list), &sealed).map_err(|_| BadPageToken)?;
        Ok(plain.expose().clone())
    }
}

fn purpose(tenant: Tenant, list: &str) -> String {
    format!("page of tenant {} in {list}", tenant.0)
}

#[cfg(test)]
mod tests {
    use cardea_storage::{KeyId, Secret, SeededEntropy};

    use super::*;

    #[test]
    fn forged_and_foreign_page_tokens_are_refused() {
        let keys =
            |byte| PageKeys::new(&Keyring::new(vec![(KeyId(1), Secret::new([byte; 32]))]).unwrap());
        let token = keys(1).seal(&SeededEntropy::new(1), Tenant(1), "tuples", b"here");
        assert_eq!(keys(1).open(Tenant(1), "tuples", &token).unwrap(), b"here");
        assert_eq!(keys(1).open(Tenant(2), "tuples", &token), Err(BadPageToken));
        assert_eq!(keys(1).open(Tenant(1), "others", &token), Err(BadPageToken));
        assert_eq!(keys(2).open(Tenant(1), "tuples", &token), Err(BadPageToken));
        let long = "A".repeat(5000);
        for forged in ["", "1", "%00", long.as_str(), &token[1..], &token[..token.len() - 1]] {
            assert_eq!(keys(1).open(Tenant(1), "tuples", forged), Err(BadPageToken), "{forged}");
        }
    }
}
