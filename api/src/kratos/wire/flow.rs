//! Self-service flows on the wire (`loginFlow`, `registrationFlow`, `settingsFlow`,
//! `successfulNativeLogin`, `successfulNativeRegistration`).

use cardea_identity::{
    flow::{Flow, Purpose},
    time::rfc3339,
    ui::Container,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    identity::{IdentityBody, Reader},
    session::SessionBody,
};

/// A flow of any purpose.
#[derive(Debug, Serialize)]
pub struct FlowBody<'a> {
    id: String,
    organization_id: Option<String>,
    #[serde(rename = "type")]
    kind: &'static str,
    expires_at: String,
    issued_at: String,
    request_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    return_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<&'a str>,
    ui: &'a Container,
    #[serde(flatten)]
    login: Option<LoginMembers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_context: Option<TestContext<'a>>,
    #[serde(flatten)]
    exchange: Option<ExchangeMembers<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<IdentityBody<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    continue_with: Vec<ContinueWith<'a>>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_schema: Option<&'a str>,
}

/// What only logins have.
#[derive(Debug, Serialize)]
struct LoginMembers {
    created_at: String,
    updated_at: String,
    refresh: bool,
    requested_aal: &'static str,
}

/// `loginFlowTestContext`: the provider that is tried, and what came of it.
#[derive(Debug, Serialize)]
struct TestContext<'a> {
    provider_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    debug_payload: Option<&'a Value>,
}

/// What a native client gets when it begins a flow, and never again.
#[derive(Debug, Serialize)]
struct ExchangeMembers<'a> {
    session_token_exchange_code: &'a str,
}

impl<'a> FlowBody<'a> {
    /// A flow. Its schema is told if it is another than the default.
    pub fn of(flow: &'a Flow, default_schema: &str, public_url: &str) -> Self {
        let issued_at = rfc3339(flow.issued_at);
        Self {
            id: flow.id.to_string(),
            organization_id: flow.organization.map(|id| id.to_string()),
            kind: if flow.browser.is_some() || flow.unclaimed { "browser" } else { "api" },
            expires_at: rfc3339(flow.expires_at),
            issued_at: issued_at.clone(),
            request_url: &flow.request_url,
            return_to: flow.return_to.as_deref(),
            active: flow.active.as_deref(),
            ui: &flow.ui,
            login: (flow.purpose == Purpose::Login).then(|| LoginMembers {
                created_at: issued_at.clone(),
                updated_at: issued_at,
                refresh: flow.refresh,
                requested_aal: flow.requested_aal.name(),
            }),
            test_context: flow.dry_run.as_ref().map(|run| TestContext {
                provider_id: &run.provider,
                debug_payload: run.payload.as_ref(),
            }),
            exchange: flow
                .exchange_code
                .as_ref()
                .map(|code| ExchangeMembers { session_token_exchange_code: code.expose() }),
            identity: flow
                .identity
                .as_ref()
                .map(|identity| IdentityBody::of(identity, Reader::Holder, public_url)),
            continue_with: Vec::new(),
            state: flow.state.name(),
            identity_schema: Some(flow.schema_id.as_str())
                .filter(|_| matches!(flow.purpose, Purpose::Login | Purpose::Registration))
                .filter(|id| *id != default_schema),
        }
    }
}

impl<'a> FlowBody<'a> {
    /// The flow, with what to do next.
    pub(crate) fn then(mut self, steps: Vec<ContinueWith<'a>>) -> Self {
        self.continue_with = steps;
        self
    }
}

/// `successfulNativeLogin`.
#[derive(Serialize)]
pub(crate) struct LoggedInBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_token: Option<&'a str>,
    pub(crate) session: SessionBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) continue_with: Option<Vec<ContinueWith<'a>>>,
}

/// `successfulNativeRegistration`.
#[derive(Serialize)]
pub(crate) struct RegisteredBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<SessionBody<'a>>,
    pub(crate) identity: IdentityBody<'a>,
    pub(crate) continue_with: Vec<ContinueWith<'a>>,
}

/// `continueWith`: what to do next.
#[derive(Debug, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub(crate) enum ContinueWith<'a> {
    /// Keep the session token.
    SetOrySessionToken {
        /// The token.
        ory_session_token: &'a str,
    },
    /// Show the verification of an address.
    ShowVerificationUi {
        /// The flow.
        flow: ContinueWithVerification<'a>,
    },
    /// Show settings.
    ShowSettingsUi {
        /// The flow.
        flow: ContinueWithFlow,
    },
    /// Send the browser there.
    RedirectBrowserTo {
        /// Where.
        redirect_browser_to: &'a str,
    },
}

/// `continueWithVerificationUiFlow`.
#[derive(Debug, Serialize)]
pub(crate) struct ContinueWithVerification<'a> {
    pub(crate) id: String,
    pub(crate) verifiable_address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
}

/// `continueWithSettingsUiFlow`.
#[derive(Debug, Serialize)]
pub(crate) struct ContinueWithFlow {
    pub(crate) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
}

/// `createRecoveryCodeForIdentityBody`.
#[derive(Deserialize)]
pub(crate) struct RecoveryCodeBody {
    pub(crate) identity_id: Option<String>,
    pub(crate) expires_in: Option<String>,
    pub(crate) flow_type: Option<String>,
}
