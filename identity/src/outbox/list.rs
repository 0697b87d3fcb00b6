//! What outboxes hold, as administrators see it.

use cardea_storage::{Consistency, StoreError, Table};
use uuid::Uuid;

use crate::{
    Service,
    model::{Page, Scope},
    page::{PageRejection, PageRequest},
    table::outbox::{ByCreation, Outbox, PostKey},
};

/// Pages of the index that one page of a list takes at most, where a filter leaves
/// little.
const ROUNDS_MAX: usize = 8;

impl Service {
    /// A row by its id; `None` if there is none.
    pub(crate) async fn post_of<T: Outbox>(
        &self,
        scope: Scope,
        id: Uuid,
    ) -> Result<Option<T::Record>, StoreError> {
        let key = PostKey { tenant: scope.tenant, id };
        let found = self.store.view(Consistency::Strong).peek::<T>(&key).await?;
        Ok(found.map(|entry| entry.record))
    }

    /// Rows that are wanted, the newest first. A page may hold fewer than asked for, and
    /// still have a successor.
    pub(crate) async fn list_posts<T: Outbox>(
        &self,
        scope: Scope,
        wanted: impl Fn(&T::Record) -> bool,
        page: &PageRequest,
    ) -> Result<Page<(Uuid, T::Record)>, PageRejection> {
        let list = format!("{}s", T::NAME);
        let (mut page, limit) = (page.clone(), page.limit());
        let mut items = Vec::new();
        for _ in 0..ROUNDS_MAX {
            page.size = limit - u32::try_from(items.len()).unwrap_or(limit);
            let range = |lane| ByCreation::<T>::slot_range(lane, scope.tenant);
            let strong = &Consistency::Strong;
            let (keys, next) = self.page_of_lanes(scope, &list, range, &page, strong).await?;
            let ids = keys.iter().filter_map(ByCreation::<T>::read_key).map(|key| key.id);
            let keys: Vec<_> =
                ids.map(|id| T::key(&PostKey { tenant: scope.tenant, id })).collect();
            let rows = self.store.view(Consistency::Strong).rows(&keys, false).await?;
            for row in rows.into_iter().flatten() {
                let entry = T::decode(&row).map_err(StoreError::from)?;
                if wanted(&entry.record) {
                    items.push((entry.key.id, entry.record));
                }
            }
            page.token = next;
            if page.token.is_none() || items.len() >= limit as usize {
                break;
            }
        }
        Ok(Page { items, next: page.token })
    }
}
