//! Logging in by an account that is linked.

use cardea_storage::{Consistency, StoreError, Table as _, Transaction};
use serde_json::json;
use uuid::Uuid;

use super::{
    Pending,
    arrive::{ArrivalRejection, Arrived, Guest},
    depart::{not_trusted, overlaid},
};
use crate::{
    Service,
    audit::{Act, Actor},
    flow::{
        Flow, LoginRejection,
        login::Attempt,
        settings::{Change, News, is_reached_elsewhere},
    },
    identity::{ChangeRejection, IdentityChange, draft::via_number},
    model::{Scope, json_of, metadata},
    schema::normalize_identifier,
    session::issue::Factor,
    social::{Provider, claims::Stranger, exchange::Tokens, mapping},
    table::{
        AddressRecord, CredentialRecord, Identities, IdentityKey, IdentityRecord,
        ProviderSubjectKey, ProviderSubjects, id_of,
    },
    ui::Text,
};

/// What is made of somebody's identity at a login.
#[derive(Clone, Copy)]
pub(in crate::flow) struct Renewal<'a> {
    /// Who says so.
    provider: &'a Provider,
    /// What it says.
    says: &'a Stranger,
    /// The messages that tell its owner of another address.
    news: &'a News,
}

impl Service {
    /// Whose account it is, if somebody's.
    pub(in crate::flow) async fn holder_of_account(
        &self,
        scope: Scope,
        (provider, issuer, subject): (&str, &str, &str),
    ) -> Result<Option<Uuid>, StoreError> {
        let digests = self.account_digests(scope.tenant, (provider, issuer, subject));
        let key = |digest| ProviderSubjectKey { tenant: scope.tenant, digest };
        let keys: Vec<_> = digests.into_iter().map(|d| ProviderSubjects::key(&key(d))).collect();
        let rows = self.store.view(Consistency::Strong).rows(&keys, false).await?;
        match rows.into_iter().flatten().next() {
            Some(row) => Ok(Some(ProviderSubjects::decode(&row)?.record.id())),
            None => Ok(None),
        }
    }

    /// Logs somebody in who is known, or signs up who is not.
    pub(super) async fn take_in(
        &self,
        guest: &Guest<'_>,
        flow: Flow,
        (stranger, tokens): (Stranger, Tokens),
        typed: serde_json::Value,
    ) -> Result<Arrived, ArrivalRejection> {
        let provider = &guest.provider.id;
        let account = (provider.as_str(), stranger.issuer.as_str(), stranger.subject.as_str());
        match self.holder_of_account(guest.scope, account).await? {
            Some(holder) => {
                let pending = Pending::of(provider, &stranger, tokens, Default::default());
                let renewed = guest.provider.renews.then_some(&stranger);
                self.log_in_known(guest, flow, holder, (&pending, false), renewed).await
            }
            None if !guest.record.subject.is_empty() => Err(ArrivalRejection::IdentityMismatch),
            None => self.take_in_newcomer(guest, flow, (stranger, tokens), typed).await,
        }
    }

