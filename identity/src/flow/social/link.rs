//! Linking an account at a provider to an identity.

use bytes::Bytes;
use cardea_storage::{Secret, Slot, StoreError, Timestamp, Transaction};
use serde_json::json;
use uuid::Uuid;

use super::{
    Pending,
    arrive::{ArrivalRejection, Arrived, Guest, not_shown},
};
use crate::{
    Service,
    audit::{Act, Actor},
    flow::{
        Flow, FlowState,
        login::Settled,
        sent_code::EMAIL,
        settings::{CONSULTED_MAX, Change, SettingsRejection},
    },
    model::{Client, FlowId, Identity, IdentityId, LinkedAccount, Scope},
    session::CredentialKind,
    social::{claims::Stranger, exchange::Tokens},
    table::{
        CredentialKey, CredentialRecord, Credentials, FlowRecord, Identities, IdentityKey,
        LinkRecord, ProviderSubjectKey, ProviderSubjects,
    },
    ui::Text,
};

/// Most accounts of an identity.
const LINKS_MAX: usize = 32;

/// Why an account is not linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::flow) enum NotLinked {
    /// It is another identity's.
    Taken,
    /// There are too many already.
    TooMany,
    /// An organization signs it in.
    Managed,
    /// Hooks were asked about somebody who has changed since.
    Overtaken,
}

impl Service {
    /// Which account an identity has been logged in by: it must be linked still, or is
    /// linked now. Its tokens are kept.
    pub(super) fn settle_link(
        &self,
        identity: Uuid,
        now: Option<&CredentialRecord>,
        (pending, links): (&Pending, bool),
        at: Timestamp,
    ) -> Settled {
        let mut record = now.cloned().unwrap_or_default();
        let Pending { provider, issuer, subject, .. } = pending;
        let known = record.links.iter_mut().find(|link| link.is(provider, issuer, subject));
        match known {
            Some(link) => {
                link.used_at = at.as_millis();
                let tokens = self.seal_tokens(identity, &pending.tokens);
                if !tokens.is_empty() {
                    link.tokens = tokens;
                }
                if !pending.label.is_empty() {
                    link.label.clone_from(&pending.label);
                }
                Settled::Becomes(Box::new(record))
            }
            // The transaction does it, by what waits in the flow.
            None if links => Settled::Kept,
            // It was unlinked since it was looked up.
            None => Settled::Changed,
        }
    }

    /// Adds an account to a credential.
    pub(super) fn add_link(
        &self,
        scope: Scope,
        identity: Uuid,
        record: &mut CredentialRecord,
        pending: &Pending,
        now: Timestamp,
    ) {
        let Pending { provider, issuer, subject, label, tokens, .. } = pending;
        let digests = self.account_digests(scope.tenant, (provider, issuer, subject));
        let digest = digests.first().map(|digest| Bytes::copy_from_slice(digest));
        let link = LinkRecord {
            provider: provider.clone(),
            issuer: issuer.clone(),
            subject: subject.clone(),
            digest: digest.unwrap_or_default(),
            tokens: self.seal_tokens(identity, tokens),
            label: label.clone(),
            linked_at: now.as_millis(),
            used_at: now.as_millis(),
        };
        if record.created_at == 0 {
            record.created_at = now.as_millis();
        }
        record.updated_at = now.as_millis();
        record.identifiers.push(link.identifier());
        record.links.push(link);
    }

