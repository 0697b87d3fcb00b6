//! Bringing identities along from Ory Kratos, as they are: ids, times, states, addresses
//! and what they log in with. It can be done again: what did not change there since is
//! left alone, and so is what changed here, so that both may run side by side until the
//! last delta.

use std::fmt;

use bytes::Bytes;
use cardea_storage::{Slot, StoreError, Timestamp, Transaction};
use serde_json::{Value, json};
use thiserror::Error;
use uuid::Uuid;

use super::{
    create::{EXTERNAL_ID_BYTES_MAX, METADATA_BYTES_MAX, metadata_bytes},
    draft::via_number,
    other_credentials::OtherCredentials,
};
use crate::{
    Service,
    audit::{Act, Actor},
    model::{IdentityId, IdentityState, Scope},
    password::{HashRefused, PasswordHash},
    schema::{Channel, Extracted, IdentitySchema, Violation},
    session::{AuthenticationMethod, CredentialKind, TokenKeys},
    table::{
        AddressRecord, CredentialKey, CredentialRecord, Credentials, Identities, IdentityKey,
        IdentityRecord, MethodRecord, SessionKey, SessionRecord, Sessions, id_bytes,
    },
};

/// An identity as it is elsewhere.
#[derive(Debug, Clone)]
pub struct ForeignIdentity {
    /// Its id, which it keeps.
    pub id: IdentityId,
    /// Its schema.
    pub schema_id: String,
    /// Its traits.
    pub traits: Value,
    /// Whether it may log in.
    pub state: IdentityState,
    /// When that changed last.
    pub state_changed_at: Timestamp,
    /// What everybody with a session may see.
    pub metadata_public: Option<Value>,
    /// What administrators alone may see.
    pub metadata_admin: Option<Value>,
    /// The organization that it belongs to.
    pub organization: Option<Uuid>,
    /// What another system calls it.
    pub external_id: Option<String>,
    /// Addresses to be verified.
    pub verifiable: Vec<ForeignAddress>,
    /// Addresses to recover by.
    pub recovery: Vec<ForeignAddress>,
    /// The hash of its password.
    pub password: Option<ForeignPassword>,
    /// What it logs in by beside that. Of an identity that was brought before, kinds that
    /// it has here stay as they are, and accounts at providers are added.
    pub others: OtherCredentials,
    /// Its sessions, whose tokens are known there.
    pub sessions: Vec<ForeignSession>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// A digest of all that is known of it there.
    pub digest: [u8; 32],
}

/// An address as it is elsewhere.
#[derive(Debug, Clone)]
pub struct ForeignAddress {
    /// Its id, which it keeps.
    pub id: Uuid,
    /// How it is reached.
    pub via: Channel,
    /// The address.
    pub value: String,
    /// When it was verified, if it was.
    pub verified_at: Option<Timestamp>,
    /// Whether a message was sent to verify it.
    pub sent: bool,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// A session as it is elsewhere. Here it has another id, which lies where its identity does;
/// its token stays good.
#[derive(Debug, Clone)]
pub struct ForeignSession {
    /// Its id.
    pub id: Uuid,
    /// Its token.
    pub token: cardea_storage::Secret<String>,
    /// How its holder was authenticated.
    pub methods: Vec<AuthenticationMethod>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When its last factor was completed.
    pub authenticated_at: Timestamp,
    /// When it is over.
    pub expires_at: Timestamp,
}

/// A password as it is kept elsewhere.
#[derive(Clone)]
pub struct ForeignPassword {
    /// Its hash, in a form of [`PasswordHash`]; `None` if the server of the password
    /// migration hook knows it.
    pub hash: Option<cardea_storage::Secret<String>>,
    /// When it was set.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl fmt::Debug for ForeignPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignPassword").finish_non_exhaustive()
    }
}

/// What became of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// It is new here.
    Created,
    /// It was brought before, and had changed there.
    Updated,
    /// It was brought before, and nothing changed there.
    Unchanged,
    /// It changed here since it was brought, and stays as it is here.
    ChangedHere,
}

impl Brought {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::ChangedHere => "changed_here",
        }
    }
}

/// What became of an identity, and what of it could not be brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroughtIdentity {
    /// What became of it.
    pub outcome: Brought,
    /// Why its password was left behind; it is to be recovered.
    pub password_left: Option<HashRefused>,
}

