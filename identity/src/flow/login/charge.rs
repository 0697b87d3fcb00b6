//! The charge: an attempt is counted before what it shows is looked at.

use cardea_storage::{Table, Timestamp};

use super::{Attempt, LoginRejection, decode};
use crate::{
    Service,
    session::{Aal, CredentialKind},
    table::{
        Attempts, AttemptsKey, CredentialKey, CredentialRecord, Credentials, Identities,
        IdentityKey, IdentityRecord,
    },
};

/// An account as the charge found it.
pub(super) struct Charged {
    pub(super) identity: Option<IdentityRecord>,
    pub(super) credential: Option<CredentialRecord>,
    /// When it was charged, by the store's time.
    pub(super) at: Timestamp,
}

impl Service {
    /// Charges an attempt, and reads what it is checked by.
    pub(super) async fn charge_login(
        &self,
        attempt: &Attempt<'_>,
    ) -> Result<Charged, LoginRejection> {
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
                Ok::<_, LoginRejection>(Charged { identity, credential, at: now })
            })
            .await?;
        Ok(done.value)
    }
}

impl Attempt<'_> {
    pub(super) fn credential_key(&self) -> CredentialKey {
        let kind: CredentialKind = self.factor.kind;
        CredentialKey { tenant: self.scope.tenant, identity: self.account, kind: kind.number() }
    }

    /// The counter that unknown sources share, and that of this source. Second factors
    /// have counters of their own: who knows the password cannot clear them.
    pub(super) fn counters(&self) -> (AttemptsKey, AttemptsKey) {
        let tenant = self.scope.tenant;
        if self.factor.aal == Aal::Aal2 {
            return (
                AttemptsKey::shared_second(tenant, self.account),
                AttemptsKey::own_second(tenant, self.account, &self.source),
            );
        }
        (
            AttemptsKey::shared(tenant, self.account),
            AttemptsKey::own(tenant, self.account, &self.source),
        )
    }
}
