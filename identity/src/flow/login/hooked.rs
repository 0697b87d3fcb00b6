//! What hooks have to say about a login: blocking ones before its transaction, ours in it.

use cardea_storage::{Consistency, StoreError};

use super::{Attempt, LoggedIn, LoginRejection};
use crate::{
    Service,
    flow::{
        CodeRejection, Flow, Purpose, StartedVerification, organization::Membership,
        sent_code::Budget,
    },
    hook::{Action, Edits, Moment, Occasion, context::coming_session},
    identity::create::metadata_bytes,
    model::{Identity, IdentityId},
    schema::Address,
    session::{Aal, CredentialKind},
    table::{Identities, IdentityKey, IdentityRecord},
    ui::Text,
};

impl Attempt<'_> {
    pub(super) fn occasion(&self) -> Occasion<'_> {
        Occasion {
            moment: Moment::After,
            purpose: Purpose::Login,
            method: self.factor.kind.name(),
            flow: self.flow,
            client: self.client,
        }
    }
}

impl Service {
    /// Asks blocking hooks; of an answer's changes a login takes metadata. `None` if they
    /// were not asked, since it will not get in.
    pub(super) async fn consult_login(
        &self,
        attempt: &Attempt<'_>,
        flow: &mut Flow,
    ) -> Result<Option<Edits>, LoginRejection> {
        let occasion = attempt.occasion();
        if !self.asks_hooks(&occasion) {
            return Ok(Some(Edits::default()));
        }
        let key = IdentityKey { tenant: attempt.scope.tenant, id: attempt.account };
        let found = self.store.view(Consistency::Strong).peek::<Identities>(&key).await?;
        // The transaction finds out why not, and nobody is asked.
        let Some(entry) = found.filter(|entry| !entry.record.inactive) else { return Ok(None) };
        // What a provider says may bring one that is.
        let unverified =
            attempt.renewal.is_none() && self.lacks_verified_address(attempt, &entry.record);
        if unverified || matches!(self.membership(attempt, &entry.record), Membership::Elsewhere(_))
        {
            return Ok(None);
        }
        let identity = Identity::of(IdentityId(attempt.account), &entry.record);
        let session = coming_session(attempt.factor, self.now());
        match self.ask_hooks(&occasion, Some(identity), Some(session)).await {
            Ok(edits) => match edits.for_metadata_alone("login") {
                Ok(edits) => Ok(Some(edits)),
                Err(failed) => Err(LoginRejection::Hook(failed)),
            },
            Err(failed) => Err(match failed.tell(flow) {
                None => LoginRejection::Invalid(Box::new(flow.clone())),
                Some(failed) => LoginRejection::Hook(failed),
            }),
        }
    }

    /// Whether a hook requires a verified address that an identity does not have.
    pub(super) fn lacks_verified_address(
        &self,
        attempt: &Attempt<'_>,
        identity: &IdentityRecord,
    ) -> bool {
        let hooks = &self.settings.hooks;
        // Who logs in by a code has just shown that an address is its own.
        attempt.factor.aal == Aal::Aal1
            && attempt.factor.kind != CredentialKind::Code
            && hooks.runs(Purpose::Login, attempt.factor.kind.name(), Action::requires_verified)
            && identity.verifiable.iter().all(|address| address.verified_at == 0)
    }

    /// Changes an identity as hooks want it; says whether that is any change.
    pub(super) fn after_login(
        &self,
        attempt: &Attempt<'_>,
        edits: &Edits,
        identity: &mut IdentityRecord,
    ) -> bool {
        let hooks = &self.settings.hooks;
        let ends = hooks.runs(Purpose::Login, attempt.factor.kind.name(), Action::revokes);
        identity.session_epoch += u64::from(ends);
        ends | edits.write_metadata(identity)
    }

    /// Sends a code to an address that must be verified first, and says so.
    pub(super) async fn lead_to_verification(
        &self,
        attempt: &Attempt<'_>,
        flow: Flow,
    ) -> Result<LoggedIn, LoginRejection> {
        match self.begin_required_verification(attempt).await? {
            Some(started) => Err(LoginRejection::Unverified(started)),
            None => Err(LoginRejection::say(flow, Text::address_not_verified())),
        }
    }

    async fn begin_required_verification(
        &self,
        attempt: &Attempt<'_>,
    ) -> Result<Option<StartedVerification>, LoginRejection> {
        let Attempt { scope, account, flow, client, .. } = *attempt;
        if !self.settings.verification {
            return Ok(None);
        }
        match self.charge_code(scope, account, Budget::Sending).await {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(CodeRejection::Throttled(early)) => return Err(LoginRejection::Throttled(early)),
            Err(CodeRejection::Store(error)) => return Err(error.into()),
            Err(_) => return Ok(None),
        }
        let key = &IdentityKey { tenant: scope.tenant, id: account };
        let found = self.store.view(Consistency::Strong).peek::<Identities>(key).await?;
        let found = found.map(|entry| Identity::of(IdentityId(account), &entry.record));
        let addresses = found.map(|identity| identity.verifiable_addresses).unwrap_or_default();
        let unverified = addresses.into_iter().filter(|address| address.verified_at.is_none());
        let unverified = unverified.map(|one| Address { via: one.via, value: one.value });
        let may = self.may_verify(scope, client, unverified).await?;
        may.map_err(LoginRejection::Throttled)?;
        let drawn = &self.draw_verification(account);
        let done = self
            .store
            .transact(|t| async move {
                let Some(entry) = t.get::<Identities>(key).await? else { return Ok(None) };
                let owner = (account, &entry.record);
                let origin = (flow.1, client);
                Ok::<_, StoreError>(self.start_verification(&t, scope, owner, origin, drawn))
            })
            .await?;
        if let Some(started) = &done.value {
            self.posted();
            self.message_went(scope, client, &started.address).await;
        }
        Ok(done.value)
    }
}

impl Edits {
    /// Refuses what a change of metadata is not.
    ///
    /// # Errors
    /// If there is something else to change, or it is too large.
    pub(in crate::flow) fn for_metadata_alone(
        self,
        hooks: &str,
    ) -> Result<Self, crate::hook::HookFailed> {
        let failed = |why: &str| crate::hook::HookFailed::Failed {
            hook: hooks.to_owned(),
            why: why.to_owned(),
        };
        let rest = Self { metadata_public: None, metadata_admin: None, ..self.clone() };
        if !rest.is_empty() {
            return Err(failed("nothing but metadata can be changed here"));
        }
        for metadata in [&self.metadata_public, &self.metadata_admin] {
            if metadata_bytes(metadata.as_ref()).is_none() {
                return Err(failed("its metadata is too large"));
            }
        }
        Ok(self)
    }

    /// Writes metadata into a record; says whether there is any.
    pub(crate) fn write_metadata(&self, identity: &mut IdentityRecord) -> bool {
        let mut changed = false;
        for (edited, kept) in [
            (&self.metadata_public, &mut identity.metadata_public),
            (&self.metadata_admin, &mut identity.metadata_admin),
        ] {
            if let Some(bytes) = edited.as_ref().and_then(|value| metadata_bytes(Some(value))) {
                changed |= *kept != bytes;
                *kept = bytes;
            }
        }
        changed
    }
}
