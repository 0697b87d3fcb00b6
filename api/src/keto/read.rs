//! Reading tuples and queries from parameters and bodies, as strictly as Keto does.

use cardea_permission::{
    Ask, Context, Relationship, Subject, SubjectSet, Tuple, TupleQuery,
    list::{PAGE_SIZE_MAX, PageRequest},
};
use cardea_storage::Timestamp;

use super::wire::RelationshipBody;
use crate::{error::ApiError, query::Query};

const SUBJECT: &str = "subject";
const SUBJECT_ID: &str = "subject_id";
const SET: [&str; 3] = ["subject_set.namespace", "subject_set.object", "subject_set.relation"];
/// What says how to read, not what.
const MANNERS: [&str; 3] = ["latest", "snaptoken", "consistency"];

/// A parameter that may be empty and still be there.
fn text(query: &Query, name: &str) -> Option<String> {
    query.has(name).then(|| query.first(name).unwrap_or_default().to_owned())
}

fn subject(query: &Query) -> Result<Option<Subject>, ApiError> {
    if query.has(SUBJECT) {
        return Err(dropped_subject());
    }
    let sets = SET.iter().filter(|name| query.has(name)).count();
    match (text(query, SUBJECT_ID), sets) {
        (None, 0) => Ok(None),
        (Some(id), 0) => Ok(Some(Subject::Id(id))),
        (None, 3) => {
            let [namespace, object, relation] =
                SET.map(|name| text(query, name).unwrap_or_default());
            Ok(Some(Subject::Set(SubjectSet { namespace, object, relation })))
        }
        (Some(_), _) => Err(both_subjects()),
        (None, _) => Err(ApiError::malformed(
            "incomplete subject, provide \"subject_id\" or a complete \"subject_set.*\"",
        )),
    }
}

fn dropped_subject() -> ApiError {
    ApiError::bad_request(
        "Provide \"subject_id\" or \"subject_set.*\"; support for \"subject\" was dropped.",
    )
}

fn both_subjects() -> ApiError {
    ApiError::malformed("exactly one of subject_set or subject_id has to be provided")
}

pub(super) fn no_subject() -> ApiError {
    ApiError::malformed("subject is not allowed to be nil")
}

/// The query of a list.
///
/// # Errors
/// 400.
pub(super) fn query_of(query: &Query) -> Result<TupleQuery, ApiError> {
    Ok(TupleQuery {
        namespace: text(query, "namespace"),
        object: text(query, "object"),
        relation: text(query, "relation"),
        subject: subject(query)?,
    })
}

/// The query of a deletion: nothing in it is overlooked, lest more be deleted.
///
/// # Errors
/// 400.
pub(super) fn deletion_of(query: &Query) -> Result<TupleQuery, ApiError> {
    let known = ["namespace", "object", "relation", SUBJECT, SUBJECT_ID];
    let known =
        |name: &str| known.contains(&name) || SET.contains(&name) || MANNERS.contains(&name);
    if let Some(name) = query.names().find(|name| !known(name)) {
        return Err(ApiError::bad_request(format!(
            "The query parameter \"{name}\" is not known, and nothing was deleted."
        )));
    }
    let query = query_of(query)?;
    if query.namespace.is_none() {
        return Err(ApiError::bad_request("The query parameter \"namespace\" is required."));
    }
    Ok(query)
}

/// The tuple of a check.
///
/// # Errors
/// 400.
pub(super) fn tuple_of(query: &Query) -> Result<Tuple, ApiError> {
    let subject = subject(query)?.ok_or_else(no_subject)?;
    let part = |name| text(query, name).ok_or_else(incomplete);
    Ok(Tuple {
        namespace: part("namespace")?,
        object: part("object")?,
        relation: part("relation")?,
        subject,
    })
}

/// The subject set of an expansion or look-up.
///
/// # Errors
/// 400.
pub(super) fn set_of(query: &Query) -> Result<SubjectSet, ApiError> {
    let part = |name| text(query, name).ok_or_else(incomplete);
    Ok(SubjectSet {
        namespace: part("namespace")?,
        object: part("object")?,
        relation: part("relation")?,
    })
}

