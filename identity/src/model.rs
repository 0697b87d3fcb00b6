//! Identities, sessions and what belongs to them, as operations return them.

use std::{fmt, net::IpAddr, sync::Arc};

use cardea_storage::{Secret, Tenant, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    hook::Asked,
    identity::draft::via_number,
    language::Language,
    schema::Channel,
    session::{Aal, AuthenticationMethod, CredentialKind, RequiredAal, assurance},
    social::claims::Upstream,
    table::{
        AddressRecord, CredentialRecord, DeviceRecord, IdentityRecord, MethodRecord, SessionRecord,
        id_bytes, id_of,
    },
};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id! {
    /// Names an identity.
    IdentityId
}
id! {
    /// Names a session.
    SessionId
}
id! {
    /// Names a self-service flow.
    FlowId
}

/// Who asks, as far as the layer needs to know.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// The address it comes from, told by the listener or a trusted proxy.
    pub ip: Option<IpAddr>,
    /// What it calls itself.
    pub user_agent: String,
    /// What its user reads, if it says so.
    pub language: Option<Language>,
    /// Its request, as far as hooks are told; `None` where nobody asks for it.
    pub asked: Option<Arc<Asked>>,
    /// What it sent along for hooks; null for nothing.
    pub transient_payload: Value,
    /// What it answers to a flow that asks for work.
    pub proof_of_work: Option<String>,
}

/// The digest of the anti-forgery secret that a browser holds in a cookie. A flow
/// that a browser began is that browser's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsrfDigest(pub [u8; 32]);

/// Whether an identity may log in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IdentityState {
    /// It may.
    #[default]
    Active,
    /// It may not, and has no sessions.
    Inactive,
}

impl IdentityState {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }

    /// Reads the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Active, Self::Inactive].into_iter().find(|state| state.name() == name)
    }
}

/// An identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Its id.
    pub id: IdentityId,
    /// The schema of its traits.
    pub schema_id: String,
    /// Its traits.
    pub traits: Value,
    /// Whether it may log in.
    pub state: IdentityState,
    /// When that changed last.
    pub state_changed_at: Timestamp,
    /// What everybody with a session may see.
    pub metadata_public: Option<Value>,
    /// What administrators alone may see; `None` where the operation is not theirs.
    pub metadata_admin: Option<Value>,
    /// Addresses to be verified.
    pub verifiable_addresses: Vec<Address>,
    /// Addresses to recover by.
    pub recovery_addresses: Vec<Address>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// What another system calls it.
    pub external_id: Option<String>,
    /// The organization that it belongs to.
    pub organization: Option<Uuid>,
    /// Its credentials; empty where the operation is not an administrator's.
    pub credentials: Vec<Credential>,
    /// Whether it has a second factor.
    pub has_second_factor: bool,
}

/// An address of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Its id.
    pub id: Uuid,
    /// How it is reached.
    pub via: Channel,
    /// The address, normalised.
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

impl Address {
    /// The status on the wire.
    pub const fn status(&self) -> &'static str {
        match (self.verified_at, self.sent) {
            (Some(_), _) => "completed",
            (None, true) => "sent",
            (None, false) => "pending",
        }
    }
}

/// A credential of an identity, without what it is checked by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its kind.
    pub kind: CredentialKind,
    /// What it is found by.
    pub identifiers: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// The argon2id hash of a password, only where the caller asked for it.
    pub password_hash: Option<Secret<String>>,
    /// Accounts at providers, only where the caller asked for them.
    pub accounts: Vec<LinkedAccount>,
}

/// An account at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedAccount {
    /// The provider's id.
    pub provider: String,
    /// The organization whose provider that is.
    pub organization: Option<Uuid>,
    /// The account, as the provider names it.
    pub subject: String,
    /// For asking the provider; empty if not known.
    pub access_token: Secret<String>,
    /// For another access token; empty if not known.
    pub refresh_token: Secret<String>,
    /// Who it is; empty if not known.
    pub id_token: Secret<String>,
}

/// A session.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub identity_id: IdentityId,
    /// The identity, where the operation returns it.
    pub identity: Option<Identity>,
    /// Whether it is accepted now.
    pub active: bool,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When its last factor was completed.
    pub authenticated_at: Timestamp,
    /// When it is over.
    pub expires_at: Timestamp,
    /// How sure it makes us.
    pub aal: Aal,
    /// How its holder was authenticated.
    pub methods: Vec<AuthenticationMethod>,
    /// Where it was used from.
    pub devices: Vec<Device>,
}

impl Session {
    /// Whether it is all that is asked of it. A session without its identity is not.
    pub fn satisfies(&self, required: RequiredAal) -> bool {
        let has_second = self.identity.as_ref().is_none_or(|identity| identity.has_second_factor);
        required.is_met(self.aal, has_second)
    }
}

/// Where a session was used from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: Uuid,
    /// The address it came from; empty if not known.
    pub ip_address: String,
    /// What it calls itself.
    pub user_agent: String,
    /// Where it is, if something told.
    pub location: String,
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// What is on this page.
    pub items: Vec<T>,
    /// The token of the next page; `None` on the last.
    pub next: Option<String>,
}

/// A session with what its holder gets.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The session, with its identity.
    pub session: Session,
    /// The token that proves it.
    pub token: Secret<String>,
    /// The token that may end it.
    pub logout_token: Secret<String>,
}

/// Reads what was checked before it was written; null if it was not.
pub(crate) fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// Metadata as it is kept; `None` for none.
pub(crate) fn metadata(bytes: &[u8]) -> Option<Value> {
    (!bytes.is_empty()).then(|| json_of(bytes)).filter(|value| !value.is_null())
}

fn time(ms: u64) -> Option<Timestamp> {
    (ms != 0).then_some(Timestamp(ms))
}

