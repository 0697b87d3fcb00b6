//! `listRelationshipNamespaces`, `checkOplSyntax`, and the language in force, which
//! Keto has in files only.

use axum::{extract::State, response::Response};
use cardea_identity::time::rfc3339;
use cardea_permission::{
    change::{LanguageVersion, NewLanguage},
    opl::{SourceError, SourceFile, parse_text},
};
use http::StatusCode;

use super::{
    Asked, Keto, at,
    rejection::not_in_force,
    wire::{
        FileBody, LanguageBody, NamespaceBody, NamespacesBody, NewLanguageBody, ParseErrorBody,
        SyntaxBody, VersionBody,
    },
};
use crate::{answer::json, body::Sent, error::ApiError};

pub(super) async fn namespaces(
    State(keto): State<Keto>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let found = keto.service().list_namespaces(asked.tenant, asked.consistency).await?;
    let namespaces = found.value.into_iter().map(|name| NamespaceBody { name }).collect();
    Ok(at(json(StatusCode::OK, &NamespacesBody { namespaces }), &found.snaptoken))
}

pub(super) async fn check_syntax(_asked: Asked, sent: Sent) -> Result<Response, ApiError> {
    let errors = syntax_errors(sent.text()?).await?;
    let errors = errors.iter().map(ParseErrorBody::from).collect();
    Ok(json(StatusCode::OK, &SyntaxBody { errors }))
}

/// What is wrong with a language; reading one takes a thread that may compute.
pub(super) async fn syntax_errors(text: String) -> Result<Vec<SourceError>, ApiError> {
    let parsed = tokio::task::spawn_blocking(move || parse_text(&text)).await;
    let parsed = parsed.map_err(|error| {
        tracing::error!(%error, "a permission language could not be read");
        ApiError::internal()
    })?;
    Ok(parsed.err().unwrap_or_default())
}

pub(super) async fn get(State(keto): State<Keto>, asked: Asked) -> Result<Response, ApiError> {
    let found = keto.service().get_language(asked.tenant, asked.consistency).await?;
    let LanguageVersion { version, files, created_at } = found.value;
    let files = files.into_iter();
    let body = LanguageBody {
        version,
        files: files.map(|file| FileBody { name: file.name, text: file.text }).collect(),
        created_at: (version > 0).then(|| rfc3339(created_at)),
    };
    Ok(at(json(StatusCode::OK, &body), &found.snaptoken))
}

pub(super) async fn set(
    State(keto): State<Keto>,
    asked: Asked,
    sent: Sent,
) -> Result<Response, ApiError> {
    let body = sent.strict_json::<NewLanguageBody>()?;
    let names: Vec<String> = body.files.iter().map(|file| file.name.clone()).collect();
    let files = body.files.into_iter();
    let new = NewLanguage {
        files: files.map(|file| SourceFile { name: file.name, text: file.text }).collect(),
        follows: body.follows,
        force: body.force,
    };
    let done = keto.service().put_language(asked.tenant, new).await;
    let (version, snaptoken) = done.map_err(|rejection| not_in_force(rejection, &names))?;
    Ok(at(json(StatusCode::OK, &VersionBody { version }), &snaptoken))
}