/// Why an identity is not brought.
#[derive(Debug, Error)]
pub enum BringRejection {
    /// There is no such schema here.
    #[error("there is no identity schema {0:?}")]
    UnknownSchema(String),
    /// Its traits are not what the schema says.
    #[error("the traits do not fit the schema")]
    InvalidTraits(Vec<Violation>),
    /// Metadata or external id are larger than is taken.
    #[error(
        "metadata is larger than {METADATA_BYTES_MAX} bytes, or the external id than \
         {EXTERNAL_ID_BYTES_MAX}"
    )]
    TooLarge,
    /// Another identity has something that is unique.
    #[error("another identity has the same {0}")]
    Taken(&'static str),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the transaction of a rehearsal is not committed.
enum Stop {
    Rehearsed(Brought),
    Rejected(BringRejection),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Rejected(error.into())
    }
}

impl Service {
    /// Brings an identity along, or only finds out what would become of it.
    ///
    /// # Errors
    /// See [`BringRejection`]; nothing is written then.
    pub async fn bring_identity(
        &self,
        scope: Scope,
        foreign: &ForeignIdentity,
        rehearse: bool,
    ) -> Result<BroughtIdentity, BringRejection> {
        let schema = self
            .newest_schema(&foreign.schema_id)
            .await?
            .ok_or_else(|| BringRejection::UnknownSchema(foreign.schema_id.clone()))?;
        let found = schema.check(&foreign.traits).map_err(BringRejection::InvalidTraits)?;
        let (hash, password_left) = match &foreign.password {
            None => (None, None),
            Some(ForeignPassword { hash: None, .. }) => (Some(PasswordHash::elsewhere()), None),
            Some(ForeignPassword { hash: Some(hash), .. }) => {
                match PasswordHash::parse(hash.expose()) {
                    Ok(hash) => (Some(hash), None),
                    Err(refused) => (None, Some(refused)),
                }
            }
        };
        let (schema, found, hash) = (&schema, &found, hash.as_ref());
        let done = self
            .store
            .transact(|t| async move {
                let outcome = self.bring(&t, scope, foreign, (schema, found, hash)).await;
                let outcome = outcome.map_err(Stop::Rejected)?;
                if rehearse {
                    return Err(Stop::Rehearsed(outcome));
                }
                if matches!(outcome, Brought::Created | Brought::Updated) {
                    let what = (Act::IdentityImported, Actor::Administrator);
                    let details = json!({"outcome": outcome.name()});
                    self.audit(&t, scope, foreign.id.0, what, details).await?;
                }
                Ok(outcome)
            })
            .await;
        match done {
            Ok(done) => Ok(BroughtIdentity { outcome: done.value, password_left }),
            Err(Stop::Rehearsed(outcome)) => Ok(BroughtIdentity { outcome, password_left }),
            Err(Stop::Rejected(rejection)) => Err(rejection),
        }
    }

