//! The check engine: does a subject have a relation or permission on an object?
//!
//! It works off a list of questions, breadth first, and never recurses. Each question
//! is asked once in a request, however many ways lead to it:
//!
//! 1. A question is opened: its formula is bound to the questions it depends on, and
//!    its tuples are read: the one that names the subject, and those that name subject
//!    sets. Ids of others are never read, so that a group of ten thousand costs as
//!    much as one of ten.
//! 2. An answer goes up to whoever waits for it, and stops where it changes nothing.
//!    Of four answers (see [`value`]) the greatest counts among alternatives and the
//!    least among conditions, so most questions are answered before all that they
//!    depend on is.
//! 3. What waits only for itself is a cycle: it does not hold, and must not be
//!    negated; see [`cycle`].
//!
//! What a [set index](crate::sets) tells is not walked.
//!
//! A limit is an answer of its own: it loses against a grant that was found, and else
//! is told. Each question has the depth at which it was met first. Wide groups are read
//! behind their members' members, so that may be a longer way than there is; where the
//! depth has come to be what keeps from an answer, everything is asked again in order.

pub mod value;

mod cycle;
mod indexed;
pub(crate) mod node;
mod open;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use cardea_storage::{
    Fault, Row, StoreError,
    store::{Read, Rows},
};

pub use value::{Limits, Unanswered, Value, WIDTH_MAX, Why};

pub(crate) use self::open::leads_to;
use self::{
    indexed::Naming,
    node::{Member, NodeId, Nodes, Question, State},
    value::Finding,
};
use crate::{
    condition::{Context, Verdict},
    graph::Graph,
    model::{Subject, SubjectSet},
    rejection::ReadRejection,
    sets::Usable,
    table::{read_condition, read_set},
};

/// The questions of one subject. Several can be asked one after another; what was
/// found out is kept.
pub(crate) struct Engine<'a> {
    graph: &'a Graph,
    /// Indexes that spare walks.
    sets: Option<&'a Usable>,
    /// The tuples that name the subject, as far as they were read.
    naming: Naming,
    subject: Subject,
    limits: Limits,
    /// What the request gives to conditions.
    given: &'a Context,
    /// What conditions came to, by their records.
    verdicts: HashMap<Bytes, Verdict>,
    nodes: Nodes,
    queue: VecDeque<NodeId>,
    /// Whether tuples name a permission: namespace, permission, and that. A request
    /// meets few of them.
    named: Vec<(String, String, bool)>,
    /// Whether no question is asked before those that are less deep.
    in_order: bool,
    decided: u64,
    rounds: u32,
    /// Objects whose tuples were too many to be read together.
    crowded: u32,
}

/// Most of what conditions lacked that is told.
const LACKING_MAX: usize = 20;

/// Rounds after which a request lets others use its thread: some hundred microseconds.
const ROUNDS_BEFORE_OTHERS: u32 = 4;

/// What a read is for.
enum Purpose {
    Direct(NodeId),
    Sets(NodeId),
    Named(String, String),
}

/// Whether a tuple counts.
enum Gate {
    Open,
    Shut,
    Doubted(Why),
}

impl<'a> Engine<'a> {
    pub(crate) fn new(
        graph: &'a Graph,
        subject: Subject,
        limits: Limits,
        given: &'a Context,
    ) -> Self {
        Self {
            graph,
            sets: graph.sets(),
            naming: Naming::default(),
            subject,
            limits,
            given,
            verdicts: HashMap::new(),
            nodes: Nodes::default(),
            queue: VecDeque::new(),
            named: Vec::new(),
            in_order: false,
            decided: 0,
            rounds: 0,
            crowded: 0,
        }
    }

    /// So that every question is asked and answered by itself.
    pub(crate) fn without_sets(self) -> Self {
        Self { sets: None, ..self }
    }

    /// Whether the subject has the relation on the object.
    pub(crate) async fn check(&mut self, set: &SubjectSet) -> Result<Finding, StoreError> {
        let root = self.ask(Question::has(set), 0);
        self.enqueue(root);
        loop {
            if let Some(finding) = self.nodes.finding(root) {
                return Ok(finding);
            }
            let (reads, purposes, large) = self.next_reads(root)?;
            self.rounds += 1;
            if self.rounds.is_multiple_of(ROUNDS_BEFORE_OTHERS) {
                // Whoever else waits for this thread gets his turn; and a request that
                // nobody awaits any more ends here.
                tokio::task::yield_now().await;
            }
            if !reads.is_empty() {
                let rows = self.graph.read(reads, large).await?;
                for (purpose, rows) in purposes.into_iter().zip(rows) {
                    self.answer(purpose, rows)?;
                }
            } else if self.queue.is_empty() && self.nodes.finding(root).is_none() {
                self.break_cycles(root);
            }
        }
    }

