//! What is sent to a settings flow, and why it may change nothing.

use cardea_storage::{Secret, StoreError};
use serde_json::Value;
use thiserror::Error;

use crate::{
    flow::{Flow, FlowRejection, SocialSubmission},
    hook::HookFailed,
    model::{Client, CsrfDigest},
    password::Overloaded,
    session::Proof,
};

/// How a settings flow is to begin.
#[derive(Debug, Clone, Default)]
pub struct BeginSettings {
    /// The URL that was asked for.
    pub request_url: String,
    /// Where to go afterwards.
    pub return_to: Option<String>,
    /// The caller's session.
    pub proof: Option<Proof>,
    /// The browser that begins it; `None` for a native flow.
    pub browser: Option<CsrfDigest>,
    /// Who begins it.
    pub client: Client,
}

/// What somebody sent to change its settings: the members of all methods, of which each
/// reads its own.
#[derive(Debug, Clone, Default)]
pub struct SettingsSubmission {
    /// The method; empty if missing.
    pub method: String,
    /// The caller's session.
    pub proof: Option<Proof>,
    /// Who sends it.
    pub client: Client,
    /// The traits; null if missing.
    pub traits: Value,
    /// The new password; `None` if missing.
    pub password: Option<Secret<String>>,
    /// A code of the authenticator app to be added.
    pub totp_code: Option<Secret<String>>,
    /// Whether to remove the authenticator app.
    pub totp_unlink: bool,
    /// Whether to show the backup codes.
    pub lookup_secret_reveal: bool,
    /// Whether to make new backup codes.
    pub lookup_secret_regenerate: bool,
    /// Whether to keep the new backup codes.
    pub lookup_secret_confirm: bool,
    /// Whether to do away with the backup codes.
    pub lookup_secret_disable: bool,
    /// What a browser answers that made a security key, in JSON.
    pub webauthn_register: Option<String>,
    /// What to call that key.
    pub webauthn_register_displayname: Option<String>,
    /// The security key to remove, by its id in hexadecimal digits.
    pub webauthn_remove: Option<String>,
    /// What a browser answers that made a passkey, in JSON.
    pub passkey_settings_register: Option<String>,
    /// The passkey to remove, by its id in hexadecimal digits.
    pub passkey_remove: Option<String>,
    /// The provider where another account is to be linked.
    pub link: Option<String>,
    /// The account to unlink: its provider, or provider and subject.
    pub unlink: Option<String>,
    /// What else concerns a provider.
    pub social: SocialSubmission,
}

impl SettingsSubmission {
    /// The method: that which is named, else that whose members are there: their buttons
    /// name none.
    pub(super) fn method(&self) -> &str {
        let lookup = self.lookup_secret_reveal
            || self.lookup_secret_regenerate
            || self.lookup_secret_confirm
            || self.lookup_secret_disable;
        match self.method.as_str() {
            "" if self.totp_unlink => "totp",
            "" if lookup => "lookup_secret",
            "" if self.webauthn_register.is_some() || self.webauthn_remove.is_some() => "webauthn",
            "" if self.passkey_settings_register.is_some() || self.passkey_remove.is_some() => {
                "passkey"
            }
            method => method,
        }
    }
}

/// Why settings are not shown or changed.
#[derive(Debug, Error)]
pub enum SettingsRejection {
    /// The flow is not there, or over.
    #[error(transparent)]
    Flow(#[from] FlowRejection),
    /// The caller has no session (`session_inactive`).
    #[error("no active session")]
    NoSession,
    /// The session needs a second factor for this (`session_aal2_required`).
    #[error("the session does not have the assurance level that is required")]
    SecondFactorRequired,
    /// The session is another identity's (`security_identity_mismatch`).
    #[error("the flow is another identity's")]
    IdentityMismatch,
    /// The holder of the session must prove itself again first
    /// (`session_refresh_required`).
    #[error("the session is too old for this change")]
    RefreshRequired,
    /// The browser must go to a provider (`browser_location_change_required`).
    #[error("the change goes on elsewhere")]
    Away(String),
    /// Something is wrong with what was sent; the flow's form says what. Status 400.
    #[error("the change was refused; the form says why")]
    Invalid(Box<Flow>),
    /// Too many passwords wait to be hashed.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// A hook did not answer as it must.
    #[error(transparent)]
    Hook(HookFailed),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
