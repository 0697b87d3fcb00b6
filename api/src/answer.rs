//! How answers are finished: media type, caching, and the request's id in errors.

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, Method, StatusCode, header};
use serde::Serialize;

use crate::{error::ApiError, request::REQUEST_ID};

/// The longest request id that is repeated.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// An answer with a JSON body.
pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json; charset=utf-8"),
            );
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            ApiError::internal().into_response()
        }
    }
}

/// An answer without a body.
pub(crate) fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The outermost layer: no cache keeps what was read, errors name their request.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let request_id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX)
        .map(str::to_owned);
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>()
        && request_id.is_some()
    {
        let headers = std::mem::take(response.headers_mut());
        response = error.answer(request_id.as_deref());
        for (name, value) in headers {
            if let Some(name) = name
                && !response.headers().contains_key(&name)
                && name != header::CONTENT_LENGTH
            {
                response.headers_mut().insert(name, value);
            }
        }
    }
    if is_read {
        response.headers_mut().insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-cache, no-store, must-revalidate"),
        );
    }
    response
}
