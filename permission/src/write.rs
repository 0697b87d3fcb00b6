//! Changing tuples. What is changed together is one transaction: all of it or
//! nothing, of which no reader sees a part.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::atomic::{AtomicBool, Ordering},
};

use cardea_storage::{Consistency, Snaptoken, StoreError, Tenant, Transaction};

use crate::{
    Service,
    model::{Relationship, Tuple},
    rejection::WriteRejection,
    table::{Place, TupleKey, TupleRecord, Tuples, fits},
};

/// Most changes that are made together.
pub const CHANGES_MAX: usize = 1_000;

/// A change of one tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is to be there, as it is given here; if it is already so, nothing changes.
    Insert(Relationship),
    /// It is not to be there; if it is not, nothing changes.
    Delete(Tuple),
}

impl Service {
    /// Makes a tuple.
    ///
    /// # Errors
    /// See [`WriteRejection`].
    pub async fn create_tuple(
        &self,
        tenant: Tenant,
        relationship: Relationship,
    ) -> Result<Snaptoken, WriteRejection> {
        self.change_tuples(tenant, vec![Change::Insert(relationship)]).await
    }

    /// Makes changes together: inserts before deletes, as Keto does, and of a tuple that is
    /// given twice, the last counts. Reads at the token that it gives see them, and the
    /// language that was in force when they were given.
    ///
    /// # Errors
    /// See [`WriteRejection`].
    pub async fn change_tuples(
        &self,
        tenant: Tenant,
        changes: Vec<Change>,
    ) -> Result<Snaptoken, WriteRejection> {
        if changes.len() > CHANGES_MAX {
            return Err(WriteRejection::TooMany { given: changes.len(), limit: CHANGES_MAX });
        }
        // What is to be of each tuple in the end; a delete counts more than an insert.
        let mut wanted: BTreeMap<Tuple, Option<Relationship>> = BTreeMap::new();
        for change in changes {
            match change {
                Change::Insert(new) => {
                    new.validate()?;
                    fits(&new.tuple)?;
                    match wanted.entry(new.tuple.clone()) {
                        Entry::Vacant(entry) => {
                            entry.insert(Some(new));
                        }
                        Entry::Occupied(mut entry) if entry.get().is_some() => {
                            entry.insert(Some(new));
                        }
                        Entry::Occupied(_) => {}
                    }
                }
                Change::Delete(tuple) => {
                    tuple.validate()?;
                    fits(&tuple)?;
                    wanted.insert(tuple, None);
                }
            }
        }
        // What this node has may lag behind what was acknowledged elsewhere; nobody waits
        // for more than the changes themselves take.
        let strong = Consistency::Strong;
        let fresh = self.language(tenant, &strong);
        if wanted.is_empty() {
            return Ok(fresh.await?.1);
        }
        let (held, _) = self.language(tenant, &Consistency::Eventual).await?;
        let wanted: Vec<(TupleKey, Option<Relationship>)> = wanted
            .into_iter()
            .map(|(tuple, new)| {
                let slot = held.language.slot(&tuple.namespace);
                (Place { tenant, slot }.key(&tuple), new)
            })
            .collect();
        // New tuples are the rule: the first attempt reads nothing and lets the commit
        // see whether they are new.
        let blind = AtomicBool::new(wanted.iter().all(|(_, new)| new.is_some()));
        let (wanted, blind) = (&wanted, &blind);
        let done = self.store.transact(|t| async move {
            if blind.swap(false, Ordering::Relaxed) {
                for (key, new) in wanted {
                    let Some(new) = new else { continue };
                    let record = TupleRecord::of(new.condition.as_ref());
                    t.insert::<Tuples>(key, &record, new.kept_until());
                }
                return Ok(());
            }
            change(&t, wanted).await
        });
        let (done, fresh) = futures::join!(done, fresh);
        let done = done.map_err(WriteRejection::Store)?;
        // It is done, though it cannot be said for which language.
        let (_, language_at) = fresh.map_err(|_| StoreError::Unknown)?;
        let mut snaptoken = done.snaptoken;
        snaptoken.merge(&language_at);
        Ok(snaptoken)
    }
}

async fn change(
    t: &Transaction,
    wanted: &[(TupleKey, Option<Relationship>)],
) -> Result<(), StoreError> {
    let keys: Vec<_> = wanted.iter().map(|(key, _)| key.clone()).collect();
    let there = t.get_many::<Tuples>(&keys).await?;
    for ((key, new), there) in wanted.iter().zip(there) {
        match (new, there) {
            (Some(new), there) => {
                let record = TupleRecord::of(new.condition.as_ref());
                let same = there.is_some_and(|there| {
                    there.record == record && there.expires_at == new.kept_until()
                });
                if !same {
                    t.put::<Tuples>(key, &record, new.kept_until()).await?;
                }
            }
            (None, Some(_)) => t.delete::<Tuples>(key).await?,
            (None, None) => {}
        }
    }
    Ok(())
}
