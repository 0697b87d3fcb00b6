//! Imports and exports of tuples by the million; not in Keto.
//!
//! `POST /admin/relation-tuples/import` takes a part: a relationship a line, either as
//! JSON in Keto's form, with `expires_at` and `condition` if it has them, or as
//! `namespace:object#relation@subject`. It answers once the part is there, so a client
//! that waits for answers is never faster than the cluster, and one that was cut short
//! goes on with the part that was not answered: taking it again changes nothing.
//!
//! `GET /admin/relation-tuples/export` answers with the same lines, as JSON, for as long
//! as there are any. `X-Cardea-Export` says whether all are of one instant (`snapshot`)
//! or each page is of its own (`pages`).

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use cardea_permission::{Relationship, Tuple, bulk::Export, bulk::PART_MAX};
use futures::TryStreamExt as _;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use super::{
    Asked, Keto, at,
    flow::Outlet,
    read::{query_of, tuple_in},
    wire::RelationshipBody,
};
use crate::{answer::json, body::read_up_to, error::ApiError, request::StillAllowed};

/// The largest part of an import that is read, in bytes. Listeners may set a lower bound.
const PART_BYTES_MAX: usize = 16 << 20;
/// Tells whether an export is of one instant.
const EXPORT: HeaderName = HeaderName::from_static("x-cardea-export");

/// A part that was taken.
#[derive(Debug, Serialize)]
struct ImportedBody {
    /// Relationships that are there now.
    imported: u64,
    /// Lines that named one that another line named, too; the last counts.
    repeated: u64,
}

pub(super) async fn import(
    State(keto): State<Keto>,
    asked: Asked,
    request: Request,
) -> Result<Response, ApiError> {
    let bytes = read_up_to(request.into_body(), PART_BYTES_MAX).await?;
    let part = tokio::task::spawn_blocking(move || relationships(&bytes)).await;
    let part = part.map_err(|error| {
        tracing::error!(%error, "a part of an import could not be read");
        ApiError::internal()
    })??;
    let done = keto.service().import(asked.tenant, part).await?;
    let body = ImportedBody { imported: done.tuples, repeated: done.repeated };
    Ok(at(json(StatusCode::OK, &body), &done.snaptoken))
}

fn told(error: &ApiError) -> String {
    let shown = error.shown();
    let text = shown["reason"].as_str().or(shown["message"].as_str());
    text.unwrap_or_default().to_owned()
}

/// Reads the lines of a part.
fn relationships(bytes: &[u8]) -> Result<Vec<Relationship>, ApiError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| ApiError::bad_request("The body is not UTF-8; nothing was imported."))?;
    let mut part = Vec::new();
    for (line, number) in text.lines().zip(1_u64..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        let read = if line.starts_with('{') {
            serde_json::from_str::<RelationshipBody>(line)
                .map_err(|error| error.to_string())
                .and_then(|body| tuple_in(body).map_err(|error| told(&error)))
                .and_then(|one| one.validate().map(|()| one).map_err(|error| error.to_string()))
        } else {
            line.parse::<Tuple>().map(Relationship::from).map_err(|error| error.to_string())
        };
        match read {
            Ok(_) if part.len() == PART_MAX => {
                return Err(ApiError::body_too_large()
                    .reason(format!("A part has at most {PART_MAX} lines.")));
            }
            Ok(relationship) => part.push(relationship),
            Err(why) => {
                return Err(ApiError::bad_request(format!(
                    "Line {number} is refused, and nothing was imported: {why}"
                ))
                .detail("line", number));
            }
        }
    }
    Ok(part)
}

pub(super) async fn export(
    State(keto): State<Keto>,
    allowed: Option<Extension<StillAllowed>>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let query = query_of(&asked.query)?;
    let export = keto.service().export(asked.tenant, &query, asked.consistency).await?;
    let whole = if export.is_of_one_instant() { "snapshot" } else { "pages" };
    let snaptoken = export.snaptoken().clone();
    let allowed = allowed.map(|Extension(allowed)| allowed);
    let lines = keto.shared().flows.begin(allowed, |outlet| lines(export, outlet))?;
    // The request's time-out is behind us once the head is sent.
    let lines = lines.map_err(|error| {
        let shown = error.shown();
        tracing::warn!(error = %shown, "an export broke off");
        std::io::Error::other(shown.to_string())
    });
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(EXPORT, HeaderValue::from_static(whole));
    Ok(at(response, &snaptoken))
}

/// The lines of an export, some together. One that fails breaks off without the end that
/// tells a client that it has all.
async fn lines(mut export: Export, mut outlet: Outlet<Vec<u8>>) -> Result<(), ApiError> {
    while let Some(found) = export.next().await? {
        let mut lines = Vec::new();
        for relationship in &found {
            let line = RelationshipBody::from(relationship);
            serde_json::to_writer(&mut lines, &line).map_err(|error| {
                tracing::error!(%error, "a relation tuple could not be written");
                ApiError::internal()
            })?;
            lines.push(b'\n');
        }
        if !lines.is_empty() {
            outlet.give(lines).await?;
        }
    }
    Ok(())
}
