//! Random histories of commands: both engines give the same answers and the same
//! dump, whatever is flushed and compacted when; and a crash at every write point,
//! with a replay of the log, ends in the same digest.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use cardea_storage::{
    Entropy, Fault, Key, SeededEntropy, Slot, SlotRange, Space, Tag, Tenant, Timestamp,
    engine::{
        Disk, EngineOptions, Order, Purpose, Retention,
        memory::MemoryDisk,
        rocks::{RocksDisk, RocksSettings},
    },
    key::KeyWriter,
    machine::{
        Answered, LogEntry, Machine, Payload, area,
        dump::dump,
        state::{Position, range_bits},
    },
    store::{Read, Scan},
    txn::{
        Add, At, Command, Condition, Effect, Fingerprint, Outcome, Put, RangeCheck, Txn,
        command::{Acknowledge, Action, Decide, Fence, Finish, Own, Prepare, Settle, Time},
        pack::pack,
    },
};
use prost::Message;

const KEYS: u64 = 6;

/// Draws commands that often touch the same few keys and transactions.
struct Author {
    entropy: SeededEntropy,
    now: u64,
    made: Vec<Action>,
}

impl Author {
    fn below(&self, bound: u64) -> u64 {
        let entropy: &dyn Entropy = &self.entropy;
        entropy.below(bound)
    }

    fn key(&self) -> Bytes {
        key(self.below(KEYS)).as_bytes().clone()
    }

    fn log(seed: u64, length: u64) -> Vec<LogEntry> {
        let mut author =
            Self { entropy: SeededEntropy::new(seed), now: 1_000_000, made: Vec::new() };
        (0..length).map(|index| author.entry(index)).collect()
    }

    fn entry(&mut self, index: u64) -> LogEntry {
        self.now += self.below(400);
        if self.below(40) == 0 {
            self.now += 30_000;
        }
        let payload = match index {
            0 => self.command(Action::Time(Time {})),
            1 => {
                let ranges = range_bits(&[SlotRange::whole(Space::Home)]);
                self.command(Action::Own(Own { ranges, base: 77 }))
            }
            _ if self.below(30) == 0 => Payload::Blank,
            _ if self.below(30) == 0 => Payload::Membership(Bytes::from(vec![7; 9])),
            _ if self.below(4) == 0 => self.pack(),
            _ => {
                let action = self.action();
                self.command(action)
            }
        };
        LogEntry { position: Position { term: 1, replica: 1, index }, payload }
    }

    fn command(&self, action: Action) -> Payload {
        Payload::Command(self.stamped(action))
    }

    fn stamped(&self, action: Action) -> Bytes {
        let skew = self.below(3000);
        Command::new(self.now - skew, action).encode_to_vec().into()
    }

    fn pack(&mut self) -> Payload {
        let count = self.below(5);
        let commands: Vec<Bytes> = (0..count)
            .map(|_| {
                let action = self.action();
                self.stamped(action)
            })
            .collect();
        Payload::Command(pack(&commands))
    }

    fn action(&mut self) -> Action {
        if !self.made.is_empty() && self.below(6) == 0 {
            let at = usize::try_from(self.below(self.made.len() as u64)).unwrap();
            return self.made[at].clone();
        }
        let id = Bytes::copy_from_slice(&[u8::try_from(self.below(40)).unwrap(); 16]);
        let not_after = self.now + self.below(8000);
        let action = match self.below(12) {
            0..=4 => Action::Commit(self.txn(id, not_after, true)),
            5..=6 => Action::Prepare(Prepare {
                txn: Some(self.txn(id, not_after, false)),
                decider: Bytes::from_static(b"\x10\x00"),
            }),
            7 => Action::Decide(Decide {
                txn: Some(self.txn(id, not_after, true)),
                participants: vec![Bytes::from_static(b"p"), Bytes::from_static(b"q")],
            }),
            8 => Action::Settle(Settle { request_id: id, not_after, refused: self.below(2) == 0 }),
            9 => Action::Finish(Finish { request_id: id, not_after, commit: self.below(2) == 0 }),
            10 => Action::Acknowledge(Acknowledge {
                request_id: id,
                participants: vec![Bytes::from_static(if self.below(2) == 0 {
                    b"p"
                } else {
                    b"q"
                })],
            }),
            _ => Action::Fence(Fence { until: self.now + self.below(500) }),
        };
        self.made.push(action.clone());
        action
    }

