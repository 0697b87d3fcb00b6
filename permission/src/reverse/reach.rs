//! Questions that lead from one to the next, each followed once, with the rows that are
//! read for them. What is reached through alternatives alone is certain.

use std::collections::{HashMap, HashSet};

use cardea_storage::{
    KeyRange,
    engine::Order,
    store::{Read, Scan},
};

use super::{Lookup, stream::Sieve};
use crate::{
    ReadRejection, Tuple,
    engine::node::{Question, What},
    graph::Graph,
    language::{Declared, Formula},
    table::Place,
};

/// Rows of a range that are read at first, and behind those: most ranges are short.
const ROWS_AT_FIRST: u32 = 64;
const ROWS: u32 = 1_000;
/// Rounds of reads after which others use the thread: some hundred microseconds.
const ROUNDS_BEFORE_OTHERS: u32 = 8;

/// A range that is read for a question.
pub(super) struct Scanned {
    /// `None` for the tuples of the subject itself.
    pub(super) question: Option<Question>,
    pub(super) certain: bool,
    range: KeyRange,
    goes_on: bool,
}

/// What is known of a look-up under way.
pub(super) struct Reach<'g, 'a> {
    pub(super) graph: &'g Graph,
    lookup: &'a Lookup<'g>,
    pub(super) sieve: Sieve<'g>,
    pub(super) reached: HashMap<Question, bool>,
    left: Vec<(Question, bool)>,
    scans: Vec<Scanned>,
    rounds: u32,
    /// Namespaces that lead nowhere: nothing names an object of them as a subject.
    pub(super) ends: HashSet<String>,
}

impl<'g, 'a> Reach<'g, 'a> {
    pub(super) fn new(graph: &'g Graph, lookup: &'a Lookup<'g>) -> Self {
        Self {
            graph,
            lookup,
            sieve: Sieve::new(graph, lookup.given),
            reached: HashMap::new(),
            left: Vec::new(),
            scans: Vec::new(),
            rounds: 0,
            ends: HashSet::new(),
        }
    }

    /// Finds out which namespaces lead nowhere.
    pub(super) async fn find_ends(&mut self) -> Result<(), ReadRejection> {
        let (names, places) = (self.graph.language().namespaces(), self.graph.places());
        let names: Vec<&str> = names.collect();
        let read = |name: &str, place: &Place| {
            let range = place.naming(name, None);
            Read::Scan(Scan { range, limit: 1, order: Order::Forward })
        };
        let reads =
            names.iter().flat_map(|name| places.iter().map(|place| read(name, place))).collect();
        let found = self.graph.read(reads, false).await?;
        for (name, rows) in names.into_iter().zip(found.chunks(places.len().max(1))) {
            if rows.iter().all(|rows| rows.rows.is_empty()) {
                self.ends.insert(name.to_owned());
            }
        }
        Ok(())
    }

    /// Notes a question to be followed, if it is new or newly certain.
    pub(super) fn reach(&mut self, question: Question, certain: bool) -> Result<(), ReadRejection> {
        let known = self.reached.get(&question).copied();
        if known.is_some_and(|known| known || !certain) || self.ends.contains(&question.namespace) {
            return Ok(());
        }
        if self.reached.len() >= self.lookup.names_max() {
            return Err(self.lookup.too_large());
        }
        self.reached.insert(question.clone(), certain);
        self.left.push((question, certain));
        Ok(())
    }

    /// Notes that a tuple's relation holds.
    pub(super) fn reach_tuple(
        &mut self,
        tuple: &Tuple,
        certain: bool,
    ) -> Result<(), ReadRejection> {
        match self.graph.language().declared(&tuple.namespace, &tuple.relation) {
            Declared::NoNamespace | Declared::Undeclared => Ok(()),
            _ => self.reach(Question::has(&tuple.set()), certain),
        }
    }

    /// Notes what holds of an object because a part of a formula does.
    pub(super) fn follow(
        &mut self,
        namespace: &str,
        object: &str,
        asked: &Formula,
        certain: bool,
    ) -> Result<(), ReadRejection> {
        if self.ends.contains(namespace) {
            return Ok(());
        }
        let at =
            |what| Question { namespace: namespace.to_owned(), object: object.to_owned(), what };
        let language = self.graph.language();
        let mut found = Vec::new();
        for (permit, formula) in language.permits(namespace) {
            if let Some(alone) = super::sought::asks(formula, asked, true) {
                found.push((at(What::Has(permit.to_owned())), certain && alone));
            }
        }
        for (body, formula) in language.bodies() {
            if let Some(alone) = super::sought::asks(formula, asked, true) {
                found.push((at(What::Body(body)), certain && alone));
            }
        }
        found.into_iter().try_for_each(|(question, certain)| self.reach(question, certain))
    }

    /// The next question to be followed, while more can be read together.
    pub(super) fn next(&mut self) -> Option<(Question, bool)> {
        if self.scans.len() < self.graph.batch() { self.left.pop() } else { None }
    }

    /// Has a range read for a question.
    pub(super) fn scan(&mut self, question: Option<Question>, certain: bool, range: KeyRange) {
        self.scans.push(Scanned { question, certain, range, goes_on: false });
    }

    /// Reads what is to be read now: the tuples that are there, each with whether it
    /// surely is. Nothing if all was read.
    pub(super) async fn read(
        &mut self,
    ) -> Result<Vec<(Scanned, Vec<(Tuple, bool)>)>, ReadRejection> {
        let together = self.graph.batch().min(self.scans.len());
        let scans = self.scans.split_off(self.scans.len() - together);
        let large = scans.iter().any(|scan| scan.goes_on);
        let read = |scan: &Scanned| {
            let limit = if scan.goes_on { ROWS } else { ROWS_AT_FIRST };
            Read::Scan(Scan { range: scan.range.clone(), limit, order: Order::Forward })
        };
        let reads: Vec<Read> = scans.iter().map(read).collect();
        if reads.is_empty() {
            return Ok(Vec::new());
        }
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(ROUNDS_BEFORE_OTHERS) {
            // A look-up that nobody awaits any more ends here, too.
            tokio::task::yield_now().await;
        }
        let mut found = Vec::with_capacity(scans.len());
        for (scan, rows) in scans.into_iter().zip(self.graph.read(reads, large).await?) {
            let mut tuples = Vec::with_capacity(rows.rows.len());
            for row in &rows.rows {
                tuples.extend(self.sieve.tuple(row)?);
            }
            if let Some(last) = rows.rows.last().filter(|_| rows.more) {
                let mut range = scan.range.clone();
                range.start = self.past_an_end(last).unwrap_or_else(|| last.key.successor());
                if range.start < range.end {
                    let (question, certain) = (scan.question.clone(), scan.certain);
                    self.scans.push(Scanned { question, certain, range, goes_on: true });
                }
            }
            found.push((scan, tuples));
        }
        Ok(found)
    }

    /// Behind all tuples of a row's subject in its namespace, if that leads nowhere:
    /// there may be many.
    fn past_an_end(&self, row: &cardea_storage::Row) -> Option<bytes::Bytes> {
        let tuple = crate::table::read_tuple(row)?;
        if !self.ends.contains(&tuple.namespace) {
            return None;
        }
        let place = Place { tenant: row.key.tenant(), slot: row.key.slot() };
        Some(place.subject(&tuple.subject, Some(&tuple.namespace), None).end)
    }
}
