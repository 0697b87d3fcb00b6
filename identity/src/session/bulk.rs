//! Ending or deleting many sessions (`manageSessions`).
//!
//! All sessions of a tenant end by one write: each lane's era rises, and a session that
//! was issued in an earlier one is over. That takes a transaction for each eight shards,
//! however many sessions there are. What is counted, or deleted to free its room,
//! follows in bounded steps; it has no part in what is accepted.

use std::collections::BTreeMap;

use cardea_storage::{
    Consistency, Slot, Space, StoreError, Table, Timestamp, Transaction, engine::Order,
};
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use super::list::sessions_of;
use crate::{
    Service,
    audit::{Act, Actor},
    model::{IdentityId, Scope, SessionId, Standing},
    table::{
        Identities, IdentityKey, SessionByIdentity, SessionEraKey, SessionEraRecord, SessionEras,
        SessionKey, SessionRecord, Sessions, SessionsByIssue, id_of, lane::lanes,
    },
};

/// Most ids in one call.
pub const IDS_MAX: usize = 500;
/// Sessions that one call counts or deletes where all of a tenant are meant.
pub const STEP: usize = 10_000;
/// Sessions that one transaction changes, or one read reads.
const AT_ONCE: u32 = 100;
/// Shards that one transaction may touch.
const SHARDS_AT_ONCE: usize = 8;

/// What happens to sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkAction {
    /// They end; lists still show them.
    Disable,
    /// They end, and nothing of them is left.
    Delete,
}

/// To which sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkTargets {
    /// Those of these identities.
    Identities(Vec<IdentityId>),
    /// These.
    Sessions(Vec<SessionId>),
    /// All of the tenant.
    All,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BulkDone {
    /// Sessions that ended, or that were deleted. Of all of a tenant at most [`STEP`]
    /// are counted.
    pub processed: u64,
    /// Whether rows are left to be deleted. None of them is accepted any more.
    pub more: bool,
}

/// Why nothing, or not everything, was done.
#[derive(Debug, Error)]
pub enum BulkRejection {
    /// More than [`IDS_MAX`] ids.
    #[error("at most {IDS_MAX} ids")]
    TooManyIds,
    /// The store could not answer; some sessions may have ended.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Ends or deletes sessions. Ids that nothing has are passed over.
    ///
    /// # Errors
    /// See [`BulkRejection`].
    pub async fn manage_sessions(
        &self,
        scope: Scope,
        action: BulkAction,
        targets: BulkTargets,
    ) -> Result<BulkDone, BulkRejection> {
        let processed = match targets {
            BulkTargets::Identities(ids) => {
                if ids.len() > IDS_MAX {
                    return Err(BulkRejection::TooManyIds);
                }
                let mut processed = 0;
                for id in ids {
                    processed += self.manage_sessions_of(scope, action, id).await?;
                }
                processed
            }
            BulkTargets::Sessions(ids) => {
                if ids.len() > IDS_MAX {
                    return Err(BulkRejection::TooManyIds);
                }
                self.manage_these(scope, action, ids).await?
            }
            BulkTargets::All => return Ok(self.manage_all(scope, action).await?),
        };
        Ok(BulkDone { processed, more: false })
    }

    async fn manage_sessions_of(
        &self,
        scope: Scope,
        action: BulkAction,
        id: IdentityId,
    ) -> Result<u64, StoreError> {
        let key = IdentityKey { tenant: scope.tenant, id: id.0 };
        let ended = self
            .store
            .transact(|t| async move {
                let Some(entry) = t.get::<Identities>(&key).await? else { return Ok(None) };
                let mut identity = entry.record;
                let era = self.session_era(&t, scope, &id.0, false).await?;
                let standing = Standing::of(Some(&identity), era);
                let mut ended = 0;
                if action == BulkAction::Disable {
                    let mut range = sessions_of(scope, id.0);
                    loop {
                        let (marks, more) = t
                            .peek_range::<SessionByIdentity>(range.clone(), AT_ONCE, Order::Forward)
                            .await?;
                        let ids = marks.iter().map(|mark| mark.key.session);
                        for record in self.peek_sessions(&t, scope, ids).await?.into_values() {
                            ended += u64::from(is_active(&record, standing, t.judged_at()));
                        }
                        match marks.last().filter(|_| more) {
                            Some(last) => {
                                range.start = SessionByIdentity::key(&last.key).successor();
                            }
                            None => break,
                        }
                    }
                }
                identity.session_epoch += 1;
                t.put::<Identities>(&key, &identity, None).await?;
                let what = (Act::SessionsRevoked, Actor::Administrator);
                self.audit(&t, scope, id.0, what, Value::Null).await?;
                Ok::<_, StoreError>(Some(ended))
            })
            .await?
            .value;
        let Some(ended) = ended else { return Ok(0) };
        if action == BulkAction::Disable {
            return Ok(ended);
        }
        let mut deleted = 0;
        loop {
            let done = self
                .store
                .transact(|t| async move { self.delete_some_sessions(&t, scope, id).await })
                .await?;
            deleted += done.value.0;
            if !done.value.1 {
                return Ok(deleted);
            }
        }
    }

