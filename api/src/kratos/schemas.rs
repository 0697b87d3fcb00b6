//! `listIdentitySchemas`, `getIdentitySchema`, and what Kratos has in its configuration
//! only: putting schemas in force and removing them.

use axum::{
    extract::{Path, State},
    response::Response,
};
use base64::{
    Engine as _,
    engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
};
use cardea_identity::schema::{NewSchema, SchemaChangeRejection};
use cardea_storage::Tenant;
use http::{StatusCode, Uri};
use serde_json::Value;

use super::{Kratos, wire::identity::SchemaBody};
use crate::{
    answer::{json, no_content},
    body::Sent,
    error::ApiError,
    paging::{Paging, link_by_number, link_by_token},
    query::Query,
    request::Caller,
};

/// All schemas: a cluster has few. Tokens are refused, for no page gives one.
pub(super) async fn list(
    State(kratos): State<Kratos>,
    _caller: Caller,
    query: Query,
    uri: Uri,
) -> Result<Response, ApiError> {
    let schemas = kratos.service().schemas();
    let all: Vec<_> = schemas
        .iter()
        .map(|schema| SchemaBody { id: &schema.id().0, schema: schema.document() })
        .collect();
    match Paging::of(&query)? {
        Paging::Token(page) if page.token.is_some() => {
            Err(cardea_identity::page::BadPageToken.into())
        }
        Paging::Token(page) => {
            let mut response = json(StatusCode::OK, &all);
            link_by_token(response.headers_mut(), &uri, page.size, None);
            Ok(response)
        }
        Paging::Legacy { page, size } => {
            let total = u32::try_from(all.len()).unwrap_or(u32::MAX);
            let shown: Vec<_> =
                all.iter().skip((page * size) as usize).take(size as usize).collect();
            let mut response = json(StatusCode::OK, &shown);
            link_by_number(response.headers_mut(), &uri, page, size, Some(total));
            Ok(response)
        }
    }
}

/// A schema by its name, plain or in URL-safe base64.
pub(super) async fn get(
    State(kratos): State<Kratos>,
    _caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let schemas = kratos.service().schemas();
    let decoded = URL_SAFE_NO_PAD.decode(&id).or_else(|_| URL_SAFE.decode(&id)).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let found = [Some(id), decoded]
        .into_iter()
        .flatten()
        .filter(|id| !id.is_empty())
        .find_map(|id| schemas.get(&id));
    match found {
        Some(schema) => Ok(json(StatusCode::OK, schema.document())),
        None => Err(ApiError::new(StatusCode::NOT_FOUND)
            .reason("The requested identity schema could not be found.")),
    }
}

/// Puts a schema in force; as the default one with `default=true`.
pub(super) async fn put(
    State(kratos): State<Kratos>,
    caller: Caller,
    Path(id): Path<String>,
    query: Query,
    sent: Sent,
) -> Result<Response, ApiError> {
    of_all_tenants(&caller)?;
    let document: Value = sent.json()?;
    let is_default = query.flag("default")?.unwrap_or_default();
    let new = NewSchema { id: id.clone(), document, is_default };
    kratos.service().put_schema(new).await.map_err(not_changed)?;
    let schemas = kratos.service().schemas();
    let schema = schemas.get(&id).ok_or_else(ApiError::no_such_row)?;
    Ok(json(StatusCode::OK, &SchemaBody { id: &id, schema: schema.document() }))
}

/// Removes a schema.
pub(super) async fn remove(
    State(kratos): State<Kratos>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    of_all_tenants(&caller)?;
    kratos.service().remove_schema(caller.scope, &id).await.map_err(not_changed)?;
    Ok(no_content())
}

/// Tenants share the schemas: only who administers the whole cluster changes them.
fn of_all_tenants(caller: &Caller) -> Result<(), ApiError> {
    if caller.scope.tenant == Tenant::default() {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::FORBIDDEN).reason("Identity schemas are shared by all tenants."))
}

fn not_changed(rejection: SchemaChangeRejection) -> ApiError {
    let told = rejection.to_string();
    match rejection {
        SchemaChangeRejection::NotFound => ApiError::new(StatusCode::NOT_FOUND)
            .reason("The requested identity schema could not be found."),
        SchemaChangeRejection::InUse | SchemaChangeRejection::IsDefault => {
            ApiError::new(StatusCode::CONFLICT).reason(told)
        }
        SchemaChangeRejection::BadId(_)
        | SchemaChangeRejection::Refused(_)
        | SchemaChangeRejection::TooMany => ApiError::bad_request(told),
        SchemaChangeRejection::Store(error) => error.into(),
    }
}
