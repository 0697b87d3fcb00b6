//! Linking another account, and unlinking one, in settings. Both change how somebody
//! logs in, and need a fresh session. The last way in is never taken away.

use cardea_storage::{Slot, StoreError, Table as _, Transaction, engine::Order};

use super::{SocialSubmission, depart::Departure};
use crate::{
    Service,
    flow::{Flow, FlowState, settings::SettingsRejection},
    model::{FlowId, Scope},
    session::{CredentialKind, Proof, check::Found},
    table::{CredentialKey, CredentialRecord, Credentials, FlowRecord},
    ui::Text,
};

/// More kinds than there are.
const KINDS_MAX: u32 = 64;

/// What becomes of an unlinking.
enum Unlinked {
    Done,
    NotThere,
    LastWayIn,
    NoSession,
    RefreshRequired,
}

impl Service {
    /// Links or unlinks, as settings were asked to.
    pub(in crate::flow) async fn change_links(
        &self,
        scope: Scope,
        (id, record): (FlowId, &FlowRecord),
        (mut flow, me): (Flow, &Found),
        (proof, link, unlink): (&Proof, Option<String>, Option<String>),
        submission: SocialSubmission,
    ) -> Result<Flow, SettingsRejection> {
        flow.active = Some("oidc".to_owned());
        if !self.is_privileged(me, self.now()) {
            return Err(SettingsRejection::RefreshRequired);
        }
        let (link, unlink) = match (link, unlink) {
            (Some(link), None) => (link, None),
            (None, Some(unlink)) => (String::new(), Some(unlink)),
            _ => {
                flow.ui
                    .messages
                    .push(Text::generic("Either link or unlink says which account is meant."));
                return Err(SettingsRejection::Invalid(Box::new(flow)));
            }
        };
        let Some(unlink) = unlink else {
            let submission = SocialSubmission { provider: Some(link), ..submission };
            let Some(provider) = self.named_provider(&mut flow, &submission) else {
                return Err(SettingsRejection::Invalid(Box::new(flow)));
            };
            return match self.depart(scope, &mut flow, (record, provider), &submission).await? {
                Departure::Away(url) => Err(SettingsRejection::Away(url)),
                Departure::Stays => Err(SettingsRejection::Invalid(Box::new(flow))),
            };
        };
        let (subject, unlink) = (me.identity_id, &unlink);
        let done = self
            .store
            .transact(|t| async move {
                let me = self.find_session(&t, scope, proof, true).await?;
                let me = me.filter(|me| me.accepted(t.now()).is_some());
                let Some(me) = me.filter(|me| me.identity_id == subject) else {
                    return Ok(Unlinked::NoSession);
                };
                if !self.is_privileged(&me, t.now()) {
                    return Ok(Unlinked::RefreshRequired);
                }
                self.unlink_in(&t, scope, &me, unlink).await
            })
            .await?;
        match done.value {
            Unlinked::Done => {
                let (mut flow, _) = self.fresh_settings(scope, id, Some(proof)).await?;
                flow.state = FlowState::Success;
                flow.active = Some("oidc".to_owned());
                flow.ui.messages = vec![Text::settings_saved()];
                Ok(flow)
            }
            Unlinked::NoSession => Err(SettingsRejection::NoSession),
            Unlinked::RefreshRequired => Err(SettingsRejection::RefreshRequired),
            Unlinked::NotThere => {
                flow.ui.messages.push(Text::generic("This account is not linked."));
                Err(SettingsRejection::Invalid(Box::new(flow)))
            }
            Unlinked::LastWayIn => {
                flow.ui.messages.push(Text::generic(
                    "This account is the only way to sign in. Set a password or link another \
                     account first.",
                ));
                Err(SettingsRejection::Invalid(Box::new(flow)))
            }
        }
    }

    async fn unlink_in(
        &self,
        t: &Transaction,
        scope: Scope,
        me: &Found,
        unlink: &str,
    ) -> Result<Unlinked, StoreError> {
        let kind = CredentialKind::Oidc.number();
        let key = CredentialKey { tenant: scope.tenant, identity: me.identity_id, kind };
        let Some(entry) = t.get::<Credentials>(&key).await? else {
            return Ok(Unlinked::NotThere);
        };
        let mut record = entry.record;
        let exact = record.links.iter().position(|link| link.identifier() == unlink);
        let mut of_provider =
            (0..record.links.len()).filter(|at| record.links[*at].provider == unlink);
        // The provider's id alone says which, if there is one only.
        let only = of_provider.next().filter(|_| of_provider.next().is_none());
        let Some(at) = exact.or(only) else { return Ok(Unlinked::NotThere) };
        record.links.remove(at);
        if record.links.is_empty() && !self.has_another_way_in(t, scope, me).await? {
            return Ok(Unlinked::LastWayIn);
        }
        if record.links.is_empty() {
            t.delete::<Credentials>(&key).await?;
            return Ok(Unlinked::Done);
        }
        record.identifiers = record.links.iter().map(|link| link.identifier()).collect();
        record.updated_at = t.now().as_millis();
        t.put::<Credentials>(&key, &record, None).await?;
        Ok(Unlinked::Done)
    }

    /// Whether somebody can log in but by accounts at providers. Each credential is read
    /// with a check, so that of two that are taken away at once one stays.
    async fn has_another_way_in(
        &self,
        t: &Transaction,
        scope: Scope,
        me: &Found,
    ) -> Result<bool, StoreError> {
        let range = Credentials::range(Slot::of_id(&me.identity_id), scope.tenant, |key| {
            key.uuid(&me.identity_id);
        });
        let (found, _) = t.peek_range::<Credentials>(range, KINDS_MAX, Order::Forward).await?;
        for entry in found {
            let Some(kind) = CredentialKind::from_number(entry.key.kind) else { continue };
            let Some(checked) = t.get::<Credentials>(&entry.key).await? else { continue };
            if is_way_in(kind, &checked.record) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_way_in(kind: CredentialKind, record: &CredentialRecord) -> bool {
    match kind {
        CredentialKind::Password => {
            !record.password_hash.is_empty() || !record.imported_hash.is_empty()
        }
        CredentialKind::Passkey | CredentialKind::Code => true,
        _ => false,
    }
}
