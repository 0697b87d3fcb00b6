//! Completing a registration. Each method has a file of its own; what they have in
//! common is here. The identity's home is the flow's slot; identity, credentials, index
//! rows, the flow's mark and the session are one transaction: of two that claim an
//! identifier at once exactly one signs up.

mod code;
mod hooked;
mod key;
mod password;
mod social;

use std::sync::Arc;

use cardea_storage::{Secret, Slot, StoreError};
use serde_json::Value;
use thiserror::Error;

use self::hooked::Consulted;
use super::{
    Flow, FlowState, Purpose, SocialSubmission, StartedVerification, lifecycle::FlowRejection,
    social::Pending, throttle::TooEarly,
};
use crate::{
    Service,
    audit::{Act, Actor},
    hook::{Action, HookFailed},
    identity::{ImportedAddress, NewIdentity, create::Birth},
    model::{Client, FlowId, Identity, IdentityId, IdentityState, Issued, Scope},
    password::{Overloaded, PasswordHash},
    schema::{Address, Extracted, IdentitySchema},
    session::{CredentialKind, issue::Factor},
    table::{Attempts, AttemptsKey, CredentialKey, CredentialRecord, Credentials, FlowRecord},
    ui::{Text, forms},
};

/// What somebody sent to sign up: the members of all methods, of which each reads its
/// own.
#[derive(Debug, Clone, Default)]
pub struct RegistrationSubmission {
    /// The method; empty if missing.
    pub method: String,
    /// The traits; null if missing.
    pub traits: Value,
    /// The password; `None` if missing.
    pub password: Option<Secret<String>>,
    /// A code that was sent to an address.
    pub code: Option<Secret<String>>,
    /// Whether another one is to be sent: any text.
    pub resend: Option<String>,
    /// What a browser answers that made a passkey, in JSON.
    pub passkey_register: Option<String>,
    /// What a browser answers that made a security key, in JSON.
    pub webauthn_register: Option<String>,
    /// What its owner calls that key.
    pub webauthn_register_displayname: Option<String>,
    /// What concerns a provider.
    pub social: SocialSubmission,
}

impl RegistrationSubmission {
    /// The method: that which is named, else that whose answer is there, which scripts
    /// send without pressing a button.
    fn method(&self) -> &str {
        match self.method.as_str() {
            "" if self.webauthn_register.is_some() => "webauthn",
            "" if self.passkey_register.is_some() => "passkey",
            "" if self.code.is_some() || self.resend.is_some() => "code",
            method => method,
        }
    }
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
    /// The browser must go to a provider (`browser_location_change_required`).
    #[error("the registration goes on elsewhere")]
    Away(String),
    /// Whoever a provider names is somebody already, and is logged in.
    #[error("who signs up is known, and logged in")]
    LoggedIn(Box<Issued>),
    /// The identity is inactive (`identity_disabled`).
    #[error("this account was disabled")]
    Disabled,
    /// Whoever a provider names is somebody already, none of whose addresses is verified,
    /// and a hook requires it; a verification has begun
    /// (`session_verified_address_required`).
    #[error("no address of the account is verified")]
    Unverified(StartedVerification),
    /// Too many attempts.
    #[error("too many attempts, retry after {:?}", .0.retry_after)]
    Throttled(TooEarly),
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

impl RegistrationRejection {
    /// The form, with one more message for all of it.
    fn say(mut flow: Flow, text: Text) -> Self {
        flow.ui.messages.push(text);
        Self::Invalid(Box::new(flow))
    }
}

/// Who sends something to which flow.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) scope: Scope,
    pub(super) id: FlowId,
    pub(super) client: &'a Client,
}

/// A registration that something was sent to.
pub(super) struct Opened {
    pub(super) record: FlowRecord,
    pub(super) schema: Arc<IdentitySchema>,
    pub(super) flow: Flow,
}

/// What somebody says of itself.
#[derive(Default)]
pub(super) struct Newcomer {
    pub(super) traits: Value,
    pub(super) found: Extracted,
    /// The digest of where it comes from.
    pub(super) source: [u8; 32],
    /// What is known of its addresses.
    pub(super) addresses: Vec<ImportedAddress>,
    pub(super) metadata_public: Option<Value>,
    pub(super) metadata_admin: Option<Value>,
    pub(super) external_id: Option<String>,
    pub(super) state: IdentityState,
}

