//! Completing a login by password.
//!
//! The steps, the same for an identifier that somebody has and one that nobody has:
//! 1. Get a permit to hash; without one the attempt ends here, uncharged.
//! 2. Read the flow, then how many failures the source has.
//! 3. Read the index: whose identifier it is, or the decoy that stands for nobody.
//! 4. In that account's home, read identity, credential and counters, and charge the
//!    attempt; this commits before the password is looked at.
//! 5. Verify the password, against the decoy's hash if there is none.
//! 6. On failure, count it for the source. On success, one transaction in the home
//!    checks that identity and credential are what was verified, puts the mark of
//!    the flow, clears the counters and issues the session.

use std::sync::Arc;

use cardea_storage::{Consistency, Secret, StoreError, Table};
use thiserror::Error;
use uuid::Uuid;

use super::{Flow, FlowState, Purpose, lifecycle::FlowRejection, throttle::TooEarly};
use crate::{
    Service,
    model::{Client, FlowId, Issued, Scope},
    password::{Overloaded, PasswordHash, Permit, Verified},
    schema::{Violation, normalize_identifier},
    session::{CredentialKind, Proof, issue::Factor},
    table::{
        Attempts, AttemptsKey, CredentialIdentifierKey, CredentialIdentifiers, CredentialKey,
        CredentialRecord, Credentials, FlowRecord, Identities, IdentityKey, IdentityRecord, id_of,
    },
    ui::{Text, forms},
};

/// The longest identifier that is looked up, in bytes; longer ones nobody has.
const IDENTIFIER_BYTES_MAX: usize = 1024;

/// What somebody sent to log in.
#[derive(Debug, Clone)]
pub struct LoginSubmission {
    /// The method; empty if missing.
    pub method: String,
    /// The identifier, as it was typed; `None` if missing.
    pub identifier: Option<String>,
    /// The password; `None` if missing.
    pub password: Option<Secret<String>>,
    /// The session that the caller has already: a refresh makes it fresh again.
    pub proof: Option<Proof>,
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
    /// Another identity than the one that was to prove itself
    /// (`security_identity_mismatch`).
    #[error("the credentials are of another identity than the session")]
    IdentityMismatch,
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

/// An account as step 4 found it.
struct Charged {
    identity: Option<IdentityRecord>,
    credential: Option<CredentialRecord>,
}

/// How the completing transaction ended.
enum Ending {
    Issued(Box<Issued>),
    AlreadyCompleted,
    Changed,
}

/// What the steps hand on.
struct Attempt<'a> {
    scope: Scope,
    flow: (FlowId, &'a FlowRecord),
    client: &'a Client,
    account: Uuid,
    source: [u8; 32],
    proof: Option<&'a Proof>,
}

impl Service {
    /// Submits a login (`updateLoginFlow`).
    ///
    /// # Errors
    /// See [`LoginRejection`].
    pub async fn submit_login(
        &self,
        scope: Scope,
        id: FlowId,
        submission: LoginSubmission,
        client: &Client,
    ) -> Result<LoggedIn, LoginRejection> {
        let done = self.judge_login(scope, id, submission, client).await;
        if let Err(LoginRejection::Invalid(flow)) = &done {
            self.keep_form(scope, flow).await?;
        }
        done
    }

