//! Reading an identity (`getIdentity`).

use cardea_storage::{
    Consistency, StoreError, Table,
    engine::Order,
    store::{Read, ReadRequest, Scan},
};
use thiserror::Error;

use crate::{
    Service,
    model::{Credential, Identity, IdentityId, Scope},
    session::CredentialKind,
    table::{Credentials, ExternalIdKey, ExternalIds, Identities, IdentityKey},
};

/// Most credentials of an identity, one of each kind.
pub(crate) const CREDENTIALS_MAX: u32 = 64;

/// What of the credentials is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CredentialDetail {
    /// Their kinds, identifiers and times.
    #[default]
    Outline,
    /// The argon2id hash of the password, too.
    WithPasswordHash,
    /// Accounts at providers and their tokens, too.
    WithAccounts,
    /// All of that.
    WithAll,
}

impl CredentialDetail {
    /// More of it.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        match (self, more) {
            (Self::Outline, other) | (other, Self::Outline) => other,
            (a, b) if a == b => a,
            _ => Self::WithAll,
        }
    }
}

/// Why an identity is not read.
#[derive(Debug, Error)]
pub enum ReadRejection {
    /// There is none of that id.
    #[error("there is no such identity")]
    NotFound,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Times that it is looked up who has an external id, while that changes.
const LOOKUPS_MAX: u32 = 4;

impl Service {
    /// Who has an external id (`getIdentityByExternalID`), with its credentials. The index and
    /// the identity are two reads: where the second does not bear out the first, since the id
    /// has gone to another one or a replica lags, both are done again, strongly.
    ///
    /// # Errors
    /// See [`ReadRejection`].
    pub async fn identity_by_external_id(
        &self,
        scope: Scope,
        external_id: &str,
        detail: CredentialDetail,
        mut consistency: Consistency,
    ) -> Result<Identity, ReadRejection> {
        for _ in 0..LOOKUPS_MAX {
            let id = self.external_holder(scope, external_id, &consistency).await?;
            match self.identity(scope, id, detail, consistency).await {
                Ok(identity) if identity.external_id.as_deref() == Some(external_id) => {
                    return Ok(identity);
                }
                Ok(_) | Err(ReadRejection::NotFound) => consistency = Consistency::Strong,
                Err(failed) => return Err(failed),
            }
        }
        Err(StoreError::Contended { attempts: LOOKUPS_MAX }.into())
    }

    async fn external_holder(
        &self,
        scope: Scope,
        external_id: &str,
        consistency: &Consistency,
    ) -> Result<IdentityId, ReadRejection> {
        let mut request = ReadRequest::new(consistency.clone());
        for digest in self.external_digests(scope.tenant, external_id) {
            let key = ExternalIdKey { tenant: scope.tenant, digest };
            request = request.get(ExternalIds::key(&key));
        }
        let answer = self.store.read(request).await?;
        let row = answer.results.into_iter().find_map(cardea_storage::store::Rows::into_row);
        let row = row.ok_or(ReadRejection::NotFound)?;
        let entry = ExternalIds::decode(&row).map_err(StoreError::from)?;
        Ok(IdentityId(entry.record.id()))
    }

    /// An identity with its credentials.
    ///
    /// # Errors
    /// See [`ReadRejection`].
    pub async fn identity(
        &self,
        scope: Scope,
        id: IdentityId,
        detail: CredentialDetail,
        consistency: Consistency,
    ) -> Result<Identity, ReadRejection> {
        let key = IdentityKey { tenant: scope.tenant, id: id.0 };
        let slot = cardea_storage::Slot::of_id(&id.0);
        let mut request = ReadRequest::new(consistency).get(Identities::key(&key));
        request.reads.push(Read::Scan(Scan {
            range: Credentials::range_of(slot, scope.tenant, &id.0),
            limit: CREDENTIALS_MAX,
            order: Order::Forward,
        }));
        let mut results = self.store.read(request).await?.results.into_iter();
        let row = results.next().and_then(cardea_storage::store::Rows::into_row);
        let row = row.ok_or(ReadRejection::NotFound)?;
        let entry = Identities::decode(&row).map_err(StoreError::from)?;
        let mut identity = Identity::of(id, &entry.record);
        for row in results.next().unwrap_or_default().rows {
            let entry = Credentials::decode(&row).map_err(StoreError::from)?;
            if let Some(kind) = CredentialKind::from_number(entry.key.kind) {
                let with = |wanted| matches!(detail, CredentialDetail::WithAll) || detail == wanted;
                let with_hash = with(CredentialDetail::WithPasswordHash);
                let mut credential = Credential::of(kind, &entry.record, with_hash);
                if with(CredentialDetail::WithAccounts) {
                    credential.accounts = self.accounts_of(id.0, &entry.record);
                }
                identity.credentials.push(credential);
            }
        }
        Ok(identity)
    }
}