    fn txn(&self, request_id: Bytes, not_after: u64, ranges: bool) -> Txn {
        let mut txn = Txn { request_id, not_after, ..Txn::default() };
        for _ in 0..self.below(3) {
            let condition = match self.below(if ranges { 4 } else { 3 }) {
                0 => Condition::Absent(self.key()),
                1 => Condition::Present(self.key()),
                2 => Condition::At(At { key: self.key(), revision: 77 + self.below(200) }),
                _ => Condition::Range(RangeCheck {
                    start: key(0).as_bytes().clone(),
                    end: key(3).as_bytes().clone(),
                    rows: 0,
                    fingerprint: Fingerprint::new().finish(),
                }),
            };
            txn.checks.push(condition.into());
        }
        let expiry = || if self.below(2) == 0 { 0 } else { self.now + self.below(20_000) };
        for _ in 0..self.below(4) {
            let effect = match self.below(3) {
                0 => Effect::Put(Put {
                    key: self.key(),
                    value: Bytes::from(vec![b'v'; usize::try_from(self.below(20)).unwrap()]),
                    expires_at: expiry(),
                }),
                1 => Effect::Delete(self.key()),
                _ => Effect::Add(Add {
                    key: self.key(),
                    delta: self.below(100).cast_signed() - 50,
                    expires_at: expiry(),
                }),
            };
            txn.ops.push(effect.into());
        }
        txn
    }
}

fn key(number: u64) -> Key {
    let mut key = KeyWriter::new(Slot::new(Space::Home, 5), Tag::TEST, Tenant(0));
    key.u64(number);
    key.finish()
}

/// A machine on a disk, with what flushes and compactions do around it.
struct Subject {
    machine: Machine,
    retention: Arc<Retention>,
}

impl Subject {
    fn open(disk: &dyn Disk, at: &Path) -> Result<Self, Fault> {
        let retention = Retention::new(area::expiry);
        let options =
            EngineOptions { purpose: Purpose::Tablet, retention: Some(retention.clone()) };
        Ok(Self { machine: Machine::open(disk.open(at, options)?)?, retention })
    }

    fn flush(&self) -> Result<(), Fault> {
        let now = self.machine.state().now;
        self.machine.engine().flush()?;
        self.retention.advance(now);
        Ok(())
    }

    fn next(&self) -> usize {
        self.machine.state().position.map_or(0, |p| usize::try_from(p.index).unwrap() + 1)
    }

    /// Everything but what has expired: that may be there or not.
    fn live_dump(&self) -> String {
        let text = dump(&self.machine.view().unwrap()).unwrap();
        text.lines()
            .filter(|line| !line.contains("(expired)"))
            .fold(String::new(), |all, line| all + line + "\n")
    }
}

fn apply_all(subject: &Subject, log: &[LogEntry], seed: u64) -> Vec<Answered> {
    let entropy = SeededEntropy::new(seed);
    let entropy: &dyn Entropy = &entropy;
    let (mut outcomes, mut at) = (Vec::new(), 0);
    while at < log.len() {
        let count = (1 + usize::try_from(entropy.below(7)).unwrap()).min(log.len() - at);
        outcomes.extend(subject.machine.apply(&log[at..at + count]).unwrap());
        at += count;
        match entropy.below(12) {
            0 => subject.flush().unwrap(),
            1 => subject.machine.engine().compact().unwrap(),
            _ => {}
        }
    }
    outcomes
}

fn outcomes(answered: Answered) -> Vec<Outcome> {
    match answered {
        Answered::Nothing => Vec::new(),
        Answered::One(outcome) => vec![outcome],
        Answered::Pack(outcomes) => outcomes,
    }
}