    /// Writes a link into a transaction, if the account is nobody else's.
    pub(in crate::flow) async fn link_in(
        &self,
        t: &Transaction,
        scope: Scope,
        (identity, client): (Uuid, &Client),
        pending: &Pending,
    ) -> Result<Result<(), NotLinked>, StoreError> {
        let Pending { provider, issuer, subject, .. } = pending;
        let digests = self.account_digests(scope.tenant, (provider, issuer, subject));
        let key = |digest| ProviderSubjectKey { tenant: scope.tenant, digest };
        let keys: Vec<_> = digests.into_iter().map(key).collect();
        let holders = t.get_many::<ProviderSubjects>(&keys).await?;
        if holders.iter().flatten().any(|holder| holder.record.id() != identity) {
            return Ok(Err(NotLinked::Taken));
        }
        let kind = CredentialKind::Oidc.number();
        let key = CredentialKey { tenant: scope.tenant, identity, kind };
        let mut record = t.get::<Credentials>(&key).await?.map(|e| e.record).unwrap_or_default();
        if record.links.iter().any(|link| link.is(provider, issuer, subject)) {
            return Ok(Ok(()));
        }
        if record.links.len() >= LINKS_MAX {
            return Ok(Err(NotLinked::TooMany));
        }
        self.add_link(scope, identity, &mut record, pending, t.now());
        t.put::<Credentials>(&key, &record, None).await?;
        let what = (Act::AccountLinked, Actor::Oneself(client));
        self.audit(t, scope, identity, what, json!({"provider": provider})).await?;
        Ok(Ok(()))
    }

    /// Links the account that a login is to bring with it; `false` if whoever logs in
    /// is not whom it is to be linked to.
    pub(in crate::flow) async fn link_pending(
        &self,
        t: &Transaction,
        scope: Scope,
        (id, record): (FlowId, &FlowRecord),
        (account, client): (Uuid, &Client),
    ) -> Result<bool, StoreError> {
        let Some(pending) = self.pending(id, record) else { return Ok(true) };
        if !pending.is_for(account) {
            return Ok(false);
        }
        if let Some(email) = &pending.asserted_email {
            let key = IdentityKey { tenant: scope.tenant, id: account };
            let identity = t.get::<Identities>(&key).await?.map(|entry| entry.record);
            let verified = identity.is_some_and(|identity| {
                let mut addresses = identity.verifiable.iter();
                addresses.any(|a| a.via == EMAIL && a.value == *email && a.verified_at != 0)
            });
            if !verified {
                return Ok(false);
            }
        }
        Ok(self.link_in(t, scope, (account, client), &pending).await?.is_ok())
    }

    /// Who waits to be signed up or linked in a flow.
    pub(in crate::flow) fn pending(&self, id: FlowId, record: &FlowRecord) -> Option<Pending> {
        if record.social_pending.is_empty() {
            return None;
        }
        let opened = self.keys.seal.open(&pending_of(id), &record.social_pending).ok()?;
        serde_json::from_slice(opened.expose()).ok()
    }

    /// Seals who waits.
    pub(super) fn seal_pending(&self, id: FlowId, pending: &Pending) -> Bytes {
        let plain = serde_json::to_vec(pending).unwrap_or_default();
        self.keys.seal.seal(self.store.entropy().as_ref(), &pending_of(id), &plain)
    }

    /// A provider's tokens as they are kept; empty for none.
    fn seal_tokens(&self, identity: Uuid, tokens: &Tokens) -> Bytes {
        if *tokens == Tokens::default() {
            return Bytes::new();
        }
        let plain = serde_json::to_vec(tokens).unwrap_or_default();
        self.keys.seal.seal(self.store.entropy().as_ref(), &tokens_of(identity), &plain)
    }

    /// A provider's tokens, as far as there are any.
    fn read_tokens(&self, identity: Uuid, link: &LinkRecord) -> Tokens {
        if link.tokens.is_empty() {
            return Tokens::default();
        }
        match self.keys.seal.open(&tokens_of(identity), &link.tokens) {
            Ok(plain) => serde_json::from_slice(plain.expose()).unwrap_or_default(),
            Err(_) => {
                tracing::error!(%identity, "a provider's tokens do not open; their key is gone");
                Tokens::default()
            }
        }
    }

    /// The accounts of a credential, with their tokens.
    pub(crate) fn accounts_of(
        &self,
        identity: Uuid,
        record: &CredentialRecord,
    ) -> Vec<LinkedAccount> {
        let account = |link: &LinkRecord| {
            let Tokens { access_token, refresh_token, id_token } = self.read_tokens(identity, link);
            let provider = self.settings.providers.get(&link.provider);
            LinkedAccount {
                provider: link.provider.clone(),
                organization: provider.and_then(|provider| provider.organization),
                subject: link.subject.clone(),
                access_token: Secret::new(access_token),
                refresh_token: Secret::new(refresh_token),
                id_token: Secret::new(id_token),
            }
        };
        record.links.iter().map(account).collect()
    }

