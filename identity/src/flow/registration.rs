//! Completing a registration by password. The identity's home is the flow's slot;
//! identity, credential, index rows, the flow's mark and the session are one
//! transaction: of two that claim an identifier at once exactly one signs up.

use cardea_storage::{Secret, Slot, StoreError};
use serde_json::Value;
use thiserror::Error;

use super::{
    Flow, FlowState, Purpose, StartedVerification, lifecycle::FlowRejection, throttle::TooEarly,
};
use crate::{
    Service,
    identity::{NewIdentity, create::Birth},
    model::{Client, FlowId, Identity, IdentityState, Issued, Scope},
    password::Overloaded,
    schema::{Extracted, IdentitySchema, Violation},
    session::issue::Factor,
    table::{Attempts, AttemptsKey},
    ui::{Text, forms},
};

/// What somebody sent to sign up.
#[derive(Debug, Clone)]
pub struct RegistrationSubmission {
    /// The method; empty if missing.
    pub method: String,
    /// The traits; null if missing.
    pub traits: Value,
    /// The password; `None` if missing.
    pub password: Option<Secret<String>>,
}

/// Somebody signed up.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The new identity.
    pub identity: Identity,
    /// The session, if signing up logs in.
    pub issued: Option<Issued>,
    /// The verification that began with it.
    pub verification: Option<StartedVerification>,
}

/// Why nobody is signed up.
#[derive(Debug, Error)]
pub enum RegistrationRejection {
    /// The flow is not there, or over.
    #[error(transparent)]
    Flow(#[from] FlowRejection),
    /// Something is wrong with what was sent; the flow's form says what. Status 400.
    #[error("the registration was refused; the form says why")]
    Invalid(Box<Flow>),
    /// Too many attempts.
    #[error("too many attempts, retry after {:?}", .0.retry_after)]
    Throttled(TooEarly),
    /// Too many passwords wait to be hashed.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How the transaction ended.
enum Ending {
    Registered(Box<Registered>),
    Taken,
    AlreadyCompleted,
}

impl Service {
    /// Submits a registration (`updateRegistrationFlow`).
    ///
    /// # Errors
    /// See [`RegistrationRejection`].
    pub async fn submit_registration(
        &self,
        scope: Scope,
        id: FlowId,
        submission: RegistrationSubmission,
        client: &Client,
    ) -> Result<Registered, RegistrationRejection> {
        let done = self.judge_registration(scope, id, submission, client).await;
        if let Err(RegistrationRejection::Invalid(flow)) = &done {
            self.keep_form(scope, flow).await?;
        }
        done
    }

    async fn judge_registration(
        &self,
        scope: Scope,
        id: FlowId,
        submission: RegistrationSubmission,
        client: &Client,
    ) -> Result<Registered, RegistrationRejection> {
        let permit = self.passwords.admit()?;
        let record = self.open_flow(scope, Purpose::Registration, id).await?;
        let mut flow = self.show_flow(id, &record);
        let invalid = |flow| RegistrationRejection::Invalid(Box::new(flow));
        if flow.state == FlowState::PassedChallenge {
            flow.ui.messages.push(Text::registration_already_completed());
            return Err(invalid(flow));
        }
        let Some(schema) = self.flow_schema(&record) else {
            return Err(FlowRejection::NotFound.into());
        };
        let traits = match submission.traits {
            Value::Null => Value::Object(serde_json::Map::new()),
            traits => traits,
        };
        let read =
            self.read_form(&mut flow, &schema, &submission.method, &traits, submission.password);
        let Some((found, password)) = read else {
            return Err(invalid(flow));
        };
        let source = self.source(scope, client);
        self.source_may_try(scope, &source).await?.map_err(RegistrationRejection::Throttled)?;
        let hash = self.passwords.hash(&permit, password, self.store.entropy().as_ref()).await?;

        let subject = self.mint_in(Slot::of_id(&id.0));
        let new = NewIdentity {
            schema_id: schema.id().0.clone(),
            traits,
            state: IdentityState::Active,
            metadata_public: None,
            metadata_admin: None,
            password: None,
            addresses: Vec::new(),
        };
        let birth = &Birth {
            id: subject,
            new: &new,
            schema_id: schema.id(),
            found: &found,
            hash: Some(&hash),
        };
        let drawn = &self.draw_session(scope, subject);
        let verification = &self.settings.verification.then(|| self.draw_verification(subject));
        let started = (id, &record);
        let ending = self
            .store
            .transact(|t| async move {
                if !self.use_flow(&t, scope, started, subject).await? {
                    return Ok(Ending::AlreadyCompleted);
                }
                let Some((mut identity, kept)) = self.bear(&t, scope, birth).await? else {
                    return Err(Refusal::Taken);
                };
                identity.metadata_admin = None;
                let counter = AttemptsKey::own(scope.tenant, subject, &source);
                let throttle = &self.settings.throttle;
                let known = throttle.known(t.now());
                t.put::<Attempts>(&counter, &known, Some(throttle.kept_until(&known, t.now())))
                    .await?;
                let issued = self.settings.session_after_registration.then(|| {
                    let earned = (Factor::PASSWORD, client);
                    self.issue_session(&t, scope, (subject, &kept), drawn, earned)
                });
                let verification = verification.as_ref().and_then(|drawn| {
                    self.start_verification(&t, scope, (subject, &kept), started.1, drawn)
                });
                let done = Registered { identity, issued, verification };
                Ok(Ending::Registered(Box::new(done)))
            })
            .await;
        let ending = match ending {
            Ok(done) => done.value,
            Err(Refusal::Taken) => Ending::Taken,
            Err(Refusal::Store(error)) => return Err(error.into()),
        };
        match ending {
            Ending::Registered(registered) => {
                if registered.verification.is_some() {
                    self.posted();
                }
                self.hint_flow(scope, started, subject).await;
                Ok(*registered)
            }
            Ending::Taken => {
                // Signing up tells who has an account; that is counted like guessing.
                self.source_failed(scope, &source).await?;
                flow.ui.messages.push(Text::duplicate_identifier());
                Err(invalid(flow))
            }
            Ending::AlreadyCompleted => {
                flow.ui.messages.push(Text::registration_already_completed());
                Err(invalid(flow))
            }
        }
    }

    /// What the traits give, and the password; `None` if the form is told what is
    /// wrong.
    fn read_form(
        &self,
        flow: &mut Flow,
        schema: &IdentitySchema,
        method: &str,
        traits: &Value,
        password: Option<Secret<String>>,
    ) -> Option<(Extracted, Secret<String>)> {
        if method != "password" {
            flow.ui.messages.push(Text::registration_method_missing());
            return None;
        }
        flow.active = Some("password".to_owned());
        forms::refill_traits(&mut flow.ui, traits);
        let found = match schema.check(traits) {
            Ok(found) if found.password_identifiers.is_empty() => {
                flow.ui.messages.push(Text::identifier_missing());
                None
            }
            Ok(found) => Some(found),
            Err(violations) => {
                forms::say_violations(&mut flow.ui, &violations);
                None
            }
        };
        let Some(password) = password.filter(|password| !password.expose().is_empty()) else {
            let missing = Violation::required("#", "password");
            forms::say_violations(&mut flow.ui, &[missing]);
            return None;
        };
        let identifiers = found.as_ref().map_or(&[][..], |f| &f.password_identifiers);
        let policy = &self.settings.password_policy;
        if let Err(violation) = policy.check(password.expose(), identifiers) {
            flow.ui.say("password", violation.text());
            return None;
        }
        found.map(|found| (found, password))
    }
}

/// What ends the transaction without a commit.
enum Refusal {
    Taken,
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
