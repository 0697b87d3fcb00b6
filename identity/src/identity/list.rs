//! Listing identities (`listIdentities`), in the order of their ids, which is the
//! order of slots: a page continues where the last one ended, over all shards. Those of
//! an organization, and those whose identifiers begin in some way, are found by indexes
//! that lie in lanes.

use std::collections::BTreeSet;

use cardea_storage::{
    Consistency, Key, KeyRange, Slot, Space, StoreError, Table,
    engine::Order,
    store::{Read, ReadRequest, Scan},
};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    Service,
    merge::{behind, place},
    model::{Identity, IdentityId, Page, Scope},
    page::{BadPageToken, PageRejection, PageRequest},
    schema::normalize_identifier,
    table::{
        CredentialIdentifiers, IdentifiersByText, Identities, IdentitiesByOrganization,
        IdentityKey, credential::cut,
    },
};

/// Most ids in a filter.
pub const IDS_MAX: usize = 500;
/// Slots that are asked for at once, at first and at most: few identities are
/// spread over many slots.
const SLOTS_AT_ONCE: (u16, u16) = (32, 512);
/// What page tokens of this list are sealed for.
const LIST: &str = "identities";

/// The shortest beginning of an identifier that is searched for, in characters.
pub const SIMILAR_CHARS_MIN: usize = 2;

/// Which identities are wanted. At most one of them.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// These, in no order.
    pub ids: Vec<IdentityId>,
    /// Those with this credential identifier, exactly.
    pub credentials_identifier: Option<String>,
    /// Those with a credential identifier that begins like this, or whose part behind
    /// the `@` does; in the order of what was found.
    pub credentials_identifier_similar: Option<String>,
    /// Those of this organization.
    pub organization: Option<Uuid>,
}

/// Why a list is not given.
#[derive(Debug, Error)]
pub enum ListRejection {
    /// Several filters at once.
    #[error("filters exclude each other")]
    FiltersCombined,
    /// Less than [`SIMILAR_CHARS_MIN`] characters to search for.
    #[error("a search takes {SIMILAR_CHARS_MIN} characters at least")]
    TooShort,
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

impl From<PageRejection> for ListRejection {
    fn from(rejection: PageRejection) -> Self {
        match rejection {
            PageRejection::BadPageToken(error) => Self::BadPageToken(error),
            PageRejection::Store(error) => Self::Store(error),
        }
    }
}

fn sorted(mut ids: Vec<IdentityId>) -> Vec<IdentityId> {
    ids.sort_unstable();
    ids.dedup();
    ids
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
        let given = [
            !filter.ids.is_empty(),
            filter.credentials_identifier.is_some(),
            filter.credentials_identifier_similar.is_some(),
            filter.organization.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() > 1 {
            return Err(ListRejection::FiltersCombined);
        }
        if let Some(identifier) = filter.credentials_identifier {
            let ids = self.holders(scope, &identifier, consistency.clone()).await?;
            let items = self.read_identities(scope, sorted(ids), consistency).await?;
            return Ok(Page { items, next: None });
        }
        if let Some(beginning) = filter.credentials_identifier_similar {
            return self.search_identities(scope, &beginning, page, consistency).await;
        }
        if let Some(organization) = filter.organization {
            return self.list_organization(scope, organization, page, consistency).await;
        }
        if filter.ids.is_empty() {
            return self.scan_identities(scope, page, consistency).await;
        }
        let items = self.read_identities(scope, sorted(filter.ids), consistency).await?;
        Ok(Page { items, next: None })
    }

    /// Those whose identifiers begin in some way, each once: by the first text that
    /// found it on this page.
    async fn search_identities(
        &self,
        scope: Scope,
        beginning: &str,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Page<Identity>, ListRejection> {
        let beginning = normalize_identifier(beginning);
        if beginning.chars().count() < SIMILAR_CHARS_MIN {
            return Err(ListRejection::TooShort);
        }
        let beginning = cut(&beginning).to_owned();
        let list = format!("identities like {beginning}");
        let range = |lane| {
            IdentifiersByText::range(lane, scope.tenant, |key| {
                key.open_bytes(beginning.as_bytes());
            })
        };
        let (keys, next) = self.page_of_lanes(scope, &list, range, page, &consistency).await?;
        let mut seen = BTreeSet::new();
        let found = keys.iter().filter_map(IdentifiersByText::read_key);
        let ids = found.map(|key| IdentityId(key.identity)).filter(|id| seen.insert(*id)).collect();
        Ok(Page { items: self.read_identities(scope, ids, consistency).await?, next })
    }

    /// Those of an organization, in the order of their lanes and ids.
    async fn list_organization(
        &self,
        scope: Scope,
        organization: Uuid,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Page<Identity>, ListRejection> {
        let list = format!("identities of {organization}");
        let range = |lane| {
            IdentitiesByOrganization::range(lane, scope.tenant, |key| {
                key.uuid(&organization);
            })
        };
        let (keys, next) = self.page_of_lanes(scope, &list, range, page, &consistency).await?;
        let keys = keys.iter().filter_map(IdentitiesByOrganization::read_key);
        let ids = keys.map(|key| IdentityId(key.identity)).collect();
        Ok(Page { items: self.read_identities(scope, ids, consistency).await?, next })
    }

    /// A page of an index that lies in lanes, and the token of the next.
    pub(crate) async fn page_of_lanes(
        &self,
        scope: Scope,
        list: &str,
        range: impl Fn(Slot) -> KeyRange,
        page: &PageRequest,
        consistency: &Consistency,
    ) -> Result<(Vec<Key>, Option<String>), PageRejection> {
        let after = match &page.token {
            Some(token) => Some(self.keys.pages.open_bytes(scope.tenant, list, token)?),
            None => None,
        };
        let range = |lane| behind(range(lane), after.as_deref());
        let limit = page.limit() as usize;
        let (keys, more) = self.first_of_lanes(consistency.clone(), range, limit).await?;
        let next = keys.last().filter(|_| more).map(|last| {
            let entropy = self.store.entropy().as_ref();
            self.keys.pages.seal(entropy, scope.tenant, list, place(last))
        });
        Ok((keys, next))
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
        ids: Vec<IdentityId>,
        consistency: Consistency,
    ) -> Result<Vec<Identity>, StoreError> {
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
