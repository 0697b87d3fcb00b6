//! `performNativeLogout`.

use axum::{extract::State, response::Response};
use cardea_identity::session::RevokeRejection;
use cardea_storage::Secret;
use http::StatusCode;

use super::{Kratos, wire::session::LogoutBody};
use crate::{answer::no_content, body::Sent, error::ApiError, request::Caller};

pub(super) async fn native(
    State(kratos): State<Kratos>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, ApiError> {
    let body: LogoutBody = sent.json()?;
    let token = Secret::new(body.session_token.unwrap_or_default());
    match kratos.service().log_out(caller.scope, &token).await {
        Ok(()) => Ok(no_content()),
        Err(RevokeRejection::NotFound) => Err(ApiError::new(StatusCode::FORBIDDEN).reason(
            "The provided Ory Session Token could not be found, is invalid, or otherwise \
             malformed.",
        )),
        Err(error) => Err(error.into()),
    }
}
