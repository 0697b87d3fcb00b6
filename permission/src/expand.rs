//! Expanding: who has a relation on an object, and by what.
//!
//! The tree is built breadth first from a list. A subject set is expanded where it is
//! met first; where it is met again, and where the depth asked for ends, it is a leaf.

use std::{collections::HashSet, sync::Arc};

use cardea_storage::{
    Consistency, Tenant, Timestamp,
    engine::Order,
    store::{Read, SCAN_ROWS_MAX, Scan},
};

use crate::{
    ReadRejection, Relationship, Service, Subject, SubjectSet,
    check::is_askable,
    condition::Condition,
    engine::{
        Unanswered, Why,
        node::{Question, What},
    },
    graph::Graph,
    language::{Declared, Formula},
    service::Answered,
    table::read_relationship,
};

/// Most nodes of a tree.
pub const NODES_MAX: usize = 4_000;
/// Most hops of a tree.
pub const DEPTH_MAX: u32 = 50;
/// Most levels of a tree, those of formulas among them: who writes or reads one does so
/// recursively, here and at the client.
pub const LEVELS_MAX: u32 = 256;

/// What a node of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeKind {
    /// One of its children.
    Union,
    /// All of its children.
    Intersection,
    /// Not its child.
    Not,
    /// A subject.
    Leaf,
    /// What a relation leads to.
    TupleToSubjectSet,
    /// Another relation or permission of the same object.
    ComputedSubjectSet,
}

/// A tree of subjects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// What this node is.
    pub kind: TreeKind,
    /// What it stands for.
    pub subject: Subject,
    /// When the tuple that leads here ceases to be there.
    pub expires_at: Option<Timestamp>,
    /// Where alone the tuple that leads here is there. Expanding evaluates none.
    pub condition: Option<Condition>,
    /// What is beneath.
    pub children: Vec<Tree>,
}

struct Branch {
    kind: TreeKind,
    subject: Subject,
    /// How many are above it.
    level: u32,
    /// Of the tuple that leads here.
    expires_at: Option<Timestamp>,
    condition: Option<Condition>,
    children: Vec<usize>,
}

struct Growth {
    graph: Arc<Graph>,
    branches: Vec<Branch>,
    /// Branches to be grown, with how deep they are.
    left: Vec<(usize, Question, u32)>,
    met: HashSet<SubjectSet>,
    /// The lowest level.
    levels: u32,
    /// Whether any subject was found.
    somebody: bool,
}

impl Service {
    /// The tree of a relation; `None` if nobody has it. `depth` is how deep it is, 0 for
    /// as deep as it goes.
    ///
    /// # Errors
    /// See [`ReadRejection`]: a tree of more than [`NODES_MAX`] nodes or [`LEVELS_MAX`]
    /// levels, or deeper than [`DEPTH_MAX`] where no depth was asked for.
    pub async fn expand(
        &self,
        tenant: Tenant,
        set: &SubjectSet,
        depth: u32,
        consistency: Consistency,
    ) -> Result<Answered<Option<Tree>>, ReadRejection> {
        set.validate()?;
        self.walk(tenant, &consistency, |graph| async move {
            is_askable(graph.language(), set)?;
            grow(graph, set, depth).await
        })
        .await
    }
}

async fn grow(
    graph: Arc<Graph>,
    set: &SubjectSet,
    depth: u32,
) -> Result<Option<Tree>, ReadRejection> {
    let mut growth = Growth {
        graph,
        branches: Vec::new(),
        left: Vec::new(),
        met: HashSet::new(),
        levels: 0,
        somebody: false,
    };
    let root = growth.branch(TreeKind::Union, Subject::Set(set.clone()), 0);
    growth.met.insert(set.clone());
    growth.left.push((root, Question::has(set), 0));
    let most = if depth == 0 { DEPTH_MAX } else { depth.min(DEPTH_MAX) };
    while !growth.left.is_empty() {
        for (at, question, deep) in std::mem::take(&mut growth.left) {
            if deep >= most {
                if depth == 0 {
                    return Err(Unanswered::new(Why::Depth, set).into());
                }
                growth.branches[at].kind = TreeKind::Leaf;
                continue;
            }
            growth.question(at, &question, deep).await?;
            if growth.branches.len() > NODES_MAX {
                return Err(ReadRejection::TooMany { what: "subjects", limit: NODES_MAX });
            }
            if growth.levels > LEVELS_MAX {
                return Err(Unanswered::new(Why::Depth, set).into());
            }
        }
    }
    Ok(growth.assemble())
}

impl Growth {
    fn branch(&mut self, kind: TreeKind, subject: Subject, level: u32) -> usize {
        let (expires_at, condition, children) = (None, None, Vec::new());
        self.levels = self.levels.max(level);
        self.branches.push(Branch { kind, subject, level, expires_at, condition, children });
        self.branches.len() - 1
    }

    fn under(&mut self, parent: usize, kind: TreeKind, subject: Subject) -> usize {
        let at = self.branch(kind, subject, self.branches[parent].level + 1);
        self.branches[parent].children.push(at);
        at
    }

