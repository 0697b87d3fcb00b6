//! Self-service flows: what somebody does to log in or to sign up.
//!
//! A flow begins before it is known whose it is, in a slot of the region that
//! received it. It is completed by one transaction in the subject's home, which
//! puts the mark `used_flow/<id>` if absent together with what the flow earned: of
//! two completions of a flow exactly one commits. The flow's own record is told
//! afterwards, as a hint. A flow that is over still answers for a while, with the
//! flow that replaces it.

pub mod begin;
pub mod captcha;
pub mod code;
#[cfg(test)]
mod code_tests;
pub mod error;
#[cfg(test)]
mod factor_tests;
pub(crate) mod finished;
mod form;
mod key;
pub mod lifecycle;
pub mod link;
pub mod login;
mod new_password;
mod organization;
pub mod recovery;
pub mod registration;
#[cfg(test)]
mod second_code_tests;
pub(crate) mod sent_code;
pub mod settings;
pub mod social;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod text_tests;
pub mod throttle;
pub mod verification;

use cardea_storage::{Secret, Timestamp};
pub use verification::StartedVerification;

pub use begin::{BeginLogin, BeginRegistration, BeginRejection};
pub use code::{BeginCode, CodeOutcome, CodeRejection, CodeSubmission};
pub use error::FlowError;
pub use lifecycle::FlowRejection;
pub use link::AddressProof;
pub use login::{LoggedIn, LoginRejection, LoginSubmission};
pub use recovery::{NewRecovery, RecoveryCode, RecoveryCodeRejection};
pub use registration::{Registered, RegistrationRejection, RegistrationSubmission};
pub use settings::{BeginSettings, SettingsRejection, SettingsSubmission};
pub use social::{
    Arrival, ArrivalRejection, Arrived, Brought, DryRun, DryRunDeparture, DryRunRejection,
    ExchangeRejection, FedcmProvider, FedcmRejection, FedcmSubmission, SocialSubmission,
};
pub use throttle::TooEarly;

use crate::{
    model::{CsrfDigest, FlowId, Identity},
    session::Aal,
    table::FlowRecord,
    ui::Container,
};

/// What a flow is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Logging in.
    Login,
    /// Signing up.
    Registration,
    /// Changing what somebody says of itself, and how it logs in.
    Settings,
    /// Getting back in by an address.
    Recovery,
    /// Showing that an address is one's own.
    Verification,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Login, Self::Registration, Self::Settings, Self::Recovery, Self::Verification];

    /// Reads the number on disk.
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.number() == number)
    }

    /// The number on disk.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Login => 1,
            Self::Registration => 2,
            Self::Settings => 3,
            Self::Recovery => 4,
            Self::Verification => 5,
        }
    }

    /// Reads the name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }

    /// The path of its operations: `/self-service/<name>`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Registration => "registration",
            Self::Settings => "settings",
            Self::Recovery => "recovery",
            Self::Verification => "verification",
        }
    }
}

/// How far a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowState {
    /// A method is to be chosen.
    ChooseMethod,
    /// A message was sent, and the code in it is asked for.
    SentEmail,
    /// It was completed.
    PassedChallenge,
    /// Settings are to be changed.
    ShowForm,
    /// Settings were changed.
    Success,
}

impl FlowState {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChooseMethod => "choose_method",
            Self::SentEmail => "sent_email",
            Self::ShowForm => "show_form",
            Self::Success => "success",
            Self::PassedChallenge => "passed_challenge",
        }
    }

    /// The number on disk.
    const fn number(self) -> u32 {
        match self {
            Self::ChooseMethod | Self::ShowForm => 0,
            Self::SentEmail => 1,
            Self::PassedChallenge | Self::Success => 2,
        }
    }

    fn of(purpose: Purpose, record: &FlowRecord) -> Self {
        let number = if record.completed_at != 0 { 2 } else { record.state };
        match (purpose, number) {
            (Purpose::Settings, 2) => Self::Success,
            (Purpose::Settings, _) => Self::ShowForm,
            (_, 2) => Self::PassedChallenge,
            (_, 1) => Self::SentEmail,
            _ => Self::ChooseMethod,
        }
    }
}

/// A flow, with the form to show.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Its id.
    pub id: FlowId,
    /// What it is for.
    pub purpose: Purpose,
    /// When it began.
    pub issued_at: Timestamp,
    /// When it is over.
    pub expires_at: Timestamp,
    /// The URL that began it.
    pub request_url: String,
    /// Where to go afterwards.
    pub return_to: Option<String>,
    /// The schema of the identity to be made or found.
    pub schema_id: String,
    /// Whether somebody who is logged in proves it again.
    pub refresh: bool,
    /// The level that is asked for.
    pub requested_aal: Aal,
    /// How far it is.
    pub state: FlowState,
    /// The method that the last submission chose.
    pub active: Option<String>,
    /// The organization that it is of.
    pub organization: Option<uuid::Uuid>,
    /// The browser that it belongs to; `None` for a native (`api`) flow.
    pub browser: Option<CsrfDigest>,
    /// Whether it becomes the browser's that shows it, until a code is tried.
    pub unclaimed: bool,
    /// The code that a native client exchanges for its session; told once, to who begins
    /// the flow.
    pub exchange_code: Option<Secret<String>>,
    /// The identity whose settings they are.
    pub identity: Option<Identity>,
    /// The verification that began with the last submission.
    pub verification: Option<StartedVerification>,
    /// The provider that it tries, where nobody is to be logged in.
    pub dry_run: Option<Box<DryRun>>,
    /// The form.
    pub ui: Container,
}
