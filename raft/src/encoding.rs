//! The bytes of this crate on disk and wire: prost messages of our own, since
//! openraft promises nothing about its types. Tags are never reused; the tests
//! at the end freeze the bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cardea_storage::Fault;
use openraft::{
    EntryPayload,
    vote::{RaftLeaderId, RaftVote},
};
use prost::Message;

use crate::{
    ids::{NodeId, ReplicaId},
    machine::Position,
    types::{
        Command, LeaderId, LogEntry, LogId, LogPayload, Member, Membership, SnapshotMeta,
        StoredMembership, Vote,
    },
};

/// A log id on disk and wire.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LogIdRecord {
    /// The leader's term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// The leader's replica id.
    #[prost(uint64, tag = "2")]
    pub replica: u64,
    /// The index of the entry.
    #[prost(uint64, tag = "3")]
    pub index: u64,
}

/// A vote on disk and wire.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct VoteRecord {
    /// The candidate's term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// The candidate's replica id.
    #[prost(uint64, tag = "2")]
    pub replica: u64,
    /// Whether a quorum granted it.
    #[prost(bool, tag = "3")]
    pub committed: bool,
}

/// One set of voters.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct VotersRecord {
    /// Replica ids.
    #[prost(uint64, repeated, tag = "1")]
    pub replicas: Vec<u64>,
}

/// A replica and its node.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MemberRecord {
    /// The replica id.
    #[prost(uint64, tag = "1")]
    pub replica: u64,
    /// The node id.
    #[prost(uint64, tag = "2")]
    pub node: u64,
}

/// A membership on disk and wire.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MembershipRecord {
    /// One set of voters, or two while the membership is joint.
    #[prost(message, repeated, tag = "1")]
    pub configs: Vec<VotersRecord>,
    /// Voters and learners.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<MemberRecord>,
}

/// A membership and the entry that said so.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredMembershipRecord {
    /// The entry; absent for the empty membership of a new log.
    #[prost(message, optional, tag = "1")]
    pub log_id: Option<LogIdRecord>,
    /// The membership.
    #[prost(message, optional, tag = "2")]
    pub membership: Option<MembershipRecord>,
}

/// What a snapshot holds.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SnapshotMetaRecord {
    /// The last entry in it.
    #[prost(message, optional, tag = "1")]
    pub last: Option<LogIdRecord>,
    /// The membership as of that entry.
    #[prost(message, optional, tag = "2")]
    pub membership: Option<StoredMembershipRecord>,
}

/// An entry on disk and wire.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EntryRecord {
    /// Where it stands.
    #[prost(message, optional, tag = "1")]
    pub log_id: Option<LogIdRecord>,
    /// What it carries; absent for a blank entry.
    #[prost(oneof = "PayloadRecord", tags = "2, 3")]
    pub payload: Option<PayloadRecord>,
}

/// What an entry carries.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum PayloadRecord {
    /// A command of the machine.
    #[prost(bytes = "bytes", tag = "2")]
    Command(Bytes),
    /// A change of membership.
    #[prost(message, tag = "3")]
    Membership(MembershipRecord),
}

impl From<&LogId> for LogIdRecord {
    fn from(id: &LogId) -> Self {
        Self { term: id.leader_id.term, replica: id.leader_id.node_id.0, index: id.index }
    }
}

impl From<LogIdRecord> for LogId {
    fn from(record: LogIdRecord) -> Self {
        LogId::new(LeaderId::new(record.term, ReplicaId(record.replica)), record.index)
    }
}

impl From<&LogId> for Position {
    fn from(id: &LogId) -> Self {
        Self { term: id.leader_id.term, replica: id.leader_id.node_id, index: id.index }
    }
}

impl From<Position> for LogId {
    fn from(position: Position) -> Self {
        LogId::new(LeaderId::new(position.term, position.replica), position.index)
    }
}

impl From<&Vote> for VoteRecord {
    fn from(vote: &Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            replica: vote.leader_id.node_id.0,
            committed: vote.committed,
        }
    }
}

impl From<VoteRecord> for Vote {
    fn from(record: VoteRecord) -> Self {
        Vote::from_leader_id(
            LeaderId::new(record.term, ReplicaId(record.replica)),
            record.committed,
        )
    }
}

impl From<&Membership> for MembershipRecord {
    fn from(membership: &Membership) -> Self {
        Self {
            configs: membership
                .get_joint_config()
                .iter()
                .map(|voters| VotersRecord { replicas: voters.iter().map(|id| id.0).collect() })
                .collect(),
            members: membership
                .nodes()
                .map(|(id, member)| MemberRecord { replica: id.0, node: member.node.0 })
                .collect(),
        }
    }
}

impl TryFrom<MembershipRecord> for Membership {
    type Error = Fault;

    fn try_from(record: MembershipRecord) -> Result<Self, Fault> {
        let configs: Vec<BTreeSet<ReplicaId>> = record
            .configs
            .into_iter()
            .map(|voters| voters.replicas.into_iter().map(ReplicaId).collect())
            .collect();
        let members: BTreeMap<ReplicaId, Member> = record
            .members
            .into_iter()
            .map(|member| (ReplicaId(member.replica), Member { node: NodeId(member.node) }))
            .collect();
        Membership::new(configs, members)
            .map_err(|error| Fault::new(format!("membership record does not hold: {error}")))
    }
}

impl From<&StoredMembership> for StoredMembershipRecord {
    fn from(stored: &StoredMembership) -> Self {
        Self {
            log_id: stored.log_id().as_ref().map(LogIdRecord::from),
            membership: Some(stored.membership().into()),
        }
    }
}

impl TryFrom<StoredMembershipRecord> for StoredMembership {
    type Error = Fault;

