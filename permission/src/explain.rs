//! Explaining a grant: the tuples and rewrites that made it, as a proof from the
//! object down.
//!
//! Each step rests on steps that were answered before it, so that no proof goes in a
//! circle. What several steps rest on is proved where it is met first: in a proof as in a
//! check, ways that part and meet again are gone once. A denial has no proof: nothing was
//! found, and that is all there is to say.

use std::collections::HashSet;

use cardea_storage::{
    Consistency, Tenant,
    engine::Order,
    store::{Read, Rows, Scan},
};

use crate::{
    ReadRejection, Relationship, Service, Subject, SubjectSet, Tuple,
    check::{Ask, is_askable},
    condition::{Context, Verdict, bounded},
    engine::{
        Engine, Limits, Value,
        node::{Bound, NodeId, Nodes, What},
    },
    graph::Graph,
    model::TupleRefused,
    service::Answered,
    table::{read_relationship, read_tuple},
};

/// Most steps of a proof.
pub const STEPS_MAX: usize = 4_000;

/// A step of a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How far it is indented: what a step rests on follows it, one deeper, unless that was
    /// told before.
    pub depth: u32,
    /// What it says.
    pub says: Says,
}

/// What a step says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// This tuple is there; its condition, if it has one, holds.
    Tuple(Relationship),
    /// This permission holds, by its formula.
    Permission(SubjectSet),
    /// This does not hold, as is asked for.
    Excluded(SubjectSet),
    /// This object is the subject.
    Subject(SubjectSet),
    /// This holds, as was told before.
    Told(SubjectSet),
}

/// An answer with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The proof; empty if it is not.
    pub steps: Vec<Step>,
}

impl Service {
    /// Checks a tuple as [`check`](Self::check) does, and says why it is allowed.
    ///
    /// # Errors
    /// See [`ReadRejection`]; a proof of more than [`STEPS_MAX`] steps is not told.
    pub async fn explain(
        &self,
        tenant: Tenant,
        tuple: &Tuple,
        ask: impl Into<Ask>,
        consistency: Consistency,
    ) -> Result<Answered<Explanation>, ReadRejection> {
        let ask = ask.into();
        tuple.validate()?;
        bounded(&ask.context).map_err(TupleRefused::Condition)?;
        let (limits, given) = (self.limits(ask.depth), &ask.context);
        self.walk(tenant, &consistency, |graph| async move {
            explain_on(&graph, tuple, limits, given).await
        })
        .await
    }
}

async fn explain_on(
    graph: &Graph,
    tuple: &Tuple,
    limits: Limits,
    given: &Context,
) -> Result<Explanation, ReadRejection> {
    let set = tuple.set();
    is_askable(graph.language(), &set)?;
    // The whole way is told.
    let mut engine = Engine::new(graph, tuple.subject.clone(), limits, given).without_sets();
    let allowed = engine.decide_on(&set).await?;
    let mut steps = Vec::new();
    let asked = Asked { graph, subject: &tuple.subject, given };
    if allowed && let Some(root) = engine.asked(&set) {
        // Deepest last; what is pushed last is told first.
        let mut left = vec![(Rests::On(root), 0)];
        let mut told = HashSet::new();
        while let Some((rests, depth)) = left.pop() {
            if steps.len() > STEPS_MAX {
                let what = "steps of the proof";
                return Err(ReadRejection::TooMany { what, limit: STEPS_MAX });
            }
            match rests {
                Rests::On(id) if told.insert(id) => {
                    let beneath = because(&asked, engine.nodes(), id, depth, &mut steps).await?;
                    left.extend(beneath.into_iter().rev());
                }
                Rests::On(id) => {
                    // It is named again, and not proved again.
                    let question = &engine.nodes().get(id).question;
                    if let What::Has(_) = question.what {
                        steps.push(Step { depth, says: Says::Told(question.set()) });
                    }
                }
                Rests::Says(says) => steps.push(Step { depth, says: *says }),
            }
        }
    }
    Ok(Explanation { allowed, steps })
}

/// Of whom, and with what, is told.
struct Asked<'a> {
    graph: &'a Graph,
    subject: &'a Subject,
    given: &'a Context,
}

/// What is still to be told.
enum Rests {
    On(NodeId),
    Says(Box<Says>),
}

/// A tuple with what narrows it, as the graph has it.
async fn relationship(
    graph: &Graph,
    set: &SubjectSet,
    subject: &Subject,
) -> Result<Option<Relationship>, ReadRejection> {
    let key = graph.place(&set.namespace).tuple_key(set, subject);
    let rows = graph.read(vec![Read::Get(key)], false).await?;
    let row = rows.into_iter().next().and_then(Rows::into_row);
    Ok(row.as_ref().map(read_relationship).transpose()?.flatten())
}

