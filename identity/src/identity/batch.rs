//! Creating many identities (`batchPatchIdentities`). Each item is a transaction of its
//! own, and is made once however often it is sent: together with the identity a receipt
//! is written, under a digest of the request's id, the item's id and what it says. Who
//! did not see the answer sends the same request again, and is told the same ids.

use std::time::Duration;

use cardea_storage::{StoreError, Transaction};
use uuid::Uuid;

use super::create::{CreateRejection, NewIdentity};
use crate::{
    Service,
    model::{Identity, IdentityId, Scope},
    table::{
        BatchReceiptKey, BatchReceiptRecord, BatchReceipts, Identities, IdentityKey, id_bytes,
    },
};

/// How long a receipt is kept: as long a batch may be sent again.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Names an item of a batch for as long as it may be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchItem {
    /// The id that the caller gave the request.
    pub request_id: String,
    /// The id that the caller gave the item.
    pub patch_id: Uuid,
    /// What the item says, in bytes.
    pub said: Vec<u8>,
}

/// Where the receipt of an item is, under each of the cluster's keys.
pub(super) struct Receipt(Vec<[u8; 32]>);

impl Service {
    /// Creates the identity of an item, or gives the one that it made before. An item
    /// without a name is made each time.
    ///
    /// # Errors
    /// See [`CreateRejection`].
    pub async fn create_of_batch(
        &self,
        scope: Scope,
        new: NewIdentity,
        item: Option<&BatchItem>,
    ) -> Result<Identity, CreateRejection> {
        let receipt = item.map(|item| self.receipt(scope, item));
        self.create_once(scope, new, receipt.as_ref()).await
    }

    fn receipt(&self, scope: Scope, item: &BatchItem) -> Receipt {
        let mut bytes = Vec::with_capacity(item.request_id.len() + 24 + 32);
        bytes.extend_from_slice(&(item.request_id.len() as u64).to_be_bytes());
        bytes.extend_from_slice(item.request_id.as_bytes());
        bytes.extend_from_slice(item.patch_id.as_bytes());
        bytes.extend_from_slice(blake3::hash(&item.said).as_bytes());
        Receipt(self.batch_digests(scope.tenant, &bytes))
    }

    /// The identity that an item made before, if it is still there; else the receipt is
    /// written for the one that it makes now.
    pub(super) async fn made_before(
        &self,
        t: &Transaction,
        scope: Scope,
        receipt: &Receipt,
        id: Uuid,
    ) -> Result<Option<Identity>, StoreError> {
        let key = |digest: &[u8; 32]| BatchReceiptKey { tenant: scope.tenant, digest: *digest };
        let keys: Vec<_> = receipt.0.iter().map(key).collect();
        let found = t.get_many::<BatchReceipts>(&keys).await?;
        if let Some(entry) = found.into_iter().flatten().next() {
            let made = entry.record.id();
            let key = IdentityKey { tenant: scope.tenant, id: made };
            if let Some(identity) = t.get::<Identities>(&key).await? {
                return Ok(Some(Identity::of(IdentityId(made), &identity.record)));
            }
        }
        if let Some(key) = keys.first() {
            let record = BatchReceiptRecord { identity: id_bytes(&id) };
            t.put::<BatchReceipts>(key, &record, Some(t.now().after(KEPT))).await?;
        }
        Ok(None)
    }
}
