//! What is sent to log in, and why it may let nobody in.

use cardea_storage::{Secret, StoreError};
use thiserror::Error;

use crate::{
    flow::{Flow, FlowRejection, SocialSubmission, StartedVerification, throttle::TooEarly},
    hook::HookFailed,
    model::Issued,
    password::Overloaded,
    session::Proof,
    ui::Text,
};

/// What somebody sent to log in: the members of all methods, of which each reads its
/// own.
#[derive(Debug, Clone, Default)]
pub struct LoginSubmission {
    /// The method; empty if missing.
    pub method: String,
    /// The session that the caller has already: a refresh makes it fresh again.
    pub proof: Option<Proof>,
    /// The identifier, as it was typed; `None` if missing.
    pub identifier: Option<String>,
    /// The password; `None` if missing.
    pub password: Option<Secret<String>>,
    /// A code that was sent to an address.
    pub code: Option<Secret<String>>,
    /// Whether another one is to be sent: any text.
    pub resend: Option<String>,
    /// The address that a code is to be sent to, as a second factor.
    pub address: Option<String>,
    /// A time-based code.
    pub totp_code: Option<Secret<String>>,
    /// A backup code.
    pub lookup_secret: Option<Secret<String>>,
    /// What a browser answers that used a security key, in JSON.
    pub webauthn_login: Option<String>,
    /// What a browser answers that used a passkey, in JSON.
    pub passkey_login: Option<String>,
    /// What concerns a provider.
    pub social: SocialSubmission,
}

impl LoginSubmission {
    /// The method: that which is named, else that whose answer is there, which scripts
    /// send without pressing a button.
    pub(super) fn method(&self) -> &str {
        match self.method.as_str() {
            "" if self.passkey_login.is_some() => "passkey",
            "" if self.code.is_some() || self.resend.is_some() => "code",
            "" if self.address.is_some() => "code",
            "" if self.webauthn_login.is_some() => "webauthn",
            method => method,
        }
    }
}

/// Somebody is logged in.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// The session and its tokens.
    pub issued: Issued,
}

/// Why nobody is logged in.
#[derive(Debug, Error)]
pub enum LoginRejection {
    /// The flow is not there, or over.
    #[error(transparent)]
    Flow(#[from] FlowRejection),
    /// Something is wrong with what was sent; the flow's form says what. Status 400.
    #[error("the login was refused; the form says why")]
    Invalid(Box<Flow>),
    /// The password is right, and the identity is inactive (`identity_disabled`).
    #[error("this account was disabled")]
    Disabled,
    /// A second factor was shown without a session that has a first one
    /// (`session_aal1_required`).
    #[error("a second factor needs a session with a first one")]
    SessionRequired,
    /// Another identity than the one that was to prove itself
    /// (`security_identity_mismatch`).
    #[error("the credentials are of another identity than the session")]
    IdentityMismatch,
    /// The browser must go to a provider (`browser_location_change_required`).
    #[error("the login goes on elsewhere")]
    Away(String),
    /// Who logs in is not whom an account is to be linked to, or it cannot be.
    #[error("the account that waits cannot be linked to who logs in")]
    NotLinked,
    /// The identity cannot become what its provider says of it.
    #[error("the identity cannot become what its provider says of it")]
    NotRenewed(Text),
    /// Somebody else has what its provider says that it is found by.
    #[error("the identity cannot become what another one is")]
    Taken,
    /// Too many attempts.
    #[error("too many attempts, retry after {:?}", .0.retry_after)]
    Throttled(TooEarly),
    /// Too many passwords wait to be hashed.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// None of its addresses is verified, and a hook requires it; a verification has
    /// begun (`session_verified_address_required`).
    #[error("no address of the account is verified")]
    Unverified(StartedVerification),
    /// A hook did not answer as it must.
    #[error(transparent)]
    Hook(HookFailed),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LoginRejection {
    /// The form, with one more message for all of it.
    pub(in crate::flow) fn say(mut flow: Flow, text: Text) -> Self {
        flow.ui.messages.push(text);
        Self::Invalid(Box::new(flow))
    }
}