/// Tells why a question was answered with yes, and what that rests on.
async fn because(
    &Asked { graph, subject, given }: &Asked<'_>,
    nodes: &Nodes,
    id: NodeId,
    depth: u32,
    steps: &mut Vec<Step>,
) -> Result<Vec<(Rests, u32)>, ReadRejection> {
    let node = nodes.get(id);
    let set = node.question.set();
    let mut tell = |says| steps.push(Step { depth, says });
    if node.direct {
        let found = relationship(graph, &set, subject).await?;
        found.into_iter().for_each(|found| tell(Says::Tuple(found)));
        return Ok(Vec::new());
    }
    let before = |other: NodeId| {
        let finding = nodes.finding(other);
        nodes.get(other).decided_as < node.decided_as
            && finding.is_some_and(|finding| finding.value == Value::Yes)
    };
    let mut members =
        node.members.iter().filter(|member| member.doubted.is_none()).map(|member| member.id);
    if let Some(member) = members.find(|member| before(*member)) {
        let question = nodes.get(member).question.clone();
        let through = match node.question.what {
            What::Walk(..) => {
                // Which relation the tuple named does not count, and is not remembered.
                let range = graph.place(&set.namespace).sets_of(&set);
                let limit = crate::engine::WIDTH_MAX;
                let scan = Scan { range, limit, order: Order::Forward };
                let rows = graph.read(vec![Read::Scan(scan)], true).await?;
                let rows = rows.into_iter().next().unwrap_or_default();
                let leads = |tuple: Tuple| match &tuple.subject {
                    Subject::Set(to) => {
                        to.namespace == question.namespace && to.object == question.object
                    }
                    Subject::Id(_) => false,
                };
                let mut through = None;
                for row in rows.rows.iter().filter(|row| read_tuple(row).is_some_and(&leads)) {
                    let found = read_relationship(row)?.filter(|found| {
                        let condition = found.condition.as_ref();
                        condition.is_none_or(|condition| {
                            condition.verdict(given, graph.time()) == Verdict::Holds
                        })
                    });
                    through = through.or(found);
                }
                through
            }
            _ => relationship(graph, &set, &Subject::Set(question.set())).await?,
        };
        through.into_iter().for_each(|found| tell(Says::Tuple(found)));
        return Ok(vec![(Rests::On(member), depth + 1)]);
    }
    let Some(formula) = &node.formula else { return Ok(Vec::new()) };
    if matches!(node.question.what, What::Has(_)) {
        tell(Says::Permission(set.clone()));
    }
    let about = SubjectSet { relation: String::new(), ..set };
    let parts = prove(nodes, formula, node.decided_as, &about).unwrap_or_default();
    Ok(parts.into_iter().map(|part| (part, depth + 1)).collect())
}

/// What makes a formula hold, of what was answered before. Recursive, as deep as
/// formulas are nested.
fn prove(nodes: &Nodes, formula: &Bound, before: u64, about: &SubjectSet) -> Option<Vec<Rests>> {
    let answered = |id: NodeId, value| {
        nodes.get(id).decided_as < before && nodes.finding(id).is_some_and(|f| f.value == value)
    };
    match formula {
        Bound::Known(finding) => (finding.value == Value::Yes)
            .then(|| vec![Rests::Says(Box::new(Says::Subject(about.clone())))]),
        Bound::Node(id) => answered(*id, Value::Yes).then(|| vec![Rests::On(*id)]),
        Bound::Or(terms) => terms.iter().find_map(|term| prove(nodes, term, before, about)),
        Bound::And(terms) => {
            let proofs: Option<Vec<_>> =
                terms.iter().map(|term| prove(nodes, term, before, about)).collect();
            proofs.map(|proofs| proofs.into_iter().flatten().collect())
        }
        Bound::Not(inner) => refute(nodes, inner, before, about),
    }
}

/// What makes a formula not hold.
fn refute(nodes: &Nodes, formula: &Bound, before: u64, about: &SubjectSet) -> Option<Vec<Rests>> {
    match formula {
        Bound::Known(finding) => (finding.value == Value::No).then(Vec::new),
        Bound::Node(id) => {
            let node = nodes.get(*id);
            let no = nodes.finding(*id).is_some_and(|f| f.value == Value::No);
            (no && node.decided_as < before)
                .then(|| vec![Rests::Says(Box::new(Says::Excluded(node.question.set())))])
        }
        Bound::Or(terms) => {
            let all: Option<Vec<_>> =
                terms.iter().map(|term| refute(nodes, term, before, about)).collect();
            all.map(|all| all.into_iter().flatten().collect())
        }
        Bound::And(terms) => terms.iter().find_map(|term| refute(nodes, term, before, about)),
        Bound::Not(inner) => prove(nodes, inner, before, about),
    }
}
