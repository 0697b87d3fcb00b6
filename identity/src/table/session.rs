//! Sessions, at the slot of their identity, with the indexes that lead to them: by
//! the digests of their tokens, and by identity, the newest first.

use bytes::Bytes;
use cardea_storage::{
    IndexRow, Slot, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};
use prost::Message;
use uuid::Uuid;

use super::{id_bytes, id_of, lane::lane_of};

/// `session/<id>`.
#[derive(Debug)]
pub struct Sessions;

key_of_id! {
    /// The key of a session. Its id lies in the slot of its identity.
    SessionKey {
        /// The session.
        id
    }
}

/// A session as it is kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SessionRecord {
    /// The identity.
    #[prost(bytes = "bytes", tag = "1")]
    pub identity: Bytes,
    /// The digest of its session token.
    #[prost(bytes = "bytes", tag = "2")]
    pub token_digest: Bytes,
    /// The digest of its logout token.
    #[prost(bytes = "bytes", tag = "3")]
    pub logout_digest: Bytes,
    /// When it was revoked; 0 for not. Milliseconds, as all times here.
    #[prost(uint64, tag = "4")]
    pub revoked_at: u64,
    /// When it was issued.
    #[prost(uint64, tag = "5")]
    pub issued_at: u64,
    /// When its last factor was completed.
    #[prost(uint64, tag = "6")]
    pub authenticated_at: u64,
    /// When it is over. The row stays longer, so that it can be listed.
    #[prost(uint64, tag = "7")]
    pub expires_at: u64,
    /// How its holder was authenticated.
    #[prost(message, repeated, tag = "8")]
    pub methods: Vec<MethodRecord>,
    /// Where it was used from.
    #[prost(message, repeated, tag = "9")]
    pub devices: Vec<DeviceRecord>,
    /// The identity's epoch when it was issued.
    #[prost(uint64, tag = "10")]
    pub epoch: u64,
    /// The era of its lane when it was issued; see [`SessionEras`].
    #[prost(uint64, tag = "11")]
    pub era: u64,
    /// The digest of its token, where another system made that; empty for our own.
    #[prost(bytes = "bytes", tag = "12")]
    pub imported_digest: Bytes,
}

/// A completed authentication.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MethodRecord {
    /// The kind: [`CredentialKind::number`](crate::session::CredentialKind::number).
    #[prost(uint32, tag = "1")]
    pub method: u32,
    /// The assurance level, as a number.
    #[prost(uint32, tag = "2")]
    pub aal: u32,
    /// When.
    #[prost(uint64, tag = "3")]
    pub completed_at: u64,
    /// How a code came: 1 by e-mail, 2 as a text message; 0 if it is none, and from
    /// before it was kept.
    #[prost(uint32, tag = "4")]
    pub via: u32,
    /// The provider that an account is at; empty if it is none, and from before it was kept.
    #[prost(string, tag = "5")]
    pub provider: String,
    /// The organization whose provider that is; empty for none.
    #[prost(bytes = "bytes", tag = "6")]
    pub organization: Bytes,
    /// What the provider said in `acr` of how it authenticated; empty for nothing.
    #[prost(string, tag = "7")]
    pub upstream_acr: String,
    /// What it said in `amr`.
    #[prost(string, repeated, tag = "8")]
    pub upstream_amr: Vec<String>,
}

/// A device.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeviceRecord {
    /// Its id.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// The address it came from.
    #[prost(string, tag = "2")]
    pub ip_address: String,
    /// What it calls itself.
    #[prost(string, tag = "3")]
    pub user_agent: String,
    /// Where it is, if something told.
    #[prost(string, tag = "4")]
    pub location: String,
}

impl Table for Sessions {
    const TAG: Tag = Tag::SESSION;
    const INDEXED: bool = true;
    type Key = SessionKey;
    type Record = SessionRecord;

    fn index_rows(key: &SessionKey, record: &SessionRecord) -> Vec<IndexRow> {
        let identity = id_of(&record.identity);
        let slot = key.slot();
        let value =
            SessionTokenRecord { session: id_bytes(&key.id), identity: record.identity.clone() };
        let value = Bytes::from(value.encode_to_vec());
        let tokens = [&record.token_digest, &record.logout_digest]
            .into_iter()
            .filter_map(|digest| <[u8; 32]>::try_from(digest.as_ref()).ok())
            .map(|digest| {
                let key = SessionTokenKey { slot, tenant: key.tenant, digest };
                IndexRow { key: SessionTokens::key(&key), value: value.clone() }
            });
        let listed = SessionByIdentityKey {
            tenant: key.tenant,
            identity,
            issued_at: record.issued_at,
            session: key.id,
        };
        let listed = IndexRow { key: SessionByIdentity::key(&listed), value: Bytes::new() };
        let by_issue =
            SessionByIssueKey { tenant: key.tenant, issued_at: record.issued_at, session: key.id };
        let by_issue = IndexRow { key: SessionsByIssue::key(&by_issue), value: Bytes::new() };
        let imported = <[u8; 32]>::try_from(record.imported_digest.as_ref()).ok().map(|digest| {
            let key = ImportedTokenKey { tenant: key.tenant, digest };
            IndexRow { key: ImportedTokens::key(&key), value: value.clone() }
        });
        tokens.chain(imported).chain([listed, by_issue]).collect()
    }
}

