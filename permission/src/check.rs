//! Checks: one, or many of one instant.

use cardea_storage::{Consistency, Tenant};

use crate::{
    Service,
    engine::{Engine, Limits, Unanswered, Value, Why, value::Finding},
    graph::Graph,
    language::{Declared, Language},
    model::{SubjectSet, Tuple, TupleRefused},
    rejection::ReadRejection,
    service::Answered,
};

/// Most checks in one request.
pub const BATCH_MAX: usize = 1_000;

impl Service {
    /// Whether a tuple's subject has its relation on its object, by tuples and
    /// language. `depth` is the most hops, 0 for the default.
    ///
    /// # Errors
    /// See [`ReadRejection`]. A limit is an error and never a "no".
    pub async fn check(
        &self,
        tenant: Tenant,
        tuple: &Tuple,
        depth: u32,
        consistency: Consistency,
    ) -> Result<Answered<bool>, ReadRejection> {
        tuple.validate()?;
        let limits = self.limits(depth);
        self.walk(
            tenant,
            &consistency,
            |graph| async move { check_on(&graph, tuple, limits).await },
        )
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
        depth: u32,
        consistency: Consistency,
    ) -> Result<Answered<Vec<Result<bool, ReadRejection>>>, ReadRejection> {
        if tuples.len() > BATCH_MAX {
            return Err(ReadRejection::TooMany { what: "checks", limit: BATCH_MAX });
        }
        let limits = self.limits(depth);
        self.walk(tenant, &consistency, |graph| async move {
            let mut answers = Vec::with_capacity(tuples.len());
            for tuple in tuples {
                let answer = match tuple.validate() {
                    Ok(()) => check_on(&graph, tuple, limits).await,
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
    graph: &Graph,
    tuple: &Tuple,
    limits: Limits,
) -> Result<bool, ReadRejection> {
    let set = tuple.set();
    is_askable(graph.language(), &set)?;
    let mut engine = Engine::new(graph, tuple.subject.clone(), limits);
    decided(engine.check(&set).await?, &set)
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

/// Yes or no, or why neither.
pub(crate) fn decided(finding: Finding, set: &SubjectSet) -> Result<bool, ReadRejection> {
    match finding.value {
        Value::Yes => Ok(true),
        Value::No | Value::Doubt => Ok(false),
        Value::Undecided => {
            let why = finding.why.unwrap_or(Why::Size);
            Err(Unanswered { why, at: set.clone() }.into())
        }
    }
}
