//! What the permission layer refuses, in the words of Keto.

use cardea_permission::{
    LanguageRejection, ReadRejection, WriteRejection, engine::Unanswered, model::TupleRefused,
    page::BadPageToken,
};
use http::StatusCode;
use serde_json::json;

use super::wire::ParseErrorBody;
use crate::error::ApiError;

/// Told in `error.id` where a limit kept a check from an answer.
const INCOMPLETE: &str = "check_incomplete";

impl From<TupleRefused> for ApiError {
    fn from(refused: TupleRefused) -> Self {
        Self::bad_request(format!("{refused}."))
    }
}

impl From<BadPageToken> for ApiError {
    fn from(_: BadPageToken) -> Self {
        Self::bad_request("The page token is not valid for this list.")
    }
}

impl From<Unanswered> for ApiError {
    fn from(unanswered: Unanswered) -> Self {
        let told = Self::new(StatusCode::UNPROCESSABLE_ENTITY)
            .id(INCOMPLETE)
            .message("The check could not be completed")
            .reason(unanswered.why.to_string())
            .detail("at", unanswered.at.to_string());
        if unanswered.lacking.is_empty() {
            return told;
        }
        told.detail("lacking", json!(unanswered.lacking))
    }
}

impl From<ReadRejection> for ApiError {
    fn from(rejection: ReadRejection) -> Self {
        match rejection {
            ReadRejection::UnknownNamespace(_) => {
                Self::new(StatusCode::NOT_FOUND).reason(rejection.to_string())
            }
            ReadRejection::UnknownRelation { .. } => Self::bad_request(rejection.to_string()),
            ReadRejection::Unanswered(unanswered) => unanswered.into(),
            ReadRejection::Everybody(_) | ReadRejection::TooMany { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY)
                    .message("The request could not be completed")
                    .reason(rejection.to_string())
            }
            ReadRejection::Refused(refused) => refused.into(),
            ReadRejection::BadPageToken(bad) => bad.into(),
            ReadRejection::Store(error) => error.into(),
        }
    }
}

impl From<WriteRejection> for ApiError {
    fn from(rejection: WriteRejection) -> Self {
        match rejection {
            WriteRejection::Refused(refused) => refused.into(),
            WriteRejection::TooMany { .. } => Self::body_too_large().reason(rejection.to_string()),
            WriteRejection::Store(error) => error.into(),
        }
    }
}

/// Why a language is not put in force; `names` are those of its files.
pub(super) fn not_in_force(rejection: LanguageRejection, names: &[String]) -> ApiError {
    let told = rejection.to_string();
    match rejection {
        LanguageRejection::Malformed(errors) => {
            let errors: Vec<ParseErrorBody> = errors
                .iter()
                .map(|error| ParseErrorBody {
                    file: names.get(error.file).cloned(),
                    ..ParseErrorBody::from(error)
                })
                .collect();
            ApiError::bad_request(told).id("language_malformed").detail("errors", json!(errors))
        }
        LanguageRejection::Strands(what) => ApiError::new(StatusCode::CONFLICT)
            .id("language_strands_tuples")
            .message("The change would strand relation tuples")
            .reason("Delete what is named, or put the language in force with \"force\": true.")
            .detail("stranded", json!(what)),
        LanguageRejection::Outdated { version } => ApiError::new(StatusCode::CONFLICT)
            .id("language_outdated")
            .message("The permission language was changed meanwhile")
            .reason(told)
            .detail("version", version),
        LanguageRejection::Store(error) => error.into(),
    }
}
