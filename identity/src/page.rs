//! Page tokens: where a list goes on, sealed. A forged one, or one of another list
//! or tenant, is refused.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_storage::{Entropy, Keyring, Tenant};
use thiserror::Error;

/// Items on a page if the caller does not say.
pub const PAGE_SIZE_DEFAULT: u32 = 250;
/// Most items on a page.
pub const PAGE_SIZE_MAX: u32 = 1000;
/// The longest page token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 512;

/// The page token is not one that this list gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the page token is not valid for this list")]
pub struct BadPageToken;

/// Why there is no page.
#[derive(Debug, Error)]
pub enum PageRejection {
    /// The token is not one of this list.
    #[error(transparent)]
    BadPageToken(#[from] BadPageToken),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] cardea_storage::StoreError),
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// Most items; 0 for [`PAGE_SIZE_DEFAULT`], at most [`PAGE_SIZE_MAX`].
    pub size: u32,
    /// The token of the page; `None` for the first.
    pub token: Option<String>,
}

impl PageRequest {
    /// How many items are given.
    pub fn limit(&self) -> u32 {
        match self.size {
            0 => PAGE_SIZE_DEFAULT,
            size => size.min(PAGE_SIZE_MAX),
        }
    }
}

/// Makes and opens page tokens.
#[derive(Debug, Clone)]
pub struct PageKeys(Keyring);

impl PageKeys {
    /// Keys derived from the cluster's.
    pub fn new(cluster: &Keyring) -> Self {
        Self(cluster.derive("cardea page token v1"))
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

    pub(crate) fn open<const N: usize>(
        &self,
        tenant: Tenant,
        list: &str,
        token: &str,
    ) -> Result<[u8; N], BadPageToken> {
        self.open_bytes(tenant, list, token)?.as_slice().try_into().map_err(|_| BadPageToken)
    }

    /// A position of whatever length.
    pub(crate) fn open_bytes(
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
        Ok(plain.expose().to_vec())
    }
}

fn purpose(tenant: Tenant, list: &str) -> String {
    format!("page of tenant {} in {list}", tenant.0)
}

#[cfg(test)]
mod tests {
    use cardea_storage::{KeyId, Secret, SeededEntropy};

    use super::*;

    fn keys(byte: u8) -> PageKeys {
        PageKeys::new(&Keyring::new(vec![(KeyId(1), Secret::new([byte; 32]))]).unwrap())
    }

    #[test]
    fn forged_and_foreign_page_tokens_are_refused() {
        let token = keys(1).seal(&SeededEntropy::new(1), Tenant(1), "identities", &[7; 16]);
        let open = |keys: PageKeys, tenant, list: &str, token: &str| {
            keys.open::<16>(Tenant(tenant), list, token)
        };
        assert_eq!(open(keys(1), 1, "identities", &token), Ok([7; 16]));
        assert_eq!(open(keys(1), 2, "identities", &token), Err(BadPageToken));
        assert_eq!(open(keys(1), 1, "sessions", &token), Err(BadPageToken));
        assert_eq!(open(keys(2), 1, "identities", &token), Err(BadPageToken));
        assert!(keys(1).open::<17>(Tenant(1), "identities", &token).is_err());
        let long = "A".repeat(513);
        for forged in ["", "1", "eyJpZCI6MX0", "' OR 1=1", "%00", long.as_str(), &token[1..]] {
            assert_eq!(open(keys(1), 1, "identities", forged), Err(BadPageToken), "{forged}");
        }
    }

    #[test]
    fn page_sizes_are_bounded() {
        let limit = |size| PageRequest { size, token: None }.limit();
        assert_eq!((limit(0), limit(1), limit(1000), limit(u32::MAX)), (250, 1, 1000, 1000));
    }
}
