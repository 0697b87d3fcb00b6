//! What is held is what the engine says, after whatever happened.

use std::{
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::{
    engine::{
        Batch, Claim, Disk, Durability, Engine, EngineOptions, Purpose, Usage, memory::MemoryDisk,
    },
    key::{KeyWriter, Tenant},
    machine::{
        LogEntry, Machine, Payload, read_state,
        state::{Position, range_bits},
    },
    row::Stored,
    slot::{Slot, SlotRange, Space},
    tag::Tag,
    txn::{
        Command, Condition, Effect, Put, Txn,
        command::{Acknowledge, Action, Decide, Finish, Own, Prepare, Settle},
        pack::pack,
    },
};

/// An engine of which a write can be made to fail.
struct Faulty {
    engine: Arc<dyn Engine>,
    fails: AtomicBool,
}

impl Engine for Faulty {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.engine.get(key)
    }

    fn view(&self) -> Result<Box<dyn View>, Fault> {
        self.engine.view()
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Fault> {
        if self.fails.swap(false, SeqCst) {
            return Err(Fault::new("a write that was made to fail"));
        }
        self.engine.write(batch, durability)
    }

    fn flush(&self) -> Result<(), Fault> {
        self.engine.flush()
    }

    fn compact(&self) -> Result<(), Fault> {
        self.engine.compact()
    }

    fn checkpoint(&self, to: &Path) -> Result<(), Fault> {
        self.engine.checkpoint(to)
    }

    fn usage(&self) -> Usage {
        self.engine.usage()
    }

    fn claim(&self) -> Weak<Claim> {
        self.engine.claim()
    }
}

struct Subject {
    disk: MemoryDisk,
    engine: Arc<Faulty>,
    machine: Machine,
    /// Of everything that was proposed.
    log: Vec<LogEntry>,
}

fn open(disk: &MemoryDisk) -> Arc<Faulty> {
    let options = EngineOptions { purpose: Purpose::Tablet, retention: None };
    let engine = disk.open(Path::new("t"), options).unwrap();
    Arc::new(Faulty { engine, fails: AtomicBool::new(false) })
}

impl Subject {
    fn new(seed: u64) -> Self {
        let disk = MemoryDisk::new(seed);
        let engine = open(&disk);
        let machine = Machine::open(engine.clone()).unwrap();
        let mut this = Self { disk, engine, machine, log: Vec::new() };
        let ranges = range_bits(&[SlotRange::whole(Space::Home)]);
        this.propose(Command::new(1, Action::Own(Own { ranges, base: 0 })).encode_to_vec().into());
        this.apply();
        this
    }

    fn propose(&mut self, command: Bytes) {
        let index = self.log.len() as u64;
        let position = Position { term: 1, replica: 1, index };
        self.log.push(LogEntry { position, payload: Payload::Command(command) });
    }

    /// Applies what is not yet, then looks whether what is held is what is there.
    fn apply(&self) {
        let next = self.machine.state().position.map_or(0, |position| position.index + 1);
        let next = usize::try_from(next).unwrap();
        self.machine.apply(&self.log[next..]).unwrap();
        self.look();
    }

    fn look(&self) {
        let view = self.engine.view().unwrap();
        let now = read_state(view.as_ref()).unwrap().time();
        let held = &self.machine.applied.lock().held;
        let read = Held::load(view.as_ref(), now).unwrap();
        assert_eq!(held.locks, read.locks);
        assert_eq!(held.prepared, read.prepared);
        assert_eq!(held.decisions, read.decisions);
        let (start, end) = ([area::RECEIPT], [area::RECEIPT + 1]);
        let (start, end) = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
        view.scan(start, end, Order::Forward, &mut |key, value| {
            let stored = Stored::decode(&Bytes::copy_from_slice(value)).unwrap();
            let id = RequestId::from_slice(&key[1..]).unwrap();
            assert!(!stored.is_live(now) || !held.receipts.lacks(id), "{id:?} has a receipt");
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(held.receipts.lacks(RequestId([0xee; 16])), "nobody has this id");
    }

    /// The process ends, and another one applies again what was lost.
    fn reopen(&mut self, losing_all: bool) {
        match losing_all {
            true => self.disk.crash_losing_all(),
            false => self.disk.crash(),
        }
        self.engine = open(&self.disk);
        self.machine = Machine::open(self.engine.clone()).unwrap();
        self.look();
        self.apply();
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Commands of one entry, and how far log time is moved before.
    Apply(Vec<(u8, u8, u8)>, u64),
    FailedWrite((u8, u8, u8)),
    Flush,
    Reopen(bool),
    Replace,
}

fn step() -> impl Strategy<Value = Step> {
    let command = (0..7_u8, 0..12_u8, 0..16_u8);
    prop_oneof![
        12 => (prop::collection::vec(command.clone(), 1..5), prop_oneof![0..500_u64, 0..50_000_u64])
            .prop_map(|(commands, by)| Step::Apply(commands, by)),
        1 => command.prop_map(Step::FailedWrite),
        2 => Just(Step::Flush),
        1 => any::<bool>().prop_map(Step::Reopen),
        1 => Just(Step::Replace),
    ]
}

/// A command: which kind, of which transaction, on which keys.
fn action((kind, txn, keys): (u8, u8, u8), now: u64) -> Action {
    let request_id = Bytes::from(vec![txn; 16]);
    let not_after = now + 1_000 * u64::from(txn);
    let decider = Bytes::from_static(b"\x10\x00");
    let key = |number: u8| {
        let mut key = KeyWriter::new(Slot::new(Space::Home, 5), Tag::TEST, Tenant(0));
        key.u8(number);
        key.finish().as_bytes().clone()
    };
    let put = |key| Effect::Put(Put { key, value: Bytes::from(vec![txn]), expires_at: 0 }).into();
    let of_two = Txn {
        request_id: request_id.clone(),
        not_after,
        checks: vec![Condition::Absent(key(keys / 4)).into()],
        ops: vec![put(key(keys % 4))],
        ..Txn::default()
    };
    match kind {
        0 => Action::Commit(of_two),
        1 | 2 => Action::Prepare(Prepare { txn: Some(of_two), decider }),
        3 => Action::Decide(Decide { txn: Some(of_two), participants: vec![decider] }),
        4 => Action::Settle(Settle { request_id, not_after, refused: keys < 8 }),
        5 => Action::Finish(Finish { request_id, not_after, commit: keys < 12 }),
        _ => Action::Acknowledge(Acknowledge { request_id, participants: vec![decider] }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_held_is_what_the_engine_says(
        seed: u64,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut subject = Subject::new(seed);
        let mut now = 1_000;
        for step in steps {
            match step {
                Step::Apply(commands, by) => {
                    now += by;
                    let commands: Vec<Bytes> = commands
                        .into_iter()
                        .map(|it| Command::new(now, action(it, now)).encode_to_vec().into())
                        .collect();
                    subject.propose(pack(&commands));
                    subject.apply();
                }
                Step::FailedWrite(command) => {
                    let command = Command::new(now, action(command, now));
                    subject.propose(command.encode_to_vec().into());
                    subject.engine.fails.store(true, SeqCst);
                    let entry = std::slice::from_ref(subject.log.last().unwrap());
                    subject.machine.apply(entry).unwrap_err();
                    subject.apply();
                }
                Step::Flush => subject.engine.flush().unwrap(),
                Step::Reopen(losing_all) => subject.reopen(losing_all),
                Step::Replace => {
                    subject.machine.replace(subject.engine.clone()).unwrap();
                    subject.look();
                }
            }
        }
    }
}

#[test]
fn a_corrupt_lock_is_found_when_the_tablet_is_opened() {
    for area in [area::LOCK, area::PREPARED, area::DECISION] {
        let engine = open(&MemoryDisk::new(1));
        let mut batch = Batch::new();
        batch.put(area::key(area, &[7; 16]), Bytes::from_static(b"\xff"));
        engine.write(batch, Durability::Buffered).unwrap();
        Machine::open(engine).unwrap_err();
    }
}
