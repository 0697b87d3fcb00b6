//! What those who keep the store need to know of this layer's rows: which index
//! rows a record should have, where an index row leads, what must not outlive the
//! cut of a backup.

use bytes::Bytes;
use cardea_storage::{Index, IndexRow, Key, Meanwhile, Row, Table, Tag, Timestamp};
use prost::Message;

use crate::{
    session::CredentialKind,
    table::{
        CredentialIdentifiers, CredentialKey, Credentials, ExternalIds, IdentifierTextKey,
        IdentifiersByText, Identities, IdentitiesByOrganization, IdentityKey, ImportedTokens,
        PasskeyHandles, ProviderSubjects, RecoveryAddresses, SessionByIdentity, SessionKey,
        SessionTokens, Sessions, SessionsByIssue, VerifiableAddresses,
        audit::{AuditEventByTimeKey, AuditEventKey, AuditEvents, AuditEventsByTime},
        hook_call::HookCalls,
        id_of,
        message::Messages,
        outbox::{ByCreation, Due, Outbox, PostKey},
    },
};

/// Tables whose rows do not outlive the cut of a backup: flows, the marks of those
/// that were used, errors for people, counters of messages and of what failed by source,
/// and receipts of batches. Attempts on an account do: nobody gets new ones by a restore.
pub const TRANSIENT: [Tag; 6] = [
    Tag::FLOW,
    Tag::USED_FLOW,
    Tag::SOURCE_FAILURES,
    Tag::MESSAGE_COUNT,
    Tag::FLOW_ERROR,
    Tag::BATCH_RECEIPT,
];

/// The indexes of this layer's records. One that is added here gets the cluster version
/// that its release brings ([`version`](cardea_storage::version)): a cluster that is older
/// builds it then.
pub const INDEXES: [Index; 17] = [
    Index::first(Tag::VERIFIABLE_ADDRESS, Tag::IDENTITY),
    Index::first(Tag::RECOVERY_ADDRESS, Tag::IDENTITY),
    Index::first(Tag::EXTERNAL_ID, Tag::IDENTITY),
    Index::first(Tag::IDENTITY_BY_ORGANIZATION, Tag::IDENTITY),
    Index::first(Tag::CREDENTIAL_IDENTIFIER, Tag::CREDENTIAL),
    Index::first(Tag::PASSKEY_HANDLE, Tag::CREDENTIAL),
    // The first binaries of version 1 did not know these two.
    Index { since: 3, ..Index::first(Tag::IDENTIFIER_BY_TEXT, Tag::CREDENTIAL) },
    Index::first(Tag::PROVIDER_SUBJECT, Tag::CREDENTIAL),
    Index::first(Tag::SESSION_TOKEN, Tag::SESSION),
    Index::first(Tag::SESSION_BY_IDENTITY, Tag::SESSION),
    Index { since: 3, ..Index::first(Tag::SESSION_BY_ISSUE, Tag::SESSION) },
    Index {
        tag: Tag::IMPORTED_TOKEN,
        of: Tag::SESSION,
        since: 3,
        // Sessions have had imported tokens for as long as they are in it.
        meanwhile: Meanwhile::Read,
    },
    Index::first(Tag::AUDIT_EVENT_BY_TIME, Tag::AUDIT_EVENT),
    Index::first(Tag::MESSAGE_DUE, Tag::MESSAGE),
    Index::first(Tag::MESSAGE_BY_CREATION, Tag::MESSAGE),
    Index::first(Tag::HOOK_CALL_DUE, Tag::HOOK_CALL),
    Index::first(Tag::HOOK_CALL_BY_CREATION, Tag::HOOK_CALL),
];

/// The index rows that a record should have; `None` if the row is of no table of
/// this layer that has any, or cannot be read.
pub fn expected_index_rows(row: &Row) -> Option<Vec<IndexRow>> {
    fn of<T: Table>(row: &Row) -> Option<Vec<IndexRow>> {
        let entry = T::decode(row).ok()?;
        Some(T::index_rows(&entry.key, &entry.record))
    }
    match row.key.tag() {
        Tag::IDENTITY => of::<Identities>(row),
        Tag::MESSAGE => of::<Messages>(row),
        Tag::HOOK_CALL => of::<HookCalls>(row),
        Tag::CREDENTIAL => of::<Credentials>(row),
        Tag::SESSION => of::<Sessions>(row),
        Tag::AUDIT_EVENT => of::<AuditEvents>(row),
        _ => None,
    }
}

