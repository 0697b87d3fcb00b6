//! Tuples, subjects and queries of the wire, as strictly as REST takes them.

use cardea_permission::{Subject, SubjectSet, Tuple, TupleQuery};

use super::rts;
use crate::{error::ApiError, keto::read::no_subject};

/// # Errors
/// If neither an id nor a subject set is there.
pub(super) fn subject_in(subject: Option<rts::Subject>) -> Result<Subject, ApiError> {
    match subject.and_then(|subject| subject.r#ref) {
        Some(rts::subject::Ref::Id(id)) => Ok(Subject::Id(id)),
        Some(rts::subject::Ref::Set(set)) => Ok(Subject::Set(set_in(set))),
        None => Err(no_subject()),
    }
}

pub(super) fn set_in(set: rts::SubjectSet) -> SubjectSet {
    SubjectSet { namespace: set.namespace, object: set.object, relation: set.relation }
}

/// # Errors
/// If the tuple or its subject is missing.
pub(super) fn tuple_in(tuple: Option<rts::RelationTuple>) -> Result<Tuple, ApiError> {
    let tuple = tuple.ok_or_else(|| ApiError::malformed("the relation tuple is missing"))?;
    let subject = subject_in(tuple.subject)?;
    Ok(Tuple::new(tuple.namespace, tuple.object, tuple.relation, subject))
}

/// # Errors
/// If there is a subject that is none.
pub(super) fn query_in(query: rts::RelationQuery) -> Result<TupleQuery, ApiError> {
    Ok(TupleQuery {
        namespace: query.namespace,
        object: query.object,
        relation: query.relation,
        subject: query.subject.map(|subject| subject_in(Some(subject))).transpose()?,
    })
}

/// A query in which an empty text is as good as none.
///
/// # Errors
/// If there is a subject that is none.
pub(super) fn loose_query_in(
    namespace: String,
    object: String,
    relation: String,
    subject: Option<rts::Subject>,
) -> Result<TupleQuery, ApiError> {
    let given = |text: String| (!text.is_empty()).then_some(text);
    query_in(rts::RelationQuery {
        namespace: given(namespace),
        object: given(object),
        relation: given(relation),
        subject,
    })
}

pub(super) fn subject_out(subject: &Subject) -> rts::Subject {
    let subject = match subject {
        Subject::Id(id) => rts::subject::Ref::Id(id.clone()),
        Subject::Set(set) => rts::subject::Ref::Set(rts::SubjectSet {
            namespace: set.namespace.clone(),
            object: set.object.clone(),
            relation: set.relation.clone(),
        }),
    };
    rts::Subject { r#ref: Some(subject) }
}

pub(super) fn tuple_out(tuple: &Tuple) -> rts::RelationTuple {
    rts::RelationTuple {
        namespace: tuple.namespace.clone(),
        object: tuple.object.clone(),
        relation: tuple.relation.clone(),
        subject: Some(subject_out(&tuple.subject)),
    }
}
