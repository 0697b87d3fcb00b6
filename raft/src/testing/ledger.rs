//! A machine that keeps keys and values, and a chain over everything it was
//! told, so that two replicas can be compared by one digest.
//!
//! On disk: `CURRENT` names the live generation, `SNAPSHOT` the newest copy and
//! what it holds; both are replaced whole.

use std::{
    any::Any,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cardea_storage::{
    Fault,
    engine::{Batch, Disk, Durability, Engine, EngineOptions, Purpose},
};
use parking_lot::Mutex;

use crate::{
    encoding::{self, LogIdRecord},
    machine::{Applied, Entry, Machine, Payload, Position, Snapshot},
    types::LogId,
};

const POSITION: &[u8] = b"\0position";
const MEMBERSHIP: &[u8] = b"\0membership";
const CHAIN: &[u8] = b"\0chain";

/// A [`Machine`] for tests. A command `key=value` sets a key and answers the
/// value it had; any other command reads the key it names.
pub struct Ledger {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    live: Mutex<(u64, Arc<dyn Engine>)>,
    received: AtomicU64,
    new: bool,
    held: AtomicBool,
    lingers: AtomicBool,
    room_bytes: AtomicU64,
    applied_entries: AtomicU64,
}

/// A ledger that waits before it applies, or before it says that it has.
pub struct Held(Arc<Ledger>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.store(false, Ordering::SeqCst);
        self.0.lingers.store(false, Ordering::SeqCst);
    }
}

impl Ledger {
    /// Opens, or creates, a ledger in a directory.
    pub fn open(disk: Arc<dyn Disk>, directory: &Path) -> Result<Arc<Self>, Fault> {
        disk.create_directory(directory)?;
        let current = disk.read_file(&directory.join("CURRENT"))?;
        let new = current.is_none();
        let generation = match current {
            Some(text) => number(&text)?,
            None => {
                disk.replace_file(&directory.join("CURRENT"), b"0")?;
                0
            }
        };
        let engine = open(disk.as_ref(), &generation_at(directory, generation))?;
        Ok(Arc::new(Self {
            disk,
            directory: directory.to_path_buf(),
            live: Mutex::new((generation, engine)),
            received: AtomicU64::new(0),
            new,
            held: AtomicBool::new(false),
            lingers: AtomicBool::new(false),
            room_bytes: AtomicU64::new(u64::MAX),
            applied_entries: AtomicU64::new(0),
        }))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        self.engine().get(key.as_bytes())
    }

    /// The chain over everything applied.
    pub fn chain(&self) -> Result<Bytes, Fault> {
        Ok(self.engine().get(CHAIN)?.unwrap_or_default())
    }

    /// Entries applied by this instance.
    pub fn applied_entries(&self) -> u64 {
        self.applied_entries.load(Ordering::SeqCst)
    }

    /// From now on applying waits, until what this gives is dropped: also by a test that
    /// fails, whose runtime would else wait for it for ever.
    #[must_use]
    pub fn hold(self: &Arc<Self>) -> Held {
        self.held.store(true, Ordering::SeqCst);
        Held(self.clone())
    }

    /// As [`hold`](Self::hold), with everything written already, for all to see.
    #[must_use]
    pub fn linger(self: &Arc<Self>) -> Held {
        self.lingers.store(true, Ordering::SeqCst);
        Held(self.clone())
    }

    /// From now on it says that so many bytes may come to its disk.
    pub fn leave_room(&self, bytes: u64) {
        self.room_bytes.store(bytes, Ordering::SeqCst);
    }

    fn engine(&self) -> Arc<dyn Engine> {
        self.live.lock().1.clone()
    }

    fn snapshot_file(&self) -> PathBuf {
        self.directory.join("SNAPSHOT")
    }

    fn snapshot_at(&self, index: u64, generation: u64) -> PathBuf {
        self.directory.join(format!("snapshot-{index}-{generation}"))
    }

    /// Copies the live state and makes the copy the current snapshot.
    fn keep_copy(&self, generation: u64, engine: &dyn Engine) -> Result<Option<Snapshot>, Fault> {
        let applied = read_applied(engine)?;
        let Some(position) = applied.position else { return Ok(None) };
        let directory = self.snapshot_at(position.index, generation);
        if let Some(stored) = self.stored()? {
            if stored.directory == directory {
                return Ok(Some(stored));
            }
            self.disk.remove(&stored.directory)?;
        }
        self.disk.remove(&directory)?;
        engine.checkpoint(&directory)?;
        let membership = applied.membership.unwrap_or_default();
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut content = format!("{name}\n").into_bytes();
        let position_bytes = encoding::encode(&LogIdRecord::from(&LogId::from(position)));
        content.push(u8::try_from(position_bytes.len()).unwrap_or(u8::MAX));
        content.extend_from_slice(&position_bytes);
        content.extend_from_slice(&membership);
        self.disk.replace_file(&self.snapshot_file(), &content)?;
        Ok(Some(Snapshot { position, membership, directory, guard: Arc::new(()) }))
    }

