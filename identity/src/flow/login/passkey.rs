//! Logging in by a passkey alone: the authenticator says whom it takes its user for, and
//! proves it. As in Kratos that is one factor. Nothing slows it down, so no guessing of
//! others keeps its owner out.

use cardea_storage::{Consistency, StoreError, Table};
use uuid::Uuid;

use super::{Attempt, LoggedIn, LoginRejection, LoginSubmission, Sender};
use crate::{
    Service,
    model::Scope,
    session::{CredentialKind, issue::Factor},
    table::{PasskeyHandleKey, PasskeyHandles, id_of},
    ui::Text,
    webauthn::{self, UserVerification},
};

impl Service {
    pub(super) async fn log_in_by_passkey(
        &self,
        sender: Sender<'_>,
        submission: LoginSubmission,
    ) -> Result<LoggedIn, LoginRejection> {
        let Sender { scope, id, client } = sender;
        let (record, mut flow) = self.open_login(sender).await?;
        let party = self.passkey_party().filter(|_| record.requested_aal != 2);
        let Some(party) = party.filter(|_| !record.challenge.is_empty()) else {
            return Err(LoginRejection::say(flow, Text::login_method_missing()));
        };
        flow.active = Some(CredentialKind::Passkey.name().to_owned());
        let source = self.source(scope, client);
        self.source_may_try(scope, &source).await?.map_err(LoginRejection::Throttled)?;
        let answer = submission.passkey_login.unwrap_or_default();
        let asserted = match webauthn::assertion(&answer) {
            Ok(asserted) => asserted,
            Err(_) => return Err(LoginRejection::say(flow, Text::key_not_verified())),
        };
        // Where the subject is known, its keys were named, and need not say whose they are.
        let account = match &asserted.user_handle {
            Some(handle) => self.holder_of(scope, handle).await?,
            None => Some(id_of(&record.subject)).filter(|_| !record.subject.is_empty()),
        };
        let Some(account) = account else {
            self.source_failed(scope, &source).await?;
            return Err(LoginRejection::say(flow, Text::no_such_key_holder()));
        };
        let attempt = Attempt {
            scope,
            flow: (id, &record),
            client,
            account,
            source,
            proof: submission.proof.as_ref(),
            factor: Factor::PASSKEY,
            renewal: None,
        };
        // The home decides whose passkeys know their owner by that.
        let credential = self.keys_for(&attempt).await?.filter(|credential| {
            asserted.user_handle.as_ref().is_none_or(|handle| credential.user_handle == *handle)
        });
        let Some(credential) = credential else {
            self.login_failed(&attempt).await?;
            return Err(LoginRejection::say(flow, Text::no_such_key_holder()));
        };
        if !record.subject.is_empty() && id_of(&record.subject) != account {
            return Err(LoginRejection::IdentityMismatch);
        }
        let asked = (party, UserVerification::Required);
        self.finish_by_key(&attempt, flow, asked, &credential, Ok(asserted)).await
    }

    /// Whose passkeys know their owner by that.
    async fn holder_of(&self, scope: Scope, handle: &[u8]) -> Result<Option<Uuid>, StoreError> {
        let digests = self.handle_digests(scope.tenant, handle);
        let key = |digest| PasskeyHandles::key(&PasskeyHandleKey { tenant: scope.tenant, digest });
        let keys: Vec<_> = digests.into_iter().map(key).collect();
        let rows = self.store.view(Consistency::Strong).rows(&keys, false).await?;
        match rows.into_iter().flatten().next() {
            Some(row) => Ok(Some(PasskeyHandles::decode(&row)?.record.id())),
            None => Ok(None),
        }
    }
}
