//! Listing identities (`listIdentities`), in the order of their ids, which is the
//! order of slots: a page continues where the last one ended, over all shards.

use cardea_storage::{
    Consistency, KeyRange, Slot, Space, StoreError, Table,
    engine::Order,
    store::{Read, ReadRequest, Scan},
};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    Service,
    model::{Identity, IdentityId, Page, Scope},
    page::{BadPageToken, PageRequest},
    schema::normalize_identifier,
    table::{CredentialIdentifiers, Identities, IdentityKey},
};

/// Most ids in a filter.
pub const IDS_MAX: usize = 500;
/// Slots that are asked for at once, at first and at most: few identities are
/// spread over many slots.
const SLOTS_AT_ONCE: (u16, u16) = (32, 512);
/// What page tokens of this list are sealed for.
const LIST: &str = "identities";

/// Which identities are wanted. At most one of both.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// These, in no order.
    pub ids: Vec<IdentityId>,
    /// Those with this credential identifier, exactly.
    pub credentials_identifier: Option<String>,
}

/// Why a list is not given.
#[derive(Debug, Error)]
pub enum ListRejection {
    /// Both filters at once.
    #[error("the filters ids and credentials_identifier exclude each other")]
    FiltersCombined,
    /// More than [`IDS_MAX`] ids.
    #[error("at most {IDS_MAX} ids can be asked for")]
    TooManyIds,
    /// The page token is not one of this list.
    #[error(transparent)]
    BadPageToken(#[from] BadPageToken),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// A page of identities, without their credentials.
    ///
    /// # Errors
    /// See [`ListRejection`].
    pub async fn list_identities(
        &self,
        scope: Scope,
        filter: ListFilter,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Page<Identity>, ListRejection> {
        if filter.ids.len() > IDS_MAX {
            return Err(ListRejection::TooManyIds);
        }
        let items = match (filter.ids.is_empty(), filter.credentials_identifier) {
            (false, Some(_)) => return Err(ListRejection::FiltersCombined),
            (false, None) => self.read_identities(scope, filter.ids, consistency).await?,
            (true, Some(identifier)) => {
                let ids = self.holders(scope, &identifier, consistency.clone()).await?;
                self.read_identities(scope, ids, consistency).await?
            }
            (true, None) => return self.scan_identities(scope, page, consistency).await,
        };
        Ok(Page { items, next: None })
    }

    /// Who has an identifier, by whatever kind of credential.
    async fn holders(
        &self,
        scope: Scope,
        identifier: &str,
        consistency: Consistency,
    ) -> Result<Vec<IdentityId>, StoreError> {
        let digests = self.identifier_digests(scope.tenant, &normalize_identifier(identifier));
        let mut request = ReadRequest::new(consistency);
        for digest in digests {
            let slot = Slot::of_digest(Space::Index, &digest);
            let range = CredentialIdentifiers::range(slot, scope.tenant, |key| {
                key.fixed(&digest);
            });
            request.reads.push(Read::Scan(Scan { range, limit: 64, order: Order::Forward }));
        }
        let answer = self.store.read(request).await?;
        let mut ids = Vec::new();
        for row in answer.results.iter().flat_map(|rows| &rows.rows) {
            ids.push(IdentityId(CredentialIdentifiers::decode(row)?.record.id()));
        }
        Ok(ids)
    }

    async fn read_identities(
        &self,
        scope: Scope,
        mut ids: Vec<IdentityId>,
        consistency: Consistency,
    ) -> Result<Vec<Identity>, StoreError> {
        ids.sort_unstable();
        ids.dedup();
        let mut request = ReadRequest::new(consistency);
        for id in &ids {
            let key = IdentityKey { tenant: scope.tenant, id: id.0 };
            request = request.get(Identities::key(&key));
        }
        let answer = self.store.read(request).await?;
        let mut items = Vec::new();
        for row in answer.results.iter().flat_map(|rows| &rows.rows) {
            let entry = Identities::decode(row)?;
            items.push(Identity::of(IdentityId(entry.key.id), &entry.record));
        }
        Ok(items)
    }

    async fn scan_identities(
        &self,
        scope: Scope,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Page<Identity>, ListRejection> {
        let limit = page.limit() as usize;
        let after = match &page.token {
            Some(token) => {
                Some(Uuid::from_bytes(self.keys.pages.open(scope.tenant, LIST, token)?))
            }
            None => None,
        };
        let first = after.map_or(0, |id| Slot::of_id(&id).number());
        let mut shards = self.store.shards(Space::Home);
        shards.sort_unstable();
        let mut items: Vec<Identity> = Vec::new();
        let mut at_once = SLOTS_AT_ONCE.0;
        for shard in shards {
            let mut next = u32::from(shard.first().number().max(first));
            let last = u32::from(shard.last().number());
            while next <= last && items.len() <= limit {
                let until = last.min(next + u32::from(at_once) - 1);
                // One more than fits tells whether there is another page.
                let missing = u32::try_from(limit + 1 - items.len()).unwrap_or(u32::MAX);
                let mut request = ReadRequest::new(consistency.clone());
                for number in next..=until {
                    let slot = Slot::new(Space::Home, u16::try_from(number).unwrap_or(0));
                    let mut range = Identities::slot_range(slot, scope.tenant);
                    if let Some(after) = after.filter(|id| Slot::of_id(id) == slot) {
                        let key = IdentityKey { tenant: scope.tenant, id: after };
                        let start = Identities::key(&key).successor();
                        range = KeyRange { start, end: range.end };
                    }
                    let scan = Scan { range, limit: missing, order: Order::Forward };
                    request.reads.push(Read::Scan(scan));
                }
                let answer = self.store.read(request).await?;
                for row in answer.results.iter().flat_map(|rows| &rows.rows) {
                    let entry = Identities::decode(row).map_err(StoreError::from)?;
                    items.push(Identity::of(IdentityId(entry.key.id), &entry.record));
                    if items.len() > limit {
                        break;
                    }
                }
                next = until + 1;
                at_once = (at_once * 2).min(SLOTS_AT_ONCE.1);
            }
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| {
            let entropy = self.store.entropy().as_ref();
            self.keys.pages.seal(entropy, scope.tenant, LIST, last.id.0.as_bytes())
        });
        Ok(Page { items, next })
    }
}
