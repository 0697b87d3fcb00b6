//! Replacing what an identity says of itself (`updateIdentity`), and the rules
//! that every change obeys: identifiers follow traits, and whoever becomes
//! inactive loses all sessions in the same write.

use cardea_storage::{StoreError, Transaction};
use serde_json::{Value, json};
use thiserror::Error;
use uuid::Uuid;

use super::{
    create::{EXTERNAL_ID_BYTES_MAX, METADATA_BYTES_MAX, metadata_bytes},
    credential::{CredentialsRefused, NewPassword, PrepareRejection},
    patch::PatchRefused,
};
use crate::{
    Service,
    audit::{Act, Actor},
    model::{Credential, Identity, IdentityId, IdentityState, Scope},
    password::{Overloaded, PasswordHash},
    schema::Violation,
    session::CredentialKind,
    table::{
        CredentialKey, CredentialRecord, Credentials, Identities, IdentityKey, IdentityRecord,
        id_bytes,
    },
};

/// What becomes of a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Edit<T> {
    /// It stays as it was.
    #[default]
    Kept,
    /// It is this, or nothing.
    Set(Option<T>),
}

/// What an identity is to be.
#[derive(Debug, Clone, Default)]
pub struct IdentityChange {
    /// Its schema; empty: as it was.
    pub schema_id: String,
    /// Its traits.
    pub traits: Value,
    /// Whether it may log in; `None`: as it was.
    pub state: Option<IdentityState>,
    /// What everybody with a session may see.
    pub metadata_public: Option<Value>,
    /// What administrators alone may see.
    pub metadata_admin: Option<Value>,
    /// Its new password; `None`: as it was.
    pub password: Option<NewPassword>,
    /// What another system calls it.
    pub external_id: Edit<String>,
    /// The organization that it belongs to.
    pub organization: Edit<Uuid>,
}

