//! What a listener answers by itself: refusals in the Ory error envelope
//! (herodot), the same for every service behind it.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use cardea_api::error::{ERROR_ID, OUTCOME_UNKNOWN};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

/// A request that did not reach a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// What the caller did wrong or can do; never an internal detail.
    pub reason: Option<String>,
    /// Methods that the path does have, for 405.
    pub allow: Option<String>,
    /// What programs know it by.
    pub id: Option<&'static str>,
}

/// The id of a refusal of a node that cannot answer for its cluster now: nothing was
/// done. The layers say the same of the store.
pub const UNAVAILABLE: &str = "cluster_unavailable";

/// The id of a refusal of a node that has more to do than it can: nothing was done.
pub const OVERLOADED: &str = "cluster_overloaded";

impl Refusal {
    /// A refusal with a reason.
    pub fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: Some(reason.into()), allow: None, id: None }
    }

    /// 503: nothing was done, and it may be tried again.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self { id: Some(UNAVAILABLE), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, reason) }
    }

    /// 503: nothing was done, for too much else is.
    pub fn overloaded() -> Self {
        let reason = "This node is asked for more than it can do.";
        Self { id: Some(OVERLOADED), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, reason) }
    }

    /// 503: it may have been done. Without `Retry-After`, for trying again may do it twice.
    pub fn outcome_unknown(reason: impl Into<String>) -> Self {
        Self { id: Some(OUTCOME_UNKNOWN), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, reason) }
    }

    /// 404 for a path that nothing answers.
    pub fn not_found() -> Self {
        Self { status: StatusCode::NOT_FOUND, reason: None, allow: None, id: None }
    }

    /// 405, naming the methods that would be answered.
    pub fn method_not_allowed(allow: String) -> Self {
        let allow = Some(allow);
        Self { status: StatusCode::METHOD_NOT_ALLOWED, reason: None, allow, id: None }
    }

    /// The answer; `request_id` as the caller knows it.
    pub fn answer(&self, request_id: Option<&str>) -> Response {
        let status = self.status;
        let mut error = json!({
            "code": status.as_u16(),
            "status": status.canonical_reason().unwrap_or("Unknown"),
            "message": message(status),
        });
        if let Some(id) = self.id {
            error["id"] = json!(id);
        }
        if let Some(reason) = &self.reason {
            error["reason"] = json!(reason);
        }
        if let Some(request_id) = request_id {
            error["request"] = json!(request_id);
        }
        let mut response = Response::new(Body::from(json!({ "error": error }).to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-cache, no-store, must-revalidate"),
        );
        if let Some(allow) =
            self.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok())
        {
            headers.insert(header::ALLOW, allow);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(id) = self.id {
            headers.insert(ERROR_ID, HeaderValue::from_static(id));
        }
        let may_again =
            matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        if may_again && self.id != Some(OUTCOME_UNKNOWN) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // For those who say it in another form.
        response.extensions_mut().insert(self.clone());
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.answer(None)
    }
}

/// The stock texts, on which clients' tests rely.
fn message(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "The request was malformed or contained invalid parameters",
        StatusCode::UNAUTHORIZED => "The request could not be authorized",
        StatusCode::FORBIDDEN => "The requested action was forbidden",
        StatusCode::NOT_FOUND => "The requested resource could not be found",
        StatusCode::METHOD_NOT_ALLOWED => "The requested method is not allowed for this resource",
        StatusCode::REQUEST_TIMEOUT => "The request took too long",
        StatusCode::CONFLICT => "The resource could not be created due to a conflict",
        StatusCode::PAYLOAD_TOO_LARGE => "The request body is too large",
        StatusCode::MISDIRECTED_REQUEST => {
            "The request was sent to a host that this listener does not answer for"
        }
        StatusCode::TOO_MANY_REQUESTS => "Too many requests",
        StatusCode::SERVICE_UNAVAILABLE => {
            "The service is unavailable for a moment, please try again"
        }
        _ => "An internal server error occurred, please contact the system administrator",
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_refusal_is_an_ory_error() {
        let response = Refusal::new(StatusCode::UNAUTHORIZED, "No API key.").answer(Some("r1"));
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            json!({"error": {
                "code": 401,
                "status": "Unauthorized",
                "request": "r1",
                "reason": "No API key.",
                "message": "The request could not be authorized",
            }})
        );
    }

    #[tokio::test]
    async fn what_may_have_been_done_is_told_by_its_id_and_asks_for_no_second_time() {
        for (refusal, id, again) in [
            (Refusal::unavailable("No quorum."), "cluster_unavailable", true),
            (Refusal::overloaded(), "cluster_overloaded", true),
            (Refusal::outcome_unknown("Not in time."), "outcome_unknown", false),
        ] {
            let response = refusal.answer(None);
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()[ERROR_ID], id);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), again);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["error"]["id"], id);
        }
    }
}
