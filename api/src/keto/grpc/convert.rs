//! Tuples, subjects and queries of the wire, as strictly as REST takes them.

use cardea_permission::{Condition, Context, Relationship, Subject, SubjectSet, Tuple, TupleQuery};
use cardea_storage::Timestamp;
use prost_types::value::Kind;
use serde_json::Value as Json;

use super::{permission, rts};
use crate::{error::ApiError, keto::read::no_subject};

/// The largest whole number of which a double knows each below.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// How deep values of a context are nested at most.
const CONTEXT_DEPTH_MAX: usize = 16;

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
        condition: None,
        expires_at: None,
    }
}

/// A tuple with what narrows it: nobody is to take it for more than it is.
pub(super) fn relationship_out(found: &Relationship) -> rts::RelationTuple {
    rts::RelationTuple {
        condition: found.condition.as_ref().map(condition_out),
        expires_at: found.expires_at.map(time_out),
        ..tuple_out(&found.tuple)
    }
}

/// A tuple to be written, with what narrows it.
///
/// # Errors
/// If the tuple or its subject is missing, or what narrows it makes no sense.
pub(super) fn relationship_in(
    mut tuple: Option<rts::RelationTuple>,
) -> Result<Relationship, ApiError> {
    let (condition, expires_at) = match &mut tuple {
        Some(tuple) => (tuple.condition.take(), tuple.expires_at.take()),
        None => (None, None),
    };
    let condition = condition.map(condition_in).transpose()?;
    let expires_at = expires_at.map(time_in).transpose()?;
    Ok(Relationship { tuple: tuple_in(tuple)?, expires_at, condition })
}

pub(super) fn condition_out(condition: &Condition) -> permission::Condition {
    permission::Condition {
        expression: condition.expression.clone(),
        parameters: condition.parameters.clone().into_iter().collect(),
        context: match condition.context.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&condition.context).unwrap_or_default(),
        },
    }
}

fn condition_in(condition: permission::Condition) -> Result<Condition, ApiError> {
    let permission::Condition { expression, parameters, context } = condition;
    let context = match context.as_str() {
        "" => Context::new(),
        json => serde_json::from_str(json)
            .map_err(|_| ApiError::bad_request("The condition's context is no object of JSON."))?,
    };
    Ok(Condition { expression, parameters: parameters.into_iter().collect(), context })
}

pub(super) fn time_out(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(time.0 / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.0 % 1_000 * 1_000_000).unwrap_or(0),
    }
}

fn time_in(time: prost_types::Timestamp) -> Result<Timestamp, ApiError> {
    let ms = u64::try_from(time.seconds).ok().and_then(|seconds| seconds.checked_mul(1_000));
    let part = u64::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let ms = ms.zip(part).and_then(|(ms, nanos)| ms.checked_add(nanos / 1_000_000));
    ms.map(Timestamp).ok_or_else(|| ApiError::bad_request("expires_at is no time since 1970."))
}

/// What a request gives to conditions.
///
/// # Errors
/// If a value is missing, nested too deep, or a number that was rounded on its way.
pub(super) fn context_in(given: Option<prost_types::Struct>) -> Result<Context, ApiError> {
    let fields = given.unwrap_or_default().fields;
    fields.into_iter().map(|(name, value)| Ok((name, value_in(value, 0)?))).collect()
}

fn value_in(value: prost_types::Value, depth: usize) -> Result<Json, ApiError> {
    // Nothing that a condition takes is deeper than a list.
    if depth > CONTEXT_DEPTH_MAX {
        return Err(ApiError::bad_request("The context is nested too deep."));
    }
    Ok(match value.kind {
        Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::NumberValue(number)) if number.abs() > WHOLE_MAX || !number.is_finite() => {
            return Err(ApiError::bad_request("The context has a number that is not exact."));
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and below 2^53")]
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 => (number as i64).into(),
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::ListValue(list)) => {
            let values = list.values.into_iter().map(|value| value_in(value, depth + 1));
            Json::Array(values.collect::<Result<_, _>>()?)
        }
        Some(Kind::StructValue(fields)) => {
            let fields = fields.fields.into_iter();
            let fields = fields.map(|(name, value)| Ok((name, value_in(value, depth + 1)?)));
            Json::Object(fields.collect::<Result<_, ApiError>>()?)
        }
        None => return Err(ApiError::bad_request("The context has a value that is none.")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64) -> prost_types::Value {
        prost_types::Value { kind: Some(Kind::NumberValue(value)) }
    }

    #[test]
    fn whole_numbers_are_integers_and_inexact_ones_are_refused() {
        let read = |value| value_in(value, 0).map_err(|_| "refused");
        assert_eq!(read(number(3.0)), Ok(Json::from(3)));
        assert_eq!(read(number(-9_007_199_254_740_992.0)), Ok(Json::from(-(1_i64 << 53))));
        assert_eq!(read(number(0.5)), Ok(Json::from(0.5)));
        for inexact in [1e16, f64::NAN, f64::INFINITY, -1e300] {
            assert_eq!(read(number(inexact)), Err("refused"), "{inexact}");
        }
        assert_eq!(read(prost_types::Value { kind: None }), Err("refused"));
        let mut deep = number(1.0);
        for _ in 0..=CONTEXT_DEPTH_MAX {
            let list = prost_types::ListValue { values: vec![deep] };
            deep = prost_types::Value { kind: Some(Kind::ListValue(list)) };
        }
        assert_eq!(read(deep), Err("refused"));
    }

    #[test]
    fn times_are_read_back_and_strange_ones_refused() {
        let time = Timestamp(1_800_000_000_123);
        assert_eq!(time_in(time_out(time)).ok(), Some(time));
        for (seconds, nanos) in [(-1, 0), (1, -1), (1, 1_000_000_000), (i64::MAX, 0)] {
            assert!(time_in(prost_types::Timestamp { seconds, nanos }).is_err());
        }
    }
}
