//! Golden scripts of the machine: commands in, outcomes and a dump of every pair
//! out. `CARDEA_UPDATE_GOLDEN=1 cargo test -p cardea-storage --test scripts` writes
//! the outputs anew; read the difference before you keep it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{fmt::Write as _, fs, path::Path, sync::Arc};

use bytes::Bytes;
use cardea_storage::{
    Key, KeyRange, Slot, SlotRange, Space, Tag, Tenant, Timestamp,
    engine::{Disk, EngineOptions, Order, Purpose, Retention, memory::MemoryDisk},
    key::KeyWriter,
    machine::{
        Answered, LogEntry, Machine, Payload, area,
        dump::dump,
        state::{Position, range_bits},
    },
    store::{Read, Scan},
    txn::{
        Add, At, Check, Command, Condition, Effect, Fingerprint, Op, Put, RangeCheck, Txn,
        command::{
            Acknowledge, Action, Decide, Fence, Finish, Own, Pack, Prepare, Raise, Settle, Time,
        },
    },
};
use prost::Message;

#[test]
fn scripts_give_their_golden_output() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let update = std::env::var_os("CARDEA_UPDATE_GOLDEN").is_some();
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "scripts are missing");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let actual = run_script(&text);
        if update {
            fs::write(&file, actual).unwrap();
        } else {
            assert!(
                text == actual,
                "{}: differs\n--- expected\n{text}\n--- actual\n{actual}",
                file.display()
            );
        }
    }
}

/// Runs blocks of commands; each ends with `---`, then what came out.
fn run_script(text: &str) -> String {
    let mut script = Script::new();
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with('#') || line.trim().is_empty() {
            writeln!(out, "{line}").unwrap();
            continue;
        }
        let mut commands = vec![line];
        for line in lines.by_ref() {
            if line == "---" {
                break;
            }
            commands.push(line);
        }
        while lines.next_if(|line| !line.trim().is_empty()).is_some() {}
        let mut results = String::new();
        for command in commands {
            writeln!(out, "{command}").unwrap();
            results.push_str(&script.run(command));
        }
        write!(out, "---\n{results}").unwrap();
    }
    out
}

struct Script {
    machine: Machine,
    retention: Arc<Retention>,
    disk: MemoryDisk,
    index: u64,
    stamp: u64,
}

