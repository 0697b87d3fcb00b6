//! What a request is refused with: the error envelope of Ory's services, its
//! statuses and its stock texts, decided here and nowhere else.
//!
//! ```json
//! {"error":{"id":"…","code":404,"status":"Not Found","request":"…","reason":"…","details":{},"message":"…"}}
//! ```
//!
//! `message` is always there, the others if there is something to say. Some errors
//! put members beside `error`. Nothing here tells how the server is made: what an
//! operator needs is logged, once, where the error is turned into an answer.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use cardea_storage::StoreError;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

/// Repeats [`ApiError`]'s id, as Ory's services do.
pub const ERROR_ID: HeaderName = HeaderName::from_static("ory-error-id");

/// Told in `error.id` where the outcome of a write was not seen.
pub const OUTCOME_UNKNOWN: &str = "outcome_unknown";

/// A refusal, on its way to the client.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    id: Option<&'static str>,
    message: Cow<'static, str>,
    reason: Option<Cow<'static, str>>,
    details: Map<String, Value>,
    beside: Map<String, Value>,
    retry_after: Option<Duration>,
}

/// What a refusal says, for those who say it in another form.
pub(crate) struct Told<'a> {
    pub(crate) id: Option<&'static str>,
    pub(crate) message: &'a str,
    pub(crate) reason: Option<&'a str>,
    pub(crate) details: &'a Map<String, Value>,
    pub(crate) retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Error<'a>,
    #[serde(flatten)]
    beside: &'a Map<String, Value>,
}

/// In the order in which Ory's services write them.
#[derive(Serialize)]
struct Error<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    code: u16,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    details: &'a Map<String, Value>,
    message: &'a str,
}

impl ApiError {
    /// A refusal with the stock text of its status.
    pub fn new(status: StatusCode) -> Self {
        Self(Box::new(Parts {
            status,
            id: None,
            message: Cow::Borrowed(stock_text(status)),
            reason: None,
            details: Map::new(),
            beside: Map::new(),
            retry_after: None,
        }))
    }

    /// 400, and why.
    pub fn bad_request(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST).reason(reason)
    }

    /// 400 where Ory says what is wrong in `message` and gives no reason.
    pub fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST).message(message)
    }

    /// 401, and why.
    pub fn unauthorized(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED).reason(reason)
    }

    /// 404 for an id that nothing has.
    pub fn no_such_row() -> Self {
        Self::new(StatusCode::NOT_FOUND).message("Unable to locate the resource")
    }

    /// 413, for a body that is larger than is taken.
    pub fn body_too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// 429: the same may be tried again later.
    pub fn too_many_requests(retry_after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS).retry_after(retry_after)
    }

    /// 503 with [`OUTCOME_UNKNOWN`]: it may have been done. Without `Retry-After`,
    /// for trying again may do it twice.
    pub fn outcome_unknown() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE).id(OUTCOME_UNKNOWN).reason(
            "It is not known whether the request took effect. Look before you send it again.",
        )
    }

    /// 500 without a word about why; the caller has logged it.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// With a stable id.
    pub fn id(mut self, id: &'static str) -> Self {
        self.0.id = Some(id);
        self
    }

    /// With another message than the stock text.
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = message.into();
        self
    }

    /// With a reason.
    pub fn reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.0.reason = Some(reason.into());
        self
    }

    /// With one more detail.
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.details.insert(name.to_owned(), value.into());
        self
    }

    /// With one more member beside `error`.
    pub fn beside(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.beside.insert(name.to_owned(), value.into());
        self
    }

    /// With `Retry-After`, in whole seconds, at least one.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// How long to wait before the same is tried again, if that is all it takes.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.0.retry_after.filter(|_| self.0.status == StatusCode::TOO_MANY_REQUESTS)
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What is said in it.
    pub(crate) fn told(&self) -> Told<'_> {
        let parts = &*self.0;
        Told {
            id: parts.id,
            message: &parts.message,
            reason: parts.reason.as_deref(),
            details: &parts.details,
            retry_after: parts.retry_after,
        }
    }

    /// What people are shown of it.
    pub(crate) fn shown(&self) -> Value {
        serde_json::to_value(self.inner(None)).unwrap_or_default()
    }

    fn inner<'a>(&'a self, request: Option<&'a str>) -> Error<'a> {
        let parts = &*self.0;
        Error {
            id: parts.id,
            code: parts.status.as_u16(),
            status: parts.status.canonical_reason().unwrap_or_default(),
            request,
            reason: parts.reason.as_deref(),
            details: &parts.details,
            message: &parts.message,
        }
    }

    /// The answer to a request of that id.
    pub fn answer(&self, request_id: Option<&str>) -> Response {
        let parts = &*self.0;
        let envelope = Envelope { error: self.inner(request_id), beside: &parts.beside };
        // Only maps with string keys are in there: it cannot fail.
        let body = serde_json::to_vec(&envelope).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = parts.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(id) = parts.id {
            headers.insert(ERROR_ID, HeaderValue::from_static(id));
        }
        if let Some(after) = parts.retry_after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// The answer goes along, so that the outermost layer can write the request's
    /// id into it.
    fn into_response(self) -> Response {
        let mut response = self.answer(None);
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let soon = Duration::from_secs(1);
        let unavailable = || Self::new(StatusCode::SERVICE_UNAVAILABLE);
        match error {
            StoreError::Unavailable { reason } => {
                tracing::warn!(reason, "the store is unavailable");
                unavailable().id("cluster_unavailable").retry_after(soon)
            }
            StoreError::Overloaded { retry_after } => {
                unavailable().id("cluster_overloaded").retry_after(retry_after)
            }
            StoreError::Unknown => Self::outcome_unknown(),
            // Not 409: clients take that for a duplicate.
            StoreError::Contended { .. } => unavailable()
                .id("contended")
                .reason("Others kept changing the same data; nothing was done.")
                .retry_after(soon),
            StoreError::IndexNotWhole { index } => {
                tracing::warn!(%index, "a read of an index that is being built is refused");
                unavailable()
                    .id("index_not_whole")
                    .reason(
                        "What this reads is being built since the upgrade that brought it, and \
                         would be incomplete.",
                    )
                    .retry_after(Duration::from_secs(5))
            }
            StoreError::TooLarge { what, size, limit } => Self::body_too_large()
                .reason(format!("{what} is {size}, at most {limit} is allowed.")),
            StoreError::BadToken => {
                Self::bad_request("The snaptoken was not given by this cluster.")
            }
            StoreError::TooOld => unavailable().id("cluster_unavailable").retry_after(soon),
            StoreError::Illegal(what) => {
                tracing::error!(what, "a request was asked of the store that it cannot do");
                Self::internal()
            }
            StoreError::Fault(fault) => {
                tracing::error!(error = &fault as &dyn std::error::Error, "the store failed");
                Self::internal()
            }
        }
    }
}

