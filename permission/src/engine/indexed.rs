//! Questions that a set index answers: by the tuples that name the subject, which are
//! read once for all of them.

use std::{collections::HashMap, sync::Arc};

use cardea_storage::{
    Row, StoreError,
    engine::Order,
    store::{Read, Scan},
};

use super::{
    Engine, Gate,
    node::{Question, What},
    value::Finding,
};
use crate::{
    model::SubjectSet,
    sets::{Kind, Named},
    table::read_tuple,
};

/// Most tuples that name a subject and are read at all.
const NAMED_MAX: u32 = 64;
/// The same of one relation of one namespace.
const NAMED_OF_A_KIND_MAX: u32 = 256;

/// The tuples that name the subject: all, and those of a kind; `None` if they are too
/// many.
#[derive(Default)]
pub(super) struct Naming(HashMap<Option<Kind>, Option<Arc<[Named]>>>);

impl Engine<'_> {
    /// The answer, if an index has it.
    pub(super) fn by_index(
        &mut self,
        question: &Question,
        depth: u32,
    ) -> Result<Option<Finding>, StoreError> {
        let (Some(sets), What::Has(_)) = (self.sets, &question.what) else { return Ok(None) };
        let (set, language) = (question.set(), self.graph.language_held());
        let hops = self.limits.depth.saturating_sub(depth);
        let Some(kinds) = sets.kinds(language, &set, hops, self.limits.size) else {
            return Ok(None);
        };
        let mut parts = Vec::new();
        if let Some(all) = self.naming(None)? {
            parts.push(all);
        } else {
            for kind in &*kinds {
                let Some(some) = self.naming(Some(kind))? else { return Ok(None) };
                parts.push(some);
            }
            if kinds.is_empty() {
                return Ok(None);
            }
        }
        let mut finding = Finding::NO;
        for named in parts {
            let Some(leading) = sets.leading(language, &set, &named) else { return Ok(None) };
            for at in leading {
                finding = finding.or(match self.gate(&named[at].1)? {
                    Gate::Open => Finding::YES,
                    Gate::Doubted(why) => Finding::undecided(why),
                    Gate::Shut => Finding::NO,
                });
            }
        }
        Ok(Some(finding))
    }

    fn naming(&mut self, kind: Option<&Kind>) -> Result<Option<Arc<[Named]>>, StoreError> {
        let kind = kind.cloned();
        if let Some(known) = self.naming.0.get(&kind) {
            return Ok(known.clone());
        }
        // Where there are indexes, all tuples lie in one slot.
        let place = self.graph.place("");
        let (range, limit) = match &kind {
            None => (place.subject(&self.subject, None, None), NAMED_MAX),
            Some((namespace, relation)) => {
                let range = place.subject(&self.subject, Some(namespace), Some(relation));
                (range, NAMED_OF_A_KIND_MAX)
            }
        };
        let read = Read::Scan(Scan { range, limit, order: Order::Forward });
        let Some(rows) = self.graph.read_now(&read)? else { return Ok(None) };
        let named = |row: Row| {
            let tuple = read_tuple(&row)?;
            Some((SubjectSet::new(tuple.namespace, tuple.object, tuple.relation), row))
        };
        let few = !rows.more;
        let named = few.then(|| rows.rows.into_iter().filter_map(named).collect());
        self.naming.0.insert(kind, named.clone());
        Ok(named)
    }
}