    /// Each shard's in transactions of their own.
    async fn manage_these(
        &self,
        scope: Scope,
        action: BulkAction,
        mut ids: Vec<SessionId>,
    ) -> Result<u64, StoreError> {
        ids.sort_unstable();
        ids.dedup();
        let shards = self.store.shards(Space::Home);
        let mut by_shard: BTreeMap<Option<usize>, Vec<SessionKey>> = BTreeMap::new();
        for id in ids {
            let slot = Slot::of_id(&id.0);
            let shard = shards.iter().position(|range| range.contains(slot));
            by_shard.entry(shard).or_default().push(SessionKey { tenant: scope.tenant, id: id.0 });
        }
        let mut processed = 0;
        for keys in by_shard.into_values() {
            for keys in keys.chunks(AT_ONCE as usize) {
                let done = self
                    .store
                    .transact(|t| async move { self.manage_some(&t, scope, action, keys).await })
                    .await?;
                processed += done.value;
            }
        }
        Ok(processed)
    }

    async fn manage_some(
        &self,
        t: &Transaction,
        scope: Scope,
        action: BulkAction,
        keys: &[SessionKey],
    ) -> Result<u64, StoreError> {
        let found: Vec<_> = t.get_many::<Sessions>(keys).await?.into_iter().flatten().collect();
        let owners: Vec<_> = found.iter().map(|entry| id_of(&entry.record.identity)).collect();
        let standings = self.standings(t, scope, &owners).await?;
        let mut processed = 0;
        for (entry, owner) in found.into_iter().zip(owners) {
            let standing = standings.get(&owner).copied().flatten();
            let active = is_active(&entry.record, standing, t.judged_at());
            processed += u64::from(active || action == BulkAction::Delete);
            if active {
                // One that is deleted ends, too, and that is an event.
                self.revoke(t, (entry.key, entry.record), Actor::Administrator).await?;
            }
            if action == BulkAction::Delete {
                t.delete::<Sessions>(&entry.key).await?;
            }
        }
        Ok(processed)
    }

    async fn manage_all(&self, scope: Scope, action: BulkAction) -> Result<BulkDone, StoreError> {
        // Counted before they end; what is issued meanwhile is not.
        let mut done = BulkDone::default();
        if action == BulkAction::Disable {
            done.processed = self.count_active(scope).await?;
        }
        self.raise_eras(scope).await?;
        if action == BulkAction::Delete {
            let (deleted, more) = self.delete_step(scope).await?;
            done = BulkDone { processed: deleted, more };
        }
        Ok(done)
    }

    /// Ends all sessions of a tenant. When this returns, no strong read on any node
    /// accepts one that was issued before.
    async fn raise_eras(&self, scope: Scope) -> Result<(), StoreError> {
        let mut shards = self.store.shards(Space::Home);
        shards.sort_unstable();
        for shards in shards.chunks(SHARDS_AT_ONCE) {
            let here = |lane: &Slot| shards.iter().any(|range| range.contains(*lane));
            let keys: &Vec<_> = &lanes()
                .filter(here)
                .map(|lane| SessionEraKey { lane, tenant: scope.tenant })
                .collect();
            self.store
                .transact(|t| async move {
                    let eras = t.get_many::<SessionEras>(keys).await?;
                    for (key, before) in keys.iter().zip(eras) {
                        let era = before.map_or(0, |entry| entry.record.era) + 1;
                        let record = SessionEraRecord { era, begun_at: t.now().as_millis() };
                        t.put::<SessionEras>(key, &record, None).await?;
                    }
                    // Of the whole tenant: once, however many transactions it takes.
                    let nobody = Uuid::nil();
                    if shards.iter().any(|range| range.contains(Slot::of_id(&nobody))) {
                        let what = (Act::SessionsRevoked, Actor::Administrator);
                        self.audit(&t, scope, nobody, what, Value::Null).await?;
                    }
                    Ok::<_, StoreError>(())
                })
                .await?;
        }
        Ok(())
    }

