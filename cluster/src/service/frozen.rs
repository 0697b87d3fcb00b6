//! The bytes of the messages, which cross versions.

use bytes::Bytes;
use prost::Message;

use super::proto::{self, *};

fn hex(message: &impl Message) -> String {
    message.encode_to_vec().iter().map(|b| format!("{b:02x}")).collect()
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn caller() -> Option<Caller> {
    Some(Caller { cluster: bytes("c"), from_node: 1, to_node: 2 })
}

/// The caller above, as field 1.
const CALLER: &str = "0a070a016310011802";

#[test]
fn bytes_of_proposals_are_frozen() {
    use propose_response::Result as Of;
    let request = ProposeRequest {
        caller: caller(),
        group: 3,
        command: bytes("d"),
        bypass: true,
        claimant: 0,
    };
    assert_eq!(hex(&request), format!("{CALLER}10031a01642001"));
    let claimed = ProposeRequest { bypass: false, claimant: 5, ..request };
    assert_eq!(hex(&claimed), format!("{CALLER}10031a01642805"));
    let frozen = [
        (Of::Outcome(bytes("o")), "0a016f"),
        (Of::NotLeader(NotLeader { leader: Some(4) }), "12020804"),
        (Of::NotLeader(NotLeader { leader: None }), "1200"),
        (Of::Overloaded(Overloaded { retry_after_ms: 5 }), "1a020805"),
        (Of::Unavailable(Unavailable { reason: "r".to_owned() }), "22030a0172"),
        (Of::Unknown(proto::Unknown {}), "2a00"),
    ];
    for (result, expected) in frozen {
        assert_eq!(hex(&ProposeResponse { result: Some(result) }), expected);
    }
}

#[test]
fn bytes_of_streams_of_proposals_are_frozen() {
    use propose_response::Result as Of;
    let proposal =
        Proposal { sequence: 3, group: 4, command: bytes("d"), bypass: true, claimant: 0 };
    let claimed = Proposal { bypass: false, claimant: 5, ..proposal.clone() };
    assert_eq!(hex(&claimed), "080310041a01642805");
    let batch = ProposeBatch { caller: caller(), proposals: vec![proposal.clone(), proposal] };
    assert_eq!(hex(&batch), format!("{CALLER}1209080310041a016420011209080310041a01642001"));
    let response = Some(ProposeResponse { result: Some(Of::Outcome(bytes("o"))) });
    let answers = ProposeAnswers { answers: vec![ProposeAnswer { sequence: 3, response }] };
    assert_eq!(hex(&answers), "0a070803120 30a016f".replace(' ', ""));
}

#[test]
fn bytes_of_reads_are_frozen() {
    use read_response::Result as Of;
    let scan = Scan { start: bytes("a"), end: bytes("b"), limit: 1, reverse: true };
    let request = ReadRequest {
        caller: caller(),
        group: 3,
        reads: vec![
            RowRead { what: Some(row_read::What::Get(bytes("k"))) },
            RowRead { what: Some(row_read::What::Scan(scan)) },
        ],
        fates: vec![FateQuestion { txn: bytes("t"), not_after: 6 }],
        freshness: Some(Freshness { kind: Some(freshness::Kind::AtLeast(7)) }),
    };
    let reads = "1a030a016b1a0c120a0a016112016218012001";
    assert_eq!(hex(&request), format!("{CALLER}1003{reads}22050a017410062a021007"));
    let frozen = [
        (freshness::Kind::Strong(true), "0801"),
        (freshness::Kind::BoundedMs(8), "1808"),
        (freshness::Kind::Eventual(true), "2001"),
    ];
    for (kind, expected) in frozen {
        assert_eq!(hex(&Freshness { kind: Some(kind) }), expected);
    }
    let row = Row { key: bytes("k"), value: bytes("v"), revision: Some(0), expires_at: Some(9) };
    let row_hex = "0a016b12017618002009";
    let seen = Seen {
        results: vec![Rows { rows: vec![row.clone()], more: true }],
        pending: vec![Pending {
            read: 1,
            txn: bytes("t"),
            decider: bytes("d"),
            not_after: 2,
            key: bytes("k"),
            row: Some(row),
        }],
        fates: vec![bytes("f")],
        revision: 10,
        time: 11,
    };
    let rows = format!("0a0e0a0a{row_hex}1001");
    let pending = format!("121908011201741a016420022a016b320a{row_hex}");
    let seen_hex = format!("{rows}{pending}1a0166200a280b");
    assert_eq!(hex(&seen), seen_hex);
    let moved = ReadResponse { result: Some(Of::Moved(Moved {})) };
    assert_eq!(hex(&moved), "1200");
    let unavailable = Of::Unavailable(Unavailable { reason: "r".to_owned() });
    assert_eq!(hex(&ReadResponse { result: Some(unavailable) }), "1a030a0172");
}

#[test]
fn bytes_of_watches_are_frozen() {
    use watch_response::Result as Of;
    let request =
        WatchRequest { caller: caller(), group: 3, start: bytes("a"), end: bytes("b"), after: 5 };
    assert_eq!(hex(&request), format!("{CALLER}10031a016122016228 05").replace(' ', ""));
    let row = Row { key: bytes("k"), value: bytes("v"), revision: None, expires_at: None };
    let changes = Changes {
        revision: 6,
        rows: vec![
            RowChange { key: bytes("k"), row: Some(row) },
            RowChange { key: bytes("l"), row: None },
        ],
    };
    let frozen = [
        (Of::Changes(changes), "0a14080612 0b0a016b12060a016b120176 12030a016c"),
        (Of::TooOld(TooOld {}), "1200"),
        (Of::Unavailable(Unavailable { reason: "r".to_owned() }), "1a030a0172"),
    ];
    for (result, expected) in frozen {
        let message = WatchResponse { result: Some(result) };
        assert_eq!(hex(&message), expected.replace(' ', ""));
    }
}

#[test]
fn bytes_of_joining_are_frozen() {
    use join_response::Result as Of;
    let request = JoinRequest {
        cluster: bytes("c"),
        address: "a".to_owned(),
        name: "n".to_owned(),
        region: "r".to_owned(),
        zone: "z".to_owned(),
        public_url: "p".to_owned(),
        admin_url: "d".to_owned(),
        binary_version: "v".to_owned(),
        version_max: 1,
        ticket: bytes("t"),
    };
    assert_eq!(hex(&request), "0a01631201611a016e2201722a017a3201703a01644201764801520174");
    let joined = Joined {
        cluster: bytes("c"),
        node: 1,
        directory_replica: 2,
        nodes: vec![NodeAddress { node: 3, address: "a".to_owned() }],
        cluster_name: "n".to_owned(),
    };
    let frozen = [
        (Of::Joined(joined), "0a110a016310011802220508031201612a016e"),
        (Of::Elsewhere(Elsewhere { addresses: vec!["a".to_owned()] }), "12030a0161"),
        (Of::Unavailable(Unavailable { reason: "r".to_owned() }), "1a030a0172"),
        (Of::Refused(Refused { reason: "r".to_owned() }), "22030a0172"),
    ];
    for (result, expected) in frozen {
        assert_eq!(hex(&JoinResponse { result: Some(result) }), expected);
    }
}

#[test]
fn bytes_of_the_status_are_frozen() {
    let request = StatusRequest { caller: caller(), address: "a".to_owned(), process: 4 };
    assert_eq!(hex(&request), format!("{CALLER}1201611804"));
    let replica = ReplicaReport {
        group: 1,
        replica: 2,
        term: 3,
        leader_node: Some(4),
        leads: true,
        applied: Some(5),
        committed: Some(6),
        marks: vec![DigestMark { index: 7, digest: bytes("d") }],
        log_time: 8,
        disk_bytes: 9,
        learner: true,
        voters: vec![10, 11],
    };
    let replica_hex =
        "0801100218032004280130053806420508071201644808500958 01 62020a0b".replace(' ', "");
    assert_eq!(hex(&replica), replica_hex);
    let response = StatusResponse {
        node: 1,
        now: 2,
        disk_free: 3,
        disk_used: 4,
        replicas: vec![],
        binary_version: "v".to_owned(),
        version_max: 5,
        draining: true,
        directory_revision: 6,
        memory_bytes: 7,
        process: 8,
        disk_full: true,
        disk_hangs: true,
    };
    let hex_of_all = "08011002180320043201763805400148065007 5808 6001 6801".replace(' ', "");
    assert_eq!(hex(&response), hex_of_all);
}

#[test]
fn bytes_of_operations_are_frozen() {
    use operate_response::Result as Of;
    let request = OperateRequest { caller: caller(), action: "a".to_owned(), body: bytes("b") };
    assert_eq!(hex(&request), format!("{CALLER}1201611a0162"));
    let frozen = [
        (Of::Body(bytes("b")), "0a0162"),
        (Of::Declined(Declined { kind: 1, reason: "r".to_owned() }), "12050801120172"),
        (Of::NotLeader(NotLeader { leader: Some(4) }), "1a020804"),
    ];
    for (result, expected) in frozen {
        assert_eq!(hex(&OperateResponse { result: Some(result) }), expected);
    }
}