    async fn question(
        &mut self,
        at: usize,
        question: &Question,
        deep: u32,
    ) -> Result<(), ReadRejection> {
        let graph = self.graph.clone();
        let language = graph.language();
        match &question.what {
            What::Body(_) if !language.has(&question.namespace) => Ok(()),
            What::Body(body) => {
                self.formula(at, language.body(*body), question, deep);
                Ok(())
            }
            What::Walk(_, body) => {
                for found in self.subjects(question).await? {
                    let Subject::Set(to) = found.tuple.subject.clone() else { continue };
                    let next = match language.body(*body) {
                        Formula::Has(name) => What::Has(name.clone()),
                        _ => What::Body(*body),
                    };
                    let branch = self.meet(at, to.namespace, to.object, next, deep);
                    self.narrow(branch, found);
                }
                Ok(())
            }
            What::Has(name) => {
                match language.declared(&question.namespace, name) {
                    Declared::NoNamespace | Declared::Undeclared => return Ok(()),
                    Declared::Free | Declared::Relation => {}
                    Declared::Permission(formula) => self.formula(at, formula, question, deep),
                }
                for found in self.subjects(question).await? {
                    let branch = match found.tuple.subject.clone() {
                        Subject::Set(set) if !set.relation.is_empty() => {
                            let what = What::Has(set.relation);
                            self.meet(at, set.namespace, set.object, what, deep)
                        }
                        subject => self.under(at, TreeKind::Leaf, subject),
                    };
                    self.narrow(branch, found);
                }
                Ok(())
            }
        }
    }

    /// Adds what a subject set names, to be grown unless it was met before.
    fn meet(
        &mut self,
        parent: usize,
        namespace: String,
        object: String,
        what: What,
        deep: u32,
    ) -> usize {
        let question = Question { namespace, object, what };
        let set = question.set();
        let new = matches!(question.what, What::Body(_)) || self.met.insert(set.clone());
        let kind = if new { TreeKind::Union } else { TreeKind::Leaf };
        let at = self.under(parent, kind, Subject::Set(set));
        if new {
            self.left.push((at, question, deep + 1));
        }
        at
    }

    /// Notes what narrows the tuple that leads to a branch.
    fn narrow(&mut self, branch: usize, found: Relationship) {
        let branch = &mut self.branches[branch];
        (branch.expires_at, branch.condition) = (found.expires_at, found.condition);
    }

    fn formula(&mut self, at: usize, formula: &Formula, about: &Question, deep: u32) {
        let object = Subject::Set(SubjectSet::new(&*about.namespace, &*about.object, ""));
        let mut left = vec![(at, formula)];
        while let Some((at, formula)) = left.pop() {
            match formula {
                Formula::Or(terms) => {
                    let at = self.under(at, TreeKind::Union, object.clone());
                    left.extend(terms.iter().rev().map(|term| (at, term)));
                }
                Formula::And(terms) => {
                    let at = self.under(at, TreeKind::Intersection, object.clone());
                    left.extend(terms.iter().rev().map(|term| (at, term)));
                }
                Formula::Not(inner) => {
                    let at = self.under(at, TreeKind::Not, object.clone());
                    left.push((at, inner));
                }
                Formula::IsSubject => {
                    self.somebody = true;
                    self.under(at, TreeKind::Leaf, object.clone());
                }
                Formula::Has(name) => {
                    let set = SubjectSet::new(&*about.namespace, &*about.object, &**name);
                    let at = self.under(at, TreeKind::ComputedSubjectSet, Subject::Set(set));
                    let (namespace, object) = (about.namespace.clone(), about.object.clone());
                    self.meet(at, namespace, object, What::Has(name.clone()), deep);
                }
                Formula::Walk(relation, body) => {
                    let question = Question {
                        namespace: about.namespace.clone(),
                        object: about.object.clone(),
                        what: What::Walk(relation.clone(), *body),
                    };
                    let subject = Subject::Set(question.set());
                    let at = self.under(at, TreeKind::TupleToSubjectSet, subject);
                    self.left.push((at, question, deep));
                }
            }
        }
    }

    /// All tuples of a relation on an object.
    async fn subjects(&mut self, question: &Question) -> Result<Vec<Relationship>, ReadRejection> {
        let place = self.graph.place(&question.namespace);
        let range = place.subjects_of(&question.set());
        let limit = u32::try_from(NODES_MAX + 1).unwrap_or(SCAN_ROWS_MAX);
        let scan = Scan { range, limit, order: Order::Forward };
        let rows = self.graph.read(vec![Read::Scan(scan)], true).await?;
        let rows = rows.into_iter().next().unwrap_or_default();
        if rows.more {
            return Err(ReadRejection::TooMany { what: "subjects", limit: NODES_MAX });
        }
        self.somebody |= !rows.rows.is_empty();
        let mut found = Vec::with_capacity(rows.rows.len());
        for row in &rows.rows {
            found.extend(read_relationship(row)?);
        }
        Ok(found)
    }

    /// Puts the branches together, the deepest first. Subject sets that nobody is in
    /// are leaves.
    fn assemble(self) -> Option<Tree> {
        let mut trees: Vec<Option<Tree>> = Vec::new();
        trees.resize_with(self.branches.len(), || None);
        for (at, branch) in self.branches.into_iter().enumerate().rev() {
            let children: Vec<Tree> =
                branch.children.iter().filter_map(|child| trees[*child].take()).collect();
            let kind = match branch.kind {
                TreeKind::Union if children.is_empty() => TreeKind::Leaf,
                kind => kind,
            };
            let Branch { subject, expires_at, condition, .. } = branch;
            trees[at] = Some(Tree { kind, subject, expires_at, condition, children });
        }
        trees.into_iter().next().flatten().filter(|_| self.somebody)
    }
}
