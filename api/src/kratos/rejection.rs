//! What the identity layer refuses, in the words of Kratos.

use cardea_identity::{
    flow::{
        BeginRejection, CodeRejection, Flow, FlowRejection, LoginRejection, Purpose,
        RegistrationRejection, StartedVerification,
    },
    hook::HookFailed,
    identity::{
        ChangeRejection, CreateRejection, CredentialsRefused, DeleteRejection, ListRejection,
        ReadRejection, create, list,
    },
    page::{BadPageToken, PageRejection},
    password::Overloaded,
    schema::Violation,
    session::{
        CheckRejection, ExtendRejection, ListSessionsRejection, ReadSessionRejection,
        RevokeRejection, tokenize::TokenizeRejection,
    },
    time::rfc3339,
};
use cardea_storage::StoreError;
use http::StatusCode;

use crate::error::ApiError;

/// Where `toSession` finds nobody. The body has no `error.id`.
pub(super) fn no_session_credentials() -> ApiError {
    ApiError::unauthorized("No valid session credentials found in the request.")
}

/// Where an operation on one's own sessions finds nobody.
pub(super) fn no_session() -> ApiError {
    ApiError::unauthorized("No valid session cookie found.")
}

/// Where a flow needs a session and finds none.
pub(super) fn no_active_session() -> ApiError {
    ApiError::unauthorized("No active session was found in this request.")
        .id("session_inactive")
        .message("request does not have a valid authentication session")
}

pub(super) fn unknown_schema(id: &str) -> ApiError {
    ApiError::bad_request(format!("Unable to find JSON Schema ID: {id}"))
}

fn invalid_traits(violations: &[Violation]) -> ApiError {
    let told = violations.iter().map(|v| format!("I[{}] {}", v.pointer, v.text().text));
    ApiError::bad_request(told.collect::<Vec<_>>().join("\n"))
}

fn metadata_too_large() -> ApiError {
    let most = create::METADATA_BYTES_MAX;
    ApiError::bad_request(format!("Metadata may hold at most {most} bytes of JSON."))
}

fn external_id_too_long() -> ApiError {
    let most = create::EXTERNAL_ID_BYTES_MAX;
    ApiError::bad_request(format!("external_id may have at most {most} bytes."))
}

fn duplicate() -> ApiError {
    ApiError::new(StatusCode::CONFLICT)
        .reason("This identity conflicts with another identity that already exists.")
}

fn bad_credentials(refused: &CredentialsRefused) -> ApiError {
    ApiError::bad_request(refused.to_string())
}

/// The hashing threads have too much to do; that is not the caller's doing.
pub(super) fn overloaded(overloaded: Overloaded) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE)
        .id("password_hashing_overloaded")
        .retry_after(overloaded.retry_after)
}

impl From<BadPageToken> for ApiError {
    fn from(_: BadPageToken) -> Self {
        Self::bad_request("The page token is not valid for this list.")
    }
}

impl From<CreateRejection> for ApiError {
    fn from(rejection: CreateRejection) -> Self {
        match rejection {
            CreateRejection::UnknownSchema(id) => unknown_schema(&id),
            CreateRejection::InvalidTraits(violations) => invalid_traits(&violations),
            CreateRejection::MetadataTooLarge => metadata_too_large(),
            CreateRejection::ExternalIdTooLong => external_id_too_long(),
            CreateRejection::Credentials(refused) => bad_credentials(&refused),
            CreateRejection::DuplicateIdentifier => duplicate(),
            CreateRejection::Overloaded(error) => overloaded(error),
            CreateRejection::Store(error) => error.into(),
        }
    }
}

impl From<ChangeRejection> for ApiError {
    fn from(rejection: ChangeRejection) -> Self {
        match rejection {
            ChangeRejection::NotFound => Self::no_such_row(),
            ChangeRejection::UnknownSchema(id) => unknown_schema(&id),
            ChangeRejection::InvalidTraits(violations) => invalid_traits(&violations),
            ChangeRejection::MetadataTooLarge => metadata_too_large(),
            ChangeRejection::Patch(refused) => {
                Self::bad_request("An error occured when applying the JSON patch")
                    .message(refused.to_string())
            }
            ChangeRejection::ExternalIdTooLong => external_id_too_long(),
            ChangeRejection::Credentials(refused) => bad_credentials(&refused),
            ChangeRejection::DuplicateIdentifier => duplicate(),
            ChangeRejection::Overloaded(error) => overloaded(error),
            ChangeRejection::Store(error) => error.into(),
        }
    }
}

