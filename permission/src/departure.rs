//! Tuples that name whoever departs: with an identity go the tuples whose subject it is.
//!
//! It is a hook in the store's transaction rather than a job behind the change feed: a
//! feed is a ring that forgets, so a job would have to compare all subjects with all
//! identities after every gap, and until it came by, tuples would name nobody. The store
//! that other layers hold is wrapped; where a transaction deletes what departs, the rows
//! of its tuples are deleted with it, whichever code decided so. Up to [`TOGETHER_MAX`]
//! tuples go in that transaction, if they are not too long, more of them right behind
//! it.
//!
//! A tuple that is made for an identity at the moment of its deletion may stay, as may
//! one that is made later: tuples name whom they like.

use std::sync::Arc;

use async_trait::async_trait;
use cardea_storage::{
    Consistency, Key, Store, StoreError, Table, Tenant, Through,
    engine::Order,
    store::{Draft, Read, ReadRequest, Scan, Verdict},
    txn::{Effect, Op},
};

use crate::{
    Service,
    model::{Subject, TupleQuery},
    table::{Place, TupleRecord, Tuples, read_tuple},
};

/// Most tuples that go in the transaction itself.
pub const TOGETHER_MAX: u32 = 500;

/// Bytes of their keys in that transaction, at most: it has others to delete, too.
const BYTES_TOGETHER_MAX: usize = 256 * 1024;

/// Says whose departure the deletion of a row is: the tenant, and the subject id.
pub type Departs = fn(&Key) -> Option<(Tenant, String)>;

/// A store whose transactions take the tuples of those along whose rows they delete.
/// `permission` holds the store beneath.
pub fn bound(store: Arc<dyn Store>, permission: Arc<Service>, departs: Departs) -> Arc<dyn Store> {
    Arc::new(Bound { store, permission, departs })
}

struct Bound {
    store: Arc<dyn Store>,
    permission: Arc<Service>,
    departs: Departs,
}

impl Bound {
    fn departing(&self, draft: &Draft) -> Vec<(Tenant, Subject)> {
        let deleted = draft.ops.iter().filter_map(|op| match &op.effect {
            Some(Effect::Delete(key)) => Key::from_bytes(key.clone()),
            _ => None,
        });
        let departing = deleted.filter_map(|key| (self.departs)(&key));
        departing.map(|(tenant, id)| (tenant, Subject::Id(id))).collect()
    }
}

impl Service {
    /// Deletes of the first tuples whose subject departs, and whether those are all.
    async fn farewell(
        &self,
        tenant: Tenant,
        subject: &Subject,
    ) -> Result<(Vec<Op>, bool), StoreError> {
        let (held, _) = self.language(tenant, &Consistency::Eventual).await?;
        let (mut ops, mut bytes, mut all) = (Vec::new(), 0, true);
        for slot in held.language.slots() {
            let place = Place { tenant, slot };
            let range = place.subject(subject, None, None);
            let scan = Scan { range, limit: TOGETHER_MAX, order: Order::Forward };
            let mut request = ReadRequest::new(Consistency::Strong);
            request.reads.push(Read::Scan(scan));
            let rows = self.store.read(request).await?.results.pop().unwrap_or_default();
            all &= !rows.more;
            for tuple in rows.rows.iter().filter_map(read_tuple) {
                let key = place.key(&tuple);
                let index = Tuples::index_rows(&key, &TupleRecord::default());
                let keys = index.into_iter().map(|row| row.key).chain([Tuples::key(&key)]);
                let keys: Vec<Key> = keys.collect();
                bytes += keys.iter().map(|key| key.as_bytes().len()).sum::<usize>();
                if bytes > BYTES_TOGETHER_MAX {
                    return Ok((ops, false));
                }
                let deletes = keys.iter().map(|key| Effect::Delete(key.as_bytes().clone()));
                ops.extend(deletes.map(Op::from));
            }
        }
        Ok((ops, all))
    }
}

#[async_trait]
impl Through for Bound {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.store
    }

    async fn commit(&self, mut draft: Draft) -> Result<Verdict, StoreError> {
        let mut left = Vec::new();
        for (tenant, subject) in self.departing(&draft) {
            let (ops, all) = self.permission.farewell(tenant, &subject).await?;
            draft.ops.extend(ops);
            if !all {
                left.push((tenant, subject));
            }
        }
        let verdict = self.store.commit(draft).await?;
        if matches!(verdict, Verdict::Committed(_)) {
            for (tenant, subject) in left {
                let query = TupleQuery { subject: Some(subject), ..TupleQuery::default() };
                // Whoever departs is gone already; these grant nothing to anybody else.
                if let Err(error) = self.permission.delete_tuples(tenant, &query).await {
                    tracing::warn!(%error, "some tuples of an identity that was deleted are left");
                }
            }
        }
        Ok(verdict)
    }
}
