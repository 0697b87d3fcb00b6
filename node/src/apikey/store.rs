//! The API keys of the cluster: made, listed, revoked, and recognised.
//!
//! What a node remembers of a key counts for [`CONFIRMED_FOR`] from the moment
//! that its question was sent (DESIGN § 5); so a revocation is acknowledged
//! when that time, and a little, has passed since it was committed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use cardea_storage::{
    Consistency, Fault, Store, StoreError, Table, Tenant, Timestamp, engine::Order,
};
use parking_lot::Mutex;

use super::{
    ApiKey, ApiKeyId, KeyDigest,
    table::{ApiKeyKey, ApiKeyRecord, ApiKeyTable, id_in, range_of},
};
use crate::listener::keys::{ApiKeys, Grant, KeysUnavailable};

/// How long a remembered key counts.
pub const CONFIRMED_FOR: Duration = Duration::from_secs(2);
/// Added to it before a revocation is acknowledged: clocks run at different speeds.
const ACKNOWLEDGED_MARGIN: Duration = Duration::from_millis(100);
/// Keys remembered at once.
const REMEMBERED_MAX: usize = 4096;
/// Keys of a tenant that are listed.
const LISTED_MAX: u32 = 10_000;

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptKey {
    /// Its id.
    pub id: ApiKeyId,
    /// For people: who holds it.
    pub name: String,
    /// Its scopes, as text.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

#[derive(Clone)]
struct Remembered {
    /// The monotonic time at which the question was sent.
    asked_at: Duration,
    digest: KeyDigest,
    grant: Grant,
    expires_at: Option<Timestamp>,
}

/// The API keys in a store.
pub struct KeyStore {
    store: Arc<dyn Store>,
    remembered: Mutex<HashMap<ApiKeyId, Remembered>>,
}

impl std::fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyStore").finish_non_exhaustive()
    }
}

impl KeyStore {
    /// The keys in `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, remembered: Mutex::default() }
    }

    /// Makes a key, which is never seen again.
    pub async fn create(
        &self,
        tenant: Tenant,
        name: &str,
        scopes: &[String],
        lifespan: Option<Duration>,
    ) -> Result<(ApiKey, KeptKey), StoreError> {
        let key = ApiKey::from_random(self.store.entropy().as_ref().bytes());
        let now = self.store.clock().now();
        let expires_at = lifespan.map(|lifespan| now.after(lifespan));
        let record = ApiKeyRecord {
            tenant: tenant.0,
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            digest: bytes::Bytes::copy_from_slice(&key.digest().0),
            created_at: now.0,
        };
        let (row, kept_record) = (ApiKeyKey(key.id()), &record);
        self.store
            .transact(|txn| async move {
                txn.insert::<ApiKeyTable>(&row, kept_record, expires_at);
                Ok::<_, StoreError>(())
            })
            .await?;
        let kept = kept(key.id(), &record, expires_at);
        Ok((key, kept))
    }

    /// The keys of a tenant, by id.
    pub async fn list(&self, tenant: Tenant) -> Result<Vec<KeptKey>, StoreError> {
        let view = self.store.view(Consistency::Strong);
        let rows = view.scan_rows(range_of(tenant), LISTED_MAX, Order::Forward, false).await?;
        let ids: Vec<_> =
            rows.rows.iter().filter_map(|row| id_in(&row.key)).map(ApiKeyKey).collect();
        let entries = view.get_many::<ApiKeyTable>(&ids).await?;
        Ok(entries
            .into_iter()
            .flatten()
            .map(|entry| kept(entry.key.0, &entry.record, entry.expires_at))
            .collect())
    }

    /// Revokes a key of a tenant; `false`: it has none of this id. When the call
    /// returns no node accepts the key.
    pub async fn revoke(&self, tenant: Tenant, id: ApiKeyId) -> Result<bool, StoreError> {
        let row = ApiKeyKey(id);
        let done = self
            .store
            .transact(|txn| async move {
                let found = txn.get::<ApiKeyTable>(&row).await?;
                if found.is_none_or(|entry| entry.record.tenant != tenant.0) {
                    return Ok::<_, StoreError>(false);
                }
                txn.delete::<ApiKeyTable>(&row).await?;
                Ok(true)
            })
            .await?;
        self.remembered.lock().remove(&id);
        if done.value {
            tokio::time::sleep(CONFIRMED_FOR + ACKNOWLEDGED_MARGIN).await;
        }
        Ok(done.value)
    }

    async fn look_up(&self, id: ApiKeyId) -> Result<Option<Remembered>, StoreError> {
        let clock = self.store.clock();
        let asked_at = clock.monotonic();
        if let Some(known) = self.remembered.lock().get(&id)
            && asked_at.saturating_sub(known.asked_at) < CONFIRMED_FOR
        {
            return Ok(Some(known.clone()));
        }
        let found =
            self.store.view(Consistency::Strong).peek::<ApiKeyTable>(&ApiKeyKey(id)).await?;
        let mut remembered = self.remembered.lock();
        let Some(entry) = found else {
            remembered.remove(&id);
            return Ok(None);
        };
        let digest = entry.record.digest.as_ref().try_into().map(KeyDigest).map_err(|_| {
            let key = ApiKeyTable::key(&entry.key);
            StoreError::from(Fault::new(format!("the digest at {key} has not 32 bytes")))
        })?;
        let known = Remembered {
            asked_at,
            digest,
            grant: Grant {
                key: id,
                tenant: Tenant(entry.record.tenant),
                scopes: entry.record.scopes.iter().filter_map(|scope| scope.parse().ok()).collect(),
            },
            expires_at: entry.expires_at,
        };
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, known| asked_at.saturating_sub(known.asked_at) < CONFIRMED_FOR);
        }
        if remembered.len() < REMEMBERED_MAX {
            remembered.insert(id, known.clone());
        }
        Ok(Some(known))
    }
}

