//! Linking another account, and unlinking one, in settings. Both change how somebody
//! logs in, and need a fresh session. The last way in is never taken away.

use cardea_storage::{Slot, StoreError, Transaction};
use serde_json::json;

use super::{SocialSubmission, depart::Departure};
use crate::{
    Service,
    audit::{Act, Actor},
    flow::{
        Flow, FlowState,
        settings::{Change, SettingsRejection},
    },
    model::{Client, FlowId, Identity, IdentityId, Scope},
    session::{CredentialKind, Proof, check::Found},
    table::{CredentialKey, Credentials, FlowRecord},
    ui::Text,
};

/// What becomes of an unlinking.
enum Unlinked {
    Done,
    NotThere,
    LastWayIn,
    /// An organization holds it.
    NotTheirs,
    NoSession,
    RefreshRequired,
    SecondFactorRequired,
    /// Hooks were asked about somebody who has changed since.
    Overtaken,
}

impl Service {
    /// Links or unlinks, as settings were asked to; `None` if that was overtaken, and is to be
    /// judged again.
    pub(in crate::flow) async fn change_links(
        &self,
        scope: Scope,
        (id, record): (FlowId, &FlowRecord),
        (mut flow, me): (Flow, &Found),
        (proof, link, unlink, client): (&Proof, Option<String>, Option<String>, &Client),
        submission: SocialSubmission,
    ) -> Result<Option<Flow>, SettingsRejection> {
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
            if flow.organization.is_some() {
                flow.ui.say_once(Text::managed_by_organization());
                return Err(SettingsRejection::Invalid(Box::new(flow)));
            }
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
        let consulted = &self.consult_links((me, &mut flow), (id, record), client).await?;
        let (occasion, letters) = &self.links_changed((id, record), subject, client);
        let calls = &self.draw_calls(occasion, Slot::of_id(&subject));
        let done = self
            .store
            .transact(|t| async move {
                let me = self.find_session(&t, scope, proof, true).await?;
                let me = me.filter(|me| me.accepted(t.now()).is_some());
                let Some(me) = me.filter(|me| me.identity_id == subject) else {
                    return Ok(Unlinked::NoSession);
                };
                if !self.may_see_settings(&me) {
                    return Ok(Unlinked::SecondFactorRequired);
                }
                if !self.is_privileged(&me, t.now()) {
                    return Ok(Unlinked::RefreshRequired);
                }
                if !self.still_stands(consulted, occasion, &me.identity) {
                    return Ok(Unlinked::Overtaken);
                }
                let unlinked = self.unlink_in(&t, scope, (&me, client), unlink).await?;
                if matches!(unlinked, Unlinked::Done) {
                    let told = (&consulted.edits, letters, Change::AccountUnlinked);
                    let identity = self.settle_links(&t, scope, me, told).await?;
                    let told = Identity::of(IdentityId(subject), &identity);
                    self.post_calls((&t, scope), occasion, calls, Some(&told), None);
                }
                Ok::<_, StoreError>(unlinked)
            })
            .await?;
        match done.value {
            Unlinked::Done => {
                self.posted();
                self.calls_posted(calls);
                let (mut flow, _) = self.fresh_settings(scope, id, Some(proof)).await?;
                flow.state = FlowState::Success;
                flow.active = Some("oidc".to_owned());
                flow.ui.messages = vec![Text::settings_saved()];
                Ok(Some(flow))
            }
            Unlinked::Overtaken => Ok(None),
            Unlinked::NoSession => Err(SettingsRejection::NoSession),
            Unlinked::RefreshRequired => Err(SettingsRejection::RefreshRequired),
            Unlinked::SecondFactorRequired => Err(SettingsRejection::SecondFactorRequired),
            Unlinked::NotThere => {
                flow.ui.messages.push(Text::generic("This account is not linked."));
                Err(SettingsRejection::Invalid(Box::new(flow)))
            }
            Unlinked::NotTheirs => {
                flow.ui.say_once(Text::managed_by_organization());
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
        (me, client): (&Found, &Client),
        unlink: &str,
    ) -> Result<Unlinked, StoreError> {
        let identity = me.identity_id;
        // Each is read with a check, so that of two ways in that are taken away at once
        // one stays.
        let mut factors = self.checked_factors(t, scope, identity).await?;
        let Some(mut record) = factors.get(CredentialKind::Oidc).cloned() else {
            return Ok(Unlinked::NotThere);
        };
        let exact = record.links.iter().position(|link| link.identifier() == unlink);
        let mut of_provider =
            (0..record.links.len()).filter(|at| record.links[*at].provider == unlink);
        // The provider's id alone says which, if there is one only.
        let only = of_provider.next().filter(|_| of_provider.next().is_none());
        let Some(at) = exact.or(only) else { return Ok(Unlinked::NotThere) };
        let bound = self.bound_to(me.identity.organization());
        let provider = self.settings.providers.get(&record.links[at].provider);
        if bound.is_some() && provider.is_some_and(|found| found.organization == bound) {
            return Ok(Unlinked::NotTheirs);
        }
        let gone = record.links.remove(at);
        record.identifiers = record.links.iter().map(|link| link.identifier()).collect();
        record.updated_at = t.now().as_millis();
        factors.set(CredentialKind::Oidc, record.clone());
        if factors.ways_in() == 0 {
            return Ok(Unlinked::LastWayIn);
        }
        let kind = CredentialKind::Oidc.number();
        let key = CredentialKey { tenant: scope.tenant, identity, kind };
        if record.links.is_empty() {
            t.delete::<Credentials>(&key).await?;
        } else {
            t.put::<Credentials>(&key, &record, None).await?;
        }
        let what = (Act::AccountUnlinked, Actor::Oneself(client));
        self.audit(t, scope, identity, what, json!({"provider": gone.provider})).await?;
        Ok(Unlinked::Done)
    }
}
