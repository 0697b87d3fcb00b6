//! What applying costs: packs of transactions of one shard, and of two, applied on
//! RocksDB in a temporary directory.
//!
//! `cargo bench -p cardea-storage --bench apply` prints, for each kind, the processor
//! time of the applying thread for a command, which others on the machine disturb less
//! than its time on the clock. Compare two versions by several runs in turns. Transactions
//! look like those that make identities: random keys that must be absent, small rows. Log
//! time passes so that receipts live and die as they do under load.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::{fs, path::Path};

use bytes::Bytes;
use cardea_storage::{
    Entropy, SeededEntropy, Slot, SlotRange, Space, Tag, Tenant, Timestamp,
    engine::{
        Disk, Engine, EngineOptions, Purpose, Retention,
        rocks::{RocksDisk, RocksSettings},
    },
    key::KeyWriter,
    machine::{
        LogEntry, Machine, Payload, area,
        state::{Position, range_bits},
    },
    txn::{
        Command, Condition, Effect, Put, RequestId, Txn,
        command::{Acknowledge, Action, Decide, Finish, Own, Prepare, Time},
        pack::pack,
    },
};
use prost::Message;

/// Packs applied before anything is measured, so that there are files to look into.
const BEFORE: usize = 3_000;
/// Rounds measured of each kind; the first quartile is that of quiet ones.
const ROUNDS: usize = 40;
/// Packs of a round.
const PACKS: usize = 100;
/// Commands of a pack.
const PACKED: usize = 32;
/// Log time between packs, in milliseconds: 3200 commands a second.
const STEP_MS: u64 = 10;

/// Applies the next pack, and says what processor time it took, in nanoseconds.
type Step = fn(&mut Load) -> u64;

struct Load {
    machine: Machine,
    entropy: SeededEntropy,
    now: u64,
    index: u64,
    /// Of two shards, begun and not ended.
    open: Vec<Bytes>,
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RocksDisk::new(RocksSettings::default()).unwrap();
    let at = folder.path().join("tablet");
    let machine = Machine::open(engine(&disk, &at)).unwrap();
    let entropy = SeededEntropy::new(7);
    let mut load = Load { machine, entropy, now: 1_700_000_000_000, index: 0, open: Vec::new() };
    let ranges = range_bits(&[SlotRange::whole(Space::Home)]);
    let first = [
        load.entry(Command::new(load.now, Action::Time(Time {})).encode_to_vec().into()),
        load.entry(
            Command::new(load.now, Action::Own(Own { ranges, base: 0 })).encode_to_vec().into(),
        ),
    ];
    load.machine.apply(&first).unwrap();
    for _ in 0..BEFORE {
        load.single();
    }
    load.machine.engine().flush().unwrap();
    let kinds: [(&str, Step); 2] = [("one shard", Load::single), ("two shards", Load::double)];
    for (name, step) in kinds {
        let mut rounds: Vec<u64> =
            (0..ROUNDS).map(|_| (0..PACKS).map(|_| step(&mut load)).sum::<u64>()).collect();
        rounds.sort_unstable();
        let each = |spent: u64| spent as f64 / (PACKS * PACKED) as f64 / 1e3;
        let (low, middle) = (each(rounds[ROUNDS / 4]), each(rounds[ROUNDS / 2]));
        println!("{name}: {middle:.2} us a command, in quiet rounds {low:.2}");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    println!("{}", resident.split_whitespace().collect::<Vec<_>>().join(" "));
    load.machine.engine().flush().unwrap();
    drop(load);
    let engine = engine(&disk, &at);
    let before = spent();
    let machine = Machine::open(engine).unwrap();
    println!("opened in {:.2} ms", (spent() - before) as f64 / 1e6);
    drop(machine);
}

fn engine(disk: &RocksDisk, at: &Path) -> std::sync::Arc<dyn Engine> {
    let retention = Some(Retention::new(area::expiry));
    disk.open(at, EngineOptions { purpose: Purpose::Tablet, retention }).unwrap()
}

/// Processor time of this thread, in nanoseconds.
fn spent() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

impl Load {
    fn entry(&mut self, command: Bytes) -> LogEntry {
        let position = Position { term: 1, replica: 1, index: self.index };
        self.index += 1;
        LogEntry { position, payload: Payload::Command(command) }
    }

