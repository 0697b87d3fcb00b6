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
/// Checks after which others use the thread: some hundred microseconds.
const CHECKS_BEFORE_OTHERS: usize = 16;

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
        let asks: Vec<(&Tuple, &Ask)> = tuples.iter().map(|tuple| (tuple, &ask)).collect();
        self.check_each(tenant, &asks, consistency).await
    }

    /// Checks many tuples as of one instant, each as it is asked.
    ///
    /// # Errors
    /// As [`check_many`](Self::check_many).
    pub async fn check_each(
        &self,
        tenant: Tenant,
        asks: &[(&Tuple, &Ask)],
        consistency: Consistency,
    ) -> Result<Answered<Vec<Result<bool, ReadRejection>>>, ReadRejection> {
        if asks.len() > BATCH_MAX {
            return Err(ReadRejection::TooMany { what: "checks", limit: BATCH_MAX });
        }
        let vetted = &vet_each(asks);
        self.walk(tenant, &consistency, |graph| async move {
            let mut answers = Vec::with_capacity(asks.len());
            for ((tuple, ask), vetted) in asks.iter().zip(vetted) {
                if (answers.len() + 1).is_multiple_of(CHECKS_BEFORE_OTHERS) {
                    tokio::task::yield_now().await;
                }
                let (limits, given) = (self.limits(ask.depth), &ask.context);
                let answer = match vetted {
                    Ok(()) => check_on(&graph, &self.sets, tuple, limits, given).await,
                    Err(refused) => Err(refused.clone().into()),
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

/// Whether each can be asked; of what many say alike only the first is looked at.
fn vet_each(asks: &[(&Tuple, &Ask)]) -> Vec<Result<(), TupleRefused>> {
    let mut last: Option<(&Ask, Result<(), TupleRefused>)> = None;
    let mut each = Vec::with_capacity(asks.len());
    for (tuple, ask) in asks {
        let known = last.as_ref().filter(|(same, _)| std::ptr::eq(*same, *ask));
        let given = match known {
            Some((_, vetted)) => vetted.clone(),
            None => bounded(&ask.context).map_err(TupleRefused::Condition),
        };
        each.push(tuple.validate().and(given.clone()));
        last = Some((ask, given));
    }
    each
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
