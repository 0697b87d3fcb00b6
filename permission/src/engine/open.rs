//! Opening a question: its formula, its reads.
//!
//! A permission that is told from several relations of its object reads all tuples of
//! the object at once where they are few, instead of each relation by itself: one scan
//! for what would be a lookup and two. What they say is looked up in those rows as it
//! would be in the store, so both ways give the same.

use cardea_storage::{
    Row, StoreError,
    engine::Order,
    store::{Read, Rows, Scan},
};

use super::{
    Engine, Purpose,
    node::{Bound, NodeId, Question, State, What},
    value::{Finding, Why},
};
use crate::{
    language::{BodyId, Declared, Formula, Language},
    model::{Subject, SubjectSet},
};

/// Subject sets that are read at once at first: a few microseconds.
const SETS_AT_FIRST: u32 = 128;

/// Tuples of one object that are read together at most.
const TOGETHER_MAX: usize = 32;
/// Objects with more tuples after which a request reads none together any more.
const CROWDED_MAX: u32 = 4;

/// What is asked of an object for a body to hold: bodies that ask one name are that
/// question.
fn body_question(language: &Language, body: BodyId) -> What {
    match language.body(body) {
        Formula::Has(name) => What::Has(name.clone()),
        _ => What::Body(body),
    }
}

/// What is asked of what a subject set names, for a question that it is listed for.
pub(crate) fn leads_to(language: &Language, what: &What, set: SubjectSet) -> Option<Question> {
    let what = match what {
        What::Has(_) if set.relation.is_empty() => return None,
        What::Has(_) => What::Has(set.relation),
        What::Walk(_, body) => body_question(language, *body),
        What::Body(_) => return None,
    };
    Some(Question { namespace: set.namespace, object: set.object, what })
}