/// What somebody will log in by, and is logged in by now.
pub(super) struct Earned<'a> {
    pub(super) factor: Factor<'a>,
    pub(super) hash: Option<PasswordHash>,
    /// An account at a provider.
    pub(super) account: Option<Pending>,
    /// Another credential than a password.
    pub(super) credential: Option<(CredentialKind, CredentialRecord)>,
}

impl<'a> Earned<'a> {
    /// By a factor that is kept elsewhere.
    pub(super) const fn by(factor: Factor<'a>) -> Self {
        Self { factor, hash: None, account: None, credential: None }
    }
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
        let sender = Sender { scope, id, client };
        let lacking = self.lacking_work(scope, (Purpose::Registration, id), client).await?;
        if let Some(flow) = lacking {
            self.keep_form(scope, &flow).await?;
            return Err(RegistrationRejection::Invalid(Box::new(flow)));
        }
        let done = match submission.method() {
            "code" => self.register_by_code(sender, submission).await,
            "passkey" => self.register_by_key(sender, submission, Factor::PASSKEY).await,
            "webauthn" => self.register_by_key(sender, submission, Factor::PASSWORDLESS_KEY).await,
            "password" => self.register_by_password(sender, submission).await,
            "oidc" if self.offers_social() => self.register_by_provider(sender, submission).await,
            _ => self.register_by_nothing(sender).await,
        };
        if let Err(RegistrationRejection::Invalid(flow)) = &done {
            self.keep_form(scope, flow).await?;
        }
        done
    }

    /// The answer to a submission that names no method that is there.
    async fn register_by_nothing(
        &self,
        sender: Sender<'_>,
    ) -> Result<Registered, RegistrationRejection> {
        let opened = self.open_registration(sender).await?;
        Err(RegistrationRejection::say(opened.flow, Text::registration_method_missing()))
    }

    /// Reads a registration that can still be completed.
    async fn open_registration(&self, sender: Sender<'_>) -> Result<Opened, RegistrationRejection> {
        let record = self.open_flow(sender.scope, Purpose::Registration, sender.id).await?;
        let flow = self.show_flow(sender.id, &record);
        if flow.state == FlowState::PassedChallenge {
            let text = Text::registration_already_completed();
            return Err(RegistrationRejection::say(flow, text));
        }
        let schema = self.flow_schema(&record).ok_or(FlowRejection::NotFound)?;
        Ok(Opened { record, schema, flow })
    }

    /// What the traits give; `None` if the form is told what is wrong.
    fn read_traits(opened: &mut Opened, traits: &Value) -> Option<Extracted> {
        let Opened { schema, flow, .. } = opened;
        forms::refill_traits(&mut flow.ui, traits);
        match schema.check(traits) {
            Ok(found) if found.password_identifiers.is_empty() => {
                flow.ui.messages.push(Text::identifier_missing());
                None
            }
            Ok(found) => Some(found),
            Err(violations) => {
                forms::say_violations(&mut flow.ui, &violations);
                None
            }
        }
    }

    /// The digest of where somebody comes from, if it may try.
    async fn registration_source(
        &self,
        sender: Sender<'_>,
    ) -> Result<[u8; 32], RegistrationRejection> {
        let source = self.source(sender.scope, sender.client);
        self.source_may_try(sender.scope, &source)
            .await?
            .map_err(RegistrationRejection::Throttled)?;
        Ok(source)
    }

    /// Signs somebody up, once.
    pub(super) async fn finish_registration(
        &self,
        sender: Sender<'_>,
        opened: Opened,
        newcomer: Newcomer,
        earned: Earned<'_>,
    ) -> Result<Registered, RegistrationRejection> {
        let Sender { scope, id, client } = sender;
        let subject = self.mint_in(Slot::of_id(&id.0));
        let (factor, source) = (earned.factor, newcomer.source);
        let method = factor.kind.name();
        let elsewhere = self.signs_up_elsewhere(&opened.record, factor.kind, &newcomer.found);
        if let Some(organization) = elsewhere {
            let started = (id, &opened.record);
            let flow = self.lead_to_organization(scope, started, organization).await?;
            return Err(RegistrationRejection::Invalid(Box::new(flow)));
        }
        let organization = self.joined_by(&opened.record, factor.kind);
        let asked = self.consult(sender, &opened, (subject, factor), newcomer).await;
        let Opened { record, schema, mut flow } = opened;
        let newcomer = match asked {
            Ok(newcomer) => newcomer,
            Err(Consulted::Taken) => {
                self.source_failed(scope, &source).await?;
                return Err(RegistrationRejection::say(flow, Text::duplicate_identifier()));
            }
            Err(Consulted::Refused(failed)) => {
                return Err(match failed.tell(&mut flow) {
                    None => RegistrationRejection::Invalid(Box::new(flow)),
                    Some(failed) => RegistrationRejection::Hook(failed),
                });
            }
            Err(Consulted::Store(error)) => return Err(error.into()),
        };
        let Newcomer { traits, found, addresses, metadata_public, metadata_admin, .. } = newcomer;
        let new = NewIdentity {
            external_id: newcomer.external_id,
            state: newcomer.state,
            schema_id: schema.id().0.clone(),
            traits,
            metadata_public,
            metadata_admin,
            addresses,
            organization,
            ..NewIdentity::default()
        };
        let birth = &Birth {
            id: subject,
            new: &new,
            schema_id: schema.id(),
            found: &found,
            hash: earned.hash.as_ref(),
        };
        let drawn = &self.draw_session(scope, subject);
        let hooks = &self.settings.hooks;
        let purpose = Purpose::Registration;
        let verifies = self.settings.verification || hooks.runs(purpose, method, Action::verifies);
        if verifies {
            let shown = |to: &&Address| {
                new.addresses.iter().any(|a| a.verified_at.is_some() && a.value == to.value)
            };
            let unverified = found.verifiable.iter().filter(|to| !shown(to)).cloned();
            let may = self.may_verify(scope, client, unverified).await?;
            may.map_err(RegistrationRejection::Throttled)?;
        }
        let verification = &verifies.then(|| self.draw_verification(subject));
        let logs_in = new.state == IdentityState::Active && self.signing_up_logs_in(method);
        let started = (id, &record);
        let occasion = &self.signed_up(client, started, factor);
        let calls = &self.draw_calls(occasion, Slot::of_id(&subject));
        let account = earned.account.as_ref();
        let other = &earned.credential;
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
                let what = (Act::IdentityCreated, Actor::Oneself(client));
                self.audit(&t, scope, subject, what, serde_json::Value::Null).await?;
                if let Some(account) = account
                    && self.link_in(&t, scope, (subject, client), account).await?.is_err()
                {
                    return Err(Refusal::Taken);
                }
                if let Some((kind, record)) = other {
                    let key = CredentialKey {
                        tenant: scope.tenant,
                        identity: subject,
                        kind: kind.number(),
                    };
                    let now = t.now().as_millis();
                    let record =
                        CredentialRecord { created_at: now, updated_at: now, ..record.clone() };
                    t.insert::<Credentials>(&key, &record, None);
                }
                let counter = AttemptsKey::own(scope.tenant, subject, &source);
                let throttle = &self.settings.throttle;
                let known = throttle.known(t.now());
                t.put::<Attempts>(&counter, &known, Some(throttle.kept_until(&known, t.now())))
                    .await?;
                let issued = if logs_in {
                    let earned = (factor, client);
                    Some(self.issue_session(&t, scope, (subject, &kept), drawn, earned).await?)
                } else {
                    None
                };
                let verification = verification.as_ref().and_then(|drawn| {
                    let origin = (started.1, client);
                    self.start_verification(&t, scope, (subject, &kept), origin, drawn)
                });
                let session = issued.as_ref().map(|issued: &Issued| &issued.session);
                let told = Identity::of(IdentityId(subject), &kept);
                self.post_calls((&t, scope), occasion, calls, Some(&told), session);
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
                if let Some(started) = &registered.verification {
                    self.posted();
                    self.message_went(scope, client, &started.address).await;
                }
                self.calls_posted(calls);
                self.finished(scope, started.0, subject);
                Ok(*registered)
            }
            Ending::Taken => {
                // Signing up tells who has an account; that is counted like guessing.
                self.source_failed(scope, &source).await?;
                Err(RegistrationRejection::say(flow, Text::duplicate_identifier()))
            }
            Ending::AlreadyCompleted => {
                Err(RegistrationRejection::say(flow, Text::registration_already_completed()))
            }
        }
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
