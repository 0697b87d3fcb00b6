//! Reading what leads to a relation or permission, whoever is asked about.
//!
//! Where alternatives alone lead there, it holds of a subject exactly if a tuple of one
//! of the sets on the way names him. Anything else has no index; see [`NotFlat`].

use std::collections::HashMap;

use cardea_storage::{
    KeyRange, StoreError,
    engine::Order,
    store::{Read, Rows, Scan},
};

use crate::{
    engine::{
        Limits, leads_to,
        node::{Question, What},
    },
    graph::Graph,
    language::{Declared, Formula},
    model::SubjectSet,
    table::read_set,
};

/// Most questions on the way to one relation or permission.
const QUESTIONS_MAX: usize = 16_384;
/// Rows of a set that are read at once.
const ROWS: u32 = 512;

/// Rounds of reads after which others use the thread: some hundred microseconds.
const ROUNDS_BEFORE_OTHERS: u32 = 32;

/// What leads there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flattened {
    /// Whoever a tuple of one of these names has it.
    pub(super) members: Vec<SubjectSet>,
    /// Sets that were walked through to others, and in which nobody has it.
    pub(super) passed: Vec<SubjectSet>,
    /// Hops to the farthest.
    pub(super) depth: u32,
}

/// Why there is no such list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotFlat {
    /// By what the language says of it.
    Language,
    /// A tuple on the way has a condition or expires, leads to something that is not plain
    /// or not declared, or in a circle, or there are too many.
    Tuples,
}

/// What was found so far.
struct Way<'g> {
    graph: &'g Graph,
    known: HashMap<Question, usize>,
    questions: Vec<(Question, u32)>,
    /// Where each leads.
    leads: Vec<Vec<usize>>,
    /// What is left to be read, and how many rows were.
    reads: Vec<(usize, KeyRange, u32)>,
}

/// Reads all of it as of the graph's instant; with how many questions that took.
pub(super) async fn flatten(
    graph: &Graph,
    set: &SubjectSet,
    limits: Limits,
) -> Result<(Result<Flattened, NotFlat>, usize), StoreError> {
    let mut way = Way {
        graph,
        known: HashMap::new(),
        questions: Vec::new(),
        leads: Vec::new(),
        reads: Vec::new(),
    };
    let led = way.follow(set, limits).await?;
    let asked = way.questions.len();
    Ok((led.and_then(|()| way.flattened()), asked))
}

