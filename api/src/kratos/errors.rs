//! `getFlowError`, and how a browser that cannot be answered with JSON gets there.

use axum::{extract::State, response::Response};
use cardea_identity::{Scope, time::rfc3339};
use http::StatusCode;
use serde_json::json as value;

use super::{Kratos, browser::see_other, manner::Manner};
use crate::{
    answer::json,
    error::ApiError,
    query::Query,
    request::{Caller, is_uuid},
};

pub(super) async fn get(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
) -> Result<Response, ApiError> {
    let id = query.first("id").filter(|id| is_uuid(id)).and_then(|id| id.parse().ok());
    let id = id.ok_or_else(ApiError::no_such_row)?;
    let found = kratos.service().flow_error(caller.scope, id).await?;
    let found = found.ok_or_else(ApiError::no_such_row)?;
    let at = rfc3339(found.created_at);
    let body = value!({
        "id": found.id.to_string(), "error": found.error, "created_at": at, "updated_at": at,
    });
    Ok(json(StatusCode::OK, &body))
}

impl Kratos {
    /// An answer in the caller's manner: a page's error is kept, and the browser sent
    /// to where it is shown. If it cannot be kept, it is answered as it is.
    pub(super) async fn answer(
        &self,
        scope: Scope,
        manner: Manner,
        result: Result<Response, ApiError>,
    ) -> Result<Response, ApiError> {
        match result {
            Err(error) if manner == Manner::Page => {
                match self.service().keep_error(scope, &error.shown()).await {
                    Ok(id) => see_other(&self.options().urls.error_page(&id.to_string())),
                    Err(store) => {
                        tracing::debug!(error = %store, "an error could not be kept for a page");
                        Err(error)
                    }
                }
            }
            result => result,
        }
    }
}