    /// How many of the newest [`STEP`] sessions are active.
    async fn count_active(&self, scope: Scope) -> Result<u64, StoreError> {
        let keys = self.newest_sessions(scope, STEP).await?.0;
        let view = self.store.view(Consistency::Strong);
        let mut active = 0;
        for keys in keys.chunks(AT_ONCE as usize) {
            let found = self.peek_sessions(&view, scope, keys.iter().map(|key| key.id)).await?;
            let owners: Vec<_> = found.values().map(|record| id_of(&record.identity)).collect();
            let standings = self.standings(&view, scope, &owners).await?;
            for (record, owner) in found.values().zip(owners) {
                let standing = standings.get(&owner).copied().flatten();
                active += u64::from(is_active(record, standing, view.judged_at()));
            }
        }
        Ok(active)
    }

    async fn delete_step(&self, scope: Scope) -> Result<(u64, bool), StoreError> {
        let (keys, more) = self.newest_sessions(scope, STEP).await?;
        let ids = keys.into_iter().map(|key| SessionId(key.id)).collect();
        Ok((self.manage_these(scope, BulkAction::Delete, ids).await?, more))
    }

    async fn newest_sessions(
        &self,
        scope: Scope,
        limit: usize,
    ) -> Result<(Vec<SessionKey>, bool), StoreError> {
        let range = |lane| SessionsByIssue::slot_range(lane, scope.tenant);
        let (keys, more) = self.first_of_lanes(Consistency::Strong, range, limit).await?;
        let keys = keys.iter().filter_map(SessionsByIssue::read_key);
        Ok((keys.map(|key| SessionKey { tenant: scope.tenant, id: key.session }).collect(), more))
    }

    /// Sessions by id, those that are there.
    pub(super) async fn peek_sessions(
        &self,
        t: &Transaction,
        scope: Scope,
        ids: impl Iterator<Item = Uuid>,
    ) -> Result<BTreeMap<Uuid, SessionRecord>, StoreError> {
        let keys: Vec<_> =
            ids.map(|id| Sessions::key(&SessionKey { tenant: scope.tenant, id })).collect();
        let mut found = BTreeMap::new();
        for row in t.rows(&keys, false).await?.into_iter().flatten() {
            let entry = Sessions::decode(&row)?;
            found.insert(entry.key.id, entry.record);
        }
        Ok(found)
    }

    /// Under what the sessions of identities are accepted.
    pub(super) async fn standings(
        &self,
        t: &Transaction,
        scope: Scope,
        owners: &[Uuid],
    ) -> Result<BTreeMap<Uuid, Option<Standing>>, StoreError> {
        let mut owners = owners.to_vec();
        owners.sort_unstable();
        owners.dedup();
        let tenant = scope.tenant;
        let identity = |id: &Uuid| Identities::key(&IdentityKey { tenant, id: *id });
        let era = |id: &Uuid| SessionEras::key(&SessionEraKey::of(tenant, id));
        let keys: Vec<_> = owners.iter().flat_map(|id| [identity(id), era(id)]).collect();
        let rows = t.rows(&keys, false).await?;
        let mut standings = BTreeMap::new();
        for (owner, rows) in owners.into_iter().zip(rows.chunks(2)) {
            let [identity, era] = rows else { continue };
            let identity = match identity {
                Some(row) => Some(Identities::decode(row)?.record),
                None => None,
            };
            let era = match era {
                Some(row) => SessionEras::decode(row)?.record.era,
                None => 0,
            };
            standings.insert(owner, Standing::of(identity.as_ref(), era));
        }
        Ok(standings)
    }
}

fn is_active(record: &SessionRecord, standing: Option<Standing>, now: Timestamp) -> bool {
    record.revoked_at == 0
        && now.as_millis() < record.expires_at
        && standing == Some(Standing { epoch: record.epoch, era: record.era })
}