/// Clients' tests assert on these.
fn stock_text(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "The request was malformed or contained invalid parameters",
        StatusCode::UNAUTHORIZED => "The request could not be authorized",
        StatusCode::FORBIDDEN => "The requested action was forbidden",
        StatusCode::NOT_FOUND => "The requested resource could not be found",
        StatusCode::CONFLICT => "The resource could not be created due to a conflict",
        StatusCode::GONE => {
            "The requested resource is no longer available because it has expired or is otherwise \
             invalid."
        }
        StatusCode::PAYLOAD_TOO_LARGE => "The request body is too large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "The request is using an unknown content type",
        StatusCode::TOO_MANY_REQUESTS => "Too many requests",
        StatusCode::SERVICE_UNAVAILABLE => {
            "The service is unavailable for a moment, please try again"
        }
        _ => "An internal server error occurred, please contact the system administrator",
    }
}

#[cfg(test)]
mod tests {
    use cardea_storage::{Fault, Tag};
    use serde_json::json;

    use super::*;

    async fn shown(error: ApiError) -> (StatusCode, http::HeaderMap, Value) {
        let (parts, body) = error.answer(Some("r1")).into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn envelope_is_that_of_ory() {
        let (status, headers, body) = shown(
            ApiError::bad_request("Because.")
                .id("some_id")
                .detail("hint", "x")
                .beside("use_flow_id", "f"),
        )
        .await;
        assert_eq!(status, 400);
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(headers[ERROR_ID], "some_id");
        assert_eq!(
            body.to_string(),
            "{\"error\":{\"id\":\"some_id\",\"code\":400,\"status\":\"Bad Request\",\
             \"request\":\"r1\",\"reason\":\"Because.\",\"details\":{\"hint\":\"x\"},\
             \"message\":\"The request was malformed or contained invalid parameters\"},\
             \"use_flow_id\":\"f\"}"
        );
    }

    #[tokio::test]
    async fn stock_texts_are_those_of_ory() {
        let table = [
            (401, "Unauthorized", "The request could not be authorized"),
            (403, "Forbidden", "The requested action was forbidden"),
            (404, "Not Found", "The requested resource could not be found"),
            (409, "Conflict", "The resource could not be created due to a conflict"),
            (
                500,
                "Internal Server Error",
                "An internal server error occurred, please contact the system administrator",
            ),
        ];
        for (code, status, message) in table {
            let error = ApiError::new(StatusCode::from_u16(code).unwrap());
            let (_, _, body) = shown(error).await;
            let expected = json!({"error":
                {"code": code, "status": status, "request": "r1", "message": message}});
            assert_eq!(body, expected);
        }
    }

    #[tokio::test]
    async fn store_errors_say_when_to_come_back_and_nothing_else() {
        let ms = Duration::from_millis;
        let table = [
            (StoreError::unavailable("node 3 at 10.0.0.3"), 503, "cluster_unavailable", Some("1")),
            (
                StoreError::Overloaded { retry_after: ms(1500) },
                503,
                "cluster_overloaded",
                Some("2"),
            ),
            (StoreError::Overloaded { retry_after: ms(0) }, 503, "cluster_overloaded", Some("1")),
            (StoreError::Unknown, 503, OUTCOME_UNKNOWN, None),
            (StoreError::Contended { attempts: 24 }, 503, "contended", Some("1")),
            (
                StoreError::IndexNotWhole { index: Tag::TEST_INDEX },
                503,
                "index_not_whole",
                Some("5"),
            ),
            (StoreError::TooLarge { what: "the row", size: 9, limit: 8 }, 413, "", None),
            (StoreError::BadToken, 400, "", None),
            (StoreError::Illegal("a secret of the house"), 500, "", None),
            (StoreError::Fault(Fault::new("/var/lib/cardea/x")), 500, "", None),
        ];
        for (error, code, id, retry_after) in table {
            let what = error.to_string();
            let (status, headers, body) = shown(error.into()).await;
            assert_eq!(status, code, "{what}");
            assert_eq!(body["error"]["id"].as_str().unwrap_or_default(), id, "{what}");
            let told = headers.get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(told, retry_after, "{what}");
            for secret in ["10.0.0.3", "house", "/var/lib"] {
                assert!(!body.to_string().contains(secret), "{what}");
            }
        }
    }
}
