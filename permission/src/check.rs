//! Checks: one, or many of one instant.

use std::sync::Arc;

use cardea_storage::{Consistency, Tenant};

use crate::{
    Service,
    condition::{Context, bounded},
    engine::{Engine, Limits},
    graph::Graph,
    language::{Declared, Language},
    model::{SubjectSet, Tuple, TupleRefused},
    rejection::ReadRejection,
    service::Answered,
    sets::SetIndexes,
};

/// Most checks in one request.
pub const BATCH_MAX: usize = 1_000;

/// What a request says beyond its question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ask {
    /// Most hops; 0 for the default.
    pub depth: u32,
    /// What it gives to conditions.
    pub context: Context,
}

impl From<u32> for Ask {
    /// A depth and no context.
    fn from(depth: u32) -> Self {
        Self { depth, context: Context::new() }
    }
}

impl Service {
    /// Whether a tuple's subject has its relation on its object, by tuples and
    /// language.
    ///
    /// # Errors
    /// See [`ReadRejection`]. A limit is an error and never a "no".
    pub async fn check(
        &self,
        tenant: Tenant,
        tuple: &Tuple,
        ask: impl Into<Ask>,
        consistency: Consistency,
    ) -> Result<Answered<bool>, ReadRejection> {
        let ask = ask.into();
        tuple.validate()?;
        bounded(&ask.context).map_err(TupleRefused::Condition)?;
        let (limits, given) = (self.limits(ask.depth), &ask.context);
        self.walk(tenant, &consistency, |graph| async move {
            check_on(&graph, &self.sets, tuple, limits, given).await
        })
        .await
    }

    /// Checks many tuples as of one instant; each has its own answer.
    ///
    /// # Errors
    /// See [`ReadRejection`]: of those that are about the request as a whole.
    pub async fn check_many(
        &self,
        tenant: Tenant,
        tuples: &[Tuple],
        ask: impl Into<Ask>,
        consistency: Consistency,
    ) -> Result<Answered<Vec<Result<bool, ReadRejection>>>, ReadRejection> {
        let ask = ask.into();
        bounded(&ask.context).map_err(TupleRefused::Condition)?;
        if tuples.len() > BATCH_MAX {
            return Err(ReadRejection::TooMany { what: "checks", limit: BATCH_MAX });
        }
        let (limits, given) = (self.limits(ask.depth), &ask.context);
        self.walk(tenant, &consistency, |graph| async move {
            let mut answers = Vec::with_capacity(tuples.len());
            for tuple in tuples {
                let answer = match tuple.validate() {
                    Ok(()) => check_on(&graph, &self.sets, tuple, limits, given).await,
                    Err(refused) => Err(refused.into()),
                };
                match answer {
                    Err(ReadRejection::Store(error)) => return Err(error.into()),
                    answer => answers.push(answer),
                }
            }
            Ok(answers)
        })
        .await
    }
}

/// One check on a graph.
pub(crate) async fn check_on(
    graph: &Arc<Graph>,
    sets: &Arc<SetIndexes>,
    tuple: &Tuple,
    limits: Limits,
    given: &Context,
) -> Result<bool, ReadRejection> {
    let set = tuple.set();
    is_askable(graph.language(), &set)?;
    let mut engine = Engine::new(graph, tuple.subject.clone(), limits, given);
    let decided = engine.decide_on(&set).await;
    sets.learn(graph, engine.nodes(), limits);
    decided
}

/// Whether a relation can be asked for.
pub(crate) fn is_askable(language: &Language, set: &SubjectSet) -> Result<(), ReadRejection> {
    if set.relation.is_empty() {
        return Err(TupleRefused::Empty { part: "relation" }.into());
    }
    match language.declared(&set.namespace, &set.relation) {
        Declared::NoNamespace => Err(ReadRejection::UnknownNamespace(set.namespace.clone())),
        Declared::Undeclared => Err(ReadRejection::UnknownRelation {
            namespace: set.namespace.clone(),
            relation: set.relation.clone(),
        }),
        Declared::Free | Declared::Relation | Declared::Permission(_) => Ok(()),
    }
}