#[test]
fn both_engines_give_the_same_answers_and_dump() {
    let folder = tempfile::tempdir().unwrap();
    let rocks = RocksDisk::new(RocksSettings::default()).unwrap();
    let memory = MemoryDisk::new(1);
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..12 {
        let log = Author::log(seed, 250);
        let on_rocks = Subject::open(&rocks, &folder.path().join(format!("t{seed}"))).unwrap();
        let in_memory = Subject::open(&memory, Path::new(&format!("t{seed}"))).unwrap();
        // Batched, flushed and compacted differently.
        let first = apply_all(&on_rocks, &log, seed);
        let second = apply_all(&in_memory, &log, seed + 1000);
        assert_eq!(first, second, "seed {seed}");
        assert_eq!(on_rocks.live_dump(), in_memory.live_dump(), "seed {seed}");
        assert_eq!(on_rocks.machine.state(), in_memory.machine.state(), "seed {seed}");
        kinds.extend(first.into_iter().flat_map(outcomes).map(|outcome| {
            let text = format!("{outcome:?}");
            text.split([' ', '(']).next().unwrap().to_owned()
        }));
    }
    let expected = [
        "Aborted",
        "Acknowledged",
        "Committed",
        "Conflict",
        "Expired",
        "Fenced",
        "Finished",
        "Locked",
        "Prepared",
        "Undecided",
        "Unknown",
    ];
    for kind in expected {
        assert!(kinds.contains(kind), "no history met {kind}; they met {kinds:?}");
    }
}

/// Replicas of one group may be of different builds, and their digests must agree.
#[test]
fn digests_of_a_history_are_frozen() {
    for (seed, expected) in [
        (1, "94feda2c8f781d06ce6d8bb642a98c13785b4264b9094a5e6d4f1ebf2d0e39f0"),
        (2, "70fbc598a6fdd25309e982e8cf7dd7e86c539b6df421d0b7ad4705189c3b1900"),
    ] {
        let log = Author::log(seed, 400);
        let subject = Subject::open(&MemoryDisk::new(seed), Path::new("t")).unwrap();
        apply_all(&subject, &log, seed);
        let digest = subject.machine.state().digest;
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected, "seed {seed}");
    }
}

#[test]
fn a_crash_at_every_write_point_and_a_replay_give_the_same_digest() {
    for seed in 0..4 {
        let log = Author::log(seed, 60);
        let reference = Subject::open(&MemoryDisk::new(seed), Path::new("t")).unwrap();
        apply_all(&reference, &log, 0);
        let expected = reference.machine.state();
        for point in 0..90 {
            let disk = MemoryDisk::new(seed * 1000 + point);
            let subject = Subject::open(&disk, Path::new("t")).unwrap();
            disk.fail_after(point);
            let failed = live(&subject, &log, point);
            drop(subject);
            disk.crash();
            let subject = Subject::open(&disk, Path::new("t")).unwrap();
            let from = subject.next();
            assert!(failed.is_ok() || from <= log.len());
            for entry in &log[from..] {
                subject.machine.apply(std::slice::from_ref(entry)).unwrap();
            }
            assert_eq!(subject.machine.state(), expected, "seed {seed}, point {point}");
            assert_eq!(subject.live_dump(), reference.live_dump(), "seed {seed}, point {point}");
        }
    }
}

/// Applies entries one at a time, with flushes and compactions between them, until
/// the disk fails.
fn live(subject: &Subject, log: &[LogEntry], seed: u64) -> Result<(), Fault> {
    let entropy = SeededEntropy::new(seed);
    let entropy: &dyn Entropy = &entropy;
    for entry in log {
        subject.machine.apply(std::slice::from_ref(entry))?;
        match entropy.below(6) {
            0 => subject.flush()?,
            1 => subject.machine.engine().compact()?,
            _ => {}
        }
    }
    Ok(())
}

