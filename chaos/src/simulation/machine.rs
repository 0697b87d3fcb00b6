//! A simulated machine: a disk that survives, a clock, and the process of a node
//! that runs on it, on a runtime of its own whose time stands still unless the
//! world moves it. A crash drops the runtime, and with it everything the process
//! was doing, wherever it was.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cardea_cluster::{
    ClusterNode, ClusterOptions, InitPlan, NodeProfile, OpenError, Security,
    directory::records::{PlacementRecord, Survive},
    life::{BuildPace, Indexing},
    replica::flusher::FlushSettings,
    runtime::VERSION_MAX,
};
use cardea_raft::{LogSettings, Settings, Timing, blocking, transport::Listener};
use cardea_storage::{KeyId, Keyring, Secret, SeededEntropy, engine::memory::MemoryDisk};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use super::{
    cells::books::Rules,
    network::Network,
    parameters::Parameters,
    time::{MachineClock, MachinePace},
};
use crate::dice::Dice;

/// A machine of the world.
pub struct Machine {
    /// Its number, from 0.
    pub number: usize,
    /// Its disk.
    pub disk: MemoryDisk,
    /// Its clock.
    pub clock: Arc<MachineClock>,
    /// How fast it is.
    pub pace: Arc<MachinePace>,
    /// The process that runs on it.
    pub process: Option<Process>,
    /// The process stands still until then.
    pub paused_until: Option<u64>,
    /// When it is to be started again.
    pub starts_at: Option<u64>,
    /// A crash is due at a write of its disk.
    pub doomed: bool,
    /// It came in the place of another one.
    pub replaced: bool,
    /// From when on its processes are of the newest binary.
    pub upgrades_at: u64,
    dice: Dice,
    started: u64,
    paused_ms: u64,
}

/// A running process.
pub struct Process {
    /// No two processes of a world have the same.
    pub number: u64,
    /// Whether it is of the newest binary, or of the one before.
    newest: bool,
    runtime: Runtime,
    opened: Arc<Mutex<Opened>>,
}

/// How far the process has come.
#[derive(Default)]
enum Opened {
    #[default]
    Opening,
    Member(Arc<ClusterNode>),
    Failed(OpenError),
}

/// How a process becomes a member.
#[derive(Debug, Clone)]
pub enum Entrance {
    /// It makes the cluster, or is a member already.
    Init(InitPlan),
    /// It joins through these addresses, or is a member already.
    Join(Vec<String>),
}

impl Machine {
    /// A machine with an empty disk, and no process yet.
    pub fn new(number: usize, now: u64, dice: &mut Dice, parameters: &Parameters) -> Self {
        let mut dice = dice.split();
        Self {
            number,
            disk: MemoryDisk::new(dice.draw()),
            clock: MachineClock::new(now),
            pace: MachinePace::new(dice.split(), parameters.sync_ms_max),
            process: None,
            paused_until: None,
            starts_at: None,
            doomed: false,
            replaced: false,
            upgrades_at: 0,
            dice,
            started: 0,
            paused_ms: 0,
        }
    }

    /// The machine is gone, with its disk; an empty one stands in its place. It has
    /// no process.
    pub fn replace(&mut self) {
        self.disk = MemoryDisk::new(self.dice.draw());
        self.replaced = true;
    }

    /// Where its process listens.
    pub fn address(&self) -> String {
        address(self.number)
    }

    /// Starts a process.
    pub fn start(
        &mut self,
        network: &Network,
        parameters: &Parameters,
        entrance: Entrance,
        newest: bool,
    ) -> std::io::Result<()> {
        self.started += 1;
        let number = self.started * 1_000 + self.number as u64;
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        network.power_on(self.number);
        let address = self.address();
        let incoming = network.listen(self.number, number, &address);
        let listener = Listener::Streams { incoming, dialer: network.dialer(self.number, number) };
        let options = self.options(parameters, listener, &runtime, newest);
        let opened: Arc<Mutex<Opened>> = Arc::default();
        let told = opened.clone();
        runtime.spawn(async move {
            let outcome = enter(options, entrance).await;
            *told.lock() = match outcome {
                Ok(node) => Opened::Member(node),
                Err(error) => Opened::Failed(error),
            };
        });
        self.process = Some(Process { number, newest, runtime, opened });
        self.starts_at = None;
        Ok(())
    }

