//! Listing tuples by any part of them.
//!
//! | given | read in the order of |
//! |---|---|
//! | namespace and object, with or without more | object |
//! | subject, without an object in a namespace | subject |
//! | namespace and relation | relation |
//! | namespace, or nothing | object |
//! | object or relation without a namespace | object, over all namespaces |
//!
//! What the order does not tell apart is left out while reading. Pages are not of one
//! instant: a tuple made or deleted between two of them may be on either or none.

use std::sync::Arc;

use bytes::Bytes;
use cardea_storage::{
    Consistency, Key, KeyRange, Slot, StoreError, Tenant, Transaction, engine::Order,
};

use crate::{
    Service,
    language::Language,
    model::{Relationship, TupleQuery},
    rejection::ReadRejection,
    service::Answered,
    table::{Place, read_relationship},
};

/// Tuples on a page if the caller does not say.
pub const PAGE_SIZE_DEFAULT: u32 = 100;
/// Most tuples on a page.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// Rows that are read together.
const ROWS_AT_ONCE: u32 = 1_000;
/// Rows that one page may look at without finding enough: then it is given as it is.
const ROWS_MAX: u32 = 20_000;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// Most tuples; 0 for [`PAGE_SIZE_DEFAULT`], at most [`PAGE_SIZE_MAX`].
    pub size: u32,
    /// The token of the page; `None` or empty for the first.
    pub token: Option<String>,
}

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// The token of the next one; `None` on the last.
    pub next: Option<String>,
}

impl PageRequest {
    /// How many are given.
    pub fn limit(&self) -> usize {
        let size = if self.size == 0 { PAGE_SIZE_DEFAULT } else { self.size.min(PAGE_SIZE_MAX) };
        size as usize
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref().filter(|token| !token.is_empty())
    }
}

/// Where a list goes on: behind this key.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListPosition(Option<Bytes>);

impl ListPosition {
    /// Of [`into_bytes`](Self::into_bytes); the beginning of none.
    pub(crate) fn of_bytes(bytes: Bytes) -> Self {
        Self((!bytes.is_empty()).then_some(bytes))
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0.unwrap_or_default()
    }
}

/// A part of a list.
pub(crate) struct Part {
    pub(crate) tuples: Vec<Relationship>,
    pub(crate) next: Option<ListPosition>,
}