    async fn bring(
        &self,
        t: &Transaction,
        scope: Scope,
        foreign: &ForeignIdentity,
        (schema, found, hash): (&IdentitySchema, &Extracted, Option<&PasswordHash>),
    ) -> Result<Brought, BringRejection> {
        let id = foreign.id.0;
        let key = IdentityKey { tenant: scope.tenant, id };
        let before = t.get::<Identities>(&key).await?.map(|entry| entry.record);
        let outcome = match &before {
            None => Brought::Created,
            Some(before) if before.import_digest == foreign.digest.as_slice() => {
                return Ok(Brought::Unchanged);
            }
            // Of one that was not brought there is no digest.
            Some(before)
                if before.import_digest.is_empty() || before.updated_at != before.imported_at =>
            {
                return Ok(Brought::ChangedHere);
            }
            Some(_) => Brought::Updated,
        };
        let (kind, taken) = (CredentialKind::Password, BringRejection::Taken);
        let digests = self.claim(t, scope, id, kind, &found.password_identifiers, &[]).await?;
        let digests = digests.map_err(|_| taken("identifier"))?;
        let claimed = self.claim_addresses(t, scope, id, found, None).await?;
        claimed.map_err(|_| taken("address"))?;
        let mut factors = self.factors_of(t, scope, id).await?;
        let others = self.other_records(t, scope, id, &foreign.others, &factors).await?;
        let others = others.map_err(|_| taken("account at a provider, or passkeys"))?;
        for (kind, record) in others.iter() {
            let key = CredentialKey { tenant: scope.tenant, identity: id, kind: kind.number() };
            t.put::<Credentials>(&key, record, None).await?;
            factors.set(kind, record.clone());
        }
        let external_id = foreign.external_id.clone().unwrap_or_default();
        if external_id.len() > EXTERNAL_ID_BYTES_MAX {
            return Err(BringRejection::TooLarge);
        }
        let external_id_digest =
            self.claim_external(t, scope, id, &external_id, &Bytes::new()).await?;
        let external_id_digest = external_id_digest.map_err(|_| taken("external id"))?;
        let metadata =
            |value: &Option<Value>| metadata_bytes(value.as_ref()).ok_or(BringRejection::TooLarge);
        let now = t.now();
        let inactive = foreign.state == IdentityState::Inactive;
        let epoch = before
            .as_ref()
            .map_or(1, |before| before.session_epoch + u64::from(inactive && !before.inactive));
        let known = |addresses: &[ForeignAddress]| -> Vec<AddressRecord> {
            addresses.iter().map(ForeignAddress::record).collect()
        };
        let record = IdentityRecord {
            schema_id: schema.id().0.clone(),
            traits: foreign.traits.to_string().into(),
            inactive,
            state_changed_at: foreign.state_changed_at.as_millis(),
            metadata_public: metadata(&foreign.metadata_public)?,
            metadata_admin: metadata(&foreign.metadata_admin)?,
            created_at: foreign.created_at.as_millis(),
            updated_at: foreign.updated_at.as_millis(),
            verifiable: self.carry_over(scope, &found.verifiable, &known(&foreign.verifiable), now),
            recovery: self.carry_over(scope, &found.recovery, &known(&foreign.recovery), now),
            session_epoch: epoch,
            external_id,
            external_id_digest,
            organization: foreign.organization.as_ref().map(id_bytes).unwrap_or_default(),
            import_digest: Bytes::copy_from_slice(&foreign.digest),
            imported_at: foreign.updated_at.as_millis(),
            second_factor: factors.has_second(),
        };
        t.put::<Identities>(&key, &record, None).await?;
        for session in &foreign.sessions {
            self.bring_session(t, scope, (id, &record), session).await?;
        }
        let key = CredentialKey { tenant: scope.tenant, identity: id, kind: kind.number() };
        if found.password_identifiers.is_empty() && hash.is_none() {
            t.delete::<Credentials>(&key).await?;
            return Ok(outcome);
        }
        let times = foreign
            .password
            .as_ref()
            .map_or((foreign.created_at, foreign.updated_at), |password| {
                (password.created_at, password.updated_at)
            });
        let mut credential = CredentialRecord {
            identifiers: found.password_identifiers.clone(),
            identifier_digests: digests,
            created_at: times.0.as_millis(),
            updated_at: times.1.as_millis(),
            ..CredentialRecord::default()
        };
        if let Some(hash) = hash {
            self.store_hash(id, hash, &mut credential);
        }
        t.put::<Credentials>(&key, &credential, None).await?;
        Ok(outcome)
    }
}

impl Service {
    /// Brings a session along, once: one that was revoked here since stays so.
    async fn bring_session(
        &self,
        t: &Transaction,
        scope: Scope,
        (owner, identity): (Uuid, &IdentityRecord),
        foreign: &ForeignSession,
    ) -> Result<(), StoreError> {
        let mut drawn = [0; 16];
        drawn.copy_from_slice(&blake3::hash(foreign.id.as_bytes()).as_bytes()[..16]);
        let key = SessionKey { tenant: scope.tenant, id: Slot::of_id(&owner).mint(drawn) };
        let digest = TokenKeys::imported(scope.tenant, foreign.token.expose());
        let Some(digest) = digest.filter(|_| foreign.expires_at > t.now()) else { return Ok(()) };
        if identity.inactive || t.get::<Sessions>(&key).await?.is_some() {
            return Ok(());
        }
        let session = SessionRecord {
            identity: id_bytes(&owner),
            issued_at: foreign.issued_at.as_millis(),
            authenticated_at: foreign.authenticated_at.as_millis(),
            expires_at: foreign.expires_at.as_millis(),
            methods: foreign.methods.iter().map(MethodRecord::of).collect(),
            epoch: identity.session_epoch,
            era: self.session_era(t, scope, &owner, true).await?,
            imported_digest: Bytes::copy_from_slice(&digest.0),
            ..SessionRecord::default()
        };
        t.put::<Sessions>(&key, &session, Some(self.kept_until(foreign.expires_at))).await
    }
}

