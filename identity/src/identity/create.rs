//! Creating an identity (`createIdentity`): its home is a slot of the region that
//! received it, its identifiers are put in the index in the same transaction.

use std::sync::Arc;

use bytes::Bytes;
use cardea_storage::{StoreError, Timestamp, Transaction};
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use super::{
    batch::Receipt,
    credential::{CredentialsRefused, NewPassword, PrepareRejection},
    draft::via_number,
    factors::Factors,
    other_credentials::OtherCredentials,
};
use crate::{
    Service,
    audit::{Act, Actor},
    model::{Credential, Identity, IdentityId, IdentityState, Scope},
    password::{Overloaded, PasswordHash},
    schema::{Channel, Extracted, IdentitySchema, SchemaId, Violation},
    session::CredentialKind,
    table::{
        CredentialKey, CredentialRecord, Credentials, Identities, IdentityKey, IdentityRecord,
        id_bytes,
    },
};

/// The largest metadata of one kind, in bytes of JSON.
pub const METADATA_BYTES_MAX: usize = 64 * 1024;

/// The longest external id, in bytes.
pub const EXTERNAL_ID_BYTES_MAX: usize = 256;

/// An identity to be created.
#[derive(Debug, Clone, Default)]
pub struct NewIdentity {
    /// Its schema; empty for the default.
    pub schema_id: String,
    /// Its traits.
    pub traits: Value,
    /// Whether it may log in.
    pub state: IdentityState,
    /// What everybody with a session may see.
    pub metadata_public: Option<Value>,
    /// What administrators alone may see.
    pub metadata_admin: Option<Value>,
    /// Its password.
    pub password: Option<NewPassword>,
    /// What it logs in by beside that.
    pub others: OtherCredentials,
    /// What is known of its addresses; those that the traits do not give are ignored.
    pub addresses: Vec<ImportedAddress>,
    /// What another system calls it; no other identity has it.
    pub external_id: Option<String>,
    /// The organization that it belongs to.
    pub organization: Option<Uuid>,
}

/// An address brought from elsewhere.
#[derive(Debug, Clone)]
pub struct ImportedAddress {
    /// How it is reached.
    pub via: Channel,
    /// The address.
    pub value: String,
    /// When it was verified, if it was.
    pub verified_at: Option<Timestamp>,
}

/// Why an identity is not created.
#[derive(Debug, Error)]
pub enum CreateRejection {
    /// There is no such schema.
    #[error("there is no identity schema {0:?}")]
    UnknownSchema(String),
    /// The traits are not what the schema says.
    #[error("the traits do not fit the schema")]
    InvalidTraits(Vec<Violation>),
    /// Metadata is larger than [`METADATA_BYTES_MAX`].
    #[error("metadata is larger than {METADATA_BYTES_MAX} bytes")]
    MetadataTooLarge,
    /// The external id is longer than [`EXTERNAL_ID_BYTES_MAX`].
    #[error("the external id is longer than {EXTERNAL_ID_BYTES_MAX} bytes")]
    ExternalIdTooLong,
    /// The credentials are not taken.
    #[error(transparent)]
    Credentials(#[from] CredentialsRefused),
    /// Somebody has one of the identifiers, or the external id.
    #[error("an identity with the same identifier exists already")]
    DuplicateIdentifier,
    /// Too many passwords wait to be hashed.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PrepareRejection> for CreateRejection {
    fn from(rejection: PrepareRejection) -> Self {
        match rejection {
            PrepareRejection::Refused(refused) => Self::Credentials(refused),
            PrepareRejection::Overloaded(overloaded) => Self::Overloaded(overloaded),
        }
    }
}

/// An identity that can be created, as far as is known without asking the store.
pub(super) struct Ready {
    new: NewIdentity,
    schema: Arc<IdentitySchema>,
    found: Extracted,
    hash: Option<PasswordHash>,
}

/// What a new identity's rows are made of.
pub(crate) struct Birth<'a> {
    pub(crate) id: Uuid,
    pub(crate) new: &'a NewIdentity,
    pub(crate) schema_id: &'a SchemaId,
    pub(crate) found: &'a Extracted,
    pub(crate) hash: Option<&'a PasswordHash>,
}

impl Service {
    /// Creates an identity.
    ///
    /// # Errors
    /// See [`CreateRejection`]; nothing is created then, unless the store says that
    /// the outcome is unknown.
    pub async fn create_identity(
        &self,
        scope: Scope,
        new: NewIdentity,
    ) -> Result<Identity, CreateRejection> {
        let ready = &self.make_ready(new).await?;
        let id = self.mint_local();
        let create = |t| async move { self.create_in(&t, scope, (id, ready), None).await };
        Ok(self.store.transact(create).await?.value)
    }

    /// Checks an identity by its schema, and hashes its password.
    pub(super) async fn make_ready(&self, new: NewIdentity) -> Result<Ready, CreateRejection> {
        let schema = self
            .newest_schema(&new.schema_id)
            .await?
            .ok_or_else(|| CreateRejection::UnknownSchema(new.schema_id.clone()))?;
        let found = schema.check(&new.traits).map_err(CreateRejection::InvalidTraits)?;
        metadata_bytes(new.metadata_public.as_ref()).ok_or(CreateRejection::MetadataTooLarge)?;
        metadata_bytes(new.metadata_admin.as_ref()).ok_or(CreateRejection::MetadataTooLarge)?;
        let external_id = new.external_id.as_deref().unwrap_or_default();
        if external_id.len() > EXTERNAL_ID_BYTES_MAX {
            return Err(CreateRejection::ExternalIdTooLong);
        }
        let hash = match new.password.clone() {
            Some(password) => Some(self.prepare_password(password).await?),
            None => None,
        };
        Ok(Ready { new, schema, found, hash })
    }

