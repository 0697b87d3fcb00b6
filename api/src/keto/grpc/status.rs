//! Refusals as gRPC states them: a code for each status of REST, the reason as
//! `google.rpc.ErrorInfo`, and when to come back as `google.rpc.RetryInfo`.

use std::collections::HashMap;

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::{ApiError, OUTCOME_UNKNOWN};

/// Whose reasons these are.
const DOMAIN: &str = "cardea";
/// Most characters of a text. It travels in the trailers, of which clients take some
/// kilobytes, and may name what the request held.
const TEXT_MAX: usize = 300;

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let told = error.told();
        let mut metadata = HashMap::new();
        if let Some(id) = told.id {
            metadata.insert("id".to_owned(), id.to_owned());
        }
        for (name, value) in told.details {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            metadata.insert(name.clone(), shortened(&value));
        }
        let mut details = ErrorDetails::new();
        let reason = told.reason.or(told.id).unwrap_or(told.message);
        details.set_error_info(shortened(reason), DOMAIN, metadata);
        if let Some(after) = told.retry_after {
            details.set_retry_info(Some(after));
        }
        let message = match told.reason {
            Some(reason) => format!("{}: {}", shortened(told.message), shortened(reason)),
            None => shortened(told.message),
        };
        Self::with_error_details(code(error.status(), told.id), message, details)
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The code for a status. What may have been done is not said to be safe to repeat.
fn code(status: StatusCode, id: Option<&str>) -> Code {
    match status {
        _ if id == Some(OUTCOME_UNKNOWN) => Code::Unknown,
        StatusCode::BAD_REQUEST => Code::InvalidArgument,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::CONFLICT => Code::Aborted,
        StatusCode::GONE => Code::OutOfRange,
        StatusCode::UNPROCESSABLE_ENTITY => Code::FailedPrecondition,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cardea_storage::{Fault, StoreError};

    use super::*;

    #[test]
    fn reasons_and_waits_travel_in_the_details() {
        let error = ApiError::bad_request("Because.").id("some_id").detail("limit", 7);
        let status = Status::from(error);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().ends_with(": Because."), "{}", status.message());
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("Because.", "cardea"));
        assert_eq!(info.metadata["id"], "some_id");
        assert_eq!(info.metadata["limit"], "7");
        let overloaded = StoreError::Overloaded { retry_after: Duration::from_secs(2) };
        let status = Status::from(ApiError::from(overloaded));
        assert_eq!(status.code(), Code::Unavailable);
        let retry = status.get_error_details().retry_info().unwrap().retry_delay;
        assert_eq!(retry, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_a_request_held_does_not_burst_the_trailers() {
        let long = "ä".repeat(100_000);
        let error = ApiError::bad_request(format!("{long} is strange.")).detail("at", long);
        let status = Status::from(error);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        for text in [status.message(), &info.reason, &info.metadata["at"]] {
            assert!(text.chars().count() < 2 * TEXT_MAX, "{} bytes", text.len());
            assert!(text.ends_with('…'));
        }
    }

    #[test]
    fn store_errors_have_codes_and_say_nothing_else() {
        for (error, code) in [
            (StoreError::unavailable("node 3 at 10.0.0.3"), Code::Unavailable),
            (StoreError::Unknown, Code::Unknown),
            (StoreError::Contended { attempts: 3 }, Code::Unavailable),
            (StoreError::TooLarge { what: "x", size: 2, limit: 1 }, Code::ResourceExhausted),
            (StoreError::BadToken, Code::InvalidArgument),
            (StoreError::Fault(Fault::new("/var/lib/cardea/x")), Code::Internal),
        ] {
            let status = Status::from(ApiError::from(error));
            assert_eq!(status.code(), code, "{status}");
            let all = format!("{status:?} {:?}", status.get_error_details());
            assert!(!all.contains("10.0.0.3") && !all.contains("/var/lib"), "{all}");
        }
    }
}