    async fn judge_login(
        &self,
        scope: Scope,
        id: FlowId,
        submission: LoginSubmission,
        client: &Client,
    ) -> Result<LoggedIn, LoginRejection> {
        let permit = self.passwords.admit()?;
        let record = self.open_flow(scope, Purpose::Login, id).await?;
        let mut flow = self.show_flow(id, &record);
        if flow.state == FlowState::PassedChallenge {
            flow.ui.messages.push(Text::login_already_completed());
            return Err(LoginRejection::Invalid(Box::new(flow)));
        }
        let proof = submission.proof.clone();
        let Some((identifier, password)) = read_form(&mut flow, submission) else {
            return Err(LoginRejection::Invalid(Box::new(flow)));
        };
        let source = self.source(scope, client);
        self.source_may_try(scope, &source).await?.map_err(LoginRejection::Throttled)?;

        let account = self.account(scope, &identifier).await?;
        let attempt =
            Attempt { scope, flow: (id, &record), client, account, source, proof: proof.as_ref() };
        let Charged { identity, credential } = self.charge(&attempt).await?;
        let hash = credential.as_ref().and_then(|c| self.read_hash(account, c));
        let verified = self.passwords.verify(&permit, password.clone(), hash).await?;
        let (Verified::Matches { outdated }, Some(identity), Some(credential)) =
            (verified, identity, credential)
        else {
            self.source_failed(scope, &source).await?;
            flow.ui.messages.push(Text::invalid_credentials());
            return Err(LoginRejection::Invalid(Box::new(flow)));
        };
        if identity.inactive {
            return Err(LoginRejection::Disabled);
        }
        if !record.subject.is_empty() && id_of(&record.subject) != account {
            return Err(LoginRejection::IdentityMismatch);
        }
        let renewed = if outdated { Some(self.renew(&permit, password).await?) } else { None };
        let issued = self.complete(&attempt, &credential, renewed.as_ref()).await?;
        let issued = match issued {
            Ending::Issued(issued) => *issued,
            Ending::AlreadyCompleted => {
                flow.ui.messages.push(Text::login_already_completed());
                return Err(LoginRejection::Invalid(Box::new(flow)));
            }
            Ending::Changed => {
                flow.ui.messages.push(Text::invalid_credentials());
                return Err(LoginRejection::Invalid(Box::new(flow)));
            }
        };
        self.hint_flow(scope, attempt.flow, account).await;
        Ok(LoggedIn { issued })
    }

    /// Whose identifier it is, or the decoy.
    async fn account(&self, scope: Scope, identifier: &str) -> Result<Uuid, StoreError> {
        let keys: Vec<_> = self
            .identifier_digests(scope.tenant, identifier)
            .into_iter()
            .map(|digest| {
                CredentialIdentifiers::key(&CredentialIdentifierKey {
                    tenant: scope.tenant,
                    digest,
                    kind: CredentialKind::Password.number(),
                })
            })
            .collect();
        let decoy = self.decoy(scope.tenant, identifier);
        let rows = self.store.view(Consistency::Strong).rows(&keys, false).await?;
        match rows.into_iter().flatten().next() {
            Some(row) => Ok(CredentialIdentifiers::decode(&row)?.record.id()),
            None => Ok(decoy),
        }
    }

    /// Charges an attempt, and reads what it is checked by.
    async fn charge(&self, attempt: &Attempt<'_>) -> Result<Charged, LoginRejection> {
        let Attempt { scope, account, .. } = *attempt;
        let done = self
            .store
            .transact(|t| async move {
                let (shared, own) = attempt.counters();
                let identity_key = IdentityKey { tenant: scope.tenant, id: account };
                let keys = [
                    Identities::key(&identity_key),
                    Credentials::key(&attempt.credential_key()),
                    Attempts::key(&shared),
                    Attempts::key(&own),
                ];
                let rows = t.rows(&keys, true).await?;
                let now = t.now();
                let identity = decode::<Identities>(rows.first())?;
                let credential = decode::<Credentials>(rows.get(1))?;
                let known = decode::<Attempts>(rows.get(3))?
                    .filter(|counter| now.as_millis() < counter.known_until);
                let (key, before) = match known {
                    Some(counter) => (own, Some(counter)),
                    None => (shared, decode::<Attempts>(rows.get(2))?),
                };
                let throttle = &self.settings.throttle;
                let counter =
                    throttle.charge(before.as_ref(), now).map_err(LoginRejection::Throttled)?;
                let kept = throttle.kept_until(&counter, now);
                t.put::<Attempts>(&key, &counter, Some(kept)).await?;
                Ok::<_, LoginRejection>(Charged { identity, credential })
            })
            .await?;
        Ok(done.value)
    }

    /// A hash of the current form and cost.
    async fn renew(
        &self,
        permit: &Permit,
        password: Secret<String>,
    ) -> Result<Arc<PasswordHash>, Overloaded> {
        let entropy = self.store.entropy().as_ref();
        Ok(Arc::new(self.passwords.hash(permit, password, entropy).await?))
    }