    /// Creates an identity in a transaction, unless a receipt says that it was created
    /// before.
    pub(super) async fn create_in(
        &self,
        t: &Transaction,
        scope: Scope,
        (id, ready): (Uuid, &Ready),
        receipt: Option<&Receipt>,
    ) -> Result<Identity, CreateRejection> {
        if let Some(receipt) = receipt
            && let Some(identity) = self.made_before(t, scope, receipt, id).await?
        {
            return Ok(identity);
        }
        let birth = Birth {
            id,
            new: &ready.new,
            schema_id: ready.schema.id(),
            found: &ready.found,
            hash: ready.hash.as_ref(),
        };
        match self.bear(t, scope, &birth).await? {
            Some((identity, _)) => {
                let what = (Act::IdentityCreated, Actor::Administrator);
                self.audit(t, scope, id, what, Value::Null).await?;
                Ok(identity)
            }
            None => Err(CreateRejection::DuplicateIdentifier),
        }
    }

    /// Writes the rows of a new identity; `None` if somebody has an identifier.
    pub(crate) async fn bear(
        &self,
        t: &Transaction,
        scope: Scope,
        birth: &Birth<'_>,
    ) -> Result<Option<(Identity, IdentityRecord)>, StoreError> {
        let Birth { id, new, schema_id, found, hash } = birth;
        let now = t.now();
        let kind = CredentialKind::Password;
        let identifiers = &found.password_identifiers;
        let Ok(digests) = self.claim(t, scope, *id, kind, identifiers, &[]).await? else {
            return Ok(None);
        };
        if self.claim_addresses(t, scope, *id, found, None).await?.is_err() {
            return Ok(None);
        }
        let external_id = new.external_id.as_deref().unwrap_or_default();
        let Ok(external_id_digest) =
            self.claim_external(t, scope, *id, external_id, &Bytes::new()).await?
        else {
            return Ok(None);
        };
        let Ok(others) =
            self.other_records(t, scope, *id, &new.others, &Factors::default()).await?
        else {
            return Ok(None);
        };
        let mut verifiable = self.carry_over(scope, &found.verifiable, &[], now);
        for imported in &new.addresses {
            let value = imported.value.trim().to_lowercase();
            let via = via_number(imported.via);
            for address in verifiable.iter_mut().filter(|a| a.via == via && a.value == value) {
                address.verified_at = imported.verified_at.map_or(0, Timestamp::as_millis);
            }
        }
        let record = IdentityRecord {
            schema_id: schema_id.0.clone(),
            traits: new.traits.to_string().into(),
            inactive: new.state == IdentityState::Inactive,
            state_changed_at: now.as_millis(),
            metadata_public: metadata_bytes(new.metadata_public.as_ref()).unwrap_or_default(),
            metadata_admin: metadata_bytes(new.metadata_admin.as_ref()).unwrap_or_default(),
            created_at: now.as_millis(),
            updated_at: now.as_millis(),
            verifiable,
            recovery: self.carry_over(scope, &found.recovery, &[], now),
            session_epoch: 1,
            external_id: external_id.to_owned(),
            external_id_digest,
            organization: new.organization.as_ref().map(id_bytes).unwrap_or_default(),
            import_digest: Bytes::new(),
            imported_at: 0,
            second_factor: others.has_second(),
        };
        t.insert::<Identities>(&IdentityKey { tenant: scope.tenant, id: *id }, &record, None);
        let mut identity = Identity::of(IdentityId(*id), &record);
        if !identifiers.is_empty() || hash.is_some() {
            let mut credential = CredentialRecord {
                identifiers: identifiers.clone(),
                identifier_digests: digests,
                created_at: now.as_millis(),
                updated_at: now.as_millis(),
                ..CredentialRecord::default()
            };
            if let Some(hash) = hash {
                self.store_hash(*id, hash, &mut credential);
            }
            let key = CredentialKey { tenant: scope.tenant, identity: *id, kind: kind.number() };
            t.insert::<Credentials>(&key, &credential, None);
            identity.credentials.push(Credential::of(kind, &credential, false));
        }
        for (kind, credential) in others.iter() {
            let key = CredentialKey { tenant: scope.tenant, identity: *id, kind: kind.number() };
            t.insert::<Credentials>(&key, credential, None);
            identity.credentials.push(Credential::of(kind, credential, false));
        }
        Ok(Some((identity, record)))
    }
}

/// Metadata as it is kept: empty for none and for null; `None` if too large.
pub(crate) fn metadata_bytes(value: Option<&Value>) -> Option<Bytes> {
    match value {
        None | Some(Value::Null) => Some(Bytes::new()),
        Some(value) => {
            let text = value.to_string();
            (text.len() <= METADATA_BYTES_MAX).then(|| text.into())
        }
    }
}