impl From<DeleteRejection> for ApiError {
    fn from(rejection: DeleteRejection) -> Self {
        match rejection {
            DeleteRejection::NotFound => Self::no_such_row(),
            DeleteRejection::Store(error) => error.into(),
        }
    }
}

impl From<ReadRejection> for ApiError {
    fn from(rejection: ReadRejection) -> Self {
        match rejection {
            ReadRejection::NotFound => Self::no_such_row(),
            ReadRejection::Store(error) => error.into(),
        }
    }
}

impl From<PageRejection> for ApiError {
    fn from(rejection: PageRejection) -> Self {
        match rejection {
            PageRejection::BadPageToken(error) => error.into(),
            PageRejection::Store(error) => error.into(),
        }
    }
}

impl From<ListRejection> for ApiError {
    fn from(rejection: ListRejection) -> Self {
        match rejection {
            ListRejection::FiltersCombined => {
                Self::bad_request("You cannot combine multiple filters in this API")
            }
            ListRejection::TooShort => Self::bad_request(format!(
                "preview_credentials_identifier_similar takes {} characters at least.",
                list::SIMILAR_CHARS_MIN
            )),
            ListRejection::TooManyIds => Self::bad_request(format!(
                "The number of ids to filter must not exceed {}.",
                list::IDS_MAX
            )),
            ListRejection::BadPageToken(error) => error.into(),
            ListRejection::Store(error) => error.into(),
        }
    }
}

impl From<ReadSessionRejection> for ApiError {
    fn from(rejection: ReadSessionRejection) -> Self {
        match rejection {
            ReadSessionRejection::NotFound => Self::no_such_row(),
            ReadSessionRejection::Store(error) => error.into(),
        }
    }
}

impl From<ExtendRejection> for ApiError {
    fn from(rejection: ExtendRejection) -> Self {
        match rejection {
            ExtendRejection::NotFound | ExtendRejection::TooEarly => Self::no_such_row(),
            ExtendRejection::Store(error) => error.into(),
        }
    }
}

impl From<ListSessionsRejection> for ApiError {
    fn from(rejection: ListSessionsRejection) -> Self {
        match rejection {
            ListSessionsRejection::NoSession => no_session(),
            ListSessionsRejection::NotFound => Self::no_such_row(),
            ListSessionsRejection::BadPageToken(error) => error.into(),
            ListSessionsRejection::Store(error) => error.into(),
        }
    }
}

impl From<RevokeRejection> for ApiError {
    fn from(rejection: RevokeRejection) -> Self {
        match rejection {
            RevokeRejection::NoSession => no_session(),
            RevokeRejection::NotFound => Self::no_such_row(),
            RevokeRejection::Current => Self::malformed("cannot revoke current session"),
            RevokeRejection::Store(error) => error.into(),
        }
    }
}

impl From<CheckRejection> for ApiError {
    fn from(rejection: CheckRejection) -> Self {
        match rejection {
            CheckRejection::NoSession => no_session_credentials(),
            CheckRejection::Store(error) => error.into(),
        }
    }
}

impl From<TokenizeRejection> for ApiError {
    fn from(rejection: TokenizeRejection) -> Self {
        if !matches!(rejection, TokenizeRejection::Unknown(_) | TokenizeRejection::NoExternalId) {
            tracing::warn!(error = &rejection as &dyn std::error::Error, "no token was made");
        }
        Self::bad_request(match rejection {
            TokenizeRejection::Unknown(template) => {
                format!("Unable to find tokenizer template \"{template}\".")
            }
            TokenizeRejection::NoExternalId => "The session's identity does not have an external \
                                                ID set, but it is required for the subject claim."
                .to_owned(),
            TokenizeRejection::Program(_) => "Unable to execute tokenizer JsonNet.".to_owned(),
            TokenizeRejection::NoClaims => {
                "Expected tokenizer JsonNet to return a claims object but it did not.".to_owned()
            }
            TokenizeRejection::NotSigned => "Unable to sign JSON Web Token.".to_owned(),
        })
    }
}

