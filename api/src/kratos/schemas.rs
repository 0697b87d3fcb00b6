//! `listIdentitySchemas`, `getIdentitySchema`.

use axum::{
    extract::{Path, State},
    response::Response,
};
use base64::{
    Engine as _,
    engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
};
use http::{StatusCode, Uri};

use super::{Kratos, wire::identity::SchemaBody};
use crate::{
    answer::json,
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