    fn try_from(record: StoredMembershipRecord) -> Result<Self, Fault> {
        Ok(StoredMembership::new(
            record.log_id.map(LogId::from),
            record.membership.unwrap_or_default().try_into()?,
        ))
    }
}

impl From<&SnapshotMeta> for SnapshotMetaRecord {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            last: meta.last_log_id.as_ref().map(LogIdRecord::from),
            membership: Some((&meta.last_membership).into()),
        }
    }
}

impl TryFrom<SnapshotMetaRecord> for SnapshotMeta {
    type Error = Fault;

    fn try_from(record: SnapshotMetaRecord) -> Result<Self, Fault> {
        Ok(SnapshotMeta {
            last_log_id: record.last.map(LogId::from),
            last_membership: record.membership.unwrap_or_default().try_into()?,
        })
    }
}

impl From<&LogEntry> for EntryRecord {
    fn from(entry: &LogEntry) -> Self {
        Self {
            log_id: Some((&entry.log_id).into()),
            payload: match &entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(command) => Some(PayloadRecord::Command(command.0.clone())),
                EntryPayload::Membership(membership) => {
                    Some(PayloadRecord::Membership(membership.into()))
                }
            },
        }
    }
}

impl TryFrom<EntryRecord> for LogEntry {
    type Error = Fault;

    fn try_from(record: EntryRecord) -> Result<Self, Fault> {
        let log_id = record.log_id.ok_or_else(|| Fault::new("entry record without a log id"))?;
        let payload: LogPayload = match record.payload {
            None => EntryPayload::Blank,
            Some(PayloadRecord::Command(bytes)) => EntryPayload::Normal(Command(bytes)),
            Some(PayloadRecord::Membership(membership)) => {
                EntryPayload::Membership(membership.try_into()?)
            }
        };
        Ok(LogEntry { log_id: log_id.into(), payload })
    }
}

/// Bytes that an entry takes on disk and wire, roughly.
pub(crate) fn entry_len(entry: &LogEntry) -> usize {
    const ENVELOPE: usize = 32;
    ENVELOPE
        + match &entry.payload {
            EntryPayload::Blank => 0,
            EntryPayload::Normal(command) => command.0.len(),
            EntryPayload::Membership(membership) => 24 * membership.nodes().count(),
        }
}

/// Encodes a record.
pub fn encode(record: &impl Message) -> Bytes {
    record.encode_to_vec().into()
}

/// Decodes a record; `what` names it in the fault.
pub fn decode<R: Message + Default>(what: &str, bytes: Bytes) -> Result<R, Fault> {
    R::decode(bytes).map_err(|error| Fault::caused(format!("decode {what}"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn log_id(term: u64, replica: u64, index: u64) -> LogId {
        LogId::new(LeaderId::new(term, ReplicaId(replica)), index)
    }

    fn membership() -> Membership {
        let configs = vec![
            BTreeSet::from([ReplicaId(1), ReplicaId(2)]),
            BTreeSet::from([ReplicaId(2), ReplicaId(3)]),
        ];
        let members: BTreeMap<_, _> =
            (1..=4).map(|id| (ReplicaId(id), Member { node: NodeId(id + 10) })).collect();
        Membership::new(configs, members).unwrap()
    }

    #[test]
    fn bytes_of_log_ids_and_votes_are_frozen() {
        assert_eq!(hex(&encode(&LogIdRecord::from(&log_id(3, 7, 300)))), "0803100718ac02");
        let vote = Vote::new_committed(3, ReplicaId(7));
        assert_eq!(hex(&encode(&VoteRecord::from(&vote))), "080310071801");
        assert_eq!(Vote::from(VoteRecord::from(&vote)), vote);
        assert_eq!(LogId::from(LogIdRecord::from(&log_id(3, 7, 300))), log_id(3, 7, 300));
    }

    #[test]
    fn bytes_of_entries_are_frozen() {
        let cases = [
            (EntryPayload::Blank, "0a06080110021803"),
            (EntryPayload::Normal(Command(Bytes::from_static(b"hi"))), "0a0608011002180312026869"),
            (
                EntryPayload::Membership(membership()),
                "0a060801100218031a240a040a0201020a040a020203\
                 12040801100b12040802100c12040803100d12040804100e",
            ),
        ];
        for (payload, frozen) in cases {
            let entry = LogEntry { log_id: log_id(1, 2, 3), payload };
            let bytes = encode(&EntryRecord::from(&entry));
            assert_eq!(hex(&bytes), frozen);
            let back: LogEntry = decode::<EntryRecord>("entry", bytes).unwrap().try_into().unwrap();
            assert_eq!(back, entry);
        }
    }

    #[test]
    fn bytes_of_snapshot_meta_are_frozen() {
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(5, 1, 9)),
            last_membership: StoredMembership::new(Some(log_id(4, 1, 2)), membership()),
        };
        let bytes = encode(&SnapshotMetaRecord::from(&meta));
        assert_eq!(
            hex(&bytes),
            "0a0608051001180912\
             2e0a060804100118021224\
             0a040a0201020a040a02020312040801100b12040802100c12040803100d12040804100e"
        );
        let back: SnapshotMeta =
            decode::<SnapshotMetaRecord>("snapshot", bytes).unwrap().try_into().unwrap();
        assert_eq!(back, meta);
    }

    #[test]
    fn an_entry_without_log_id_is_a_fault() {
        assert!(LogEntry::try_from(EntryRecord::default()).is_err());
    }

    #[test]
    fn bytes_that_are_no_record_are_a_fault() {
        assert!(decode::<EntryRecord>("entry", Bytes::from_static(&[0xff, 0xff])).is_err());
    }
}