/// A web hook that did not let something be done, in the words of Kratos. Which it was,
/// and how it failed, is for the log.
pub(super) fn hook_failed(failed: HookFailed) -> ApiError {
    match failed {
        HookFailed::Interrupted(words) => {
            let told = words.into_iter().map(|(_, text)| text.text);
            ApiError::bad_request(told.collect::<Vec<_>>().join("\n"))
        }
        HookFailed::TooLate { .. } => ApiError::new(StatusCode::GATEWAY_TIMEOUT)
            .reason("A third-party upstream service could not be reached. Please try again later."),
        HookFailed::Failed { .. } => ApiError::new(StatusCode::BAD_GATEWAY)
            .reason("A third-party upstream service responded improperly. Please try again later."),
    }
}

/// Why a flow does not begin.
pub(super) fn not_begun(rejection: BeginRejection, purpose: Purpose) -> ApiError {
    match rejection {
        BeginRejection::AlreadyLoggedIn => already_logged_in(purpose),
        BeginRejection::SessionRequired => session_aal1_required(),
        // Answered before, with where to get one.
        BeginRejection::SecondFactorRequired => {
            ApiError::new(StatusCode::FORBIDDEN).id("session_aal2_required")
        }
        BeginRejection::NoSecondFactor => ApiError::bad_request(
            "A second factor was requested, and this identity has none set up.",
        ),
        BeginRejection::Disabled => {
            let name = purpose.name();
            ApiError::bad_request(format!("The {name} flow is disabled."))
                .id("self_service_flow_disabled")
                .message(format!("{name} flow disabled"))
        }
        BeginRejection::UnknownSchema(id) => unknown_schema(&id),
        BeginRejection::UnknownOrganization(id) => ApiError::bad_request(format!(
            "There is no organization {id} that signs its people in."
        )),
        BeginRejection::Hook(failed) => hook_failed(failed),
        BeginRejection::UrlTooLong => ApiError::bad_request("A URL is longer than is taken."),
        BeginRejection::Store(error) => error.into(),
    }
}

/// A script must send its browser elsewhere to go on.
pub(super) fn location_change_required(place: &str) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY)
        .id("browser_location_change_required")
        .message("browser location change required")
        .reason(format!("In order to complete this flow please redirect the browser to: {place}"))
        .beside("redirect_browser_to", place)
}

/// A second factor without a session.
fn session_aal1_required() -> ApiError {
    ApiError::unauthorized(
        "You can not requested a higher AAL (AAL2/AAL3) without an active session.",
    )
    .id("session_aal1_required")
    .message("aal2 and aal3 can only be requested if a session exists already")
}

fn already_logged_in(purpose: Purpose) -> ApiError {
    let reason = match purpose {
        Purpose::Login => {
            "A valid session was detected and thus login is not possible. Did you forget to set \
             `?refresh=true`?"
        }
        Purpose::Registration => {
            "A valid session was detected and thus registration is not possible."
        }
        Purpose::Settings | Purpose::Recovery | Purpose::Verification => {
            "A valid session was detected and thus recovery is not possible."
        }
    };
    ApiError::bad_request(reason)
        .id("session_already_available")
        .message("you are already logged in")
}

/// Why a flow is not shown.
pub(super) fn not_shown(rejection: FlowRejection, purpose: Purpose, public_url: &str) -> ApiError {
    match rejection {
        FlowRejection::NotFound => ApiError::no_such_row(),
        FlowRejection::Expired { replacement: Some(next), .. } if next.browser.is_some() => {
            let name = purpose.name();
            ApiError::new(StatusCode::GONE)
                .id("self_service_flow_expired")
                .reason(format!(
                    "The {name} flow has expired. Redirect the user to the {name} flow init \
                     endpoint to initialize a new {name} flow."
                ))
                .detail("redirect_to", format!("{public_url}/self-service/{name}/browser"))
                .beside("use_flow_id", next.id.to_string())
        }
        FlowRejection::Expired { .. } => {
            let name = purpose.name();
            ApiError::new(StatusCode::GONE)
                .id("self_service_flow_expired")
                .reason(format!(
                    "The {name} flow has expired. Call the {name} flow init API endpoint to \
                     initialize a new {name} flow."
                ))
                .detail("api", format!("{public_url}/self-service/{name}/api"))
        }
        FlowRejection::Store(error) => error.into(),
    }
}