/// The subject of a look-up.
///
/// # Errors
/// 400.
pub(super) fn subject_of(query: &Query) -> Result<Subject, ApiError> {
    subject(query)?.ok_or_else(no_subject)
}

fn incomplete() -> ApiError {
    ApiError::malformed(
        "incomplete tuple, provide \"namespace\", \"object\", \"relation\", and a subject",
    )
}

/// # Errors
/// 400 if there are more checks than one request may have.
pub(super) fn batch_is_taken(given: usize, limit: usize) -> Result<(), ApiError> {
    if given > limit {
        let why = format!("The batch has {given} checks, at most {limit} are taken.");
        return Err(ApiError::bad_request(why));
    }
    Ok(())
}

/// The tuple of a body.
///
/// # Errors
/// 400.
pub(super) fn tuple_in(body: RelationshipBody) -> Result<Relationship, ApiError> {
    if body.subject.is_some() {
        return Err(dropped_subject());
    }
    // What it fixed would be for whoever asks to give.
    if body.context.is_some() {
        return Err(ApiError::bad_request("A relation tuple has no context but in its condition."));
    }
    let subject = match (body.subject_id, body.subject_set) {
        (Some(id), None) => Subject::Id(id),
        (None, Some(set)) => Subject::Set(set.into()),
        (Some(_), Some(_)) => return Err(both_subjects()),
        (None, None) => return Err(no_subject()),
    };
    let expires_at = match body.expires_at {
        None => None,
        Some(text) => {
            let at = cardea_identity::time::parse_rfc3339(&text);
            let at: Timestamp =
                at.ok_or_else(|| ApiError::bad_request("expires_at is no time of RFC 3339."))?;
            Some(at)
        }
    };
    // Keto takes what is missing for empty.
    let tuple = Tuple {
        namespace: body.namespace.unwrap_or_default(),
        object: body.object.unwrap_or_default(),
        relation: body.relation.unwrap_or_default(),
        subject,
    };
    let condition = body.condition.map(Into::into);
    Ok(Relationship { tuple, expires_at, condition })
}

/// The tuple of a check's body, and what the check gives to conditions. What narrows
/// tuples has no place in it.
///
/// # Errors
/// 400.
pub(super) fn check_in(mut body: RelationshipBody) -> Result<(Tuple, Context), ApiError> {
    let context = body.context.take().unwrap_or_default();
    Ok((tuple_in(body)?.tuple, context))
}

/// `max-depth` and `context`.
///
/// # Errors
/// 400.
pub(super) fn ask_of(query: &Query) -> Result<Ask, ApiError> {
    Ok(Ask { depth: depth_of(query)?, context: context_of(query)? })
}

/// `context`, an object of JSON.
///
/// # Errors
/// 400.
pub(super) fn context_of(query: &Query) -> Result<Context, ApiError> {
    match query.first("context").filter(|text| !text.is_empty()) {
        None => Ok(Context::new()),
        Some(text) => serde_json::from_str(text)
            .map_err(|_| ApiError::bad_request("context is no object of JSON.")),
    }
}

/// Which page of a list is asked for.
///
/// # Errors
/// 400.
pub(super) fn page_of(query: &Query) -> Result<PageRequest, ApiError> {
    let size = match query.first("page_size") {
        None => 0,
        Some(text) => {
            let size: u64 = text
                .parse()
                .map_err(|_| ApiError::malformed("could not parse parameter page_size"))?;
            u32::try_from(size).unwrap_or(u32::MAX).min(PAGE_SIZE_MAX)
        }
    };
    Ok(PageRequest { size, token: query.first("page_token").map(str::to_owned) })
}

/// `max-depth`: as in Keto, what is not positive is the default.
///
/// # Errors
/// 400.
pub(super) fn depth_of(query: &Query) -> Result<u32, ApiError> {
    match query.first("max-depth") {
        None => Ok(0),
        Some(text) => {
            let depth: i64 =
                text.parse().map_err(|_| ApiError::bad_request("max-depth is no whole number."))?;
            Ok(u32::try_from(depth.max(0)).unwrap_or(u32::MAX))
        }
    }
}
