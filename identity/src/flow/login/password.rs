//! Logging in by password. Verifying costs as much for an identifier that nobody has,
//! against the decoy's hash; without a permit to hash the attempt ends uncharged.

use std::sync::Arc;

use cardea_storage::{Consistency, Secret, StoreError, Table, Timestamp};
use futures::try_join;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Attempt, Charged, LoggedIn, LoginRejection, LoginSubmission, Sender, Settled};
use crate::{
    Service,
    flow::Flow,
    hook::HookFailed,
    model::Scope,
    password::{Overloaded, PasswordHash, Permit, Verified},
    schema::{Violation, normalize_identifier},
    session::{CredentialKind, issue::Factor},
    table::{CredentialIdentifierKey, CredentialIdentifiers, CredentialRecord, id_of},
    ui::{Text, forms},
};

/// What logs call the hook.
const MIGRATION: &str = "password_migration";
/// The longest identifier that is looked up, in bytes; longer ones nobody has.
const IDENTIFIER_BYTES_MAX: usize = 1024;

impl Service {
    pub(super) async fn log_in_by_password(
        &self,
        sender: Sender<'_>,
        submission: LoginSubmission,
    ) -> Result<LoggedIn, LoginRejection> {
        let Sender { scope, id, client } = sender;
        let permit = self.passwords.admit()?;
        let (record, mut flow) = self.open_login(sender).await?;
        if record.requested_aal == 2 {
            return Err(LoginRejection::say(flow, Text::login_method_missing()));
        }
        let proof = submission.proof.clone();
        let Some((identifier, password)) = read_form(&mut flow, submission) else {
            return Err(LoginRejection::Invalid(Box::new(flow)));
        };
        let source = self.source(scope, client);
        // Both ask other shards, perhaps far away.
        let (may, account) =
            try_join!(self.source_may_try(scope, &source), self.account(scope, &identifier))?;
        may.map_err(LoginRejection::Throttled)?;
        let attempt = Attempt {
            scope,
            flow: (id, &record),
            client,
            account,
            source,
            proof: proof.as_ref(),
            factor: Factor::PASSWORD,
            renewal: None,
        };
        let Charged { identity, credential, .. } = self.charge_login(&attempt).await?;
        let hash = credential.as_ref().and_then(|c| self.read_hash(account, c));
        // Another server knows the password: the decoy is verified all the same.
        let asks = hash.as_ref().is_some_and(|hash| hash.is_elsewhere());
        let hash = hash.filter(|_| !asks);
        let mut verified = self.passwords.verify(&permit, password.clone(), hash).await?;
        let active = identity.as_ref().is_some_and(|identity| !identity.inactive);
        if asks && active && self.is_known_elsewhere(&identifier, &password).await? {
            verified = Verified::Matches { outdated: true };
        }
        let (Verified::Matches { outdated }, Some(identity), Some(credential)) =
            (verified, identity, credential)
        else {
            self.login_failed(&attempt).await?;
            return Err(LoginRejection::say(flow, Text::invalid_credentials()));
        };
        if identity.inactive {
            return Err(LoginRejection::Disabled);
        }
        if !record.subject.is_empty() && id_of(&record.subject) != account {
            return Err(LoginRejection::IdentityMismatch);
        }
        let renewed = if outdated { Some(self.renew(&permit, password).await?) } else { None };
        let settle = |now: Option<&CredentialRecord>, _: Timestamp| {
            let unchanged = now.filter(|now| {
                now.password_hash == credential.password_hash
                    && now.imported_hash == credential.imported_hash
            });
            match (unchanged, &renewed) {
                // The password was replaced since it was verified.
                (None, _) => Settled::Changed,
                (Some(_), None) => Settled::Kept,
                (Some(now), Some(hash)) => {
                    let mut record = now.clone();
                    self.store_hash(account, hash, &mut record);
                    Settled::Becomes(Box::new(record))
                }
            }
        };
        self.finish_login(&attempt, flow, &settle).await
    }

    /// Whether the server of the password migration hook says that it is the password: as
    /// Kratos asks it, status 200 with `{"status": "password_match"}`.
    async fn is_known_elsewhere(
        &self,
        identifier: &str,
        password: &Secret<String>,
    ) -> Result<bool, LoginRejection> {
        let Some(request) = &self.settings.password_migration else { return Ok(false) };
        let failed = |why: String| {
            tracing::warn!(why, "the password migration hook did not answer as it must");
            LoginRejection::Hook(HookFailed::Failed { hook: MIGRATION.to_owned(), why })
        };
        let ctx = json!({"identifier": identifier, "password": password.expose()});
        let body = request.body(ctx).await.map_err(|unmade| failed(unmade.to_string()))?;
        let Some(body) = body else { return Ok(false) };
        let reply = self.outbound.ask(request.question(&body)).await;
        let reply = reply.map_err(|unanswered| failed(unanswered.to_string()))?;
        match reply.status {
            200 => {
                let told: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                Ok(told["status"] == "password_match")
            }
            403 => Ok(false),
            status => Err(failed(format!("status {status}"))),
        }
    }

    /// Whose identifier it is, or the decoy.
    pub(super) async fn account(&self, scope: Scope, identifier: &str) -> Result<Uuid, StoreError> {
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

    /// A hash of the current form and cost.
    async fn renew(
        &self,
        permit: &Permit,
        password: Secret<String>,
    ) -> Result<Arc<PasswordHash>, Overloaded> {
        let entropy = self.store.entropy().as_ref();
        Ok(Arc::new(self.passwords.hash(permit, password, entropy).await?))
    }
}

/// The normalised identifier and the password; `None` if the form is told what is
/// missing.
fn read_form(flow: &mut Flow, submission: LoginSubmission) -> Option<(String, Secret<String>)> {
    let LoginSubmission { identifier, password, .. } = submission;
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
    Some((looked_up(&identifier), password))
}

/// An identifier as it is looked up.
pub(super) fn looked_up(typed: &str) -> String {
    let identifier = normalize_identifier(typed);
    if identifier.len() <= IDENTIFIER_BYTES_MAX {
        return identifier;
    }
    // Its digest is nobody's.
    format!("\0too long: {}", blake3::hash(identifier.as_bytes()))
}
