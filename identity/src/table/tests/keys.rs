//! The bytes of keys.

use super::*;

/// Slot, tag and tenant, then the rest; and every key is read back.
fn key_of<T: Table>(key: &T::Key) -> String
where
    T::Key: PartialEq + std::fmt::Debug,
{
    let bytes = T::key(key);
    assert_eq!(T::read_key(&bytes).as_ref(), Some(key));
    hex(bytes.as_bytes())
}

#[test]
fn keys_are_frozen() {
    let id = hex(ID.as_bytes());
    let digest = [0x12; 32];
    let mut halves = [0x12; 32];
    halves[16..].fill(0x34);
    let table = [
        (
            key_of::<Identities>(&IdentityKey { tenant: TENANT, id: ID }),
            format!("0abc030100000002{id}"),
        ),
        (
            key_of::<Credentials>(&CredentialKey { tenant: TENANT, identity: ID, kind: 1 }),
            format!("0abc030200000002{id}01"),
        ),
        (
            key_of::<Sessions>(&SessionKey { tenant: TENANT, id: ID }),
            format!("0abc030300000002{id}"),
        ),
        (
            key_of::<SessionTokens>(&SessionTokenKey {
                slot: Slot::new(Space::Home, 0xabc),
                tenant: TENANT,
                digest,
            }),
            format!("0abc030400000002{}", hex(&digest)),
        ),
        (key_of::<Flows>(&FlowKey { tenant: TENANT, id: ID }), format!("0abc030500000002{id}")),
        (
            key_of::<UsedFlows>(&UsedFlowKey {
                slot: Slot::new(Space::Home, 7),
                tenant: TENANT,
                flow: ID,
            }),
            format!("0007030600000002{id}"),
        ),
        (
            key_of::<Attempts>(&AttemptsKey::own(TENANT, ID, &digest)),
            format!("0abc030700000002{id}{}", hex(&digest[..16])),
        ),
        (
            key_of::<SessionByIdentity>(&SessionByIdentityKey {
                tenant: TENANT,
                identity: ID,
                issued_at: 1,
                session: ID,
            }),
            format!("0abc030900000002{id}fffffffffffffffe{id}"),
        ),
        (
            key_of::<CredentialIdentifiers>(&CredentialIdentifierKey {
                tenant: TENANT,
                digest,
                kind: 1,
            }),
            format!("1121040100000002{}01", hex(&digest)),
        ),
        (
            key_of::<IdentitiesByOrganization>(&IdentityByOrganizationKey {
                tenant: TENANT,
                organization: Uuid::from_u128(1),
                identity: ID,
            }),
            format!("0a80031a00000002{}{id}", hex(Uuid::from_u128(1).as_bytes())),
        ),
        (
            key_of::<IdentifiersByText>(&IdentifierTextKey {
                tenant: TENANT,
                text: "a@b".to_owned(),
                identity: ID,
                kind: 1,
            }),
            format!("0a80031b00000002{}0001{id}01", hex(b"a@b")),
        ),
        (
            key_of::<SessionsByIssue>(&SessionByIssueKey {
                tenant: TENANT,
                issued_at: 1,
                session: ID,
            }),
            format!("0a80031c00000002fffffffffffffffe{id}"),
        ),
        (key_of::<SessionEras>(&SessionEraKey::of(TENANT, &ID)), "0a80031d00000002".to_owned()),
        (
            key_of::<audit::AuditEvents>(&audit::AuditEventKey {
                tenant: TENANT,
                identity: ID,
                sequence: 1,
            }),
            format!("0abc031e00000002{id}fffffffffffffffe"),
        ),
        (
            key_of::<audit::AuditEventsByTime>(&audit::AuditEventByTimeKey {
                tenant: TENANT,
                at: 1,
                identity: ID,
                sequence: 2,
            }),
            format!("0a80031f00000002fffffffffffffffe{id}0000000000000002"),
        ),
        (
            key_of::<audit::AuditHeads>(&audit::AuditHeadKey { tenant: TENANT, identity: ID }),
            format!("0abc040d00000002{id}"),
        ),
        (
            key_of::<audit::AuditSeals>(&audit::AuditSealKey {
                lane: Slot::new(Space::Home, 0xa80),
                tenant: TENANT,
                until: 1,
            }),
            "0a80040e00000002fffffffffffffffe".to_owned(),
        ),
        (
            key_of::<Erasures>(&ErasureKey { tenant: TENANT, identity: ID }),
            format!("0a80040f00000002{id}"),
        ),
        (key_of::<SchemaSets>(&SchemaSetKey), "3000010600000000".to_owned()),
        (
            key_of::<ExternalIds>(&ExternalIdKey { tenant: TENANT, digest }),
            format!("1121040b00000002{}", hex(&digest)),
        ),
        (
            key_of::<BatchReceipts>(&BatchReceiptKey { tenant: TENANT, digest }),
            format!("1121040c00000002{}", hex(&digest)),
        ),
        (
            key_of::<ProviderSubjects>(&ProviderSubjectKey { tenant: TENANT, digest }),
            format!("1121040800000002{}", hex(&digest)),
        ),
        (
            key_of::<PasskeyHandles>(&PasskeyHandleKey { tenant: TENANT, digest }),
            format!("1121040500000002{}", hex(&digest)),
        ),
        (
            key_of::<Attempts>(&AttemptsKey::shared_second(TENANT, ID)),
            format!("0abc030700000002{id}7365636f6e6420666163746f72000000"),
        ),
        (
            key_of::<Attempts>(&AttemptsKey::own_second(TENANT, ID, &halves)),
            format!("0abc030700000002{id}{}", "34".repeat(16)),
        ),
        (
            key_of::<VerifiableAddresses>(&AddressIndexKey { tenant: TENANT, digest }),
            format!("1121040300000002{}", hex(&digest)),
        ),
        (
            key_of::<RecoveryAddresses>(&AddressIndexKey { tenant: TENANT, digest }),
            format!("1121040400000002{}", hex(&digest)),
        ),
        (
            key_of::<FlowErrors>(&FlowErrorKey { tenant: TENANT, id: ID }),
            format!("0abc030a00000002{id}"),
        ),
        (
            hex(attempts::source_failures_key(TENANT, &digest).as_bytes()),
            format!("1121040200000002{}", hex(&digest)),
        ),
    ];
    for (written, frozen) in table {
        assert_eq!(written, frozen);
    }
}
