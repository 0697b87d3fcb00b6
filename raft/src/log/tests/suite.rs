//! openraft's suite. Every check gets a fresh group of one log, while another
//! group of it is written all the time.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use cardea_storage::engine::rocks::RocksDisk;
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

use super::*;
use crate::{
    replica::{Progress, Reporter, StateMachine},
    testing::Ledger,
};

struct Builder {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    log: Arc<Log>,
    alarm: Arc<Alarm>,
    built: AtomicU64,
}

impl Builder {
    fn new(disk: Arc<dyn Disk>, root: PathBuf, tail_bytes_max: usize) -> Self {
        let alarm = Arc::new(Alarm::new());
        let settings = LogSettings { tail_bytes_max, ..LogSettings::default() };
        disk.create_directory(&root.join("log")).unwrap();
        let log = Log::open(disk.as_ref(), &root.join("log"), settings, alarm.clone()).unwrap();
        Self { disk, root, log: Arc::new(log), alarm, built: AtomicU64::new(0) }
    }
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, ()> for &Builder {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<TypeConfig>> {
        let number = 1 + self.built.fetch_add(1, Ordering::SeqCst);
        let store = self.log.group(GroupId(number), ReplicaId(0)).unwrap();
        let at = self.root.join(format!("machine-{number}"));
        let machine = Ledger::open(self.disk.clone(), &at).unwrap();
        let (release, _) = oneshot::channel();
        let progress = Arc::new(Progress::new(1));
        let reporter = Reporter { alarm: self.alarm.clone(), applies: Arc::default() };
        Ok(((), store, StateMachine::new(machine, progress, reporter, release)))
    }
}

fn run_suite(disk: Arc<dyn Disk>, root: PathBuf, tail_bytes_max: usize) {
    let builder = Builder::new(disk, root, tail_bytes_max);
    let done = Arc::new(AtomicBool::new(false));
    let mut other = builder.log.group(GroupId(1 << 40), ReplicaId(1)).unwrap();
    let for_other = done.clone();
    let neighbour = std::thread::spawn(move || {
        TypeConfig::run(async move {
            let mut index = 0;
            while !for_other.load(Ordering::SeqCst) {
                append(&mut other, [entry(1, index)]).await.await.unwrap().unwrap();
                index += 1;
            }
            assert_eq!(read_all(&mut other).await.len() as u64, index);
        });
    });
    TypeConfig::run(async { Suite::test_all(&builder).await.unwrap() });
    done.store(true, Ordering::SeqCst);
    neighbour.join().unwrap();
    assert!(builder.alarm.fault().is_none());
    builder.log.close();
}

#[test]
fn openrafts_suite_passes_in_memory() {
    run_suite(Arc::new(memory()), PathBuf::from("/node"), LogSettings::default().tail_bytes_max);
}

#[test]
fn openrafts_suite_passes_in_memory_with_a_tail_of_one_entry() {
    run_suite(Arc::new(memory()), PathBuf::from("/node"), 1);
}

#[test]
fn openrafts_suite_passes_on_rocksdb() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_path_buf();
    run_suite(Arc::new(RocksDisk::new(Default::default()).unwrap()), root, 1);
}