impl Service {
    /// A page of the tuples that a query means.
    ///
    /// # Errors
    /// See [`ReadRejection`]; a namespace that is given and not declared is
    /// [unknown](ReadRejection::UnknownNamespace).
    pub async fn list_tuples(
        &self,
        tenant: Tenant,
        query: &TupleQuery,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Answered<Page<Relationship>>, ReadRejection> {
        query.validate()?;
        let (held, language_at) = self.language(tenant, &consistency).await?;
        let language: &Arc<Language> = &held.language;
        if let Some(namespace) = query.namespace.as_ref().filter(|name| !language.has(name)) {
            return Err(ReadRejection::UnknownNamespace(namespace.clone()));
        }
        let list = list_name(query);
        let position = match page.token() {
            None => ListPosition::default(),
            Some(token) => ListPosition(Some(self.pages.open(tenant, &list, token)?.into())),
        };
        let view = self.store.view(consistency.clone());
        let part = self.page_of(&view, tenant, language, query, position, page.limit()).await?;
        let mut snaptoken = view.seen();
        snaptoken.merge(&language_at);
        let entropy = self.store.entropy().as_ref();
        let next = part.next.and_then(|next| next.0);
        let next = next.map(|key| self.pages.seal(entropy, tenant, &list, &key));
        Ok(Answered { value: Page { items: part.tuples, next }, snaptoken })
    }

    /// At most `limit` of the tuples that a query means, behind a position.
    pub(crate) async fn page_of(
        &self,
        t: &Transaction,
        tenant: Tenant,
        language: &Language,
        query: &TupleQuery,
        position: ListPosition,
        limit: usize,
    ) -> Result<Part, StoreError> {
        let mut slots = slots_of(language, query);
        let after = position.0.and_then(Key::from_bytes);
        if let Some(after) = &after {
            slots.retain(|slot| *slot >= after.slot());
        }
        let (mut tuples, mut looked_at) = (Vec::new(), 0_u32);
        for slot in slots {
            let mut range = range_of(Place { tenant, slot }, query);
            if let Some(after) = after.as_ref().filter(|after| after.slot() == slot) {
                range.start = range.start.max(after.successor());
            }
            while range.start < range.end {
                let missing = u32::try_from(limit - tuples.len()).unwrap_or(ROWS_AT_ONCE);
                let exact = is_exact(query);
                let at_once = if exact { missing } else { ROWS_AT_ONCE };
                let rows = t
                    .scan_rows(range.clone(), at_once.clamp(1, ROWS_AT_ONCE), Order::Forward, true)
                    .await?;
                for row in &rows.rows {
                    looked_at += 1;
                    let found = read_relationship(row)?;
                    tuples.extend(found.filter(|found| query.matches(&found.tuple)));
                    if tuples.len() == limit {
                        let next = Some(ListPosition(Some(row.key.as_bytes().clone())));
                        return Ok(Part { tuples, next });
                    }
                }
                let Some(last) = rows.rows.last().filter(|_| rows.more) else { break };
                range.start = last.key.successor();
                if looked_at >= ROWS_MAX {
                    let next = Some(ListPosition(Some(last.key.as_bytes().clone())));
                    return Ok(Part { tuples, next });
                }
            }
        }
        Ok(Part { tuples, next: None })
    }
}

/// The slots that a query's tuples lie in.
pub(crate) fn slots_of(language: &Language, query: &TupleQuery) -> Vec<Slot> {
    match &query.namespace {
        Some(namespace) => vec![language.slot(namespace)],
        None => language.slots().into_iter().collect(),
    }
}

/// The rows that a query's tuples are among.
pub(crate) fn range_of(place: Place, query: &TupleQuery) -> KeyRange {
    let text = |part: &'_ Option<String>| part.clone();
    match (&query.namespace, &query.object, &query.relation, &query.subject) {
        (Some(namespace), Some(object), None, _) => place.object(namespace, object),
        (Some(namespace), Some(object), Some(relation), None) => {
            place.subjects_of(&crate::model::SubjectSet::new(&**namespace, &**object, &**relation))
        }
        (Some(namespace), Some(object), Some(relation), Some(subject)) => {
            let set = crate::model::SubjectSet::new(&**namespace, &**object, &**relation);
            let key = place.tuple_key(&set, subject);
            KeyRange { start: key.as_bytes().clone(), end: key.successor() }
        }
        (_, _, _, Some(subject)) => place.subject(
            subject,
            text(&query.namespace).as_deref(),
            text(&query.relation).as_deref().filter(|_| query.namespace.is_some()),
        ),
        (Some(namespace), None, Some(relation), None) => place.relation(namespace, relation),
        (namespace, _, _, None) => place.namespace(namespace.as_deref()),
    }
}

/// Whether every row of the range is meant.
fn is_exact(query: &TupleQuery) -> bool {
    let given = (
        query.namespace.is_some(),
        query.object.is_some(),
        query.relation.is_some(),
        query.subject.is_some(),
    );
    match given {
        (false, object, relation, _) => !object && !relation,
        (true, true, false, subject) => !subject,
        (true, _, _, _) => true,
    }
}

/// What page tokens of a list are sealed for: the query itself.
fn list_name(query: &TupleQuery) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut part = |text: Option<String>| {
        let text = text.map_or_else(String::new, |text| format!("={text}"));
        hasher.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text.as_bytes());
    };
    part(query.namespace.clone());
    part(query.object.clone());
    part(query.relation.clone());
    part(query.subject.as_ref().map(|subject| format!("{subject:?}")));
    format!("tuples {}", hasher.finalize().to_hex())
}