impl ForeignAddress {
    fn record(&self) -> AddressRecord {
        AddressRecord {
            id: id_bytes(&self.id),
            via: via_number(self.via),
            value: self.value.trim().to_lowercase(),
            verified_at: self.verified_at.map_or(0, Timestamp::as_millis),
            created_at: self.created_at.as_millis(),
            updated_at: self.updated_at.as_millis(),
            sent: self.sent,
            digest: Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use cardea_storage::Consistency;

    use super::*;
    use crate::{
        Settings,
        identity::{CredentialDetail, Edit, IdentityChange},
        session::{Aal, Proof},
        testing::{World, secret, settings, traits},
    };

    const ID: IdentityId = IdentityId(Uuid::from_u128(0x1234_5678_0000_1000_8000_0000_0000_0001));
    const THEN: Timestamp = Timestamp(1_600_000_000_000);

    fn ann(digest: u8) -> ForeignIdentity {
        let address = |id| ForeignAddress {
            id: Uuid::from_u128(id),
            via: Channel::Email,
            value: "Ann@example.org".to_owned(),
            verified_at: Some(THEN),
            sent: true,
            created_at: THEN,
            updated_at: THEN,
        };
        ForeignIdentity {
            id: ID,
            schema_id: "default".to_owned(),
            traits: traits("ann@example.org"),
            state: IdentityState::Active,
            state_changed_at: THEN,
            metadata_public: None,
            metadata_admin: None,
            organization: None,
            external_id: Some("crm".to_owned()),
            verifiable: vec![address(1)],
            recovery: vec![address(2)],
            password: Some(ForeignPassword {
                // The MD5 of "password".
                hash: Some(secret("$md5$X03MO1qnZdYdgyfeuILPmQ==")),
                created_at: THEN,
                updated_at: THEN,
            }),
            others: OtherCredentials::default(),
            sessions: Vec::new(),
            created_at: THEN,
            updated_at: THEN,
            digest: [digest; 32],
        }
    }

    async fn bring(world: &World, foreign: &ForeignIdentity) -> Result<Brought, BringRejection> {
        let done = world.service.bring_identity(world.scope, foreign, false).await;
        done.map(|done| done.outcome)
    }

    #[tokio::test]
    async fn identity_is_brought_as_it_is_and_logs_in() {
        let world = World::new();
        let rehearsed = world.service.bring_identity(world.scope, &ann(1), true).await.unwrap();
        assert_eq!(rehearsed.outcome, Brought::Created);
        let read = || {
            let (outline, strong) = (CredentialDetail::Outline, Consistency::Strong);
            world.service.identity(world.scope, ID, outline, strong)
        };
        assert!(read().await.is_err(), "a rehearsal writes nothing");
        assert_eq!(bring(&world, &ann(1)).await.unwrap(), Brought::Created);
        let identity = read().await.unwrap();
        assert_eq!((identity.created_at, identity.updated_at), (THEN, THEN));
        assert_eq!(identity.verifiable_addresses[0].id, Uuid::from_u128(1));
        assert_eq!(identity.verifiable_addresses[0].verified_at, Some(THEN));
        assert_eq!(identity.recovery_addresses[0].id, Uuid::from_u128(2));
        assert_eq!(identity.external_id.as_deref(), Some("crm"));
        world.log_in("ann@example.org", "password").await.unwrap();
    }

    #[tokio::test]
    async fn delta_is_brought_and_what_changed_here_stays() {
        let world = World::new();
        bring(&world, &ann(1)).await.unwrap();
        assert_eq!(bring(&world, &ann(1)).await.unwrap(), Brought::Unchanged);
        world.log_in("ann@example.org", "password").await.unwrap();
        let later = Timestamp(THEN.as_millis() + 1000);
        let moved =
            ForeignIdentity { traits: traits("ann2@example.org"), updated_at: later, ..ann(2) };
        assert_eq!(bring(&world, &moved).await.unwrap(), Brought::Updated);
        world.log_in("ann2@example.org", "password").await.unwrap();
        assert!(world.log_in("ann@example.org", "password").await.is_err());

        let here = IdentityChange {
            traits: traits("ann3@example.org"),
            external_id: Edit::Set(None),
            ..IdentityChange::default()
        };
        world.service.update_identity(world.scope, ID, here).await.unwrap();
        let again = ForeignIdentity { updated_at: later, ..ann(3) };
        assert_eq!(bring(&world, &again).await.unwrap(), Brought::ChangedHere);
        world.log_in("ann3@example.org", "password").await.unwrap();

        let native = world.register("bob@example.org").await.identity;
        let same_id = ForeignIdentity { id: native.id, ..ann(4) };
        assert_eq!(bring(&world, &same_id).await.unwrap(), Brought::ChangedHere);
    }

    #[tokio::test]
    async fn what_cannot_be_brought_is_told() {
        let world = World::new();
        world.register("ann@example.org").await;
        let taken = bring(&world, &ann(1)).await;
        assert!(matches!(taken, Err(BringRejection::Taken("identifier"))), "{taken:?}");
        let bob =
            ForeignIdentity { traits: traits("bob@example.org"), verifiable: Vec::new(), ..ann(1) };
        let unknown = ForeignIdentity { schema_id: "customer".to_owned(), ..bob.clone() };
        let unknown = bring(&world, &unknown).await;
        assert!(matches!(unknown, Err(BringRejection::UnknownSchema(_))), "{unknown:?}");
        let bad = ForeignIdentity { traits: Value::Null, ..bob.clone() };
        let bad = bring(&world, &bad).await;
        assert!(matches!(bad, Err(BringRejection::InvalidTraits(_))), "{bad:?}");
        let long = "x".repeat(EXTERNAL_ID_BYTES_MAX + 1);
        let long = ForeignIdentity { external_id: Some(long), ..bob.clone() };
        let long = bring(&world, &long).await;
        assert!(matches!(long, Err(BringRejection::TooLarge)), "{long:?}");

        let odd = ForeignPassword {
            hash: Some(secret("$argon2d$v=19$m=1,t=1,p=1$a$b")),
            created_at: THEN,
            updated_at: THEN,
        };
        let odd = ForeignIdentity { password: Some(odd), ..bob };
        let done = world.service.bring_identity(world.scope, &odd, false).await.unwrap();
        assert_eq!(done.outcome, Brought::Created);
        assert_eq!(done.password_left, Some(HashRefused::UnknownForm));
        assert!(world.log_in("bob@example.org", "password").await.is_err());
    }

    fn session(token: &str, expires_at: Timestamp) -> ForeignSession {
        let method = |method, aal| AuthenticationMethod {
            method,
            aal,
            completed_at: THEN,
            via: None,
            provider: None,
            organization: None,
            upstream: Default::default(),
        };
        ForeignSession {
            id: Uuid::from_u128(7),
            token: secret(token),
            methods: vec![
                method(CredentialKind::Password, Aal::Aal1),
                method(CredentialKind::Totp, Aal::Aal2),
            ],
            issued_at: THEN,
            authenticated_at: THEN,
            expires_at,
        }
    }

    #[tokio::test]
    async fn session_is_brought_and_its_token_stays_good_where_that_is_wanted() {
        const TOKEN: &str = "ory_st_0123456789abcdefABCDEF0123456789";
        let later = Timestamp(crate::testing::START.as_millis() + 60_000);
        let wanted = Settings { imported_tokens: true, ..settings() };
        let world = World::with(wanted);
        let with = |session| ForeignIdentity { sessions: vec![session], ..ann(1) };
        bring(&world, &with(session(TOKEN, later))).await.unwrap();
        let check = |token: &str| {
            let proof = Proof::Token(secret(token));
            let (service, scope) = (world.service.clone(), world.scope);
            async move { service.check_session(scope, &proof, Consistency::Strong).await }
        };
        let found = check(TOKEN).await.unwrap();
        assert_eq!((found.identity_id, found.aal, found.issued_at), (ID, Aal::Aal2, THEN));
        for other in ["ory_st_0123456789abcdefABCDEF0123456780", "ory_st_short", &TOKEN[7..]] {
            assert!(check(other).await.is_err(), "{other}");
        }
        // It ends as any other does, and a second run does not bring it back.
        world.service.revoke_session(world.scope, found.id).await.unwrap();
        assert!(check(TOKEN).await.is_err());
        let again = ForeignIdentity { digest: [2; 32], ..with(session(TOKEN, later)) };
        assert_eq!(bring(&world, &again).await.unwrap(), Brought::Updated);
        assert!(check(TOKEN).await.is_err());

        // Elsewhere such tokens are nobody's; one that is over is not brought.
        let plain = World::new();
        bring(&plain, &with(session(TOKEN, later))).await.unwrap();
        assert!(!plain.recognised(&Proof::Token(secret(TOKEN))).await);
        let over = World::with(Settings { imported_tokens: true, ..settings() });
        bring(&over, &with(session(TOKEN, THEN))).await.unwrap();
        assert!(!over.recognised(&Proof::Token(secret(TOKEN))).await);
    }
}
