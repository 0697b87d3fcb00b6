//! What happened, so that it can be shown later and cannot be altered unnoticed.
//!
//! An event is written in the transaction of the act itself: there is no act without its
//! event and no event without its act. It lies at the identity that it is about, and is a
//! link of that identity's chain: its link is a digest, under a key of the cluster's, of
//! the event, its place and the link before. Nothing is shared between identities, so
//! that no row is hot.
//!
//! Once an hour (see [`seal`]) each lane's events of that hour are sealed: a digest over
//! their links, in order, chained to the seal before, and logged, so that copies of it lie
//! where whoever alters the database does not reach.
//!
//! What is proved, to who has the cluster's keys:
//! - Whoever could write to the disks, but has no key, altered, inserted or reordered no
//!   event of a chain that [verifies](Service::verify_audit), nor left one out of its
//!   middle or cut off its end. Events at its beginning may be cut off as if they had
//!   expired, and a whole chain with its head.
//! - What a seal counted is still there if the seal verifies, beginnings and whole chains
//!   too. What is not sealed yet is not protected by it: an hour and [`seal::SETTLED`] at
//!   most.
//! - Seals at the end of their chain may be cut off unnoticed by the database alone; the
//!   log lines, or a seal that was noted elsewhere, show that.
//!
//! Not proved: that whoever has the keys, which every node does, wrote the truth.
//!
//! Events expire after [`Settings::audit_retention`](crate::Settings), whatever becomes
//! of their identity: of one that is erased they keep the id and no trait.

pub mod list;
pub mod seal;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use cardea_storage::{Keyring, StoreError, Transaction};
use prost::Message as _;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Service,
    model::{Client, Scope},
    table::audit::{
        AuditEventKey, AuditEventRecord, AuditEvents, AuditHeadKey, AuditHeadRecord, AuditHeads,
    },
};

pub use list::{AuditEvent, AuditFilter, ListEventsRejection, Verification};

/// The longest user agent that is kept, in bytes.
const USER_AGENT_BYTES_MAX: usize = 256;

/// What happened. The names are kept on disk and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// An identity was created.
    IdentityCreated,
    /// It was brought along from elsewhere.
    IdentityImported,
    /// It was changed.
    IdentityChanged,
    /// It may log in from now on.
    IdentityActivated,
    /// It may not any more.
    IdentityDeactivated,
    /// It was deleted.
    IdentityDeleted,
    /// All that is held of it was handed out.
    IdentityExported,
    /// How it logs in was changed.
    CredentialChanged,
    /// A way to log in was removed.
    CredentialRemoved,
    /// An account at a provider was linked.
    AccountLinked,
    /// One was unlinked.
    AccountUnlinked,
    /// Somebody tried to log in, and showed nothing that is right.
    LoginFailed,
    /// A session began.
    SessionIssued,
    /// The holder of a session proved itself again, or by another factor.
    SessionStrengthened,
    /// A session ended before its time.
    SessionRevoked,
    /// All sessions of the identity, or of the tenant, ended.
    SessionsRevoked,
    /// An administrator was given what lets somebody in.
    RecoveryIssued,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::IdentityCreated,
        Self::IdentityImported,
        Self::IdentityChanged,
        Self::IdentityActivated,
        Self::IdentityDeactivated,
        Self::IdentityDeleted,
        Self::IdentityExported,
        Self::CredentialChanged,
        Self::CredentialRemoved,
        Self::AccountLinked,
        Self::AccountUnlinked,
        Self::LoginFailed,
        Self::SessionIssued,
        Self::SessionStrengthened,
        Self::SessionRevoked,
        Self::SessionsRevoked,
        Self::RecoveryIssued,
    ];

    /// The name on disk and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IdentityCreated => "identity.created",
            Self::IdentityImported => "identity.imported",
            Self::IdentityChanged => "identity.changed",
            Self::IdentityActivated => "identity.activated",
            Self::IdentityDeactivated => "identity.deactivated",
            Self::IdentityDeleted => "identity.deleted",
            Self::IdentityExported => "identity.exported",
            Self::CredentialChanged => "credential.changed",
            Self::CredentialRemoved => "credential.removed",
            Self::AccountLinked => "account.linked",
            Self::AccountUnlinked => "account.unlinked",
            Self::LoginFailed => "login.failed",
            Self::SessionIssued => "session.issued",
            Self::SessionStrengthened => "session.strengthened",
            Self::SessionRevoked => "session.revoked",
            Self::SessionsRevoked => "sessions.revoked",
            Self::RecoveryIssued => "recovery.issued",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|act| act.name() == name)
    }
}

/// Who did it.
#[derive(Debug, Clone, Copy)]
pub enum Actor<'a> {
    /// The identity itself, or whoever passed for it.
    Oneself(&'a Client),
    /// An administrator.
    Administrator,
}

impl Actor<'_> {
    const fn name(self) -> &'static str {
        match self {
            Self::Oneself(_) => "self",
            Self::Administrator => "administrator",
        }
    }
}

impl Service {
    /// Writes an event into the transaction of what it is about.
    pub(crate) async fn audit(
        &self,
        t: &Transaction,
        scope: Scope,
        identity: Uuid,
        (act, actor): (Act, Actor<'_>),
        details: Value,
    ) -> Result<(), StoreError> {
        let head_key = AuditHeadKey { tenant: scope.tenant, identity };
        let head = t.get::<AuditHeads>(&head_key).await?;
        let head = head.map(|entry| entry.record).unwrap_or_default();
        let key = AuditEventKey { tenant: scope.tenant, identity, sequence: head.sequence + 1 };
        let (ip_address, user_agent) = match actor {
            Actor::Oneself(client) => (
                client.ip.map(|ip| ip.to_string()).unwrap_or_default(),
                crate::session::issue::cut(&client.user_agent, USER_AGENT_BYTES_MAX).to_owned(),
            ),
            Actor::Administrator => Default::default(),
        };
        let mut record = AuditEventRecord {
            at: t.now().as_millis(),
            kind: act.name().to_owned(),
            actor: actor.name().to_owned(),
            ip_address,
            user_agent,
            details: if details.is_null() { Bytes::new() } else { details.to_string().into() },
            previous: head.link,
            link: Bytes::new(),
        };
        record.link = Bytes::copy_from_slice(&self.keys.audit.digest(&linked(&key, &record)));
        let kept = t.now().after(self.settings.audit_retention);
        t.insert::<AuditEvents>(&key, &record, Some(kept));
        let head = AuditHeadRecord { sequence: key.sequence, link: record.link };
        t.put::<AuditHeads>(&head_key, &head, Some(kept)).await
    }
}

/// What a link is a digest of.
fn linked(key: &AuditEventKey, record: &AuditEventRecord) -> Vec<u8> {
    let mut bytes = b"event".to_vec();
    bytes.extend_from_slice(&key.tenant.0.to_be_bytes());
    bytes.extend_from_slice(key.identity.as_bytes());
    bytes.extend_from_slice(&key.sequence.to_be_bytes());
    let bare = AuditEventRecord { link: Bytes::new(), ..record.clone() };
    bytes.extend_from_slice(&bare.encode_to_vec());
    bytes
}

/// Whether a link is a digest of these bytes under any key of the ring.
fn is_link(ring: &Keyring, bytes: &[u8], link: &[u8]) -> bool {
    ring.digests(bytes).iter().any(|digest| digest == link)
}
