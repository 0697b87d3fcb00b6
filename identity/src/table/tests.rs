//! Bytes on disk, frozen: what an older version wrote is read, and found, by every
//! later one.

mod keys;

use cardea_storage::{Slot, Space, Table, TableKey, Tenant};
use prost::Message;
use uuid::Uuid;

use super::*;

const ID: Uuid = Uuid::from_u128(0xabc12345_0000_4000_8000_000000000001);
const TENANT: Tenant = Tenant(2);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn records_are_frozen() {
    let address = AddressRecord {
        digest: bytes::Bytes::new(),
        id: id_bytes(&ID),
        via: 1,
        value: "a@b".to_owned(),
        verified_at: 2,
        created_at: 3,
        updated_at: 4,
        sent: true,
    };
    let identity = IdentityRecord {
        schema_id: "s".to_owned(),
        traits: "{}".into(),
        inactive: true,
        state_changed_at: 1,
        metadata_public: "1".into(),
        metadata_admin: "2".into(),
        created_at: 3,
        updated_at: 4,
        verifiable: vec![address],
        recovery: Vec::new(),
        session_epoch: 5,
        external_id: "x".to_owned(),
        external_id_digest: "y".into(),
        organization: "z".into(),
        import_digest: "d".into(),
        imported_at: 6,
        second_factor: true,
    };
    let id = hex(ID.as_bytes());
    assert_eq!(
        hex(&identity.encode_to_vec()),
        format!(
            "0a0173\
             12027b7d\
             1801\
             2001\
             2a0131\
             320132\
             3803\
             4004\
             4a210a10{id}10011a036140622002280330043801\
             5805\
             620178\
             6a0179\
             72017a\
             7a0164\
             800106\
             c00201"
        )
    );
    let session = SessionRecord {
        identity: id_bytes(&ID),
        token_digest: "t".into(),
        logout_digest: "l".into(),
        revoked_at: 1,
        issued_at: 2,
        authenticated_at: 3,
        expires_at: 4,
        methods: vec![MethodRecord {
            method: 1,
            aal: 1,
            completed_at: 5,
            ..MethodRecord::default()
        }],
        devices: vec![DeviceRecord {
            id: "d".into(),
            ip_address: "i".to_owned(),
            user_agent: "u".to_owned(),
            location: "w".to_owned(),
        }],
        epoch: 6,
        era: 7,
        imported_digest: "x".into(),
    };
    assert_eq!(
        hex(&session.encode_to_vec()),
        format!(
            "0a10{id}1201741a016c2001280230033804\
                 4206080110011805\
                 4a0c0a01641201691a0175220177\
                 5006\
                 5807\
                 620178"
        )
    );
    let of_acme = FlowRecord { organization: "o".into(), ..FlowRecord::default() };
    assert_eq!(hex(&of_acme.encode_to_vec()), "b202016f");
    let known = KnownKeyRecord { id: "k".into(), ..KnownKeyRecord::default() };
    let asked = FlowRecord { passwordless_keys: vec![known], ..FlowRecord::default() };
    assert_eq!(hex(&asked.encode_to_vec()), "ba02030a016b");
    let alone = PublicKeyRecord { passwordless: true, ..PublicKeyRecord::default() };
    assert_eq!(hex(&alone.encode_to_vec()), "6001");
    assert_eq!(hex(&SessionEraRecord { era: 1, begun_at: 2 }.encode_to_vec()), "08011002");
    let event = audit::AuditEventRecord {
        at: 1,
        kind: "k".to_owned(),
        actor: "a".to_owned(),
        ip_address: "i".to_owned(),
        user_agent: "u".to_owned(),
        details: "d".into(),
        previous: "p".into(),
        link: "l".into(),
    };
    assert_eq!(hex(&event.encode_to_vec()), "080112016b1a01612201692a01753201643a017042016c");
    let seal = audit::AuditSealRecord {
        from: 1,
        events: 2,
        root: "r".into(),
        previous: "p".into(),
        link: "l".into(),
    };
    assert_eq!(hex(&seal.encode_to_vec()), "080110021a01722201702a016c");
    let head = audit::AuditHeadRecord { sequence: 1, link: "l".into() };
    assert_eq!(hex(&head.encode_to_vec()), "080112016c");
    assert_eq!(hex(&audit::AuditLinkRecord { link: "l".into() }.encode_to_vec()), "0a016c");
    let erasure = ErasureRecord { requested_at: 1, addresses: vec!["a".to_owned()], done_at: 2 };
    assert_eq!(hex(&erasure.encode_to_vec()), "08011201611802");
    let schema = SchemaRecord { id: "s".to_owned(), document: "d".into(), updated_at: 3 };
    let set = SchemaSetRecord { version: 1, default_id: "s".to_owned(), schemas: vec![schema] };
    assert_eq!(hex(&set.encode_to_vec()), "08011201731a080a01731201641803");
    assert_eq!(hex(&BatchReceiptRecord { identity: "i".into() }.encode_to_vec()), "0a0169");
}