    fn options(
        &mut self,
        parameters: &Parameters,
        listener: Listener,
        runtime: &Runtime,
        newest: bool,
    ) -> ClusterOptions {
        let round_trip = 2 * (parameters.delay_ms_min + parameters.delay_ms_mean);
        #[expect(clippy::expect_used, reason = "a keyring of one key")]
        let master = Keyring::new(vec![(KeyId(1), Secret::new([7; 32]))]).expect("there is a key");
        ClusterOptions {
            profile: NodeProfile {
                name: format!("n{}", self.number),
                region: "here".to_owned(),
                zone: String::new(),
                address: self.address(),
                public_url: String::new(),
                admin_url: String::new(),
                binary_version: "simulated".to_owned(),
            },
            listener,
            security: Security::LoopbackPlain,
            disk: Arc::new(self.disk.clone()),
            data_dir: PathBuf::from("/data"),
            reserve_bytes: 0,
            master,
            indexing: if newest { indexing() } else { Indexing::default() },
            dial: Default::default(),
            raft: Settings {
                timing: Timing::scaled(Duration::from_millis(round_trip)),
                rest_beats: parameters.rest_beats,
                log: LogSettings {
                    tail_bytes_max: parameters.tail_bytes_max,
                    ..LogSettings::default()
                },
                snapshot_entries: parameters.snapshot_entries,
                entries_kept: parameters.entries_kept,
                bytes_kept: parameters.bytes_kept,
                ..Settings::default()
            },
            flush: FlushSettings {
                entries_max: parameters.flush_entries_max,
                few_entries: 0,
                ..FlushSettings::default()
            },
            version_max: VERSION_MAX - u32::from(!newest),
            raft_runtime: runtime.handle().clone(),
            memory: || None,
            clock: self.clock.clone(),
            entropy: Arc::new(SeededEntropy::new(self.dice.draw())),
        }
    }

    /// Lets a millisecond pass on this machine.
    pub fn step(&mut self, now: u64) {
        if self.paused_until.is_some_and(|until| now < until) {
            self.paused_ms += 1;
            return;
        }
        let missed = std::mem::take(&mut self.paused_ms);
        let resumed = self.paused_until.take().is_some();
        self.clock.advance(1 + missed);
        let Some(process) = &self.process else { return };
        blocking::simulate(Some(self.pace.clone()));
        process.runtime.block_on(async {
            if resumed && missed > 0 {
                // All that became due meanwhile is due at once.
                tokio::time::advance(Duration::from_millis(missed)).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        });
        blocking::simulate(None);
    }

    /// The process is gone, at once. With `power` the disk loses what was not
    /// made durable, and the network is told nothing.
    pub fn crash(&mut self, network: &Network, power: Power) {
        let Some(process) = self.process.take() else { return };
        self.paused_until = None;
        self.doomed = false;
        network.end(self.number, process.number, power != Power::On);
        // Handles of the dead process write nothing from here on.
        match power {
            Power::LostAll => self.disk.crash_losing_all(),
            Power::On | Power::Lost => self.disk.crash(),
        }
        blocking::simulate(Some(self.pace.clone()));
        let Process { runtime, opened, .. } = process;
        drop(std::mem::take(&mut *opened.lock()));
        drop(opened);
        drop(runtime);
        blocking::simulate(None);
    }

    /// The node, once it is a member.
    pub fn node(&self) -> Option<Arc<ClusterNode>> {
        match &*self.process.as_ref()?.opened.lock() {
            Opened::Member(node) => Some(node.clone()),
            _ => None,
        }
    }

    /// Why the process did not become a member.
    pub fn failure(&self) -> Option<OpenError> {
        match &*self.process.as_ref()?.opened.lock() {
            Opened::Failed(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Whether a process runs that is of the newest binary.
    pub fn runs_newest(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.newest)
    }

    /// Whether the process runs and does not stand still.
    pub fn is_awake(&self, now: u64) -> bool {
        self.process.is_some() && self.paused_until.is_none_or(|until| until <= now)
    }

    /// Has the process do something; what becomes of it is the caller's to find out.
    pub fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(process) = &self.process {
            drop(process.runtime.spawn(task));
        }
    }
}

/// What a crash does to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// The process was killed.
    On,
    /// Power was lost, and of what was not durable some is left.
    Lost,
    /// Power was lost, and nothing is left that was not durable.
    LostAll,
}

/// What the newest binary knows of its indexes. It builds them slowly, so that harm
/// comes meanwhile, and begins as soon as it may: transactions end within six seconds.
fn indexing() -> Indexing {
    let (pause, grace) = (Duration::from_millis(50), Duration::from_secs(7));
    Indexing { rules: Arc::new(Rules), pace: BuildPace { rows: 30, pause, grace } }
}

/// Where the process of a machine listens.
pub fn address(machine: usize) -> String {
    format!("n{machine}:7000")
}

/// A cluster with shards of home and one of each other space, of three voters.
pub fn plan(home_shards: u16) -> InitPlan {
    InitPlan {
        name: "simulated".to_owned(),
        home_shards,
        index_shards: 1,
        graph_shards: 1,
        placement: PlacementRecord {
            survive: Survive::Node.into(),
            within_region: String::new(),
            voters: 3,
        },
    }
}

async fn enter(options: ClusterOptions, entrance: Entrance) -> Result<Arc<ClusterNode>, OpenError> {
    let node = ClusterNode::open(options).await?;
    if node.member().is_none() {
        let entered = match entrance {
            Entrance::Init(plan) => node.init(plan).await.map(drop),
            Entrance::Join(seeds) => node.join(&seeds).await.map(drop),
        };
        match entered {
            Ok(()) | Err(OpenError::AlreadyMember(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(node)
}
