//! Erasing an identity (GDPR, article 17): it is gone at once, and what it left elsewhere
//! follows as a job that any node takes up again.
//!
//! 1. One transaction deletes the identity, its credentials and what leads to them, and
//!    writes down the erasure with the addresses that it had. From then on nothing of it
//!    can be read, and none of its sessions is accepted.
//! 2. The job deletes the rows of its sessions and the messages to its addresses, in
//!    pieces, and has the other layers delete theirs; all of that can be done again.
//! 3. The erasure is marked done and loses the addresses. It stays for [`KEPT`], so that
//!    it can be shown.
//!
//! Deadlines: the job is looked for every minute. The disks of every replica are rid of a
//! deleted row within a day of its flush (the compaction that bounds removal), and the
//! log of it with the next snapshot that is purged up to. A backup keeps what it has until
//! the operator deletes it; whoever restores one erases again what was erased since. What
//! happened (see [`audit`](crate::audit)) keeps the id until it expires, and no trait.

use std::time::Duration;

use cardea_storage::{Consistency, StoreError, Timestamp, engine::Order};
use serde_json::json;
use thiserror::Error;

use crate::{
    PageRequest, Service,
    audit::{Act, Actor},
    courier::MessageFilter,
    model::{IdentityId, Scope},
    page::{PAGE_SIZE_MAX, PageRejection},
    session::Proof,
    table::{
        AddressRecord, Credentials, ErasureKey, ErasureRecord, Erasures, Identities, IdentityKey,
        lane::lanes,
        message::{MessageKey, Messages},
    },
};

/// How long an erasure that is done can be shown.
pub const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Erasures that one look finds in a lane.
const FOUND_MAX: u32 = 100;

/// An erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Whose.
    pub scope: Scope,
    /// The identity.
    pub identity: IdentityId,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When nothing was left; `None`: not yet.
    pub done_at: Option<Timestamp>,
}

/// Why nothing is erased.
#[derive(Debug, Error)]
pub enum EraseRejection {
    /// There is none of that id.
    #[error("there is no such identity")]
    NotFound,
    /// The session that asked for it has ended.
    #[error("the session that asked for it has ended")]
    NoSession,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Erasure {
    fn of(key: &ErasureKey, record: &ErasureRecord) -> Self {
        Self {
            scope: Scope { tenant: key.tenant },
            identity: IdentityId(key.identity),
            requested_at: Timestamp(record.requested_at),
            done_at: (record.done_at != 0).then_some(Timestamp(record.done_at)),
        }
    }
}

impl Service {
    /// Erases an identity. When this returns it is gone; what it left elsewhere follows.
    ///
    /// # Errors
    /// See [`EraseRejection`].
    pub async fn erase_identity(
        &self,
        scope: Scope,
        id: IdentityId,
        by: Actor<'_>,
    ) -> Result<Erasure, EraseRejection> {
        self.erase_by(scope, id, by, None).await
    }

    /// The same, if a session that asks for it is still its own.
    pub(super) async fn erase_by(
        &self,
        scope: Scope,
        id: IdentityId,
        by: Actor<'_>,
        proof: Option<&Proof>,
    ) -> Result<Erasure, EraseRejection> {
        let key = IdentityKey { tenant: scope.tenant, id: id.0 };
        let erasure_key = ErasureKey { tenant: scope.tenant, identity: id.0 };
        let done = self
            .store
            .transact(|t| async move {
                let identity = t.get::<Identities>(&key).await?.ok_or(EraseRejection::NotFound)?;
                if let Some(proof) = proof {
                    let asks = self.find_session(&t, scope, proof, true).await?;
                    asks.filter(|asks| {
                        asks.accepted(t.now()).is_some() && asks.identity_id == id.0
                    })
                    .filter(|asks| self.may_see_settings(asks))
                    .ok_or(EraseRejection::NoSession)?;
                }
                t.delete::<Identities>(&key).await?;
                for credential in self.credentials_of(&t, scope, id).await? {
                    t.delete::<Credentials>(&credential.key).await?;
                }
                let record = ErasureRecord {
                    requested_at: t.now().as_millis(),
                    addresses: addresses(&identity.record.verifiable, &identity.record.recovery),
                    done_at: 0,
                };
                t.put::<Erasures>(&erasure_key, &record, None).await?;
                let details = json!({"erasure": true});
                self.audit(&t, scope, id.0, (Act::IdentityDeleted, by), details).await?;
                Ok::<_, EraseRejection>(Erasure::of(&erasure_key, &record))
            })
            .await?;
        Ok(done.value)
    }

    /// An erasure; `None` if there is none, or it was done long ago.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn erasure(
        &self,
        scope: Scope,
        id: IdentityId,
    ) -> Result<Option<Erasure>, StoreError> {
        let key = ErasureKey { tenant: scope.tenant, identity: id.0 };
        let found = self.store.view(Consistency::Strong).peek::<Erasures>(&key).await?;
        Ok(found.map(|entry| Erasure::of(&entry.key, &entry.record)))
    }

