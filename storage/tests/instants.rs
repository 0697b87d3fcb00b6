//! A look at a machine is of one instant, whatever is applied meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cardea_storage::{
    Key, ManualClock, Slot, Space, Tag, Tenant, Timestamp,
    engine::{Disk, memory::MemoryDisk, rocks::RocksDisk},
    key::KeyWriter,
    local::LocalShards,
    protocol::shards::{Freshness, ShardId, ShardRead, Shards, read_view},
    store::Read,
    txn::{Effect, Put, RequestId, Txn, command::Action},
};

const ROUNDS: u64 = 300;

fn key(number: u64) -> Key {
    let mut writer = KeyWriter::new(Slot::new(Space::Home, 1), Tag::TEST, Tenant(0));
    writer.u64(number);
    writer.finish()
}

/// Every row gets the number of the round.
fn round(number: u64) -> Action {
    let put = |row| {
        Effect::Put(Put {
            key: key(row).as_bytes().clone(),
            value: number.to_be_bytes().to_vec().into(),
            expires_at: 0,
        })
    };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Action::Commit(Txn {
        request_id: RequestId(id).to_bytes(),
        read_time: 0,
        not_after: 2_000,
        checks: Vec::new(),
        ops: (0..8).map(put).map(Into::into).collect(),
    })
}

fn look_while_rounds_are_applied(disk: &dyn Disk, root: &Path) {
    let clock = Arc::new(ManualClock::new(Timestamp(1_000)));
    let shards = LocalShards::open(disk, root, 1, clock).unwrap();
    let shard = shards.locate(key(0).slot()).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let (applying, until) = (shards.clone(), done.clone());
    let apply = std::thread::spawn(move || {
        for number in 1..=ROUNDS {
            applying.apply(shard, round(number), Timestamp(1_000)).unwrap();
        }
        until.store(true, Ordering::Release);
    });
    let mut newest = 0;
    loop {
        let last = done.load(Ordering::Acquire);
        newest = seen(&shards, shard).max(newest);
        if last {
            break;
        }
    }
    assert_eq!(newest, ROUNDS);
    apply.join().unwrap();
}

/// The round that all rows are of, with the revision that belongs to it.
fn seen(shards: &LocalShards, shard: ShardId) -> u64 {
    let reads = (0..8).map(key).map(Read::Get).collect();
    let read = ShardRead { reads, fates: Vec::new(), freshness: Freshness::Eventual };
    let machine = shards.machine(shard).unwrap();
    let seen = machine.look(|view| read_view(view, &read, Timestamp(1_000))).unwrap().unwrap();
    let rows: Vec<_> = seen.seen.results.iter().flat_map(|rows| &rows.rows).collect();
    let Some(first) = rows.first() else { return 0 };
    assert_eq!(rows.len(), 8);
    for row in &rows {
        assert_eq!(row.value, first.value, "rows of two instants");
        assert_eq!(row.revision, Some(seen.revision), "a revision of another instant");
    }
    u64::from_be_bytes(first.value.as_ref().try_into().unwrap())
}

#[test]
fn a_look_is_of_one_instant_in_memory() {
    look_while_rounds_are_applied(&MemoryDisk::new(1), Path::new("/instants"));
}

#[test]
fn a_look_is_of_one_instant_on_rocks() {
    let root = tempfile::tempdir().unwrap();
    let disk = RocksDisk::new(Default::default()).unwrap();
    look_while_rounds_are_applied(&disk, root.path());
}
