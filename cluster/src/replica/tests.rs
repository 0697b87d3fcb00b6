//! A replica over a disk that crashes: what is kept, what is dropped when, and
//! that snapshots and digests are what they should be.

use bytes::Bytes;
use cardea_raft::Machine as _;
use cardea_storage::{
    Key, ManualClock, Slot, SlotRange, Space, Tag, Tenant,
    engine::memory::MemoryDisk,
    key::KeyWriter,
    machine::state::range_bits,
    store::Read,
    txn::{
        Command, Effect, Outcome, Put, Txn,
        command::{Action, Own, Time},
    },
};
use prost::Message;

use super::*;

const AT: &str = "/data/tablets/g1-r1";

struct Site {
    disk: Arc<MemoryDisk>,
    clock: Arc<ManualClock>,
    reserve_bytes: u64,
}

impl Site {
    fn new() -> Self {
        Self {
            disk: Arc::new(MemoryDisk::new(1)),
            clock: Arc::new(ManualClock::new(Timestamp(1_000))),
            reserve_bytes: 0,
        }
    }

    fn open(&self) -> Arc<Replica> {
        Replica::open(ReplicaParts {
            group: GroupId(1),
            replica: ReplicaId(1),
            disk: self.disk.clone(),
            at: PathBuf::from(AT),
            reserve_bytes: self.reserve_bytes,
            clock: self.clock.clone(),
            comparison: ClockComparison::new(self.clock.clone()),
            directory: Directory::new(self.clock.clone(), Vec::new()),
        })
        .unwrap()
    }
}

fn position(index: u64) -> Position {
    Position { term: 1, replica: ReplicaId(1), index }
}

fn command(index: u64, action: Action) -> Entry {
    let command = Command::new(1_000 + index, action);
    Entry { position: position(index), payload: Payload::Command(command.encode_to_vec().into()) }
}

fn key(number: u64) -> Key {
    let mut writer = KeyWriter::new(Slot::new(Space::Home, 0), Tag::TEST, Tenant(0));
    writer.u64(number);
    writer.finish()
}

fn put(index: u64, expires_at: u64) -> Entry {
    let put = Effect::Put(Put {
        key: key(index).as_bytes().clone(),
        value: Bytes::from_static(b"v"),
        expires_at,
    });
    let txn = Txn {
        request_id: Bytes::copy_from_slice(&u128::from(index).to_be_bytes()),
        not_after: 10_000,
        ops: vec![put.into()],
        ..Txn::default()
    };
    command(index, Action::Commit(txn))
}

/// The first entries of a group, then a row for each of `rows`.
fn fill(replica: &Replica, rows: std::ops::Range<u64>) {
    let own = Own { ranges: range_bits(&[SlotRange::whole(Space::Home)]), base: 100 };
    let mut entries = vec![
        Entry { position: position(0), payload: Payload::Membership(Bytes::from_static(b"m")) },
        command(1, Action::Time(Time {})),
        command(2, Action::Own(own)),
    ];
    entries.extend(rows.map(|index| put(index, 0)));
    let answers = replica.apply(entries).unwrap();
    assert_eq!(answers[0], Bytes::new());
    for answer in &answers[1..] {
        assert!(matches!(Outcome::decode(answer), Ok(Outcome::Committed { .. })));
    }
}

fn has(replica: &Replica, number: u64) -> bool {
    let view = replica.machine().view().unwrap();
    let seen = view.read(&[Read::Get(key(number))], Timestamp(0)).unwrap().unwrap();
    !seen.results[0].rows.is_empty()
}

#[test]
fn a_replica_is_new_once_and_keeps_what_was_flushed() {
    let site = Site::new();
    let replica = site.open();
    assert!(replica.is_new());
    fill(&replica, 3..5);
    assert!(replica.owns_slots());
    assert_eq!(replica.index_before(Revision(104)), None);
    assert_eq!(replica.index_before(Revision(105)), Some(5));
    replica.flush().unwrap();
    replica.apply(vec![put(5, 0)]).unwrap();
    assert_eq!(replica.unflushed().entries, 1);
    drop(replica);
    site.disk.crash();
    let replica = site.open();
    assert!(!replica.is_new());
    assert_eq!(replica.applied().unwrap().position, Some(position(4)));
    assert_eq!(replica.applied().unwrap().membership, Some(Bytes::from_static(b"m")));
    assert!(has(&replica, 4));
    assert!(!has(&replica, 5));
}