/// The record that an index row leads to; `None` if the row is of no index of this
/// layer, or cannot be read.
pub fn leads_to(row: &Row) -> Option<Vec<Key>> {
    fn due<T: Outbox>(row: &Row) -> Option<Key> {
        let key = Due::<T>::decode(row).ok()?.key;
        Some(T::key(&PostKey { tenant: key.tenant, id: key.id }))
    }
    fn listed<T: Outbox>(row: &Row) -> Option<Key> {
        let key = ByCreation::<T>::decode(row).ok()?.key;
        Some(T::key(&PostKey { tenant: key.tenant, id: key.id }))
    }
    let record = match row.key.tag() {
        Tag::CREDENTIAL_IDENTIFIER => {
            let entry = CredentialIdentifiers::decode(row).ok()?;
            Credentials::key(&CredentialKey {
                tenant: entry.key.tenant,
                identity: entry.record.id(),
                kind: entry.key.kind,
            })
        }
        Tag::PASSKEY_HANDLE => {
            let entry = PasskeyHandles::decode(row).ok()?;
            Credentials::key(&CredentialKey {
                tenant: entry.key.tenant,
                identity: entry.record.id(),
                kind: CredentialKind::Passkey.number(),
            })
        }
        Tag::PROVIDER_SUBJECT => {
            let entry = ProviderSubjects::decode(row).ok()?;
            Credentials::key(&CredentialKey {
                tenant: entry.key.tenant,
                identity: entry.record.id(),
                kind: CredentialKind::Oidc.number(),
            })
        }
        Tag::VERIFIABLE_ADDRESS => {
            let entry = VerifiableAddresses::decode(row).ok()?;
            Identities::key(&IdentityKey { tenant: entry.key.tenant, id: entry.record.id() })
        }
        Tag::RECOVERY_ADDRESS => {
            let entry = RecoveryAddresses::decode(row).ok()?;
            Identities::key(&IdentityKey { tenant: entry.key.tenant, id: entry.record.id() })
        }
        Tag::MESSAGE_DUE => due::<Messages>(row)?,
        Tag::MESSAGE_BY_CREATION => listed::<Messages>(row)?,
        Tag::HOOK_CALL_DUE => due::<HookCalls>(row)?,
        Tag::HOOK_CALL_BY_CREATION => listed::<HookCalls>(row)?,
        Tag::SESSION_TOKEN => {
            let entry = SessionTokens::decode(row).ok()?;
            let id = id_of(&entry.record.session);
            Sessions::key(&SessionKey { tenant: entry.key.tenant, id })
        }
        Tag::IMPORTED_TOKEN => {
            let entry = ImportedTokens::decode(row).ok()?;
            let id = id_of(&entry.record.session);
            Sessions::key(&SessionKey { tenant: entry.key.tenant, id })
        }
        Tag::AUDIT_EVENT_BY_TIME => {
            let entry = AuditEventsByTime::decode(row).ok()?;
            let AuditEventByTimeKey { tenant, identity, sequence, .. } = entry.key;
            AuditEvents::key(&AuditEventKey { tenant, identity, sequence })
        }
        Tag::EXTERNAL_ID => {
            let entry = ExternalIds::decode(row).ok()?;
            Identities::key(&IdentityKey { tenant: entry.key.tenant, id: entry.record.id() })
        }
        Tag::IDENTITY_BY_ORGANIZATION => {
            let entry = IdentitiesByOrganization::decode(row).ok()?;
            Identities::key(&IdentityKey { tenant: entry.key.tenant, id: entry.key.identity })
        }
        Tag::IDENTIFIER_BY_TEXT => {
            let entry = IdentifiersByText::decode(row).ok()?;
            let IdentifierTextKey { tenant, identity, kind, .. } = entry.key;
            Credentials::key(&CredentialKey { tenant, identity, kind })
        }
        Tag::SESSION_BY_ISSUE => {
            let entry = SessionsByIssue::decode(row).ok()?;
            Sessions::key(&SessionKey { tenant: entry.key.tenant, id: entry.key.session })
        }
        Tag::SESSION_BY_IDENTITY => {
            let entry = SessionByIdentity::decode(row).ok()?;
            Sessions::key(&SessionKey { tenant: entry.key.tenant, id: entry.key.session })
        }
        _ => return None,
    };
    Some(vec![record])
}

