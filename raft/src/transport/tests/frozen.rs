//! The bytes of the messages.

use bytes::Bytes;
use openraft::{
    EntryPayload,
    raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest},
    vote::RaftLeaderId,
};
use prost::Message;

use super::{CLUSTER, GROUP, HERE, THERE, route};
use crate::{
    ids::ReplicaId,
    machine::Position,
    read::{Leads, Question, Testimony},
    transport::{
        proto::{self, snapshot_chunk::Chunk},
        refusal::Refusal,
        wire,
    },
    types::{Command, LeaderId, LogEntry, LogId, TypeConfig, Vote},
};

fn id(index: u64) -> LogId {
    LogId::new(LeaderId::new(3, ReplicaId(11)), index)
}

fn vote() -> Vote {
    Vote::new_committed(3, ReplicaId(11))
}

fn append() -> AppendEntriesRequest<TypeConfig> {
    let payload = EntryPayload::Normal(Command(Bytes::from_static(b"hi")));
    AppendEntriesRequest {
        vote: vote(),
        prev_log_id: Some(id(6)),
        entries: vec![LogEntry { log_id: id(7), payload }],
        leader_commit: Some(id(5)),
    }
}

fn hex(message: &impl Message) -> String {
    message.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Cluster, from n1 to n2.
const CALLER: &str = "0a20\
    3037303730373037303730373037303730373037303730373037303730373037\
    10011802";

fn route_hex() -> String {
    format!("0a26{CALLER}1009180b2016")
}

#[test]
fn bytes_of_appends_are_frozen() {
    let message = wire::append_request(Some(route()), None, 300, &append());
    let frozen = format!(
        "0a2e{}10ac02\
         1a060803100b1801\
         22060803100b1806\
         2a060803100b1805\
         320c0a060803100b180712026869",
        route_hex()
    );
    assert_eq!(hex(&message), frozen);
    let told = wire::append_request(Some(route()), Some(id(9)), 300, &append());
    assert_eq!(hex(&told), format!("{frozen}3a060803100b1809"));
    let mut message = message;
    message.route = None;
    let back = wire::append(message).unwrap();
    assert_eq!((back.vote, back.prev_log_id), (vote(), Some(id(6))));
    assert_eq!((back.entries, back.leader_commit), (append().entries, Some(id(5))));
}

#[test]
fn bytes_of_answers_are_frozen() {
    for (result, frozen) in [
        (Ok(None), "08011200"),
        (Ok(Some(id(7))), "080112080a060803100b1807"),
        (Err(StreamAppendError::Conflict(id(7))), "08011a060803100b1807"),
        (Err(StreamAppendError::HigherVote(vote())), "080122060803100b1801"),
    ] {
        let message = wire::append_response(1, &result);
        assert_eq!(hex(&message), frozen);
        assert_eq!(wire::append_result(message.outcome).unwrap(), result);

        let outcome = Some(wire::beat_outcome(&Ok(result.clone())));
        let message = proto::BeatAnswer { sequence: 1, outcome };
        assert_eq!(hex(&message), frozen);
        assert_eq!(wire::beat_result(message.outcome).unwrap(), Ok(result));
    }
    let outcome = Some(wire::beat_outcome(&Err(Refusal::UnknownGroup)));
    let refused = proto::BeatAnswer { sequence: 1, outcome };
    assert_eq!(hex(&refused), "08012a020803");
}

#[test]
fn bytes_of_heartbeats_are_frozen() {
    let mut request = append();
    request.entries.clear();
    let message = proto::BeatRequest {
        caller: Some(wire::caller(CLUSTER, HERE, THERE)),
        beats: vec![wire::beat(1, route(), &request)],
        questions: vec![],
    };
    assert_eq!(
        hex(&message),
        format!(
            "0a26{CALLER}\
             12200801100918 0b2016\
             2a060803100b1801 32060803100b1806 3a060803100b1805"
        )
        .replace(' ', "")
    );
    let back = wire::beat_append(&message.beats[0]).unwrap();
    assert_eq!((back.vote, back.prev_log_id), (vote(), Some(id(6))));
    assert_eq!(back.leader_commit, Some(id(5)));
}

#[test]
fn bytes_of_questions_and_testimonies_are_frozen() {
    let question =
        Question { group: GROUP, replica: ReplicaId(22), term: 3, leader: ReplicaId(11) };
    let message = wire::question(1, &question);
    let request = proto::BeatRequest { questions: vec![message], ..Default::default() };
    assert_eq!(hex(&request), "1a0a080110091816 2003280b".replace(' ', ""));
    assert_eq!(wire::asked(&message), question);

    let membership = Some(Position { term: 3, replica: ReplicaId(11), index: 6 });
    let leads = Leads { index: 300, leaders_now: 5, membership };
    let cases = [
        (Testimony::Follows, "0801 1200"),
        (Testimony::Leads(leads), "0801 1a0d 08ac02 1005 1a06 0803100b1806"),
        (Testimony::Differs, "0801 2200"),
    ];
    for (told, frozen) in cases {
        let message = wire::testimony(1, Some(told));
        assert_eq!(hex(&message), frozen.replace(' ', ""));
        assert_eq!(wire::told(message.outcome).unwrap(), Ok(told));
    }
    let refused = wire::testimony(1, None);
    assert_eq!(hex(&refused), "08012a020803");
    assert_eq!(wire::told(refused.outcome).unwrap(), Err(Refusal::UnknownGroup.number()));
}

#[test]
fn bytes_of_votes_are_frozen_with_the_permission_of_the_leader() {
    let mut request = VoteRequest::new(vote(), Some(id(7)));
    request.leadership_transfer = true;
    let message = wire::vote_request(route(), &request);
    let frozen = format!("0a2e{}12060803100b18011a060803100b18072001", route_hex());
    assert_eq!(hex(&message), frozen);
    assert_eq!(wire::vote(message).unwrap(), request);
}

#[test]
fn bytes_of_hand_overs_are_frozen() {
    let request = TransferLeaderRequest::new(vote(), ReplicaId(22), Some(id(7)));
    let message = wire::transfer_request(route(), &request);
    let frozen = format!("0a2e{}12060803100b1801181622060803100b1807", route_hex());
    assert_eq!(hex(&message), frozen);
    assert_eq!(wire::transfer(message).unwrap(), request);
}

#[test]
fn bytes_of_snapshot_pieces_are_frozen() {
    let chunk = |chunk| proto::SnapshotChunk { chunk: Some(chunk) };
    let end = proto::FileEnd { path: "a/b".to_owned(), length: 3, checksum: vec![0xaa, 0xbb] };
    let data = Bytes::from_static(b"xyz");
    let cases = [
        (
            chunk(Chunk::Data(proto::FileData { path: "a/b".to_owned(), offset: 300, data })),
            "120d0a03612f6210ac021a0378797a",
        ),
        (chunk(Chunk::End(end.clone())), "1a0b0a03612f6210031a02aabb"),
        (
            chunk(Chunk::Manifest(proto::Manifest { files: vec![end] })),
            "220d0a0b0a03612f6210031a02aabb",
        ),
    ];
    for (message, frozen) in cases {
        assert_eq!(hex(&message), frozen);
    }
}

#[test]
fn bytes_of_the_begin_of_a_snapshot_are_frozen() {
    let begin = |bytes| proto::SnapshotBegin {
        route: Some(route().into()),
        vote: Some((&vote()).into()),
        meta: Bytes::from_static(&[0xaa]),
        bytes,
    };
    let before = format!("0a2e{}12060803100b18011a01aa", route_hex());
    assert_eq!(hex(&begin(300)), format!("{before}20ac02"));
    // As senders said it that did not say how many.
    assert_eq!(hex(&begin(0)), before);
}

#[test]
fn entries_that_a_later_leader_wrote_are_malformed() {
    let mut theirs = append();
    theirs.vote = Vote::new_committed(2, ReplicaId(11));
    let status = wire::append(wire::append_request(None, None, 1, &theirs)).unwrap_err();
    assert_eq!(Refusal::of(&status), Some(Refusal::Malformed));
}

#[test]
fn entries_that_are_not_consecutive_are_malformed() {
    let mut message = wire::append_request(None, None, 1, &append());
    message.previous = Some((&id(4)).into());
    let status = wire::append(message).unwrap_err();
    assert_eq!(Refusal::of(&status), Some(Refusal::Malformed));
    // Nothing comes before the first of all.
    let mut message = wire::append_request(None, None, 1, &append());
    message.previous = None;
    let status = wire::append(message).unwrap_err();
    assert_eq!(Refusal::of(&status), Some(Refusal::Malformed));
}