impl Engine<'_> {
    /// Opens a question, or goes on reading it.
    /// What can be read at once is, and then a grant that is found spares the rest.
    pub(super) fn open(
        &mut self,
        id: NodeId,
        reads: &mut Vec<Read>,
        purposes: &mut Vec<Purpose>,
    ) -> Result<(), StoreError> {
        if let Some(range) = self.nodes.get_mut(id).rest.take() {
            let node = self.nodes.get_mut(id);
            let limit = self.limits.width.saturating_sub(node.rows).max(1);
            node.reads += 1;
            reads.push(Read::Scan(Scan { range, limit, order: Order::Forward }));
            purposes.push(Purpose::Sets(id));
            return Ok(());
        }
        let node = self.nodes.get_mut(id);
        node.state = State::Open;
        if node.depth >= self.limits.depth.max(1) {
            self.decide(id, Finding::undecided(Why::Depth));
            return Ok(());
        }
        let question = node.question.clone();
        let depth = node.depth;
        if self.nodes.len() > self.limits.size {
            self.decide(id, Finding::undecided(Why::Size));
            return Ok(());
        }
        if let Some(finding) = self.by_index(&question, depth)? {
            self.decide(id, finding);
            return Ok(());
        }
        let graph = self.graph;
        let mut direct = false;
        let mut sets = false;
        match &question.what {
            What::Body(_) if !graph.language().has(&question.namespace) => {
                self.decide(id, Finding::doubt(Why::Undeclared));
                return Ok(());
            }
            What::Body(body) => {
                let formula = self.bind(id, graph.language().body(*body), &question, depth);
                self.nodes.get_mut(id).formula = Some(formula);
            }
            What::Walk(..) => sets = true,
            What::Has(name) => match graph.language().declared(&question.namespace, name) {
                Declared::NoNamespace | Declared::Undeclared => {
                    self.decide(id, Finding::doubt(Why::Undeclared));
                    return Ok(());
                }
                Declared::Relation | Declared::Free => (direct, sets) = (true, true),
                Declared::Permission(formula) => {
                    self.read_together(id, &question, name)?;
                    let formula = self.bind(id, formula, &question, depth);
                    self.nodes.get_mut(id).formula = Some(formula);
                    let known = match self.is_named(&question.namespace, name) {
                        Some(known) => known,
                        None => self.read_named(&question.namespace, name, reads, purposes)?,
                    };
                    (direct, sets) = (known, known);
                }
            },
        }
        let place = graph.place(&question.namespace);
        let set = question.set();
        // Both are awaited before either is answered, lest one alone decide.
        self.nodes.get_mut(id).reads += u32::from(direct) + u32::from(sets);
        if direct {
            let read = Read::Get(place.tuple_key(&set, &self.subject));
            self.read(id, read, Purpose::Direct(id), reads, purposes)?;
        }
        if sets && self.nodes.finding(id).is_none() {
            let limit = SETS_AT_FIRST.min(self.limits.width).max(1);
            let range = place.sets_of(&set);
            let read = Read::Scan(Scan { range, limit, order: Order::Forward });
            self.read(id, read, Purpose::Sets(id), reads, purposes)?;
        }
        self.look_at(id);
        Ok(())
    }

    /// Whether tuples name a permission, if that was read.
    fn is_named(&self, namespace: &str, permission: &str) -> Option<bool> {
        let known = self.named.iter().find(|(n, p, _)| n == namespace && p == permission);
        known.map(|(_, _, named)| *named)
    }

    /// Reads whether tuples name a permission; until that is known, they may.
    fn read_named(
        &mut self,
        namespace: &str,
        permission: &str,
        reads: &mut Vec<Read>,
        purposes: &mut Vec<Purpose>,
    ) -> Result<bool, StoreError> {
        let range = self.graph.place(namespace).relation(namespace, permission);
        let read = Read::Scan(Scan { range, limit: 1, order: Order::Forward });
        let purpose = Purpose::Named(namespace.to_owned(), permission.to_owned());
        match self.graph.read_now(&read)? {
            Some(rows) => self.answer(purpose, rows)?,
            None => {
                reads.push(read);
                purposes.push(purpose);
            }
        }
        Ok(self.is_named(namespace, permission).unwrap_or(true))
    }

    /// Reads at once, or with the others that wait.
    fn read(
        &mut self,
        id: NodeId,
        read: Read,
        purpose: Purpose,
        reads: &mut Vec<Read>,
        purposes: &mut Vec<Purpose>,
    ) -> Result<(), StoreError> {
        let rows = match &self.nodes.get(id).whole {
            Some(whole) => Some(within(whole, &read)),
            None => self.graph.read_now(&read)?,
        };
        match rows {
            Some(rows) => self.answer(purpose, rows)?,
            None => {
                reads.push(read);
                purposes.push(purpose);
            }
        }
        Ok(())
    }

    /// Reads all tuples of an object for a permission that is best told from them.
    fn read_together(
        &mut self,
        id: NodeId,
        question: &Question,
        permission: &str,
    ) -> Result<(), StoreError> {
        let Question { namespace, object, .. } = question;
        let known = self.nodes.get(id).whole.is_some();
        if known || self.crowded >= CROWDED_MAX {
            return Ok(());
        }
        if self.graph.language().is_broad(namespace, permission) {
            let range = self.graph.place(namespace).tuples_of(namespace, object);
            match self.graph.few_now(&range, TOGETHER_MAX)? {
                Some(rows) => self.nodes.get_mut(id).whole = Some(rows.into()),
                None => self.crowded += 1,
            }
        }
        Ok(())
    }

    /// Binds a formula about an object to the questions that it depends on.
    fn bind(&mut self, id: NodeId, formula: &Formula, about: &Question, depth: u32) -> Bound {
        match formula {
            Formula::Or(terms) => {
                Bound::Or(terms.iter().map(|term| self.bind(id, term, about, depth)).collect())
            }
            Formula::And(terms) => {
                Bound::And(terms.iter().map(|term| self.bind(id, term, about, depth)).collect())
            }
            Formula::Not(inner) => Bound::Not(Box::new(self.bind(id, inner, about, depth))),
            Formula::IsSubject => Bound::Known(if is_subject(about, &self.subject) {
                Finding::YES
            } else {
                Finding::NO
            }),
            Formula::Has(name) => self.depend(id, What::Has(name.clone()), about, depth),
            Formula::Walk(relation, body) => {
                self.depend(id, What::Walk(relation.clone(), *body), about, depth)
            }
        }
    }

    fn depend(&mut self, id: NodeId, what: What, about: &Question, depth: u32) -> Bound {
        let (namespace, object) = (about.namespace.clone(), about.object.clone());
        let child = self.ask(Question { namespace, object, what }, depth + 1);
        if let Some(whole) = self.nodes.get(id).whole.clone() {
            self.nodes.get_mut(child).whole = Some(whole);
        }
        if self.nodes.finding(child).is_none() {
            self.nodes.get_mut(child).asked_by.push(id);
            self.enqueue(child);
        }
        Bound::Node(child)
    }
}

/// What a read finds among all rows of its object, which are in the order of their keys.
fn within(whole: &[Row], read: &Read) -> Rows {
    match read {
        Read::Get(key) => {
            let at = whole.binary_search_by(|row| row.key.cmp(key)).ok();
            Rows { rows: at.map(|at| whole[at].clone()).into_iter().collect(), more: false }
        }
        Read::Scan(scan) => {
            let from = whole.partition_point(|row| row.key.as_bytes() < &scan.range.start);
            let to = whole.partition_point(|row| row.key.as_bytes() < &scan.range.end);
            let found = &whole[from..to.max(from)];
            let most = usize::try_from(scan.limit).unwrap_or(usize::MAX);
            let rows = found.iter().take(most).cloned().collect();
            Rows { rows, more: found.len() > most }
        }
    }
}

/// Whether an object is the subject: a subject set that names the object and no
/// relation, or a subject id that is the object's own.
pub(crate) fn is_subject(about: &Question, subject: &Subject) -> bool {
    match subject {
        Subject::Id(id) => *id == about.object,
        Subject::Set(set) => *set == SubjectSet::new(&*about.namespace, &*about.object, ""),
    }
}