impl Way<'_> {
    /// Reads whatever leads to a set.
    async fn follow(
        &mut self,
        set: &SubjectSet,
        limits: Limits,
    ) -> Result<Result<(), NotFlat>, StoreError> {
        if let Err(not) = self.ask(None, Question::has(set), 0) {
            return Ok(Err(not));
        }
        let (mut opened, mut rounds) = (0, 0_u32);
        loop {
            while opened < self.questions.len() && self.reads.len() < self.graph.batch() {
                if let Err(not) = self.open(opened) {
                    let about = &self.questions[opened].0;
                    // What tuples led to may be another's with the next tuple.
                    let own = about.namespace == set.namespace && about.object == set.object;
                    return Ok(Err(if own { not } else { NotFlat::Tuples }));
                }
                opened += 1;
            }
            let together = self.reads.len().min(self.graph.batch());
            if together == 0 {
                break;
            }
            let part: Vec<_> = self.reads.drain(..together).collect();
            let scan = |range: &KeyRange| {
                Read::Scan(Scan { range: range.clone(), limit: ROWS, order: Order::Forward })
            };
            let found =
                self.graph.read(part.iter().map(|(_, range, _)| scan(range)).collect(), false);
            for ((from, range, read), rows) in part.into_iter().zip(found.await?) {
                if let Err(not) = self.list(from, range, read, &rows, limits) {
                    return Ok(Err(not));
                }
            }
            rounds += 1;
            if rounds.is_multiple_of(ROUNDS_BEFORE_OTHERS) {
                tokio::task::yield_now().await;
            }
        }
        Ok(Ok(()))
    }

    fn ask(&mut self, from: Option<usize>, question: Question, depth: u32) -> Result<(), NotFlat> {
        let to = match self.known.get(&question) {
            Some(known) => *known,
            None if self.questions.len() >= QUESTIONS_MAX => return Err(NotFlat::Tuples),
            None => {
                let id = self.questions.len();
                self.known.insert(question.clone(), id);
                self.questions.push((question, depth));
                self.leads.push(Vec::new());
                id
            }
        };
        if let Some(from) = from {
            self.leads[from].push(to);
        }
        Ok(())
    }

    /// Asks what a question's formula asks, and has its sets read.
    fn open(&mut self, id: usize) -> Result<(), NotFlat> {
        let graph = self.graph;
        let (question, depth) = self.questions[id].clone();
        let formula = match &question.what {
            What::Body(_) if !graph.language().has(&question.namespace) => {
                return Err(NotFlat::Tuples);
            }
            What::Body(body) => Some(graph.language().body(*body)),
            What::Walk(..) => None,
            What::Has(name) => match graph.language().declared(&question.namespace, name) {
                Declared::NoNamespace | Declared::Undeclared => return Err(NotFlat::Tuples),
                Declared::Relation | Declared::Free => None,
                Declared::Permission(formula) => Some(formula),
            },
        };
        if let Some(formula) = formula {
            self.ask_all(id, formula, &question, depth + 1)?;
        }
        if !matches!(question.what, What::Body(_)) {
            let place = graph.place(&question.namespace);
            self.reads.push((id, place.sets_of(&question.set()), 0));
        }
        Ok(())
    }

    fn ask_all(
        &mut self,
        id: usize,
        formula: &Formula,
        about: &Question,
        depth: u32,
    ) -> Result<(), NotFlat> {
        let what = match formula {
            Formula::Or(terms) => {
                return terms.iter().try_for_each(|term| self.ask_all(id, term, about, depth));
            }
            Formula::Has(name) => What::Has(name.clone()),
            Formula::Walk(relation, body) => What::Walk(relation.clone(), *body),
            Formula::And(_) | Formula::Not(_) | Formula::IsSubject => {
                return Err(NotFlat::Language);
            }
        };
        self.ask(Some(id), Question { what, ..about.clone() }, depth)
    }

    /// Asks what the sets of a question lead to.
    fn list(
        &mut self,
        id: usize,
        mut range: KeyRange,
        read: u32,
        rows: &Rows,
        limits: Limits,
    ) -> Result<(), NotFlat> {
        let (what, depth) = (self.questions[id].0.what.clone(), self.questions[id].1 + 1);
        for row in &rows.rows {
            if !row.value.is_empty() || row.expires_at.is_some() {
                return Err(NotFlat::Tuples);
            }
            let Some(set) = read_set(row) else { continue };
            let Some(question) = leads_to(self.graph.language(), &what, set) else { continue };
            self.ask(Some(id), question, depth)?;
        }
        let read = read.saturating_add(u32::try_from(rows.rows.len()).unwrap_or(u32::MAX));
        if let Some(last) = rows.rows.last().filter(|_| rows.more) {
            if read >= limits.width {
                return Err(NotFlat::Tuples);
            }
            range.start = last.key.successor();
            self.reads.push((id, range, read));
        } else if read > limits.width {
            return Err(NotFlat::Tuples);
        }
        Ok(())
    }

    fn flattened(self) -> Result<Flattened, NotFlat> {
        if self.is_circular() {
            return Err(NotFlat::Tuples);
        }
        let mut flattened = Flattened::default();
        for (question, depth) in &self.questions {
            flattened.depth = flattened.depth.max(*depth);
            match question.what {
                What::Has(_) => flattened.members.push(question.set()),
                What::Walk(..) => flattened.passed.push(question.set()),
                What::Body(_) => {}
            }
        }
        Ok(flattened)
    }

    /// Whether anything leads to itself: then what leads nowhere can be taken away until
    /// nothing of the rest leads nowhere.
    fn is_circular(&self) -> bool {
        let mut led_to = vec![0_usize; self.leads.len()];
        self.leads.iter().flatten().for_each(|to| led_to[*to] += 1);
        let mut left: Vec<usize> = (0..led_to.len()).filter(|id| led_to[*id] == 0).collect();
        let mut taken = 0;
        while let Some(id) = left.pop() {
            taken += 1;
            for to in &self.leads[id] {
                led_to[*to] -= 1;
                if led_to[*to] == 0 {
                    left.push(*to);
                }
            }
        }
        taken < self.leads.len()
    }
}
