//! Who a caller is, as far as a listener can tell: the ports to the store of
//! API keys and to the register of tenants.

use std::sync::Arc;

use async_trait::async_trait;
pub use cardea_storage::Tenant;

use crate::apikey::{ApiKey, ApiKeyId, Scope};

/// What a recognised key allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The key.
    pub key: ApiKeyId,
    /// Its tenant; it reaches no other.
    pub tenant: Tenant,
    /// Its scopes.
    pub scopes: Vec<Scope>,
}

impl Grant {
    /// Whether the key allows what needs `wanted`.
    pub fn allows(&self, wanted: Scope) -> bool {
        self.scopes.iter().any(|scope| scope.allows(wanted))
    }
}

/// The keys cannot be looked up for a moment; nobody is let in meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("API keys cannot be read at the moment")]
pub struct KeysUnavailable;

/// The store of API keys.
#[async_trait]
pub trait ApiKeys: Send + Sync + 'static {
    /// The grant of a presented key; `None` if it is unknown, revoked,
    /// expired, or its secret is wrong, which the caller does not learn apart.
    async fn recognize(&self, presented: &ApiKey) -> Result<Option<Grant>, KeysUnavailable>;
}

/// The register of tenants.
pub trait Tenants: Send + Sync + 'static {
    /// The tenant that answers under a host name (without port); `None`: no
    /// tenant does, and the request is refused.
    fn of_host(&self, host: &str) -> Option<Tenant>;
}

/// One tenant under every name.
#[derive(Debug, Clone, Copy, Default)]
pub struct SingleTenant;

impl Tenants for SingleTenant {
    fn of_host(&self, _host: &str) -> Option<Tenant> {
        Some(Tenant::default())
    }
}

/// Who calls, for handlers: among the extensions of every request that was let
/// through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose data the request is about.
    pub tenant: Tenant,
    /// The key that let it through, if one was shown.
    pub grant: Option<Grant>,
    /// Whether it came over an encrypted connection, so that cookies may be
    /// marked `Secure`.
    pub secure: bool,
}

/// The key that let a request in, among its extensions, for answers that go on for
/// long: whether it still does.
#[derive(Clone)]
pub struct Presented {
    /// The store of keys.
    pub keys: Arc<dyn ApiKeys>,
    /// The key.
    pub key: Arc<ApiKey>,
    /// What it was needed for.
    pub scope: Scope,
    /// Whose data the request is about.
    pub tenant: Tenant,
}

impl Presented {
    /// Whether the key still lets the request in.
    ///
    /// # Errors
    /// If nobody can say.
    pub async fn still_holds(&self) -> Result<bool, KeysUnavailable> {
        let grant = self.keys.recognize(&self.key).await?;
        Ok(grant.is_some_and(|grant| grant.tenant == self.tenant && grant.allows(self.scope)))
    }
}

/// The ports together.
#[derive(Clone)]
pub struct Identification {
    /// API keys.
    pub keys: Arc<dyn ApiKeys>,
    /// Tenants.
    pub tenants: Arc<dyn Tenants>,
}
