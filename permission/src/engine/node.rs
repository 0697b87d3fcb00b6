//! The questions of one request as a graph, each asked once.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use cardea_storage::{KeyRange, Row};

use super::value::{Between, Finding, Why};
use crate::{language::BodyId, model::SubjectSet};

/// A question, by its number within a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) u32);

/// What is asked about an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// Whether the subject has this relation or permission.
    Has(String),
    /// Whether the body holds of anything that the relation leads to.
    Walk(String, BodyId),
    /// Whether the body holds.
    Body(BodyId),
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) namespace: String,
    pub(crate) object: String,
    pub(crate) what: What,
}

impl Question {
    pub(crate) fn has(set: &SubjectSet) -> Self {
        Self {
            namespace: set.namespace.clone(),
            object: set.object.clone(),
            what: What::Has(set.relation.clone()),
        }
    }

    /// The relation on the object that is read for it, or that it is best shown as.
    pub(crate) fn set(&self) -> SubjectSet {
        let relation = match &self.what {
            What::Has(name) | What::Walk(name, _) => name.as_str(),
            What::Body(_) => "",
        };
        SubjectSet::new(&*self.namespace, &*self.object, relation)
    }
}

/// One of several questions of which one must hold for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: NodeId,
    /// Whether it is not known if the tuple that leads to it is there, and why: then
    /// no grant comes of it.
    pub(crate) doubted: Option<Why>,
}

impl Member {
    /// What comes of a finding about it.
    pub(crate) fn gives(self, finding: Finding) -> Finding {
        match self.doubted {
            Some(why) => finding.and(Finding::undecided(why)),
            None => finding,
        }
    }
}

/// A formula with the questions it depends on.
#[derive(Debug, Clone)]
pub(crate) enum Bound {
    Known(Finding),
    Node(NodeId),
    Or(Vec<Bound>),
    And(Vec<Bound>),
    Not(Box<Bound>),
}

/// How far a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody needs it now.
    Idle,
    /// To be looked at.
    Queued,
    /// Looked at; it waits for reads or for other questions.
    Open,
    /// Answered.
    Decided(Finding),
}

/// What is known of a question.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) question: Arc<Question>,
    pub(crate) depth: u32,
    pub(crate) state: State,
    /// Whoever waits for it through a formula.
    pub(crate) asked_by: Vec<NodeId>,
    /// Whoever waits for any of several, this among them: each with this as it is
    /// among those.
    pub(crate) listed_by: Vec<(NodeId, Member)>,
    pub(crate) formula: Option<Bound>,
    /// Of which one must hold: what subject sets and walks lead to.
    pub(crate) members: Vec<Member>,
    /// How many of those are not decided.
    pub(crate) undecided: usize,
    /// The greatest finding among those that are, and among tuples read.
    pub(crate) best: Finding,
    /// Reads that are not answered.
    pub(crate) reads: u32,
    /// Rows of its subject sets read so far.
    pub(crate) rows: u32,
    /// What is left to be read of its subject sets.
    pub(crate) rest: Option<KeyRange>,
    /// All tuples of its object, where they were read together.
    pub(crate) whole: Option<Arc<[Row]>>,
    /// Whether a tuple names the subject itself.
    pub(crate) direct: bool,
    /// In which order it was decided: what it rests on was decided before.
    pub(crate) decided_as: u64,
}

/// All questions of a request.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    by_question: HashMap<Arc<Question>, NodeId>,
}

impl Nodes {
    /// The number of a question, new if it was not asked before.
    pub(crate) fn ask(&mut self, question: Question, depth: u32) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let question = match self.by_question.entry(Arc::new(question)) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(new) => {
                let question = new.key().clone();
                new.insert(id);
                question
            }
        };
        self.nodes.push(Node {
            question,
            depth,
            state: State::Idle,
            asked_by: Vec::new(),
            listed_by: Vec::new(),
            formula: None,
            members: Vec::new(),
            undecided: 0,
            best: Finding::NO,
            reads: 0,
            rows: 0,
            rest: None,
            whole: None,
            direct: false,
            decided_as: 0,
        });
        id
    }

    pub(crate) fn get(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn find(&self, question: &Question) -> Option<NodeId> {
        self.by_question.get(question).copied()
    }

    pub(crate) fn finding(&self, id: NodeId) -> Option<Finding> {
        match self.get(id).state {
            State::Decided(finding) => Some(finding),
            _ => None,
        }
    }

    /// What is known of a node's answer.
    pub(crate) fn between(&self, id: NodeId) -> Between {
        let node = self.get(id);
        let open = node.undecided > 0 || node.reads > 0 || node.rest.is_some();
        let listed = if open {
            Between { low: node.best, high: Finding::YES }
        } else {
            Between::just(node.best)
        };
        match &node.formula {
            Some(formula) => listed.or(self.evaluate(formula)),
            None => listed,
        }
    }

    fn evaluate(&self, formula: &Bound) -> Between {
        match formula {
            Bound::Known(finding) => Between::just(*finding),
            Bound::Node(id) => self.finding(*id).map_or(Between::ANYTHING, Between::just),
            Bound::Or(terms) => terms
                .iter()
                .map(|term| self.evaluate(term))
                .fold(Between::just(Finding::NO), Between::or),
            Bound::And(terms) => terms
                .iter()
                .map(|term| self.evaluate(term))
                .fold(Between::just(Finding::YES), Between::and),
            Bound::Not(inner) => self.evaluate(inner).not(),
        }
    }
}

impl Bound {
    /// The questions in it, each with whether it stands under a negation.
    pub(crate) fn nodes(&self, negated: bool, found: &mut Vec<(NodeId, bool)>) {
        match self {
            Self::Known(_) => {}
            Self::Node(id) => found.push((*id, negated)),
            Self::Or(terms) | Self::And(terms) => {
                terms.iter().for_each(|term| term.nodes(negated, found));
            }
            Self::Not(inner) => inner.nodes(true, found),
        }
    }
}