    fn pack(&mut self, actions: Vec<Action>) -> LogEntry {
        let commands: Vec<Bytes> = actions
            .into_iter()
            .map(|action| Command::new(self.now, action).encode_to_vec().into())
            .collect();
        self.entry(pack(&commands))
    }

    fn apply(&self, entries: &[LogEntry]) -> u64 {
        let before = spent();
        self.machine.apply(entries).unwrap();
        spent() - before
    }

    fn key(&self) -> Bytes {
        let entropy: &dyn Entropy = &self.entropy;
        let slot = Slot::new(Space::Home, u16::try_from(entropy.below(1024)).unwrap());
        let mut key = KeyWriter::new(slot, Tag::TEST, Tenant(0));
        for part in entropy.bytes::<16>().chunks_exact(8) {
            key.u64(u64::from_be_bytes(part.try_into().unwrap()));
        }
        key.finish().as_bytes().clone()
    }

    /// A transaction that makes `rows` rows and checks that the first `checks` are absent.
    fn txn(&self, id: Bytes, rows: usize, checks: usize) -> Txn {
        let entropy: &dyn Entropy = &self.entropy;
        let mut txn = Txn { request_id: id, not_after: self.now + 5_000, ..Txn::default() };
        for row in 0..rows {
            let key = self.key();
            if row < checks {
                txn.checks.push(Condition::Absent(key.clone()).into());
            }
            // Half of it does not compress.
            let mut value = vec![b'v'; 160];
            value[..64].copy_from_slice(&entropy.bytes::<64>());
            txn.ops.push(Effect::Put(Put { key, value: value.into(), expires_at: 0 }).into());
        }
        txn
    }

    fn id(&self) -> Bytes {
        RequestId::new(Timestamp(self.now), &self.entropy).to_bytes()
    }

    /// A pack of transactions of one shard.
    fn single(&mut self) -> u64 {
        self.now += STEP_MS;
        let actions =
            (0..PACKED).map(|_| Action::Commit(self.txn(self.id(), 3, 2))).collect::<Vec<_>>();
        let entry = self.pack(actions);
        self.apply(&[entry])
    }

    /// As many commands of transactions of two shards, this machine being both: a quarter
    /// of them prepare, decide, finish and acknowledge each.
    fn double(&mut self) -> u64 {
        self.now += STEP_MS;
        let decider = self.key();
        let (mut prepares, mut decides) = (Vec::new(), Vec::new());
        let (mut finishes, mut acknowledges) = (Vec::new(), Vec::new());
        for request_id in std::mem::take(&mut self.open) {
            let not_after = self.now + 5_000 - STEP_MS;
            finishes.push(Action::Finish(Finish {
                request_id: request_id.clone(),
                not_after,
                commit: true,
            }));
        }
        for _ in 0..PACKED / 4 {
            let (here, there) = (self.id(), self.id());
            let txn = Some(self.txn(here.clone(), 1, 1));
            prepares.push(Action::Prepare(Prepare { txn, decider: decider.clone() }));
            let txn = Some(self.txn(there.clone(), 3, 2));
            decides.push(Action::Decide(Decide { txn, participants: vec![decider.clone()] }));
            acknowledges.push(Action::Acknowledge(Acknowledge {
                request_id: there,
                participants: vec![decider.clone()],
            }));
            self.open.push(here);
        }
        let first = [self.pack(prepares), self.pack(finishes)];
        let second = [self.pack(decides)];
        let third = [self.pack(acknowledges)];
        self.apply(&first) + self.apply(&second) + self.apply(&third)
    }
}