    /// Links an account to the identity whose settings they are, if hooks let it.
    pub(super) async fn link_mine(
        &self,
        guest: &Guest<'_>,
        flow: Flow,
        stranger: &Stranger,
        tokens: Tokens,
    ) -> Result<Arrived, ArrivalRejection> {
        let pending = &Pending::of(&guest.provider.id, stranger, tokens, Default::default());
        for _ in 0..CONSULTED_MAX {
            if let Some(arrived) = self.link_as_asked(guest, flow.clone(), pending).await? {
                return Ok(arrived);
            }
        }
        Err(StoreError::Contended { attempts: CONSULTED_MAX }.into())
    }

    /// The same; `None` if it was overtaken, and hooks are to be asked again.
    async fn link_as_asked(
        &self,
        guest: &Guest<'_>,
        mut flow: Flow,
        pending: &Pending,
    ) -> Result<Option<Arrived>, ArrivalRejection> {
        let Guest { scope, id, record, proof, client, .. } = *guest;
        let Some(proof) = proof else { return Err(ArrivalRejection::NoSession) };
        let subject = crate::table::id_of(&record.subject);
        let Some(me) = self.me(scope, proof).await? else {
            return Err(ArrivalRejection::NoSession);
        };
        let asked = self.consult_links((&me, &mut flow), (id, record), client).await;
        let consulted = &match asked {
            Ok(consulted) => consulted,
            Err(SettingsRejection::Invalid(flow)) => return Ok(Some(Arrived::Form(flow))),
            Err(rejection) => return Err(not_shown(rejection)),
        };
        let (occasion, letters) = &self.links_changed((id, record), subject, client);
        let calls = &self.draw_calls(occasion, Slot::of_id(&subject));
        let done = self
            .store
            .transact(|t| async move {
                let me = self.find_session(&t, scope, proof, true).await?;
                let me = me.filter(|me| me.accepted(t.now()).is_some());
                let me = me.filter(|me| me.identity_id == subject);
                // It may have got a second factor since it left.
                let Some(me) = me.filter(|me| self.may_see_settings(me)) else {
                    return Ok::<_, StoreError>(None);
                };
                if self.bound_to(me.identity.organization()).is_some() {
                    return Ok(Some(Err(NotLinked::Managed)));
                }
                if !self.still_stands(consulted, occasion, &me.identity) {
                    return Ok(Some(Err(NotLinked::Overtaken)));
                }
                if let Err(why) = self.link_in(&t, scope, (subject, client), pending).await? {
                    return Ok(Some(Err(why)));
                }
                let told = (&consulted.edits, letters, Change::AccountLinked);
                let identity = self.settle_links(&t, scope, me, told).await?;
                let told = Identity::of(IdentityId(subject), &identity);
                self.post_calls((&t, scope), occasion, calls, Some(&told), None);
                Ok(Some(Ok(())))
            })
            .await?
            .value;
        match done {
            None => Err(ArrivalRejection::NoSession),
            Some(Err(why)) => {
                flow.ui.say_once(match why {
                    NotLinked::Taken => Text::account_linked_elsewhere(),
                    NotLinked::TooMany => Text::generic("There are too many linked accounts."),
                    NotLinked::Managed => Text::managed_by_organization(),
                    NotLinked::Overtaken => return Ok(None),
                });
                Ok(Some(Arrived::Form(Box::new(flow))))
            }
            Some(Ok(())) => {
                self.posted();
                self.calls_posted(calls);
                let shown = self.fresh_settings(scope, id, Some(proof)).await;
                if let Ok((mut flow, _)) = shown {
                    flow.state = FlowState::Success;
                    flow.ui.messages = vec![Text::settings_saved()];
                    self.keep_form(scope, &flow).await?;
                }
                Ok(Some(Arrived::Linked))
            }
        }
    }
}

fn pending_of(id: FlowId) -> String {
    format!("account waiting in flow {id}")
}

fn tokens_of(identity: Uuid) -> String {
    format!("provider tokens of {identity}")
}
