//! Removing a credential (`deleteIdentityCredentials`). The last one that lets somebody
//! in stays, and so do codes and passkeys, which only their owner removes; as in Kratos.

use bytes::Bytes;
use cardea_storage::{Slot, StoreError, Transaction, engine::Order};
use serde_json::json;
use thiserror::Error;

use super::{factors::Factors, read::CREDENTIALS_MAX};
use crate::{
    Service,
    audit::{Act, Actor},
    model::{IdentityId, Scope},
    session::CredentialKind,
    table::{Credentials, Identities, IdentityKey},
};

/// Why a credential is not removed.
#[derive(Debug, Error)]
pub enum RemoveRejection {
    /// There is no identity of that id.
    #[error("there is no such identity")]
    NotFound,
    /// It has no such credential.
    #[error("there is no such credential")]
    NoSuchCredential,
    /// It is the last one that lets it in.
    #[error("the last first factor stays")]
    LastFirstFactor,
    /// Credentials of that kind are removed by their owner alone.
    #[error("credentials of that kind are not removed by an administrator")]
    NotRemovable,
    /// Which account at another provider is not said.
    #[error("an identifier is needed")]
    IdentifierRequired,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Removes the credential of a kind; of accounts at other providers the one with
    /// that identifier.
    ///
    /// # Errors
    /// See [`RemoveRejection`]; nothing is removed then.
    pub async fn remove_credential(
        &self,
        scope: Scope,
        id: IdentityId,
        kind: CredentialKind,
        identifier: Option<&str>,
    ) -> Result<(), RemoveRejection> {
        self.store
            .transact(|t| async move {
                let key = IdentityKey { tenant: scope.tenant, id: id.0 };
                let identity = t.get::<Identities>(&key).await?.ok_or(RemoveRejection::NotFound)?;
                let credentials = self.credentials_of(&t, scope, id).await?;
                let found = credentials.iter().find(|entry| entry.key.kind == kind.number());
                let found = found.ok_or(RemoveRejection::NoSuchCredential)?;
                let mut record = found.record.clone();
                let mut factors = Factors::of(&credentials);
                // The trail names nobody's account, nor an address.
                let mut provider = None;
                let removed = match kind {
                    CredentialKind::Password => {
                        if !factors.has(kind) {
                            return Err(RemoveRejection::NoSuchCredential);
                        }
                        // Its identifiers stay: they are the traits'.
                        record.password_hash.clear();
                        record.imported_hash = Bytes::new();
                        1
                    }
                    CredentialKind::Oidc => {
                        let identifier = identifier.ok_or(RemoveRejection::IdentifierRequired)?;
                        let at = record.identifiers.iter().position(|known| known == identifier);
                        let at = at.ok_or(RemoveRejection::NoSuchCredential)?;
                        provider = record.links.get(at).map(|link| link.provider.clone());
                        record.unlink(at);
                        1
                    }
                    CredentialKind::Webauthn => factors.security_keys(true).count(),
                    CredentialKind::Totp | CredentialKind::LookupSecret => 0,
                    _ => return Err(RemoveRejection::NotRemovable),
                };
                if removed > 0 && factors.ways_in() <= removed {
                    return Err(RemoveRejection::LastFirstFactor);
                }
                let now = t.now().as_millis();
                record.updated_at = now;
                let is_empty = kind != CredentialKind::Password
                    && (removed == 0 || record.identifiers.is_empty());
                if is_empty {
                    t.delete::<Credentials>(&found.key).await?;
                    factors.remove(kind);
                } else {
                    t.put::<Credentials>(&found.key, &record, None).await?;
                    factors.set(kind, record);
                }
                let mut identity = identity.record;
                // Nobody is asked for a second factor who has none any more.
                identity.second_factor = factors.has_second();
                identity.updated_at = now;
                t.put::<Identities>(&key, &identity, None).await?;
                let mut details = json!({"type": kind.name()});
                if let Some(provider) = provider {
                    details["provider"] = provider.into();
                }
                let what = (Act::CredentialRemoved, Actor::Administrator);
                self.audit(&t, scope, id.0, what, details).await?;
                Ok(())
            })
            .await
            .map(|done| done.value)
    }

    /// The credentials of an identity, with a check that there are no others.
    pub(crate) async fn credentials_of(
        &self,
        t: &Transaction,
        scope: Scope,
        id: IdentityId,
    ) -> Result<Vec<cardea_storage::Entry<Credentials>>, StoreError> {
        let range = Credentials::range_of(Slot::of_id(&id.0), scope.tenant, &id.0);
        Ok(t.scan::<Credentials>(range, CREDENTIALS_MAX, Order::Forward).await?.0)
    }
}