    /// Erasures of all tenants that are not done.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn pending_erasures(&self) -> Result<Vec<Erasure>, StoreError> {
        let view = self.store.view(Consistency::Eventual);
        let mut pending = Vec::new();
        for lane in lanes() {
            let range = Erasures::lane(lane);
            let (found, _) = view.peek_range::<Erasures>(range, FOUND_MAX, Order::Forward).await?;
            let found = found.iter().map(|entry| Erasure::of(&entry.key, &entry.record));
            pending.extend(found.filter(|erasure| erasure.done_at.is_none()));
        }
        Ok(pending)
    }

    /// Removes what an erased identity left in this layer; may be done again.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn continue_erasure(&self, erasure: &Erasure) -> Result<(), StoreError> {
        let (scope, id) = (erasure.scope, erasure.identity);
        loop {
            let done = self
                .store
                .transact(|t| async move { self.delete_some_sessions(&t, scope, id).await })
                .await?;
            if !done.value.1 {
                break;
            }
        }
        let key = ErasureKey { tenant: scope.tenant, identity: id.0 };
        let found = self.store.view(Consistency::Strong).peek::<Erasures>(&key).await?;
        for address in found.map(|entry| entry.record.addresses).unwrap_or_default() {
            self.delete_messages_to(scope, &address).await?;
        }
        Ok(())
    }

    /// Marks an erasure done, once the other layers are done too.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn finish_erasure(&self, erasure: &Erasure) -> Result<(), StoreError> {
        let key = ErasureKey { tenant: erasure.scope.tenant, identity: erasure.identity.0 };
        self.store
            .transact(|t| async move {
                let Some(entry) = t.get::<Erasures>(&key).await? else { return Ok(()) };
                if entry.record.done_at != 0 {
                    return Ok(());
                }
                let done_at = t.now().as_millis();
                let record = ErasureRecord { done_at, addresses: Vec::new(), ..entry.record };
                t.put::<Erasures>(&key, &record, Some(t.now().after(KEPT))).await
            })
            .await
            .map(|done| done.value)
    }

    async fn delete_messages_to(&self, scope: Scope, address: &str) -> Result<(), StoreError> {
        let filter = MessageFilter { status: None, recipient: Some(address.to_owned()) };
        let mut page = PageRequest { size: PAGE_SIZE_MAX, token: None };
        loop {
            let found = match self.list_messages(scope, &filter, &page).await {
                Ok(found) => found,
                Err(PageRejection::Store(error)) => return Err(error),
                // Tokens of its own.
                Err(PageRejection::BadPageToken(_)) => return Ok(()),
            };
            for message in &found.items {
                let key = MessageKey { tenant: scope.tenant, id: message.id };
                self.store.transact(|t| async move { t.delete::<Messages>(&key).await }).await?;
            }
            page.token = found.next;
            if page.token.is_none() {
                return Ok(());
            }
        }
    }
}

fn addresses(verifiable: &[AddressRecord], recovery: &[AddressRecord]) -> Vec<String> {
    let all = verifiable.iter().chain(recovery);
    let mut addresses: Vec<String> = all.map(|address| address.value.clone()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use cardea_storage::{KeyRange, Slot, SlotRange, Space, Tenant};

    use super::*;
    use crate::{Settings, session::Proof, testing::World};

    #[tokio::test]
    async fn nothing_that_names_somebody_is_left_after_its_erasure() {
        let world = World::with(Settings { verification: true, ..crate::testing::settings() });
        let registered = world.register("ann@example.org").await;
        let id = registered.identity.id;
        let proof = Proof::Token(registered.issued.unwrap().token);
        let erasure =
            world.service.erase_identity(world.scope, id, Actor::Administrator).await.unwrap();
        assert!(!world.recognised(&proof).await, "at once");
        let again = world.service.erase_identity(world.scope, id, Actor::Administrator).await;
        assert!(matches!(again, Err(EraseRejection::NotFound)), "{again:?}");
        let pending = world.service.pending_erasures().await.unwrap();
        assert_eq!(pending, std::slice::from_ref(&erasure));
        // As if a node had died in between: everything is done twice.
        for _ in 0..2 {
            world.service.continue_erasure(&pending[0]).await.unwrap();
            world.service.finish_erasure(&pending[0]).await.unwrap();
        }
        assert_eq!(world.service.pending_erasures().await.unwrap(), []);
        let done = world.service.erasure(world.scope, id).await.unwrap().unwrap();
        assert!(done.done_at.is_some());

        // Flows expire by themselves.
        world.clock.advance(Duration::from_secs(4 * 3600));
        let view = world.service.store.view(Consistency::Strong);
        for space in [Space::Home, Space::Index] {
            for number in 0..SlotRange::whole(space).count() {
                let slot = Slot::new(space, number);
                let range = KeyRange::prefix(&slot.bits().to_be_bytes());
                let found = view.scan_rows(range, 1000, Order::Forward, false).await.unwrap();
                for row in found.rows {
                    let bytes = [row.key.as_bytes().as_ref(), row.value.as_ref()].concat();
                    let text = String::from_utf8_lossy(&bytes);
                    assert!(!text.contains("ann@example"), "{}", row.key);
                    assert!(!text.contains("Ann"), "{}", row.key);
                }
            }
        }
        world.clock.advance(KEPT);
        assert_eq!(world.service.erasure(world.scope, id).await.unwrap(), None);
    }

    #[tokio::test]
    async fn one_tenant_erases_nothing_of_another() {
        let world = World::new();
        let id = world.register("ann@example.org").await.identity.id;
        let foreign = Scope { tenant: Tenant(5) };
        let refused = world.service.erase_identity(foreign, id, Actor::Administrator).await;
        assert!(matches!(refused, Err(EraseRejection::NotFound)), "{refused:?}");
        assert_eq!(world.service.erasure(foreign, id).await.unwrap(), None);
    }
}