/// The record of a session as it is after `now` revoked it; `None` if the row is
/// no session, or one that was revoked before.
pub fn revoked_session(row: &Row, now: Timestamp) -> Option<Bytes> {
    if row.key.tag() != Tag::SESSION {
        return None;
    }
    let mut session = Sessions::decode(row).ok()?.record;
    if session.revoked_at != 0 {
        return None;
    }
    session.revoked_at = now.as_millis();
    Some(session.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use cardea_storage::{
        Consistency, KeyRange, Slot, SlotRange, Space, StoreError, engine::Order,
    };

    use super::*;
    use crate::{
        table::{CredentialRecord, LinkRecord},
        testing::{PASSWORD, World},
    };

    /// Every row of a world in which somebody registered and logged in, and has one of all.
    async fn rows() -> Vec<Row> {
        let world = World::new();
        let identity = world.register("ann@example.org").await.identity.id.0;
        let kind = CredentialKind::Passkey.number();
        let key = &CredentialKey { tenant: world.scope.tenant, identity, kind };
        let passkeys = &CredentialRecord {
            user_handle_digest: vec![9; 32].into(),
            ..CredentialRecord::default()
        };
        let linked = &CredentialKey { kind: CredentialKind::Oidc.number(), ..*key };
        let link = LinkRecord { digest: vec![8; 32].into(), ..LinkRecord::default() };
        let links = &CredentialRecord { links: vec![link], ..CredentialRecord::default() };
        let (service, post) =
            (&world.service, &PostKey { tenant: world.scope.tenant, id: identity });
        let stored = service.store.transact(|t| async move {
            t.insert::<Credentials>(key, passkeys, None);
            t.insert::<Credentials>(linked, links, None);
            service.put_post::<Messages>(&t, post, Default::default(), &Default::default());
            service.put_post::<HookCalls>(&t, post, Default::default(), &Default::default());
            Ok::<_, StoreError>(())
        });
        stored.await.unwrap();
        world.log_in("ann@example.org", PASSWORD).await.unwrap();
        let view = world.service.store.view(Consistency::Strong);
        let mut rows = Vec::new();
        for space in [Space::Home, Space::Index] {
            let range = SlotRange::whole(space);
            for number in 0..range.count() {
                let slot = Slot::new(space, number);
                let range = KeyRange::prefix(&slot.bits().to_be_bytes());
                let found = view.scan_rows(range, 1000, Order::Forward, false).await.unwrap();
                rows.extend(found.rows);
            }
        }
        rows
    }

    #[tokio::test]
    async fn every_index_that_a_record_has_rows_in_is_declared() {
        for row in rows().await {
            for index in expected_index_rows(&row).into_iter().flatten() {
                let of = INDEXES.iter().find(|declared| declared.tag == index.key.tag());
                assert_eq!(of.map(|of| of.of), Some(row.key.tag()), "{}", index.key);
            }
        }
        for (at, index) in INDEXES.iter().enumerate() {
            assert!(index.since <= cardea_storage::version::VERSION_MAX);
            assert!(INDEXES[at + 1..].iter().all(|other| other.tag != index.tag));
        }
    }

    /// N5: a restore is no way round what was decided, nor do guesses begin anew by it.
    #[test]
    fn what_a_restore_leaves_out_is_no_decision_about_security() {
        let decided = [
            Tag::IDENTITY,
            Tag::CREDENTIAL,
            Tag::SESSION,
            Tag::SESSION_ERA,
            Tag::ATTEMPTS,
            Tag::AUDIT_EVENT,
            Tag::AUDIT_HEAD,
            Tag::AUDIT_SEAL,
            Tag::ERASURE,
        ];
        assert!(TRANSIENT.iter().all(|tag| !decided.contains(tag)));
        // The marks of flows that were used go with the flows.
        assert!(TRANSIENT.contains(&Tag::USED_FLOW) && TRANSIENT.contains(&Tag::FLOW));
    }

    /// A cluster that passed a version has the index whole, and builds it no more.
    #[test]
    fn versions_of_indexes_are_frozen() {
        let newer = INDEXES.iter().filter(|index| index.since != 1);
        let newer: Vec<(Tag, u32)> = newer.map(|index| (index.tag, index.since)).collect();
        let since_3 = [Tag::IDENTIFIER_BY_TEXT, Tag::SESSION_BY_ISSUE, Tag::IMPORTED_TOKEN];
        assert_eq!(newer, since_3.map(|tag| (tag, 3)));
    }

    #[tokio::test]
    async fn every_index_row_is_expected_by_the_record_that_it_leads_to() {
        let rows = rows().await;
        let (mut expected, mut followed) = (0, 0);
        for row in &rows {
            for index in expected_index_rows(row).into_iter().flatten() {
                let found = rows.iter().find(|other| other.key == index.key);
                assert_eq!(found.map(|row| &row.value), Some(&index.value), "{}", index.key);
                expected += 1;
            }
            for record in leads_to(row).into_iter().flatten() {
                let record = rows.iter().find(|other| other.key == record).unwrap();
                let wanted = expected_index_rows(record).unwrap();
                assert!(wanted.iter().any(|index| index.key == row.key), "{}", row.key);
                followed += 1;
            }
        }
        assert!(expected >= 10 && expected == followed, "{expected} expected, {followed} followed");
        assert!(rows.iter().any(|row| row.key.tag() == Tag::PROVIDER_SUBJECT));
    }

    #[tokio::test]
    async fn a_session_is_revoked_once_and_nothing_else_is_touched() {
        let mut revoked = 0;
        for row in rows().await {
            let Some(value) = revoked_session(&row, Timestamp(7)) else {
                assert_ne!(row.key.tag(), Tag::SESSION);
                continue;
            };
            let again = Row { value, ..row };
            assert_eq!(Sessions::decode(&again).unwrap().record.revoked_at, 7);
            assert_eq!(revoked_session(&again, Timestamp(8)), None);
            revoked += 1;
        }
        assert!(revoked > 0);
    }
}
