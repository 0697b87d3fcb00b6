//! Creating many identities (`batchPatchIdentities`). Items stand and fall alone, as if
//! each were a transaction of its own, and a named one is made once however often it is
//! sent: together with the identity a receipt is written, under a digest of the request's
//! id, the item's id and what it says. Who did not see the answer sends the same request
//! again, and is told the same ids.
//!
//! A transaction costs four log entries whether it makes one identity or many, so several
//! items, all in one shard, are made in one. Where that is refused, for one of them is
//! taken or they are too large together, nothing of it was done, and each is made alone.
//! Items whose password is yet to be hashed cost far more than their entries, and always
//! are.

use std::time::Duration;

use cardea_storage::{Space, StoreError, Transaction};
use futures::{StreamExt as _, stream};
use uuid::Uuid;

use super::{
    create::{CreateRejection, NewIdentity, Ready},
    credential::NewPassword,
};
use crate::{
    Service,
    model::{Identity, IdentityId, Scope},
    table::{
        BatchReceiptKey, BatchReceiptRecord, BatchReceipts, Identities, IdentityKey, id_bytes,
    },
};

/// Most items of one transaction: as much as goes into a pack, where they say little.
const TOGETHER_MAX: usize = 64;
/// Over more shards of the index than this no transaction is spread: each item adds to
/// some of them.
const INDEX_SHARDS_MAX: usize = 4;
/// Transactions of a batch under way at once: of one item each, and of several.
const ALONE_AT_ONCE: usize = 16;
const TOGETHER_AT_ONCE: usize = 4;
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

/// An item of a batch: what is to be made, and what makes it once if the caller named it.
pub type Item = (NewIdentity, Option<BatchItem>);

/// What became of an item; see [`CreateRejection`].
type Made = Result<Identity, CreateRejection>;

/// Where the receipt of an item is, under each of the cluster's keys.
pub(super) struct Receipt(Vec<[u8; 32]>);

impl Service {
    /// Creates the identities of a batch, or gives those that were made before. Items
    /// without names are made each time. Says what became of each, in order.
    pub async fn create_batch(&self, scope: Scope, items: Vec<Item>) -> Vec<Made> {
        let spread = self.store.shards(Space::Index).len() > INDEX_SHARDS_MAX;
        let runs = runs(items, if spread { 1 } else { TOGETHER_MAX });
        let several = runs.iter().any(|run| run.len() > 1);
        let at_once = if several { TOGETHER_AT_ONCE } else { ALONE_AT_ONCE };
        let work = runs.into_iter().map(|run| self.create_run(scope, run));
        stream::iter(work).buffered(at_once).concat().await
    }

    async fn create_run(&self, scope: Scope, run: Vec<Item>) -> Vec<Made> {
        let mut items = Vec::with_capacity(run.len());
        for (new, name) in run {
            let receipt = name.map(|name| self.receipt(scope, &name));
            items.push((self.make_ready(new).await, receipt));
        }
        let ready: Vec<_> = items
            .iter()
            .filter_map(|(ready, receipt)| Some((ready.as_ref().ok()?, receipt.as_ref())))
            .collect();
        let mut made = self.create_ready(scope, &ready).await.into_iter();
        let mut all = Vec::with_capacity(items.len());
        for (ready, _) in items {
            match ready {
                Ok(_) => all.extend(made.next()),
                Err(rejection) => all.push(Err(rejection)),
            }
        }
        all
    }

    /// Creates all in one transaction, or else each alone.
    async fn create_ready(&self, scope: Scope, items: &[(&Ready, Option<&Receipt>)]) -> Vec<Made> {
        let ids = self.mint_together(items.len());
        if let [_, _, ..] = items {
            let together = self.store.transact(|t| {
                let ids = &ids;
                async move {
                    let mut made = Vec::with_capacity(items.len());
                    for (id, (ready, receipt)) in ids.iter().zip(items) {
                        made.push(self.create_in(&t, scope, (*id, ready), *receipt).await?);
                    }
                    Ok(made)
                }
            });
            match together.await {
                Ok(done) => return done.value.into_iter().map(Ok).collect(),
                Err(CreateRejection::Store(error)) if !may_succeed_alone(&error) => {
                    return items.iter().map(|_| Err(error.clone().into())).collect();
                }
                // One of them, or all of them together.
                Err(_) => {}
            }
        }
        let mut alone = Vec::with_capacity(items.len());
        for (id, (ready, receipt)) in ids.into_iter().zip(items) {
            alone.push(self.create_alone(scope, (id, ready), *receipt));
        }
        stream::iter(alone).buffered(ALONE_AT_ONCE).collect().await
    }

    async fn create_alone(
        &self,
        scope: Scope,
        (id, ready): (Uuid, &Ready),
        receipt: Option<&Receipt>,
    ) -> Made {
        let create = |t| async move { self.create_in(&t, scope, (id, ready), receipt).await };
        Ok(self.store.transact(create).await?.value)
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

/// Items in runs of at most so many.
fn runs(items: Vec<Item>, len_max: usize) -> Vec<Vec<Item>> {
    let mut runs: Vec<Vec<Item>> = Vec::new();
    let mut open = false;
    for item in items {
        let alone = matches!(item.0.password, Some(NewPassword::Clear(_)));
        match runs.last_mut().filter(|run| open && !alone && run.len() < len_max) {
            Some(run) => run.push(item),
            None => runs.push(vec![item]),
        }
        open = !alone;
    }
    runs
}

/// Whether what the store said of a transaction means that nothing was done, and that
/// less of it at once may be.
const fn may_succeed_alone(error: &StoreError) -> bool {
    matches!(error, StoreError::TooLarge { .. } | StoreError::Contended { .. })
}