impl Script {
    fn new() -> Self {
        let disk = MemoryDisk::new(0);
        let retention = Retention::new(area::expiry);
        let engine = disk
            .open(
                Path::new("tablet"),
                EngineOptions { purpose: Purpose::Tablet, retention: Some(retention.clone()) },
            )
            .unwrap();
        Self { machine: Machine::open(engine).unwrap(), retention, disk, index: 0, stamp: 0 }
    }

    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, rest) = words.split_first().unwrap();
        match *name {
            "dump" => return dump(&self.machine.view().unwrap()).unwrap(),
            "flush" => {
                self.machine.engine().flush().unwrap();
                self.retention.advance(self.machine.state().now);
                return "flushed\n".into();
            }
            "compact" => {
                self.machine.engine().compact().unwrap();
                return "compacted\n".into();
            }
            "crash" => {
                self.disk.crash_losing_all();
                let engine = self
                    .disk
                    .open(
                        Path::new("tablet"),
                        EngineOptions {
                            purpose: Purpose::Tablet,
                            retention: Some(self.retention.clone()),
                        },
                    )
                    .unwrap();
                self.machine = Machine::open(engine).unwrap();
                self.index = self.machine.state().position.map_or(0, |p| p.index + 1);
                return format!("next index is {}\n", self.index);
            }
            "now" => {
                self.stamp = rest[0].parse().unwrap();
                return String::new();
            }
            "get" => return self.read(Read::Get(key(rest[0])), rest),
            "scan" => {
                let (start, end) = rest[0].split_once("..").unwrap();
                let scan = Scan {
                    range: range(start, end),
                    limit: option(rest, "limit").map_or(100, |n| n.parse().unwrap()),
                    order: if rest.contains(&"reverse") { Order::Reverse } else { Order::Forward },
                };
                return self.read(Read::Scan(scan), rest);
            }
            "outstanding" => {
                let found = self.machine.view().unwrap().outstanding(10).unwrap();
                return format!("{} outstanding\n", found.len());
            }
            _ => {}
        }
        let entry = LogEntry {
            position: Position { term: 1, replica: 1, index: self.index },
            payload: Payload::Command(
                Command::new(self.stamp, self.action(name, rest)).encode_to_vec().into(),
            ),
        };
        self.index += 1;
        match self.machine.apply(&[entry]).unwrap().remove(0) {
            Answered::Nothing => "nothing\n".into(),
            Answered::One(outcome) => format!("{outcome:?}\n"),
            Answered::Pack(outcomes) => {
                outcomes.iter().fold(String::new(), |all, outcome| format!("{all}- {outcome:?}\n"))
            }
        }
    }

    fn read(&self, read: Read, rest: &[&str]) -> String {
        let now = option(rest, "now").map_or(0, |n| n.parse().unwrap());
        let view = self.machine.view().unwrap();
        let Some(seen) = view.read(&[read], Timestamp(now)).unwrap() else {
            return "not owned\n".into();
        };
        let mut out = String::new();
        for row in &seen.results[0].rows {
            let revision = row.revision.unwrap().0;
            writeln!(out, "{} @{revision} {:?}", name_of(&row.key), row.value).unwrap();
        }
        if seen.results[0].more {
            out.push_str("more\n");
        }
        for pending in &seen.pending {
            let row = pending.row.as_ref().map(|row| row.value.clone());
            writeln!(out, "pending {} {row:?}", name_of(&pending.key)).unwrap();
        }
        if out.is_empty() {
            out.push_str("nothing\n");
        }
        out
    }

    fn action(&self, name: &str, rest: &[&str]) -> Action {
        let not_after = option(rest, "until").map_or(1000, |n| n.parse().unwrap());
        match name {
            "time" => Action::Time(Time {}),
            "own" => Action::Own(Own {
                ranges: range_bits(&[SlotRange::part(Space::Home, 0, 4).unwrap()]),
                base: option(rest, "base").map_or(0, |n| n.parse().unwrap()),
            }),
            "commit" => Action::Commit(self.txn(rest, not_after)),
            "prepare" => Action::Prepare(Prepare {
                txn: Some(self.txn(rest, not_after)),
                decider: Bytes::from_static(b"\x10\x00decider"),
            }),
            "decide" => Action::Decide(Decide {
                txn: Some(self.txn(rest, not_after)),
                participants: places(option(rest, "participants").unwrap_or_default()),
            }),
            "settle" => Action::Settle(Settle {
                request_id: id(rest[0]),
                not_after,
                refused: rest.contains(&"refused"),
            }),
            "finish" => Action::Finish(Finish {
                request_id: id(rest[0]),
                not_after,
                commit: rest.contains(&"committed"),
            }),
            "acknowledge" => Action::Acknowledge(Acknowledge {
                request_id: id(rest[0]),
                participants: places(option(rest, "participants").unwrap_or_default()),
            }),
            "fence" => Action::Fence(Fence { until: rest[0].parse().unwrap() }),
            "raise" => Action::Raise(Raise { version: rest[0].parse().unwrap() }),
            // `pack at=5 commit … | at=7 commit …`: each with a stamp of its own.
            "pack" => {
                let commands = rest.split(|word| *word == "|").map(|words| {
                    let stamp = option(words, "at").map_or(self.stamp, |at| at.parse().unwrap());
                    let at = words.iter().position(|word| !word.starts_with("at=")).unwrap();
                    let action = self.action(words[at], &words[at + 1..]);
                    Command::new(stamp, action).encode_to_vec().into()
                });
                Action::Pack(Pack { commands: commands.collect() })
            }
            other => panic!("unknown command {other}"),
        }
    }

    fn txn(&self, rest: &[&str], not_after: u64) -> Txn {
        let mut txn = Txn { request_id: id(rest[0]), not_after, ..Txn::default() };
        for word in &rest[1..] {
            let Some((name, inner)) = word.strip_suffix(')').and_then(|w| w.split_once('(')) else {
                continue;
            };
            let parts: Vec<&str> = inner.split(',').collect();
            let bytes = || key(parts[0]).as_bytes().clone();
            let expires = || parts.get(2).map_or(0, |n| n.parse().unwrap());
            match name {
                "absent" => txn.checks.push(Condition::Absent(bytes()).into()),
                "present" => txn.checks.push(Condition::Present(bytes()).into()),
                "at" => {
                    let revision = parts[1].parse().unwrap();
                    txn.checks.push(Condition::At(At { key: bytes(), revision }).into());
                }
                "range" => txn.checks.push(range_check(&parts)),
                "put" => txn.ops.push(op(Effect::Put(Put {
                    key: bytes(),
                    value: Bytes::copy_from_slice(parts[1].as_bytes()),
                    expires_at: expires(),
                }))),
                "delete" => txn.ops.push(op(Effect::Delete(bytes()))),
                "add" => txn.ops.push(op(Effect::Add(Add {
                    key: bytes(),
                    delta: parts[1].parse().unwrap(),
                    expires_at: expires(),
                }))),
                other => panic!("unknown part {other}"),
            }
        }
        txn
    }
}

/// `range(a..c,b@3,…)`: the range and the rows that were seen in it.
fn range_check(parts: &[&str]) -> Check {
    let (start, end) = parts[0].split_once("..").unwrap();
    let range = range(start, end);
    let mut print = Fingerprint::new();
    for seen in &parts[1..] {
        let (name, revision) = seen.split_once('@').unwrap();
        print.row(key(name).as_bytes(), revision.parse().unwrap());
    }
    Condition::Range(RangeCheck {
        start: range.start,
        end: range.end,
        rows: u32::try_from(parts.len() - 1).unwrap(),
        fingerprint: print.finish(),
    })
    .into()
}

fn op(effect: Effect) -> Op {
    effect.into()
}

fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn places(list: &str) -> Vec<Bytes> {
    list.split(',').map(|name| Bytes::copy_from_slice(name.as_bytes())).collect()
}

/// Names of keys lie in home slot 0; those that begin with `far` in slot 4095.
fn key(name: &str) -> Key {
    let slot = Slot::new(Space::Home, if name.starts_with("far") { 4095 } else { 0 });
    let mut key = KeyWriter::new(slot, Tag::TEST, Tenant(0));
    key.str(name);
    key.finish()
}

fn range(start: &str, end: &str) -> KeyRange {
    KeyRange { start: key(start).as_bytes().clone(), end: key(end).as_bytes().clone() }
}

fn name_of(key: &Key) -> String {
    key.reader().str().unwrap()
}

fn id(name: &str) -> Bytes {
    let mut id = [b'.'; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    Bytes::copy_from_slice(&id)
}
