//! `checkPermission`, `checkPermissionOrError`, both by GET and POST, and
//! `batchCheckPermission`.

use axum::{extract::State, response::Response};
use cardea_permission::{Ask, ReadRejection, Tuple, check::BATCH_MAX};
use http::StatusCode;

use super::{
    Asked, Keto, at,
    read::{ask_of, batch_is_taken, check_in, tuple_of},
    wire::{BatchBody, BatchItem, BatchResult, CheckBody, ExplanationBody, RelationshipBody},
};
use crate::{answer::json, body::Sent, error::ApiError};

/// Whether the status mirrors the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Denied {
    As200,
    As403,
}

pub(super) async fn get(State(keto): State<Keto>, asked: Asked) -> Result<Response, ApiError> {
    let (tuple, ask) = (tuple_of(&asked.query)?, ask_of(&asked.query)?);
    check(&keto, asked, tuple, ask, Denied::As200).await
}

pub(super) async fn get_or_error(
    State(keto): State<Keto>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let (tuple, ask) = (tuple_of(&asked.query)?, ask_of(&asked.query)?);
    check(&keto, asked, tuple, ask, Denied::As403).await
}

pub(super) async fn post(
    State(keto): State<Keto>,
    asked: Asked,
    sent: Sent,
) -> Result<Response, ApiError> {
    let (tuple, context) = check_in(sent.strict_json::<RelationshipBody>()?)?;
    let ask = Ask { context, ..ask_of(&asked.query)? };
    check(&keto, asked, tuple, ask, Denied::As200).await
}

pub(super) async fn post_or_error(
    State(keto): State<Keto>,
    asked: Asked,
    sent: Sent,
) -> Result<Response, ApiError> {
    let (tuple, context) = check_in(sent.strict_json::<RelationshipBody>()?)?;
    let ask = Ask { context, ..ask_of(&asked.query)? };
    check(&keto, asked, tuple, ask, Denied::As403).await
}

async fn check(
    keto: &Keto,
    asked: Asked,
    tuple: Tuple,
    ask: Ask,
    denied: Denied,
) -> Result<Response, ApiError> {
    let found = keto.service().check(asked.tenant, &tuple, ask, asked.consistency).await;
    let (allowed, snaptoken) = match found {
        Ok(answer) => (answer.value, Some(answer.snaptoken)),
        // As in Keto: what nobody declared, nobody has.
        Err(ReadRejection::UnknownNamespace(_)) => (false, None),
        Err(rejection) => return Err(rejection.into()),
    };
    let status = match denied {
        Denied::As403 if !allowed => StatusCode::FORBIDDEN,
        _ => StatusCode::OK,
    };
    let response = json(status, &CheckBody { allowed });
    Ok(match snaptoken {
        Some(snaptoken) => at(response, &snaptoken),
        None => response,
    })
}

/// Why a check is allowed; not in Keto.
pub(super) async fn explain(State(keto): State<Keto>, asked: Asked) -> Result<Response, ApiError> {
    let (tuple, ask) = (tuple_of(&asked.query)?, ask_of(&asked.query)?);
    let found = keto.service().explain(asked.tenant, &tuple, ask, asked.consistency).await?;
    Ok(at(json(StatusCode::OK, &ExplanationBody::from(&found.value)), &found.snaptoken))
}

pub(super) async fn batch(
    State(keto): State<Keto>,
    asked: Asked,
    sent: Sent,
) -> Result<Response, ApiError> {
    let body = sent.strict_json::<BatchBody>()?;
    let ask = Ask { context: body.context, ..ask_of(&asked.query)? };
    batch_is_taken(body.tuples.len(), BATCH_MAX)?;
    let tuples = body.tuples.into_iter().map(|body| {
        if body.context.is_some() {
            return Err(ApiError::bad_request("The context of a batch stands beside its tuples."));
        }
        Ok(check_in(body)?.0)
    });
    let tuples: Vec<Tuple> = tuples.collect::<Result<_, ApiError>>()?;
    let found = keto.service().check_many(asked.tenant, &tuples, ask, asked.consistency).await?;
    let results = found.value.into_iter().map(|answer| match answer {
        Ok(allowed) => BatchItem { allowed, error: None },
        Err(rejection) => BatchItem { allowed: false, error: Some(rejection.to_string()) },
    });
    let body = BatchResult { results: results.collect() };
    Ok(at(json(StatusCode::OK, &body), &found.snaptoken))
}