#[test]
fn accounts_at_providers_and_what_flows_know_of_them_are_frozen() {
    let link = LinkRecord {
        provider: "p".to_owned(),
        issuer: "i".to_owned(),
        subject: "s".to_owned(),
        digest: vec![0x12; 32].into(),
        tokens: "t".into(),
        label: "l".to_owned(),
        linked_at: 1,
        used_at: 2,
    };
    let key = CredentialKey { tenant: TENANT, identity: ID, kind: 7 };
    let credential = CredentialRecord { links: vec![link], ..CredentialRecord::default() };
    assert_eq!(
        hex(&credential.encode_to_vec()),
        format!("7a350a0170120169 1a017322 20{} 2a0174 32016c 3801 4002", "12".repeat(32))
            .replace(' ', "")
    );
    let rows = Credentials::index_rows(&key, &credential);
    assert_eq!(rows.len(), 1);
    assert_eq!(hex(&rows[0].value), format!("0a10{}", hex(ID.as_bytes())));
    let flow = FlowRecord {
        social_state: "a".into(),
        social_journey: "b".into(),
        social_pending: "c".into(),
        exchange_init: "d".into(),
        exchange_return: "e".into(),
        exchange_token: "f".into(),
        ..FlowRecord::default()
    };
    assert_eq!(hex(&flow.encode_to_vec()), "da010161e2010162ea010163f2010164fa01016582020166");
    let flow =
        FlowRecord { code_account: "a".into(), code_traits: "t".into(), ..FlowRecord::default() };
    assert_eq!(hex(&flow.encode_to_vec()), "9a020161a2020174");
    let tried = TriedRecord { provider: "p".to_owned(), bearer: "b".into(), payload: "c".into() };
    let flow = FlowRecord { purpose: 6, tried: Some(tried.into()), ..FlowRecord::default() };
    assert_eq!(hex(&flow.encode_to_vec()), "0806c202090a01701201621a0163");
}

#[test]
fn credentials_are_frozen() {
    let credential = CredentialRecord {
        identifiers: vec!["i".to_owned()],
        identifier_digests: vec!["d".into()],
        password_hash: "h".to_owned(),
        imported_hash: "m".into(),
        created_at: 1,
        updated_at: 2,
        totp_seed: "s".into(),
        totp_step: 3,
        lookup_codes: vec![LookupCodeRecord { digest: "c".into(), used_at: 4 }],
        lookup_sealed: "l".into(),
        keys: vec![PublicKeyRecord {
            id: "k".into(),
            public_key: "p".into(),
            counter: 5,
            name: "n".to_owned(),
            created_at: 6,
            used_at: 7,
            aaguid: "a".into(),
            transports: vec!["usb".to_owned()],
            backup_eligible: true,
            backed_up: true,
            backup_unknown: true,
            passwordless: false,
        }],
        user_handle: "u".into(),
        user_handle_digest: "x".into(),
        ..CredentialRecord::default()
    };
    assert_eq!(
        hex(&credential.encode_to_vec()),
        "0a0169\
         120164\
         1a0168\
         22016d\
         2801\
         3002\
         3a0173\
         4003\
         4a050a01631004\
         52016c\
         5a1d0a016b120170180522016e28063007\
         3a01614203757362\
         480150015801\
         620175\
         6a0178"
    );
    let holder = CredentialIdentifierRecord { identity: "i".into() };
    assert_eq!(hex(&holder.encode_to_vec()), "0a0169");
}