#[test]
fn the_retention_horizon_moves_with_completed_flushes_alone() {
    let site = Site::new();
    let replica = site.open();
    fill(&replica, 3..5);
    assert_eq!(replica.retention.horizon(), 0);
    replica.flush().unwrap();
    assert_eq!(replica.retention.horizon(), 1_004);
    replica.apply(vec![put(5, 0)]).unwrap();
    assert_eq!(replica.log_time(), Timestamp(1_005));
    assert_eq!(replica.retention.horizon(), 1_004);
    replica.begin_snapshot(true).unwrap().unwrap();
    assert_eq!(replica.retention.horizon(), 1_005);
}

#[test]
fn a_snapshot_is_found_again_and_an_older_one_goes_with_its_last_reader() {
    let site = Site::new();
    let replica = site.open();
    assert!(replica.begin_snapshot(true).unwrap().is_none());
    fill(&replica, 3..5);
    let first = replica.begin_snapshot(true).unwrap().unwrap();
    replica.apply(vec![put(5, 0)]).unwrap();
    let second = replica.begin_snapshot(true).unwrap().unwrap();
    let files = |snapshot: &Snapshot| site.disk.files_below(&snapshot.directory).unwrap();
    assert!(!files(&first).is_empty());
    let gone = first.directory.clone();
    drop(first);
    assert!(site.disk.files_below(&gone).unwrap().is_empty());
    let directory = second.directory.clone();
    drop((second, replica));
    site.disk.crash();
    let replica = site.open();
    let found = replica.current_snapshot().unwrap().unwrap();
    assert_eq!((found.position, found.directory.clone()), (position(5), directory));
    assert!(!files(&found).is_empty());
    drop(found);
    replica.discard_snapshot().unwrap();
    assert!(replica.current_snapshot().unwrap().is_none());
    assert!(replica.tablet().snapshots().unwrap().is_empty());
}

#[test]
fn an_installed_snapshot_replaces_everything_and_is_the_current_one() {
    let (here, there) = (Site::new(), Site::new());
    let source = here.open();
    fill(&source, 3..9);
    let sent = source.begin_snapshot(true).unwrap().unwrap();
    let replica = there.open();
    fill(&replica, 3..4);
    let received = replica.begin_receive().unwrap();
    for file in here.disk.files_below(&sent.directory).unwrap() {
        let (mut from, _) = here.disk.read_stream(&sent.directory.join(&file)).unwrap();
        let mut to = there.disk.write_stream(&received.join(&file)).unwrap();
        std::io::copy(&mut from, &mut to).unwrap();
        to.finish().unwrap();
    }
    replica.install(received, sent.position, sent.membership.clone()).unwrap();
    assert!(has(&replica, 8));
    assert_eq!(replica.applied().unwrap().position, Some(position(8)));
    assert_eq!(replica.current_snapshot().unwrap().unwrap().position, position(8));
    drop(replica);
    there.disk.crash();
    let replica = there.open();
    assert!(has(&replica, 8));
    assert_eq!(replica.machine().state().digest, source.machine().state().digest);
}

#[test]
fn what_is_in_reserve_is_no_room_for_a_snapshot() {
    let site = Site { reserve_bytes: 100, ..Site::new() };
    let replica = site.open();
    for (free, room) in [(1_000, 900), (101, 1), (100, 0), (99, 0)] {
        site.disk.set_free_bytes(free);
        assert_eq!(replica.room_bytes().unwrap(), room, "of {free}");
    }
}

#[test]
fn digests_are_noted_at_fixed_indexes_however_entries_are_batched() {
    let (whole, parts) = (Site::new().open(), Site::new().open());
    let rows = 3..2 * DIGEST_EVERY + 10;
    fill(&whole, rows.clone());
    fill(&parts, 3..4);
    for index in 4..rows.end {
        parts.apply(vec![put(index, 0)]).unwrap();
    }
    let marks = whole.marks();
    assert_eq!(marks.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1_024, 2_048]);
    assert_eq!(marks, parts.marks());
    assert_ne!(marks[0].1, marks[1].1);
}