    /// Makes an identity what its provider says of it, in the transaction that logs it in.
    /// What the mapping does not name stays. The mapping reads the identity as the
    /// transaction does, so that it undoes nothing that was changed meanwhile.
    pub(in crate::flow) async fn renew_identity(
        &self,
        t: &Transaction,
        attempt: &Attempt<'_>,
        before: IdentityRecord,
        Renewal { provider, says, news }: Renewal<'_>,
    ) -> Result<IdentityRecord, LoginRejection> {
        let key = IdentityKey { tenant: attempt.scope.tenant, id: attempt.account };
        let now = t.now();
        let traits = json_of(&before.traits);
        let (public, admin) = (metadata(&before.metadata_public), metadata(&before.metadata_admin));
        let is = json!({
            "id": key.id.to_string(),
            "schema_id": before.schema_id,
            "traits": traits,
            "metadata_public": public,
            "metadata_admin": admin,
        });
        let mapped = mapping::map(provider, says, is).await.map_err(|untrusted| {
            LoginRejection::NotRenewed(not_trusted(attempt.flow.0, provider, &untrusted))
        })?;
        let change = IdentityChange {
            traits: overlaid(traits.clone(), &mapped.traits),
            metadata_public: mapped.metadata_public.clone().or_else(|| public.clone()),
            metadata_admin: mapped.metadata_admin.clone().or_else(|| admin.clone()),
            ..IdentityChange::default()
        };
        if (&change.traits, &change.metadata_public, &change.metadata_admin)
            == (&traits, &public, &admin)
        {
            return Ok(before);
        }
        let changed = self.become_changed(t, key, before.clone(), &change, None).await;
        if let Err(rejection) = changed {
            return Err(match rejection {
                ChangeRejection::DuplicateIdentifier => LoginRejection::Taken,
                ChangeRejection::Store(error) => LoginRejection::Store(error),
                refused => {
                    let Provider { id, label, .. } = provider;
                    tracing::warn!(%refused, provider = id, "claims do not make an identity");
                    let reason = format!("What {label} says of you now cannot be taken over.");
                    let text = Text::generic_about(&reason, "not_renewed", label.as_str());
                    LoginRejection::NotRenewed(text)
                }
            });
        }
        let Some(entry) = t.get::<Identities>(&key).await? else {
            return Err(LoginRejection::IdentityMismatch);
        };
        let mut after = entry.record;
        if let Some(text) = self.left_behind(&before, &after) {
            return Err(LoginRejection::NotRenewed(text));
        }
        let verified = mapped.verified.iter().map(|(via, value)| (via_number(*via), value));
        let verified: Vec<_> = verified.map(|(via, v)| (via, normalize_identifier(v))).collect();
        let is_new = |address: &&mut AddressRecord| {
            let known = before.verifiable.iter().any(|old| old.value == address.value);
            !known && verified.contains(&(address.via, address.value.clone()))
        };
        for address in after.verifiable.iter_mut().filter(is_new) {
            address.verified_at = now.as_millis();
        }
        t.put::<Identities>(&key, &after, None).await?;
        if is_reached_elsewhere(&before, &after) {
            self.tell(t, attempt.scope, (&before, &after), news, Change::Address);
        }
        let what = (Act::IdentityChanged, Actor::Oneself(attempt.client));
        self.audit(t, attempt.scope, key.id, what, json!({"provider": provider.id})).await?;
        Ok(after)
    }

    /// Logs an identity in by an account; `links` it first if that was decided. It
    /// becomes what is `renewed`, if anything is.
    pub(super) async fn log_in_known(
        &self,
        guest: &Guest<'_>,
        flow: Flow,
        account: Uuid,
        (pending, links): (&Pending, bool),
        renewed: Option<&Stranger>,
    ) -> Result<Arrived, ArrivalRejection> {
        let Guest { scope, id, record, client, proof, .. } = *guest;
        if !record.subject.is_empty() && id_of(&record.subject) != account {
            return Err(ArrivalRejection::IdentityMismatch);
        }
        let source = self.source(scope, client);
        if renewed.is_some() {
            self.source_may_try(scope, &source).await?.map_err(ArrivalRejection::Throttled)?;
        }
        let flow_and_record = (id, record);
        let news = self.draw_news(account, "oidc");
        let attempt = Attempt {
            scope,
            flow: flow_and_record,
            client,
            account,
            source,
            proof,
            factor: Factor::account(guest.provider, &pending.upstream),
            renewal: renewed.map(|says| Renewal { provider: guest.provider, says, news: &news }),
        };
        let settle = |now: Option<&CredentialRecord>, at| {
            self.settle_link(account, now, (pending, links), at)
        };
        let ending = self.finish_login(&attempt, flow, &settle).await;
        if renewed.is_some() {
            self.posted();
        }
        match ending {
            Ok(logged_in) => Ok(Arrived::LoggedIn(Box::new(logged_in.issued))),
            Err(LoginRejection::Invalid(flow)) => Ok(Arrived::Form(flow)),
            Err(LoginRejection::Unverified(started)) => Ok(Arrived::Unverified(started)),
            Err(LoginRejection::Flow(rejection)) => Err(rejection.into()),
            Err(LoginRejection::Disabled) => Err(ArrivalRejection::Disabled),
            Err(LoginRejection::Throttled(early)) => Err(ArrivalRejection::Throttled(early)),
            Err(LoginRejection::Hook(failed)) => Err(failed.into()),
            Err(LoginRejection::Store(error)) => Err(error.into()),
            Err(_) => Err(ArrivalRejection::IdentityMismatch),
        }
    }
}