/// The horizon of a compaction is the log time of the last completed flush: what
/// expired since then is still found by entries that a crash makes apply again.
#[test]
fn a_compaction_never_outruns_the_flush() {
    let (at, value) = (Timestamp(2_000_000), Bytes::from_static(b"v"));
    let put = |expires_at: u64| {
        Effect::Put(Put { key: key(1).as_bytes().clone(), value: value.clone(), expires_at }).into()
    };
    let command = |index: u64, stamp: u64, action: Action| LogEntry {
        position: Position { term: 1, replica: 1, index },
        payload: Payload::Command(Command::new(stamp, action).encode_to_vec().into()),
    };
    let txn = |id: u8, stamp: u64| Txn {
        request_id: Bytes::copy_from_slice(&[id; 16]),
        not_after: stamp + 5000,
        ..Txn::default()
    };
    let own = Own { ranges: range_bits(&[SlotRange::whole(Space::Home)]), base: 0 };
    let present = Condition::Present(key(1).as_bytes().clone());
    let log = [
        command(0, at.0, Action::Time(Time {})),
        command(1, at.0, Action::Own(own)),
        command(2, at.0, Action::Commit(Txn { ops: vec![put(at.0 + 100)], ..txn(1, at.0) })),
        command(
            3,
            at.0 + 50,
            Action::Commit(Txn { checks: vec![present.into()], ..txn(2, at.0 + 50) }),
        ),
        command(4, at.0 + 200, Action::Commit(txn(3, at.0 + 200))),
    ];
    let disk = MemoryDisk::new(3);
    let subject = Subject::open(&disk, Path::new("t")).unwrap();
    subject.machine.apply(&log[..3]).unwrap();
    subject.flush().unwrap();
    let before = subject.machine.apply(&log[3..]).unwrap();
    assert!(subject.machine.state().now > at.0 + 100, "the row has expired by log time");
    assert!(subject.retention.horizon() <= at.0, "and the horizon has not moved");
    drop(subject);
    disk.crash_losing_all();
    let subject = Subject::open(&disk, Path::new("t")).unwrap();
    assert_eq!(subject.next(), 3, "the crash lost what was not flushed");
    subject.machine.engine().compact().unwrap();
    assert_eq!(subject.machine.apply(&log[3..]).unwrap(), before);
    assert!(matches!(before[0], Answered::One(Outcome::Committed { .. })), "{before:?}");
}

/// A log of packs leaves what the same commands leave that come one by one: the same
/// outcomes at the same revisions, the same rows, the same news.
#[test]
fn a_pack_does_what_its_commands_do_one_by_one() {
    for seed in 0..8 {
        let log = Author::log(seed, 120);
        let mut alone = Vec::new();
        for entry in &log {
            let packed = match &entry.payload {
                Payload::Command(bytes) => match Command::decode(bytes.clone()).unwrap().action {
                    Some(Action::Pack(pack)) if !pack.commands.is_empty() => pack.commands,
                    _ => vec![bytes.clone()],
                },
                other => {
                    alone.push(other.clone());
                    continue;
                }
            };
            alone.extend(packed.into_iter().map(Payload::Command));
        }
        let alone: Vec<LogEntry> = (0..)
            .zip(alone)
            .map(|(index, payload)| LogEntry {
                position: Position { term: 1, replica: 1, index },
                payload,
            })
            .collect();
        assert!(alone.len() > log.len(), "no pack in the history of seed {seed}");
        let packed = Subject::open(&MemoryDisk::new(seed), Path::new("t")).unwrap();
        let single = Subject::open(&MemoryDisk::new(seed), Path::new("t")).unwrap();
        let all = |subject: &Subject, log: &[LogEntry]| -> Vec<Outcome> {
            apply_all(subject, log, seed).into_iter().flat_map(outcomes).collect()
        };
        assert_eq!(all(&packed, &log), all(&single, &alone), "seed {seed}");
        let (packed, single) = (packed.machine, single.machine);
        assert_eq!(packed.state().revision(), single.state().revision(), "seed {seed}");
        assert_eq!(packed.state().now, single.state().now, "seed {seed}");
        let rows = |machine: &Machine| {
            let range = cardea_storage::KeyRange {
                start: key(0).as_bytes().clone(),
                end: key(KEYS).as_bytes().clone(),
            };
            let scan = Scan { range, limit: 100, order: Order::Forward };
            let view = machine.view().unwrap();
            view.read(&[Read::Scan(scan)], machine.state().time()).unwrap().unwrap().results
        };
        assert_eq!(rows(&packed), rows(&single), "seed {seed}");
    }
}