    /// The question that was asked of a relation.
    pub(crate) fn asked(&self, set: &SubjectSet) -> Option<NodeId> {
        self.nodes.find(&Question::has(set))
    }

    /// All questions with their answers.
    pub(crate) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    fn ask(&mut self, question: Question, depth: u32) -> NodeId {
        self.nodes.ask(question, depth)
    }

    fn enqueue(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(id);
        if node.state == State::Idle {
            node.state = State::Queued;
            self.queue.push_back(id);
        }
    }

    /// Opens queued questions until there is something to read.
    fn next_reads(&mut self, root: NodeId) -> Result<(Vec<Read>, Vec<Purpose>, bool), StoreError> {
        let batch = self.graph.batch();
        let (mut reads, mut purposes, mut large) = (Vec::new(), Vec::new(), false);
        let mut opened = 0;
        while opened < batch
            && !(self.in_order && large)
            && self.nodes.finding(root).is_none()
            && let Some(id) = self.queue.pop_front()
        {
            if matches!(self.nodes.get(id).state, State::Decided(_)) {
                continue;
            }
            if id != root && !self.is_needed(id) {
                if self.nodes.get(id).state == State::Queued {
                    self.nodes.get_mut(id).state = State::Idle;
                }
                continue;
            }
            opened += 1;
            if self.nodes.get(id).rest.is_some() {
                large = true;
            }
            self.open(id, &mut reads, &mut purposes)?;
        }
        Ok((reads, purposes, large))
    }

    /// Whether anybody still waits for an answer.
    fn is_needed(&self, id: NodeId) -> bool {
        let node = self.nodes.get(id);
        // Half read already: whoever lists it again must find it whole.
        node.state == State::Open
            || node
                .asked_by
                .iter()
                .chain(node.listed_by.iter().map(|(id, _)| id))
                .any(|id| !matches!(self.nodes.get(*id).state, State::Decided(_)))
    }

    /// Whether a tuple's row counts for this request.
    fn gate(&mut self, row: &Row) -> Result<Gate, Fault> {
        if row.value.is_empty() {
            return Ok(Gate::Open);
        }
        if !self.verdicts.contains_key(&row.value) {
            let verdict = match read_condition(row)? {
                Some(condition) => condition.verdict(self.given, self.graph.time()),
                None => Verdict::Holds,
            };
            self.verdicts.insert(row.value.clone(), verdict);
        }
        Ok(match &self.verdicts[&row.value] {
            Verdict::Holds => Gate::Open,
            Verdict::Fails => Gate::Shut,
            Verdict::Missing(_) => Gate::Doubted(Why::Context),
            Verdict::Failed(_) => Gate::Doubted(Why::Condition),
        })
    }

    /// Yes or no, or why neither.
    pub(crate) async fn decide_on(&mut self, set: &SubjectSet) -> Result<bool, ReadRejection> {
        let mut finding = self.check(set).await?;
        if finding == Finding::undecided(Why::Depth) && !self.in_order {
            (self.nodes, self.in_order) = (Nodes::default(), true);
            self.queue.clear();
            finding = self.check(set).await?;
        }
        match finding.value {
            Value::Yes => Ok(true),
            Value::No | Value::Doubt => Ok(false),
            Value::Undecided => {
                let mut unanswered = Unanswered::new(finding.why.unwrap_or(Why::Size), set);
                if matches!(unanswered.why, Why::Context | Why::Condition) {
                    unanswered.lacking = self.lacking();
                }
                Err(unanswered.into())
            }
        }
    }

    /// What the conditions met so far lacked, the first of it.
    fn lacking(&self) -> Vec<String> {
        let mut lacking = BTreeSet::new();
        for verdict in self.verdicts.values() {
            match verdict {
                Verdict::Missing(names) => lacking.extend(names.iter().cloned()),
                Verdict::Failed(message) => {
                    lacking.insert(message.clone());
                }
                Verdict::Holds | Verdict::Fails => {}
            }
        }
        lacking.into_iter().take(LACKING_MAX).collect()
    }

