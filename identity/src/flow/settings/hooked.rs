//! What hooks have to say about a change of settings: blocking ones before its
//! transaction, ours in it.

use cardea_storage::{StoreError, Timestamp, Transaction};
use serde_json::Value;
use uuid::Uuid;

use super::{Change, News, Refusal, SettingsRejection};
use crate::{
    Service,
    flow::{Flow, Purpose},
    hook::{Action, Edits, HookFailed, Moment, Occasion, context::session_json},
    identity::{
        create::{EXTERNAL_ID_BYTES_MAX, metadata_bytes},
        draft::via_number,
    },
    model::{Client, FlowId, Identity, IdentityId, IdentityState, Scope},
    session::{CredentialKind, check::Found},
    table::{FlowRecord, Identities, IdentityKey, IdentityRecord, SessionRecord, Sessions},
};

/// Times that hooks are asked about one change which others overtake.
pub(in crate::flow) const CONSULTED_MAX: u32 = 3;

/// What blocking hooks said of a change.
pub(in crate::flow) struct Consulted {
    /// What they want to be changed beside it.
    pub(in crate::flow) edits: Edits,
    /// The identity that they were asked about, as it was before; `None`: nobody was asked.
    about: Option<IdentityRecord>,
}

impl Consulted {
    const NOBODY: Self = Self { edits: Edits::NONE, about: None };
}

/// What hooks run on once settings are to be changed.
pub(super) fn settings_saved<'a>(
    method: &'a str,
    flow: (FlowId, &'a FlowRecord),
    client: &'a Client,
) -> Occasion<'a> {
    Occasion { moment: Moment::After, purpose: Purpose::Settings, method, flow, client }
}

impl Service {
    /// Whether hooks were asked about what a transaction is to change: that identity, as it
    /// is by now. Else they are to be asked again: a schema that came into force meanwhile
    /// may take what nobody was asked about since it could not be.
    pub(in crate::flow) fn still_stands(
        &self,
        consulted: &Consulted,
        occasion: &Occasion<'_>,
        before: &IdentityRecord,
    ) -> bool {
        match &consulted.about {
            Some(asked) => asked == before,
            None => !self.asks_hooks(occasion),
        }
    }

    /// Asks blocking hooks; puts the traits that they want in place of those that were
    /// sent. The transaction asks whether it [still stands](Self::still_stands).
    pub(super) async fn consult_settings(
        &self,
        (me, flow): (&Found, &mut Flow),
        occasion: &Occasion<'_>,
        mut sent: Option<&mut Value>,
    ) -> Result<Consulted, SettingsRejection> {
        if !self.asks_hooks(occasion) {
            return Ok(Consulted::NOBODY);
        }
        let id = IdentityId(me.identity_id);
        let mut identity = Identity::of(id, &me.identity);
        if let Some(traits) = sent.as_deref_mut() {
            // Nobody is asked about what cannot be.
            let schema = self.schema(&identity.schema_id).or_else(|| self.schema(""));
            if schema.is_none_or(|schema| schema.check(traits).is_err()) {
                return Ok(Consulted::NOBODY);
            }
            identity.traits = traits.clone();
        }
        let session = session_json(&me.view(self.now()));
        let mut edits = match self.ask_hooks(occasion, Some(identity), Some(session)).await {
            Ok(edits) => edits,
            Err(failed) => {
                return Err(match failed.tell(flow) {
                    None => SettingsRejection::Invalid(Box::new(flow.clone())),
                    Some(failed) => SettingsRejection::Hook(failed),
                });
            }
        };
        let failed = |why: &str| {
            SettingsRejection::Hook(HookFailed::Failed {
                hook: "settings".to_owned(),
                why: why.to_owned(),
            })
        };
        if edits.state == Some(IdentityState::Inactive) {
            return Err(failed("a change of settings cannot deactivate who makes it"));
        }
        for metadata in [&edits.metadata_public, &edits.metadata_admin] {
            if metadata_bytes(metadata.as_ref()).is_none() {
                return Err(failed("its metadata is too large"));
            }
        }
        if edits.external_id.as_ref().is_some_and(|id| id.len() > EXTERNAL_ID_BYTES_MAX) {
            return Err(failed("its external id is too long"));
        }
        match (edits.traits.take(), sent) {
            (None, _) => {}
            (Some(traits), Some(sent)) => *sent = traits,
            (Some(traits), _) if is_same(&traits, &me.identity) => {}
            (Some(_), _) => return Err(failed("traits are changed with the profile alone")),
        }
        Ok(Consulted { edits, about: Some(me.identity.clone()) })
    }