    /// Completes the flow, if nothing that was verified has changed meanwhile.
    async fn complete(
        &self,
        attempt: &Attempt<'_>,
        verified: &CredentialRecord,
        renewed: Option<&Arc<PasswordHash>>,
    ) -> Result<Ending, LoginRejection> {
        let Attempt { scope, account, client, .. } = *attempt;
        let drawn = &self.draw_session(scope, account);
        let done = self
            .store
            .transact(|t| async move {
                let identity_key = IdentityKey { tenant: scope.tenant, id: account };
                let credential_key = attempt.credential_key();
                let (shared, own) = attempt.counters();
                let keys = [
                    Identities::key(&identity_key),
                    Credentials::key(&credential_key),
                    Attempts::key(&shared),
                    Attempts::key(&own),
                ];
                let rows = t.rows(&keys, true).await?;
                let identity = decode::<Identities>(rows.first())?;
                let credential = decode::<Credentials>(rows.get(1))?;
                let Some(identity) = identity else { return Ok(Ending::Changed) };
                if identity.inactive {
                    return Err(LoginRejection::Disabled);
                }
                // The password was replaced since it was verified.
                let unchanged = credential.as_ref().is_some_and(|c| {
                    c.password_hash == verified.password_hash
                        && c.imported_hash == verified.imported_hash
                });
                if !unchanged {
                    return Ok(Ending::Changed);
                }
                if !self.use_flow(&t, scope, attempt.flow, account).await? {
                    return Ok(Ending::AlreadyCompleted);
                }
                if let (Some(hash), Some(mut credential)) = (renewed, credential) {
                    self.store_hash(account, hash, &mut credential);
                    credential.updated_at = t.now().as_millis();
                    t.put::<Credentials>(&credential_key, &credential, None).await?;
                }
                let throttle = &self.settings.throttle;
                let known = throttle.known(t.now());
                t.delete::<Attempts>(&shared).await?;
                t.put::<Attempts>(&own, &known, Some(throttle.kept_until(&known, t.now()))).await?;
                let owner = (account, &identity);
                let present = match attempt.proof.filter(|_| !attempt.flow.1.subject.is_empty()) {
                    Some(proof) => self
                        .find_session(&t, scope, proof, true)
                        .await?
                        .filter(|found| found.identity_id == account)
                        .filter(|found| found.accepted(t.now()).is_some())
                        .map(|found| (found, proof)),
                    None => None,
                };
                let factor = Factor::PASSWORD;
                let issued = match present {
                    Some(present) => {
                        self.strengthen_session(&t, scope, present, drawn, factor).await?
                    }
                    None => self.issue_session(&t, scope, owner, drawn, (factor, client)),
                };
                Ok(Ending::Issued(Box::new(issued)))
            })
            .await?;
        Ok(done.value)
    }
}

impl Attempt<'_> {
    fn credential_key(&self) -> CredentialKey {
        CredentialKey {
            tenant: self.scope.tenant,
            identity: self.account,
            kind: CredentialKind::Password.number(),
        }
    }

    /// The counter that unknown sources share, and that of this source.
    fn counters(&self) -> (AttemptsKey, AttemptsKey) {
        let tenant = self.scope.tenant;
        (
            AttemptsKey::shared(tenant, self.account),
            AttemptsKey::own(tenant, self.account, &self.source),
        )
    }
}

fn decode<T: Table>(
    row: Option<&Option<cardea_storage::Row>>,
) -> Result<Option<T::Record>, StoreError> {
    match row {
        Some(Some(row)) => Ok(Some(T::decode(row)?.record)),
        _ => Ok(None),
    }
}

/// The normalised identifier and the password; `None` if the form is told what is
/// missing.
fn read_form(flow: &mut Flow, submission: LoginSubmission) -> Option<(String, Secret<String>)> {
    let LoginSubmission { method, identifier, password, .. } = submission;
    if method != "password" {
        flow.ui.messages.push(Text::login_method_missing());
        return None;
    }
    flow.active = Some("password".to_owned());
    let identifier = identifier.unwrap_or_default();
    flow.ui.fill("identifier", identifier.as_str().into());
    let password = password.filter(|password| !password.expose().is_empty());
    let mut missing = Vec::new();
    if identifier.trim().is_empty() {
        missing.push(Violation::required("#", "identifier"));
    }
    if password.is_none() {
        missing.push(Violation::required("#", "password"));
    }
    forms::say_violations(&mut flow.ui, &missing);
    let password = password.filter(|_| missing.is_empty())?;
    let mut identifier = normalize_identifier(&identifier);
    if identifier.len() > IDENTIFIER_BYTES_MAX {
        // Its digest is nobody's.
        identifier = format!("\0too long: {}", blake3::hash(identifier.as_bytes()));
    }
    Some((identifier, password))
}