    fn answer(&mut self, purpose: Purpose, rows: Rows) -> Result<(), Fault> {
        match purpose {
            Purpose::Direct(id) => {
                let gate = rows.rows.first().map(|row| self.gate(row)).transpose()?;
                let node = self.nodes.get_mut(id);
                node.reads -= 1;
                match gate {
                    Some(Gate::Open) => {
                        node.direct = true;
                        node.best = Finding::YES;
                    }
                    Some(Gate::Doubted(why)) => {
                        node.best = node.best.or(Finding::undecided(why));
                    }
                    Some(Gate::Shut) | None => {}
                }
                self.look_at(id);
            }
            Purpose::Named(namespace, permit) => {
                self.named.push((namespace, permit, !rows.rows.is_empty()));
            }
            Purpose::Sets(id) => self.list(id, rows)?,
        }
        Ok(())
    }

    /// Adds the questions that the subject sets of a question lead to.
    fn list(&mut self, id: NodeId, rows: Rows) -> Result<(), Fault> {
        let node = self.nodes.get_mut(id);
        node.reads -= 1;
        node.rows = node.rows.saturating_add(u32::try_from(rows.rows.len()).unwrap_or(u32::MAX));
        let (depth, what, read) = (node.depth + 1, node.question.what.clone(), node.rows);
        if matches!(node.state, State::Decided(_)) {
            return Ok(());
        }
        let mut last = None;
        for row in &rows.rows {
            let Some(set) = read_set(row) else { continue };
            let Some(question) = leads_to(self.graph.language(), &what, set) else { continue };
            let doubted = match self.gate(row)? {
                Gate::Open => None,
                Gate::Shut => continue,
                Gate::Doubted(why) => Some(why),
            };
            let member = Member { id: self.ask(question, depth), doubted };
            // Tuples that differ in what does not count stand beside one another.
            if last.replace(member) == Some(member) {
                continue;
            }
            self.wait_for(id, member);
        }
        if rows.more {
            let node = self.nodes.get_mut(id);
            let next = rows.rows.last().map(|row| row.key.successor());
            if read >= self.limits.width {
                node.best = node.best.or(Finding::undecided(Why::Width));
                node.rest = None;
            } else if let Some(start) = next {
                let place = self.graph.place(&node.question.namespace);
                let mut range = place.sets_of(&node.question.set());
                range.start = start;
                node.rest = Some(range);
                if self.in_order {
                    self.queue.push_front(id);
                } else {
                    self.queue.push_back(id);
                }
            }
        } else {
            self.nodes.get_mut(id).rest = None;
        }
        self.look_at(id);
        Ok(())
    }

    /// Lists a question among those of which one must hold for another.
    fn wait_for(&mut self, id: NodeId, member: Member) {
        if let Some(finding) = self.nodes.finding(member.id) {
            let node = self.nodes.get_mut(id);
            node.best = node.best.or(member.gives(finding));
        } else {
            self.nodes.get_mut(member.id).listed_by.push((id, member));
            self.nodes.get_mut(id).undecided += 1;
            self.enqueue(member.id);
        }
        self.nodes.get_mut(id).members.push(member);
    }

    /// Decides a question if what is known suffices, and all that follows from it.
    fn look_at(&mut self, id: NodeId) {
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            let node = self.nodes.get(id);
            if node.state != State::Open {
                continue;
            }
            if let Some(finding) = self.nodes.between(id).decided() {
                self.settle(id, finding, &mut waiting);
            }
        }
    }

    /// Notes an answer; those who wait for it are to be looked at.
    fn settle(&mut self, id: NodeId, finding: Finding, waiting: &mut Vec<NodeId>) {
        self.decided += 1;
        let as_number = self.decided;
        let node = self.nodes.get_mut(id);
        node.state = State::Decided(finding);
        node.decided_as = as_number;
        waiting.append(&mut node.asked_by);
        let listed_by = std::mem::take(&mut node.listed_by);
        for (above, member) in listed_by {
            let node = self.nodes.get_mut(above);
            node.undecided -= 1;
            node.best = node.best.or(member.gives(finding));
            // A wide list is not looked at for each of its members.
            let settled = node.undecided == 0 || node.best.value == Value::Yes;
            if settled && node.state == State::Open {
                waiting.push(above);
            }
        }
    }

    fn decide(&mut self, id: NodeId, finding: Finding) {
        let mut waiting = Vec::new();
        self.settle(id, finding, &mut waiting);
        for id in waiting {
            self.look_at(id);
        }
    }
}