fn kept(id: ApiKeyId, record: &ApiKeyRecord, expires_at: Option<Timestamp>) -> KeptKey {
    KeptKey {
        id,
        name: record.name.clone(),
        scopes: record.scopes.clone(),
        created_at: Timestamp(record.created_at),
        expires_at,
    }
}

#[async_trait]
impl ApiKeys for KeyStore {
    async fn recognize(&self, presented: &ApiKey) -> Result<Option<Grant>, KeysUnavailable> {
        let known = self.look_up(presented.id()).await.map_err(|error| {
            tracing::warn!(%error, "an API key could not be looked up");
            KeysUnavailable
        })?;
        let now = self.store.clock().now();
        Ok(known
            .filter(|known| presented.is(&known.digest))
            .filter(|known| known.expires_at.is_none_or(|end| now < end))
            .map(|known| known.grant))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cardea_storage::{
        ManualClock, SeededEntropy, engine::memory::MemoryDisk, local::LocalShards,
    };

    use super::*;
    use crate::apikey::Scope;

    fn keys() -> (Arc<KeyStore>, Arc<KeyStore>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp(1_800_000_000_000)));
        let disk = MemoryDisk::new(1);
        let shards = LocalShards::open(&disk, Path::new("keys"), 2, clock.clone()).unwrap();
        let store = shards.store(Arc::new(SeededEntropy::new(3)));
        (Arc::new(KeyStore::new(store.clone())), Arc::new(KeyStore::new(store)), clock)
    }

    fn scopes() -> Vec<String> {
        vec!["identity:read".to_owned(), "of:tomorrow".to_owned()]
    }

    #[tokio::test]
    async fn a_key_is_recognised_on_every_node_until_it_is_revoked_or_over() {
        let (one, other, clock) = keys();
        let day = Some(Duration::from_secs(86_400));
        let (key, kept) = one.create(Tenant(3), "ci", &scopes(), day).await.unwrap();
        let grant = other.recognize(&key).await.unwrap().unwrap();
        assert_eq!(grant.tenant, Tenant(3));
        assert!(grant.allows(Scope::Read("identity")) && !grant.allows(Scope::Write("identity")));
        assert_eq!(one.list(Tenant(3)).await.unwrap(), [kept]);
        assert_eq!(one.list(Tenant(4)).await.unwrap(), []);
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(other.recognize(&key).await, Ok(None));
        assert_eq!(one.list(Tenant(3)).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_revocation_is_acknowledged_when_no_memory_of_the_key_counts() {
        let (one, other, clock) = keys();
        let (key, kept) = one.create(Tenant(0), "ci", &scopes(), None).await.unwrap();
        assert!(other.recognize(&key).await.unwrap().is_some());
        assert!(!one.revoke(Tenant(1), kept.id).await.unwrap(), "another tenant's");
        let before = std::time::Instant::now();
        assert!(one.revoke(Tenant(0), kept.id).await.unwrap());
        assert!(before.elapsed() >= CONFIRMED_FOR);
        assert_eq!(one.recognize(&key).await, Ok(None));
        // The other node's memory, asked for before the revocation, still counts
        // within the bound that the revocation waited for, and not beyond.
        assert!(other.recognize(&key).await.unwrap().is_some());
        clock.advance(CONFIRMED_FOR);
        assert_eq!(other.recognize(&key).await, Ok(None));
        assert!(!one.revoke(Tenant(0), kept.id).await.unwrap(), "gone");
    }

    #[tokio::test]
    async fn another_secret_under_the_same_id_is_refused() {
        let (one, _, _) = keys();
        let (key, _) = one.create(Tenant(0), "ci", &scopes(), None).await.unwrap();
        let mut text = key.reveal().to_string();
        let last = if text.ends_with('A') { "E" } else { "A" };
        text.replace_range(text.len() - 1.., last);
        let forged = ApiKey::parse(&text).unwrap();
        assert_eq!(forged.id(), key.id());
        assert_eq!(one.recognize(&forged).await, Ok(None));
        assert!(one.recognize(&key).await.unwrap().is_some());
    }
}