    fn stored(&self) -> Result<Option<Snapshot>, Fault> {
        let Some(content) = self.disk.read_file(&self.snapshot_file())? else { return Ok(None) };
        let malformed = || Fault::new("the SNAPSHOT file of a ledger is malformed");
        let line = content.iter().position(|byte| *byte == b'\n').ok_or_else(malformed)?;
        let name = std::str::from_utf8(&content[..line]).map_err(|_| malformed())?;
        let rest = content.slice(line + 1..);
        let length = usize::from(*rest.first().ok_or_else(malformed)?);
        let position: LogId =
            encoding::decode::<LogIdRecord>("position", rest.slice(1..=length))?.into();
        let guard: Arc<dyn Any + Send + Sync> = Arc::new(());
        Ok(Some(Snapshot {
            position: (&position).into(),
            membership: rest.slice(1 + length..),
            directory: self.directory.join(name),
            guard,
        }))
    }
}

fn number(text: &[u8]) -> Result<u64, Fault> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Fault::new("the CURRENT file of a ledger is malformed"))
}

fn generation_at(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("generation-{generation}"))
}

fn open(disk: &dyn Disk, at: &Path) -> Result<Arc<dyn Engine>, Fault> {
    disk.open(at, EngineOptions { purpose: Purpose::Tablet, retention: None })
}

fn read_applied(engine: &dyn Engine) -> Result<Applied, Fault> {
    let position = engine
        .get(POSITION)?
        .map(|bytes| encoding::decode::<LogIdRecord>("position", bytes))
        .transpose()?
        .map(|record| Position::from(&LogId::from(record)));
    Ok(Applied { position, membership: engine.get(MEMBERSHIP)? })
}

impl Machine for Ledger {
    fn is_new(&self) -> bool {
        self.new
    }

    fn applied(&self) -> Result<Applied, Fault> {
        read_applied(self.engine().as_ref())
    }

    fn shown(&self) -> Option<u64> {
        self.applied().ok()?.position.map(|position| position.index)
    }

    fn apply(&self, entries: Vec<Entry>) -> Result<Vec<Bytes>, Fault> {
        while self.held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let engine = self.engine();
        let mut batch = Batch::new();
        let mut written = std::collections::BTreeMap::new();
        let mut chain = engine.get(CHAIN)?.unwrap_or_default();
        let mut answers = Vec::with_capacity(entries.len());
        for Entry { position, payload } in entries {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&chain).update(&position.index.to_be_bytes());
            answers.push(match payload {
                Payload::Blank => Bytes::new(),
                Payload::Membership(membership) => {
                    batch.put(MEMBERSHIP, membership);
                    Bytes::new()
                }
                Payload::Command(command) => {
                    hasher.update(&command);
                    let split = command.iter().position(|byte| *byte == b'=');
                    let key = command.slice(..split.unwrap_or(command.len()));
                    let old = match written.get(&key) {
                        Some(value) => Some(Bytes::clone(value)),
                        None => engine.get(&key)?,
                    };
                    if let Some(split) = split {
                        let value = command.slice(split + 1..);
                        batch.put(key.clone(), value.clone());
                        written.insert(key, value);
                    }
                    old.unwrap_or_default()
                }
            });
            chain = Bytes::copy_from_slice(hasher.finalize().as_bytes());
            batch.put(POSITION, encoding::encode(&LogIdRecord::from(&LogId::from(position))));
        }
        batch.put(CHAIN, chain);
        engine.write(batch, Durability::Buffered)?;
        while self.lingers.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.applied_entries.fetch_add(answers.len() as u64, Ordering::SeqCst);
        Ok(answers)
    }

    fn begin_snapshot(&self, _required: bool) -> Result<Option<Snapshot>, Fault> {
        let live = self.live.lock();
        live.1.flush()?;
        self.keep_copy(live.0, live.1.as_ref())
    }

    fn current_snapshot(&self) -> Result<Option<Snapshot>, Fault> {
        self.stored()
    }

    fn discard_snapshot(&self) -> Result<(), Fault> {
        if let Some(stored) = self.stored()? {
            self.disk.remove(&self.snapshot_file())?;
            self.disk.remove(&stored.directory)?;
        }
        Ok(())
    }

    fn begin_receive(&self) -> Result<PathBuf, Fault> {
        let number = self.received.fetch_add(1, Ordering::SeqCst);
        let directory = self.directory.join(format!("received-{number}"));
        self.disk.remove(&directory)?;
        self.disk.create_directory(&directory)?;
        Ok(directory)
    }

    fn install(
        &self,
        received: PathBuf,
        position: Position,
        _membership: Bytes,
    ) -> Result<(), Fault> {
        let mut live = self.live.lock();
        let generation = live.0 + 1;
        let at = generation_at(&self.directory, generation);
        self.disk.remove(&at)?;
        self.disk.rename(&received, &at)?;
        let engine = open(self.disk.as_ref(), &at)?;
        if read_applied(engine.as_ref())?.position != Some(position) {
            return Err(Fault::new("a received snapshot is not at its position"));
        }
        self.disk
            .replace_file(&self.directory.join("CURRENT"), generation.to_string().as_bytes())?;
        let old = std::mem::replace(&mut *live, (generation, engine.clone()));
        drop(old.1);
        self.disk.remove(&generation_at(&self.directory, old.0))?;
        self.keep_copy(generation, engine.as_ref())?;
        Ok(())
    }

    fn room_bytes(&self) -> Result<u64, Fault> {
        Ok(self.room_bytes.load(Ordering::SeqCst))
    }

    fn leader_now(&self) -> u64 {
        self.applied_entries()
    }
}