#[test]
fn flows_are_frozen() {
    let flow = FlowRecord {
        purpose: 1,
        issued_at: 2,
        expires_at: 3,
        request_url: "r".to_owned(),
        return_to: "t".to_owned(),
        schema_id: "s".to_owned(),
        refresh: true,
        subject: "i".into(),
        completed_at: 4,
        csrf_digest: "c".into(),
        form: "f".into(),
        active: "a".to_owned(),
        state: 5,
        address: "m".to_owned(),
        code_digest: "d".into(),
        code_expires_at: 6,
        code_tries: 7,
        unclaimed: true,
        requested_aal: 2,
        challenge: "h".into(),
        user_handle: "u".into(),
        known_keys: vec![KnownKeyRecord { id: "k".into(), transports: vec!["n".to_owned()] }],
        offered: vec![3, 4],
        totp_seed: "o".into(),
        lookup_sealed: "l".into(),
        lookup_revealed: true,
        ..FlowRecord::default()
    };
    assert_eq!(
        hex(&flow.encode_to_vec()),
        "08011002180322017\
         22a0174320173380142016948045201635a016662016168057201\
         6d7a01648001068801079001\
         01\
         980102a2010168aa010175b201060a016b12016eba01020304c201016fca01016cd00101"
    );
    let used = UsedFlowRecord { completed_at: 1, subject: "s".into() };
    assert_eq!(hex(&used.encode_to_vec()), "0801120173");
    let error = FlowErrorRecord { error: "e".into(), created_at: 1 };
    assert_eq!(hex(&error.encode_to_vec()), "0a01651001");
    let token = SessionTokenRecord { session: "s".into(), identity: "i".into() };
    assert_eq!(hex(&token.encode_to_vec()), "0a0173120169");
    let address = AddressIndexRecord { identity: "i".into() };
    assert_eq!(hex(&address.encode_to_vec()), "0a0169");
    assert_eq!(hex(&SessionMark {}.encode_to_vec()), "");
}

/// Added later: what was written before has neither.
#[test]
fn codes_as_second_factors_are_frozen() {
    let method =
        MethodRecord { method: 2, aal: 2, completed_at: 5, via: 2, ..MethodRecord::default() };
    assert_eq!(hex(&method.encode_to_vec()), "0802100218052002");
    let flow = FlowRecord { second_addresses: vec!["n".to_owned()], ..FlowRecord::default() };
    assert_eq!(hex(&flow.encode_to_vec()), "aa02016e");
}

/// Added later: what was written before has neither.
#[test]
fn providers_of_authentication_methods_are_frozen() {
    let provider = "p".to_owned();
    let method = MethodRecord { provider, organization: "o".into(), ..MethodRecord::default() };
    assert_eq!(hex(&method.encode_to_vec()), "2a017032016f");
    let upstream_amr = vec!["x".to_owned(), "y".to_owned()];
    let method =
        MethodRecord { upstream_acr: "a".to_owned(), upstream_amr, ..MethodRecord::default() };
    assert_eq!(hex(&method.encode_to_vec()), "3a0161420178420179");
}

/// A newer version adds fields; this one reads what it knows.
#[test]
fn fields_that_are_not_known_are_no_error() {
    let mut bytes = AttemptsRecord { charged: 1, not_before: 2, known_until: 3 }.encode_to_vec();
    assert_eq!(hex(&bytes), "080110021803");
    bytes.extend_from_slice(&[0xfa, 0x06, 0x01, 0x78]);
    assert_eq!(AttemptsRecord::decode(bytes.as_slice()).unwrap().known_until, 3);
}

#[test]
fn index_rows_lead_to_their_records() {
    let key = SessionKey { tenant: TENANT, id: ID };
    let record = SessionRecord {
        identity: id_bytes(&ID),
        token_digest: vec![1; 32].into(),
        logout_digest: vec![2; 32].into(),
        ..SessionRecord::default()
    };
    let rows = Sessions::index_rows(&key, &record);
    assert_eq!(rows.len(), 4);
    let near = |slot| slot == key.slot() || slot == lane::lane_of(key.slot());
    assert!(rows.iter().all(|row| near(row.key.slot())));
    let imported = SessionRecord { imported_digest: vec![5; 32].into(), ..record.clone() };
    let token = ImportedTokens::key(&ImportedTokenKey { tenant: TENANT, digest: [5; 32] });
    let leads = Sessions::index_rows(&key, &imported);
    assert!(leads.len() == 5 && leads.iter().any(|row| row.key == token));
    let frozen = format!("0411{:08x}{}", TENANT.0, "05".repeat(32));
    assert!(hex(token.as_bytes()).ends_with(&frozen), "{frozen}");
    let credential_key = CredentialKey { tenant: TENANT, identity: ID, kind: 6 };
    let passkeys = CredentialRecord {
        user_handle_digest: vec![3; 32].into(),
        identifier_digests: vec![vec![4; 32].into()],
        ..CredentialRecord::default()
    };
    let leads = Credentials::index_rows(&credential_key, &passkeys);
    let handle = PasskeyHandles::key(&PasskeyHandleKey { tenant: TENANT, digest: [3; 32] });
    assert_eq!(leads.len(), 2);
    assert!(leads.iter().any(|row| row.key == handle));
    let lead = SessionTokenRecord::decode(rows[0].value.clone()).unwrap();
    assert_eq!((id_of(&lead.session), id_of(&lead.identity)), (ID, ID));
}
