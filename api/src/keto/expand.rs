//! `expandPermissions`.

use axum::{extract::State, response::Response};
use http::StatusCode;

use super::{
    Asked, Keto, at,
    read::{depth_of, set_of},
    wire::TreeBody,
};
use crate::{answer::json, error::ApiError};

pub(super) async fn expand(State(keto): State<Keto>, asked: Asked) -> Result<Response, ApiError> {
    let (set, depth) = (set_of(&asked.query)?, depth_of(&asked.query)?);
    let found = keto.service().expand(asked.tenant, &set, depth, asked.consistency).await?;
    match found.value {
        Some(tree) => Ok(at(json(StatusCode::OK, &TreeBody::from(&tree)), &found.snaptoken)),
        None => Err(ApiError::new(StatusCode::NOT_FOUND).reason("No relation tuple was found.")),
    }
}
