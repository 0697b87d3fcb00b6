//! Logging in by an account that is linked.

use cardea_storage::{Consistency, StoreError, Table as _};
use uuid::Uuid;

use super::{
    Pending,
    arrive::{ArrivalRejection, Arrived, Guest},
};
use crate::{
    Service,
    flow::{Flow, LoginRejection, login::Attempt},
    model::Scope,
    session::issue::Factor,
    social::{claims::Stranger, exchange::Tokens},
    table::{CredentialRecord, ProviderSubjectKey, ProviderSubjects, id_of},
};

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
                self.log_in_known(guest, flow, holder, &pending, false).await
            }
            None if !guest.record.subject.is_empty() => Err(ArrivalRejection::IdentityMismatch),
            None => self.take_in_newcomer(guest, flow, (stranger, tokens), typed).await,
        }
    }

    /// Logs an identity in by an account; `links` it first if that was decided.
    pub(super) async fn log_in_known(
        &self,
        guest: &Guest<'_>,
        flow: Flow,
        account: Uuid,
        pending: &Pending,
        links: bool,
    ) -> Result<Arrived, ArrivalRejection> {
        let Guest { scope, id, record, client, proof, .. } = *guest;
        if !record.subject.is_empty() && id_of(&record.subject) != account {
            return Err(ArrivalRejection::IdentityMismatch);
        }
        let source = self.source(scope, client);
        let flow_and_record = (id, record);
        let attempt = Attempt {
            scope,
            flow: flow_and_record,
            client,
            account,
            source,
            proof,
            factor: Factor::account(guest.provider),
        };
        let settle = |now: Option<&CredentialRecord>, at| {
            self.settle_link(account, now, (pending, links), at)
        };
        match self.finish_login(&attempt, flow, &settle).await {
            Ok(logged_in) => Ok(Arrived::LoggedIn(Box::new(logged_in.issued))),
            Err(LoginRejection::Invalid(flow)) => Ok(Arrived::Form(flow)),
            Err(LoginRejection::Flow(rejection)) => Err(rejection.into()),
            Err(LoginRejection::Disabled) => Err(ArrivalRejection::Disabled),
            Err(LoginRejection::Throttled(early)) => Err(ArrivalRejection::Throttled(early)),
            Err(LoginRejection::Hook(failed)) => Err(failed.into()),
            Err(LoginRejection::Store(error)) => Err(error.into()),
            Err(_) => Err(ArrivalRejection::IdentityMismatch),
        }
    }
}
