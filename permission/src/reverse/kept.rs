//! Candidates that were collected for a page, kept for the pages to come: on this node,
//! for a while, and within a bound of memory. A node that keeps none collects anew.
//!
//! Candidates of an older state serve a page as far as they are not older than the first
//! page of their list and than what the page's request has seen. Then each is checked
//! again before it is given, so that what was taken away meanwhile is not.

use std::{collections::HashMap, sync::Arc};

use cardea_storage::{Consistency, Snaptoken, Tenant, Timestamp};
use parking_lot::Mutex;

use crate::{graph::Graph, language::Language};

/// Most memory of all that is kept, in bytes.
const BYTES_MAX: usize = 64 << 20;
/// How long it is kept behind its last use, in milliseconds.
const UNUSED_MS_MAX: u64 = 60_000;
/// Most lists that are kept.
const LISTS_MAX: usize = 1_000;
/// What a name costs beside its bytes: pointer, length, flag, and the allocator's share.
const NAME_BYTES: usize = 40;

/// A list, by its question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct List {
    pub(super) tenant: Tenant,
    pub(super) name: String,
}

/// What may answer a look-up, as of one state.
pub(crate) struct Kept {
    names: Vec<(Box<str>, bool)>,
    at: Snaptoken,
    language: Arc<Language>,
    /// Whether it does not change with time alone.
    timeless: bool,
    bytes: usize,
}

/// What is kept, for a page.
pub(super) struct Taken {
    pub(super) kept: Arc<Kept>,
    /// Whether nothing has changed since.
    pub(super) trusted: bool,
}

/// All that a node keeps.
#[derive(Default)]
pub(crate) struct KeptLists(Mutex<Lists>);

#[derive(Default)]
struct Lists {
    lists: HashMap<List, Entry>,
    bytes: usize,
}

struct Entry {
    kept: Arc<Kept>,
    used_at: Timestamp,
}

impl Kept {
    pub(super) fn new(
        names: impl IntoIterator<Item = (String, bool)>,
        at: Snaptoken,
        language: Arc<Language>,
        timeless: bool,
    ) -> Self {
        let names: Vec<(Box<str>, bool)> =
            names.into_iter().map(|(name, certain)| (name.into(), certain)).collect();
        let bytes = names.iter().map(|(name, _)| name.len() + NAME_BYTES).sum();
        Self { names, at, language, timeless, bytes }
    }

    /// In their order, each with whether it surely answered then.
    pub(super) fn names(&self) -> &[(Box<str>, bool)] {
        &self.names
    }

    /// Whether it has seen what a token names of the graph. The language goes by itself.
    fn has_seen(&self, token: &Snaptoken) -> bool {
        token.positions.iter().all(|position| {
            let seen = self.at.revision(position.shard);
            seen.is_none_or(|seen| seen.0 >= position.revision)
        })
    }
}

impl KeptLists {
    /// What serves a page of a list that began at `begun`; its first without that.
    pub(super) fn take(
        &self,
        list: &List,
        graph: &Graph,
        begun: Option<&Snaptoken>,
        fresh: &Consistency,
    ) -> Option<Taken> {
        let now = graph.time();
        let mut lists = self.0.lock();
        lists.forget(now);
        let entry = lists.lists.get_mut(list)?;
        let kept = &entry.kept;
        // What is read in rounds may be of a later instant in the next one.
        let trusted = kept.timeless && graph.is_of_one_instant() && kept.at == graph.snaptoken();
        let serves = match begun {
            None => trusted,
            Some(begun) => {
                let asked = match fresh {
                    Consistency::AtLeast(token) => kept.has_seen(token),
                    _ => true,
                };
                asked && kept.has_seen(begun)
            }
        };
        if !serves || !Arc::ptr_eq(&kept.language, graph.language_held()) {
            return None;
        }
        entry.used_at = entry.used_at.max(now);
        Some(Taken { kept: entry.kept.clone(), trusted })
    }

    /// Keeps what a page was taken from.
    pub(super) fn keep(&self, list: &List, kept: Arc<Kept>, now: Timestamp) {
        let mut lists = self.0.lock();
        lists.remove(list);
        if kept.bytes > BYTES_MAX {
            return;
        }
        while lists.bytes + kept.bytes > BYTES_MAX || lists.lists.len() >= LISTS_MAX {
            let oldest = lists.lists.iter().min_by_key(|(_, entry)| entry.used_at);
            let Some(oldest) = oldest.map(|(list, _)| list.clone()) else { break };
            lists.remove(&oldest);
        }
        lists.bytes += kept.bytes;
        lists.lists.insert(list.clone(), Entry { kept, used_at: now });
    }
}

impl Lists {
    fn remove(&mut self, list: &List) {
        if let Some(entry) = self.lists.remove(list) {
            self.bytes -= entry.kept.bytes;
        }
    }

    /// Forgets what nobody has used for long.
    fn forget(&mut self, now: Timestamp) {
        let Lists { lists, bytes } = self;
        lists.retain(|_, entry| {
            let stays = entry.used_at.0.saturating_add(UNUSED_MS_MAX) >= now.0;
            *bytes -= if stays { 0 } else { entry.kept.bytes };
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(number: usize) -> List {
        List { tenant: Tenant(0), name: number.to_string() }
    }

    fn kept(name_bytes: usize) -> Arc<Kept> {
        let names = [("x".repeat(name_bytes), true)];
        Arc::new(Kept::new(names, Snaptoken::default(), Arc::default(), true))
    }

    #[test]
    fn memory_is_bounded_and_the_least_used_goes_first() {
        let lists = KeptLists::default();
        for number in 0..10 {
            lists.keep(&list(number), kept(BYTES_MAX / 4), Timestamp(number as u64));
        }
        let inside = lists.0.lock();
        let mut left: Vec<_> = inside.lists.keys().map(|list| list.name.clone()).collect();
        left.sort();
        assert_eq!(left, ["7", "8", "9"]);
        let bytes: usize = inside.lists.values().map(|entry| entry.kept.bytes).sum();
        assert_eq!(inside.bytes, bytes);
        assert!(inside.bytes <= BYTES_MAX);
        drop(inside);
        lists.keep(&list(9), kept(BYTES_MAX), Timestamp(10));
        assert!(!lists.0.lock().lists.contains_key(&list(9)), "larger than all may be");
    }

    #[test]
    fn number_of_lists_is_bounded_and_unused_ones_are_forgotten() {
        let lists = KeptLists::default();
        for number in 0..LISTS_MAX + 5 {
            lists.keep(&list(number), kept(1), Timestamp(number as u64));
        }
        let mut inside = lists.0.lock();
        assert_eq!(inside.lists.len(), LISTS_MAX);
        inside.forget(Timestamp(UNUSED_MS_MAX + 10));
        assert_eq!(inside.lists.len(), LISTS_MAX - 5);
        inside.forget(Timestamp(u64::MAX));
        assert_eq!((inside.lists.len(), inside.bytes), (0, 0));
    }
}