    /// Asks blocking hooks about an account that is linked or unlinked; of an answer's
    /// changes that takes metadata.
    pub(in crate::flow) async fn consult_links(
        &self,
        (me, flow): (&Found, &mut Flow),
        started: (FlowId, &FlowRecord),
        client: &Client,
    ) -> Result<Consulted, SettingsRejection> {
        let occasion = settings_saved(CredentialKind::Oidc.name(), started, client);
        let consulted = self.consult_settings((me, flow), &occasion, None).await?;
        let edits = consulted.edits.for_metadata_alone("settings");
        Ok(Consulted { edits: edits.map_err(SettingsRejection::Hook)?, ..consulted })
    }

    /// What runs, and who is told, once linked accounts have changed.
    pub(in crate::flow) fn links_changed<'a>(
        &self,
        started: (FlowId, &'a FlowRecord),
        subject: Uuid,
        client: &'a Client,
    ) -> (Occasion<'a>, News) {
        let method = CredentialKind::Oidc.name();
        (settings_saved(method, started, client), self.draw_news(subject, method))
    }

    /// Writes what follows from a change of linked accounts: what hooks want, the end of
    /// other sessions, and the news; gives the identity as it is then.
    pub(in crate::flow) async fn settle_links(
        &self,
        t: &Transaction,
        scope: Scope,
        me: Found,
        (edits, letters, change): (&Edits, &News, Change),
    ) -> Result<IdentityRecord, StoreError> {
        let method = CredentialKind::Oidc.name();
        let removes = change == Change::AccountUnlinked;
        let ends = (removes && self.settings.factor_change_ends_sessions)
            || self.saving_ends_sessions(method);
        let mut identity = me.identity.clone();
        edits.write_metadata(&mut identity);
        identity.session_epoch += u64::from(ends);
        identity.updated_at = t.now().as_millis();
        let key = IdentityKey { tenant: scope.tenant, id: me.identity_id };
        t.put::<Identities>(&key, &identity, None).await?;
        if ends {
            let session = SessionRecord { epoch: identity.session_epoch, ..me.session };
            let kept = self.kept_until(Timestamp(session.expires_at));
            t.put::<Sessions>(&me.key, &session, Some(kept)).await?;
        }
        if self.is_news(change, method) {
            self.tell(t, scope, (&me.identity, &identity), letters, change);
        }
        Ok(identity)
    }

    /// Writes what else hooks want to be changed.
    pub(super) async fn write_edits(
        &self,
        t: &Transaction,
        scope: Scope,
        (subject, identity): (Uuid, &mut IdentityRecord),
        edits: &Edits,
    ) -> Result<(), Refusal> {
        if edits.is_empty() {
            return Ok(());
        }
        edits.write_metadata(identity);
        if let Some(external_id) = &edits.external_id {
            let filed = self
                .claim_external(t, scope, subject, external_id, &identity.external_id_digest)
                .await?;
            identity.external_id_digest = filed.map_err(|_| Refusal::Taken)?;
            identity.external_id.clone_from(external_id);
        }
        let now = t.now().as_millis();
        for (via, value) in &edits.verified {
            let via = via_number(*via);
            let theirs = identity.verifiable.iter_mut();
            for address in theirs.filter(|a| a.via == via && a.value == *value) {
                if address.verified_at == 0 {
                    (address.verified_at, address.updated_at) = (now, now);
                }
            }
        }
        identity.updated_at = now;
        let key = IdentityKey { tenant: scope.tenant, id: subject };
        t.put::<Identities>(&key, identity, None).await.map_err(|error: StoreError| error.into())
    }

    /// Whether saving by a method ends all other sessions.
    pub(in crate::flow) fn saving_ends_sessions(&self, method: &str) -> bool {
        self.settings.hooks.runs(Purpose::Settings, method, Action::revokes)
    }

    /// Whether addresses that an identity had are told when they change.
    pub(super) fn notifies_addresses(&self, method: &str) -> bool {
        self.settings.hooks.runs(Purpose::Settings, method, Action::notifies)
    }

    /// Whether people are told of a change.
    pub(in crate::flow) fn is_news(&self, change: Change, method: &str) -> bool {
        let told = self.settings.notify_changes;
        told || (change == Change::Address && self.notifies_addresses(method))
    }
}

fn is_same(traits: &Value, identity: &IdentityRecord) -> bool {
    *traits == crate::model::json_of(&identity.traits)
}