impl Address {
    fn of(record: &AddressRecord) -> Self {
        Self {
            id: id_of(&record.id),
            via: if record.via == 2 { Channel::Sms } else { Channel::Email },
            value: record.value.clone(),
            verified_at: time(record.verified_at),
            sent: record.sent,
            created_at: Timestamp(record.created_at),
            updated_at: Timestamp(record.updated_at),
        }
    }
}

impl Identity {
    /// As an administrator sees it.
    pub(crate) fn of(id: IdentityId, record: &IdentityRecord) -> Self {
        Self {
            id,
            schema_id: record.schema_id.clone(),
            traits: json_of(&record.traits),
            state: if record.inactive { IdentityState::Inactive } else { IdentityState::Active },
            state_changed_at: Timestamp(record.state_changed_at),
            metadata_public: metadata(&record.metadata_public),
            metadata_admin: metadata(&record.metadata_admin),
            verifiable_addresses: record.verifiable.iter().map(Address::of).collect(),
            recovery_addresses: record.recovery.iter().map(Address::of).collect(),
            created_at: Timestamp(record.created_at),
            updated_at: Timestamp(record.updated_at),
            external_id: (!record.external_id.is_empty()).then(|| record.external_id.clone()),
            organization: record.organization(),
            credentials: Vec::new(),
            has_second_factor: record.second_factor,
        }
    }

    /// As its own sessions see it: without what is for administrators.
    pub(crate) fn public(id: IdentityId, record: &IdentityRecord) -> Self {
        Self { metadata_admin: None, ..Self::of(id, record) }
    }
}

impl Credential {
    pub(crate) fn of(kind: CredentialKind, record: &CredentialRecord, with_hash: bool) -> Self {
        let hash = (with_hash && !record.password_hash.is_empty())
            .then(|| Secret::new(record.password_hash.clone()));
        Self {
            kind,
            identifiers: record.identifiers.clone(),
            created_at: Timestamp(record.created_at),
            updated_at: Timestamp(record.updated_at),
            password_hash: hash,
            accounts: Vec::new(),
        }
    }
}

impl Device {
    fn of(record: &DeviceRecord) -> Self {
        Self {
            id: id_of(&record.id),
            ip_address: record.ip_address.clone(),
            user_agent: record.user_agent.clone(),
            location: record.location.clone(),
        }
    }
}

impl MethodRecord {
    pub(crate) fn of(method: &AuthenticationMethod) -> Self {
        let aal = match method.aal {
            Aal::Aal0 => 0,
            Aal::Aal1 => 1,
            Aal::Aal2 => 2,
        };
        Self {
            method: u32::from(method.method.number()),
            aal,
            completed_at: method.completed_at.as_millis(),
            via: method.via.map_or(0, via_number),
            provider: method.provider.clone().unwrap_or_default(),
            organization: method.organization.as_ref().map(id_bytes).unwrap_or_default(),
            upstream_acr: method.upstream.acr.clone().unwrap_or_default(),
            upstream_amr: method.upstream.amr.clone(),
        }
    }

    /// `None` if a newer version wrote a kind that is not known here: it then
    /// counts for nothing.
    pub(crate) fn read(&self) -> Option<AuthenticationMethod> {
        let method = CredentialKind::from_number(u8::try_from(self.method).ok()?)?;
        let aal = match self.aal {
            1 => Aal::Aal1,
            2 => Aal::Aal2,
            _ => Aal::Aal0,
        };
        let via = match self.via {
            1 => Some(Channel::Email),
            2 => Some(Channel::Sms),
            _ => None,
        };
        Some(AuthenticationMethod {
            method,
            aal,
            completed_at: Timestamp(self.completed_at),
            via,
            provider: Some(self.provider.clone()).filter(|provider| !provider.is_empty()),
            organization: Uuid::from_slice(&self.organization).ok(),
            upstream: Upstream {
                acr: Some(self.upstream_acr.clone()).filter(|acr| !acr.is_empty()),
                amr: self.upstream_amr.clone(),
            },
        })
    }
}

impl Session {
    /// `standing` is that of the identity as it is now; `None` if there is none any
    /// more, or it is inactive.
    pub(crate) fn of(
        id: SessionId,
        record: &SessionRecord,
        standing: Option<Standing>,
        now: Timestamp,
    ) -> Self {
        let methods: Vec<_> = record.methods.iter().filter_map(MethodRecord::read).collect();
        Self {
            id,
            identity_id: IdentityId(id_of(&record.identity)),
            identity: None,
            active: record.revoked_at == 0
                && now.as_millis() < record.expires_at
                && standing == Some(Standing { epoch: record.epoch, era: record.era }),
            issued_at: Timestamp(record.issued_at),
            authenticated_at: Timestamp(record.authenticated_at),
            expires_at: Timestamp(record.expires_at),
            aal: assurance::level(&methods),
            methods,
            devices: record.devices.iter().map(Device::of).collect(),
        }
    }
}

/// What a session must have been issued under to be accepted: both rise when sessions
/// are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The identity's.
    pub(crate) epoch: u64,
    /// That of all sessions.
    pub(crate) era: u64,
}

impl Standing {
    /// `None` if no session of the identity is accepted.
    pub(crate) fn of(identity: Option<&IdentityRecord>, era: u64) -> Option<Self> {
        session_epoch(identity).map(|epoch| Self { epoch, era })
    }
}

/// The epoch under which an identity's sessions are accepted; `None` if none are.
pub(crate) fn session_epoch(record: Option<&IdentityRecord>) -> Option<u64> {
    record.filter(|record| !record.inactive).map(|record| record.session_epoch)
}

/// Where an operation looks: everything belongs to one tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scope {
    /// The tenant, from the host name or the API key.
    pub tenant: Tenant,
}