/// Why what was sent to a flow is not looked at.
///
/// Of a flow that is over, with the one to go on with.
pub(super) fn not_taken(rejection: FlowRejection) -> (ApiError, Option<Box<Flow>>) {
    match rejection {
        FlowRejection::NotFound => (ApiError::no_such_row(), None),
        FlowRejection::Expired { expired_at, since_ms, replacement } => {
            // Hundredths of a minute, without floating point.
            let hundredths = since_ms / 600;
            let mut error = ApiError::new(StatusCode::GONE)
                .id("self_service_flow_expired")
                .message("self-service flow expired")
                .reason(format!(
                    "The self-service flow expired {}.{:02} minutes ago, initialize a new one.",
                    hundredths / 100,
                    hundredths % 100
                ))
                .beside("expired_at", rfc3339(expired_at))
                // A Go duration: nanoseconds.
                .beside("since", since_ms.saturating_mul(1_000_000));
            if let Some(flow) = &replacement {
                error = error.beside("use_flow_id", flow.id.to_string());
            }
            (error, replacement)
        }
        FlowRejection::Store(error) => (error.into(), None),
    }
}

/// What becomes of a submission that earned nothing: an error, or the flow with what
/// is wrong.
pub(super) enum Refused {
    /// An error.
    Error(ApiError),
    /// The flow, with status 400.
    Flow(Box<Flow>),
    /// The browser must go there.
    Away(String),
    /// An address must be verified first.
    Unverified(StartedVerification),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Error(error.into())
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl From<LoginRejection> for Refused {
    fn from(rejection: LoginRejection) -> Self {
        Self::Error(match rejection {
            LoginRejection::Invalid(flow) => return Self::Flow(flow),
            LoginRejection::Away(url) => return Self::Away(url),
            // Said in the form before.
            LoginRejection::NotLinked | LoginRejection::NotRenewed(_) | LoginRejection::Taken => {
                ApiError::internal()
            }
            LoginRejection::Flow(rejection) => not_taken(rejection).0,
            LoginRejection::Disabled => ApiError::unauthorized("This account was disabled.")
                .id("identity_disabled")
                .message("identity is disabled"),
            LoginRejection::SessionRequired => session_aal1_required(),
            LoginRejection::IdentityMismatch => {
                ApiError::bad_request("The credentials are those of another identity.")
                    .id("security_identity_mismatch")
            }
            LoginRejection::Unverified(started) => return Self::Unverified(started),
            LoginRejection::Hook(failed) => hook_failed(failed),
            LoginRejection::Throttled(early) => ApiError::too_many_requests(early.retry_after),
            LoginRejection::Overloaded(error) => overloaded(error),
            LoginRejection::Store(error) => error.into(),
        })
    }
}

impl From<CodeRejection> for Refused {
    fn from(rejection: CodeRejection) -> Self {
        Self::Error(match rejection {
            CodeRejection::Invalid(flow) => return Self::Flow(flow),
            CodeRejection::Flow(rejection) => not_taken(rejection).0,
            CodeRejection::Disabled => ApiError::unauthorized("This account was disabled.")
                .id("identity_disabled")
                .message("identity is disabled"),
            CodeRejection::Hook(failed) => hook_failed(failed),
            CodeRejection::Throttled(early) => ApiError::too_many_requests(early.retry_after),
            CodeRejection::Store(error) => error.into(),
        })
    }
}

impl From<RegistrationRejection> for Refused {
    fn from(rejection: RegistrationRejection) -> Self {
        Self::Error(match rejection {
            RegistrationRejection::Invalid(flow) => return Self::Flow(flow),
            RegistrationRejection::Away(url) => return Self::Away(url),
            RegistrationRejection::Disabled => ApiError::unauthorized("This account was disabled.")
                .id("identity_disabled")
                .message("identity is disabled"),
            RegistrationRejection::Unverified(started) => return Self::Unverified(started),
            // Answered before, as a login.
            RegistrationRejection::LoggedIn(_) => ApiError::internal(),
            RegistrationRejection::Hook(failed) => hook_failed(failed),
            RegistrationRejection::Flow(rejection) => not_taken(rejection).0,
            RegistrationRejection::Throttled(early) => {
                ApiError::too_many_requests(early.retry_after)
            }
            RegistrationRejection::Overloaded(error) => overloaded(error),
            RegistrationRejection::Store(error) => error.into(),
        })
    }
}