/// `imported_token/<digest>`: such a token does not say where its session lives.
#[derive(Debug)]
pub struct ImportedTokens;

key_of_digest! {
    /// The key of a token that another system made.
    ImportedTokenKey {
        /// The digest of the token.
        digest
    }
}

impl Table for ImportedTokens {
    const TAG: Tag = Tag::IMPORTED_TOKEN;
    type Key = ImportedTokenKey;
    type Record = SessionTokenRecord;
}

/// `session_by_issue/<issued, the latest first>/<session>`, in the session's lane.
#[derive(Debug)]
pub struct SessionsByIssue;

/// The key of a session in the list of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionByIssueKey {
    /// Whose.
    pub tenant: Tenant,
    /// When it was issued; milliseconds.
    pub issued_at: u64,
    /// The session.
    pub session: Uuid,
}

impl TableKey for SessionByIssueKey {
    fn slot(&self) -> Slot {
        lane_of(Slot::of_id(&self.session))
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64_descending(self.issued_at).uuid(&self.session);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, issued_at: rest.u64_descending()?, session: rest.uuid()? })
    }
}

impl Table for SessionsByIssue {
    const TAG: Tag = Tag::SESSION_BY_ISSUE;
    type Key = SessionByIssueKey;
    type Record = SessionMark;
}

/// `session_era`, one in each lane: sessions issued in an earlier era are over. So
/// ending all sessions of a tenant is one write, however many there are. It never
/// expires.
#[derive(Debug)]
pub struct SessionEras;

/// The key of a lane's era.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionEraKey {
    /// The lane.
    pub lane: Slot,
    /// Whose.
    pub tenant: Tenant,
}

/// The era of a lane; that of a lane without a row is 0.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct SessionEraRecord {
    /// How often all sessions were ended.
    #[prost(uint64, tag = "1")]
    pub era: u64,
    /// When that was the last time; milliseconds.
    #[prost(uint64, tag = "2")]
    pub begun_at: u64,
}

impl SessionEraKey {
    /// The era that an identity's sessions belong to.
    pub fn of(tenant: Tenant, identity: &Uuid) -> Self {
        Self { lane: lane_of(Slot::of_id(identity)), tenant }
    }
}

impl TableKey for SessionEraKey {
    fn slot(&self) -> Slot {
        self.lane
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, _key: &mut KeyWriter) {}

    fn read(slot: Slot, tenant: Tenant, _rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { lane: slot, tenant })
    }
}

impl Table for SessionEras {
    const TAG: Tag = Tag::SESSION_ERA;
    type Key = SessionEraKey;
    type Record = SessionEraRecord;
}

/// `session_token/<digest>`: which session a session or logout token stands for.
#[derive(Debug)]
pub struct SessionTokens;

/// The key of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionTokenKey {
    /// The slot that the token names.
    pub slot: Slot,
    /// Whose.
    pub tenant: Tenant,
    /// The digest of the token.
    pub digest: [u8; 32],
}

/// What a token stands for.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SessionTokenRecord {
    /// The session.
    #[prost(bytes = "bytes", tag = "1")]
    pub session: Bytes,
    /// Its identity.
    #[prost(bytes = "bytes", tag = "2")]
    pub identity: Bytes,
}

impl TableKey for SessionTokenKey {
    fn slot(&self) -> Slot {
        self.slot
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.fixed(&self.digest);
    }

    fn read(slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { slot, tenant, digest: rest.fixed()? })
    }
}

impl Table for SessionTokens {
    const TAG: Tag = Tag::SESSION_TOKEN;
    type Key = SessionTokenKey;
    type Record = SessionTokenRecord;
}

/// `session_by_identity/<identity>/<issued, the latest first>/<session>`.
#[derive(Debug)]
pub struct SessionByIdentity;

/// The key of a session in its identity's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionByIdentityKey {
    /// Whose.
    pub tenant: Tenant,
    /// The identity.
    pub identity: Uuid,
    /// When it was issued; milliseconds.
    pub issued_at: u64,
    /// The session.
    pub session: Uuid,
}

/// The key says all.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct SessionMark {}

impl TableKey for SessionByIdentityKey {
    fn slot(&self) -> Slot {
        Slot::of_id(&self.identity)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.uuid(&self.identity).u64_descending(self.issued_at).uuid(&self.session);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self {
            tenant,
            identity: rest.uuid()?,
            issued_at: rest.u64_descending()?,
            session: rest.uuid()?,
        })
    }
}

impl Table for SessionByIdentity {
    const TAG: Tag = Tag::SESSION_BY_IDENTITY;
    type Key = SessionByIdentityKey;
    type Record = SessionMark;
}