/// Why an identity is not changed.
#[derive(Debug, Error)]
pub enum ChangeRejection {
    /// There is none of that id.
    #[error("there is no such identity")]
    NotFound,
    /// There is no such schema.
    #[error("there is no identity schema {0:?}")]
    UnknownSchema(String),
    /// The traits are not what the schema says.
    #[error("the traits do not fit the schema")]
    InvalidTraits(Vec<Violation>),
    /// Metadata is larger than [`METADATA_BYTES_MAX`].
    #[error("metadata is larger than {METADATA_BYTES_MAX} bytes")]
    MetadataTooLarge,
    /// The patch cannot be applied.
    #[error(transparent)]
    Patch(#[from] PatchRefused),
    /// The credentials are not taken.
    #[error(transparent)]
    Credentials(#[from] CredentialsRefused),
    /// The external id is longer than [`EXTERNAL_ID_BYTES_MAX`].
    #[error("the external id is longer than {EXTERNAL_ID_BYTES_MAX} bytes")]
    ExternalIdTooLong,
    /// Somebody else has one of the identifiers, or the external id.
    #[error("an identity with the same identifier exists already")]
    DuplicateIdentifier,
    /// Too many passwords wait to be hashed.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PrepareRejection> for ChangeRejection {
    fn from(rejection: PrepareRejection) -> Self {
        match rejection {
            PrepareRejection::Refused(refused) => Self::Credentials(refused),
            PrepareRejection::Overloaded(overloaded) => Self::Overloaded(overloaded),
        }
    }
}

impl Service {
    /// Replaces schema, traits, state and metadata of an identity, and its password
    /// if one is given.
    ///
    /// # Errors
    /// See [`ChangeRejection`].
    pub async fn update_identity(
        &self,
        scope: Scope,
        id: IdentityId,
        change: IdentityChange,
    ) -> Result<Identity, ChangeRejection> {
        let hash = match change.password.clone() {
            Some(password) => Some(self.prepare_password(password).await?),
            None => None,
        };
        let (change, hash) = (&change, hash.as_ref());
        let done = self
            .store
            .transact(|t| async move {
                let key = IdentityKey { tenant: scope.tenant, id: id.0 };
                let before = t.get::<Identities>(&key).await?.ok_or(ChangeRejection::NotFound)?;
                let was_inactive = before.record.inactive;
                let changed = self.become_changed(&t, key, before.record, change, hash).await?;
                let acts = (was_inactive, change.state, hash.is_some());
                self.audit_change(&t, scope, id, acts).await?;
                Ok::<_, ChangeRejection>(changed)
            })
            .await?;
        Ok(done.value)
    }

    /// Writes what an administrator's change was.
    pub(super) async fn audit_change(
        &self,
        t: &Transaction,
        scope: Scope,
        id: IdentityId,
        (was_inactive, state, password): (bool, Option<IdentityState>, bool),
    ) -> Result<(), StoreError> {
        let turned = match (was_inactive, state) {
            (false, Some(IdentityState::Inactive)) => Some(Act::IdentityDeactivated),
            (true, Some(IdentityState::Active)) => Some(Act::IdentityActivated),
            _ => None,
        };
        let credential = password.then_some(Act::CredentialChanged);
        for act in [Some(Act::IdentityChanged), credential, turned].into_iter().flatten() {
            let details = match act {
                Act::CredentialChanged => json!({"type": "password"}),
                _ => Value::Null,
            };
            self.audit(t, scope, id.0, (act, Actor::Administrator), details).await?;
        }
        Ok(())
    }

    /// Writes a change into a transaction.
    pub(crate) async fn become_changed(
        &self,
        t: &Transaction,
        key: IdentityKey,
        before: IdentityRecord,
        change: &IdentityChange,
        hash: Option<&PasswordHash>,
    ) -> Result<Identity, ChangeRejection> {
        let scope = Scope { tenant: key.tenant };
        let now = t.now();
        let wanted = match change.schema_id.as_str() {
            "" => before.schema_id.as_str(),
            id => id,
        };
        let schema = self
            .newest_schema(wanted)
            .await?
            .ok_or_else(|| ChangeRejection::UnknownSchema(wanted.to_owned()))?;
        let found = schema.check(&change.traits).map_err(ChangeRejection::InvalidTraits)?;
        let metadata = |value: &Option<Value>| {
            metadata_bytes(value.as_ref()).ok_or(ChangeRejection::MetadataTooLarge)
        };

        let kind = CredentialKind::Password;
        let identifiers = &found.password_identifiers;
        let credential_key =
            CredentialKey { tenant: key.tenant, identity: key.id, kind: kind.number() };
        let old = t.get::<Credentials>(&credential_key).await?.map(|entry| entry.record);
        let holds = old.as_ref().map(|old| &old.identifier_digests[..]).unwrap_or_default();
        let digests = self
            .claim(t, scope, key.id, kind, identifiers, holds)
            .await?
            .map_err(|_| ChangeRejection::DuplicateIdentifier)?;
        self.claim_addresses(t, scope, key.id, &found, Some(&before))
            .await?
            .map_err(|_| ChangeRejection::DuplicateIdentifier)?;
        let external_id = match &change.external_id {
            Edit::Kept => before.external_id.clone(),
            Edit::Set(external_id) => external_id.clone().unwrap_or_default(),
        };
        if external_id.len() > EXTERNAL_ID_BYTES_MAX {
            return Err(ChangeRejection::ExternalIdTooLong);
        }
        let external_id_digest = self
            .claim_external(t, scope, key.id, &external_id, &before.external_id_digest)
            .await?
            .map_err(|_| ChangeRejection::DuplicateIdentifier)?;
        let organization = match &change.organization {
            Edit::Kept => before.organization.clone(),
            Edit::Set(organization) => organization.as_ref().map(id_bytes).unwrap_or_default(),
        };
        let mut credential = old.clone().unwrap_or_else(|| CredentialRecord {
            created_at: now.as_millis(),
            ..CredentialRecord::default()
        });
        credential.identifiers.clone_from(identifiers);
        credential.identifier_digests = digests;
        if let Some(hash) = hash {
            self.store_hash(key.id, hash, &mut credential);
        }
        let has_credential = old.is_some() || !identifiers.is_empty() || hash.is_some();
        if has_credential && old.as_ref() != Some(&credential) {
            credential.updated_at = now.as_millis();
            t.put::<Credentials>(&credential_key, &credential, None).await?;
        }

        let inactive = change.state.map_or(before.inactive, |s| s == IdentityState::Inactive);
        let turned = inactive != before.inactive;
        let record = IdentityRecord {
            schema_id: schema.id().0.clone(),
            traits: change.traits.to_string().into(),
            inactive,
            state_changed_at: if turned { now.as_millis() } else { before.state_changed_at },
            metadata_public: metadata(&change.metadata_public)?,
            metadata_admin: metadata(&change.metadata_admin)?,
            created_at: before.created_at,
            updated_at: now.as_millis(),
            verifiable: self.carry_over(scope, &found.verifiable, &before.verifiable, now),
            recovery: self.carry_over(scope, &found.recovery, &before.recovery, now),
            // Its sessions stay ended if it is made active again.
            session_epoch: before.session_epoch + u64::from(turned && inactive),
            external_id,
            external_id_digest,
            organization,
            import_digest: before.import_digest,
            imported_at: before.imported_at,
            second_factor: before.second_factor,
        };
        t.put::<Identities>(&key, &record, None).await?;
        let mut identity = Identity::of(IdentityId(key.id), &record);
        if has_credential {
            identity.credentials.push(Credential::of(kind, &credential, false));
        }
        Ok(identity)
    }
}
