//! Where browsers are sent, and what they may not send.
//!
//! Native flows refuse browsers: they carry no anti-forgery token, so nothing that a
//! browser was tricked into sending may complete one.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::{error::ApiError, request::cookies};

/// Set by content delivery networks in front of applications; no browser proof.
const HARMLESS_COOKIES: [&str; 3] = ["__cf", "_cf", "cf_"];

/// Refuses a submission that shows signs of a browser.
///
/// # Errors
/// 400, in the words of Kratos.
pub(super) fn refuse_browsers(headers: &HeaderMap) -> Result<(), ApiError> {
    let told = |header: &str, by: &str| {
        ApiError::bad_request(format!(
            "The HTTP Request Header included the \"{header}\" key, indicating that this request \
             was made {by}. The flow however was initiated as an API request. To prevent \
             potential misuse and mitigate several attack vectors including CSRF, the request \
             has been blocked. Please consult the documentation."
        ))
    };
    if headers.get(header::ORIGIN).is_some_and(|origin| !origin.is_empty()) {
        return Err(told("Origin", "as part of an AJAX request in a Browser"));
    }
    let found: Vec<Value> = cookies(headers)
        .map(|(name, _)| name)
        .filter(|name| !HARMLESS_COOKIES.iter().any(|prefix| name.starts_with(prefix)))
        .map(Value::from)
        .collect();
    if !found.is_empty() {
        return Err(told("Cookie", "by a Browser").detail("found cookies", found));
    }
    Ok(())
}

/// Sends a browser elsewhere, with a `GET`.
///
/// # Errors
/// 500 if the place is no URL, which was checked before.
pub(super) fn see_other(place: &str) -> Result<Response, ApiError> {
    let location = HeaderValue::from_str(place).map_err(|error| {
        tracing::error!(%error, "a place to send a browser to is no URL");
        ApiError::internal()
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}
