//! The host: every group that runs on this node, over one log and one
//! transport.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use cardea_storage::{
    Fault,
    engine::{Claim, Disk},
    planted::{self, Bug},
};
use parking_lot::RwLock;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{
    admission::Admission,
    alarm::Alarm,
    blocking, clockwork,
    confirm::Brisk,
    durations::{DurationCounts, Durations},
    group::{Group, GroupParts},
    ids::{ClusterId, GroupId, NodeId, ReplicaId},
    log::{Log, LogPositions, LogStore, OpenLogError, WriterCounts},
    machine::Machine,
    peers::Transport,
    propose::{ProposeError, Proposed},
    read::{ReadError, ReadIndexAnswer, Witnesses},
    replica::{Progress, Reporter, StateMachine},
    settings::Settings,
    status::GroupStatus,
    succession::Knocking,
    types::{LogId, Raft, TypeConfig},
};

/// How long a stopping group waits for the last call of its machine.
const RELEASE_SECONDS_MAX: u64 = 30;

/// What a host needs.
pub struct HostOptions {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// Where the log is.
    pub disk: Arc<dyn Disk>,
    /// The directory of the log.
    pub log_directory: PathBuf,
    /// Bounds and timings.
    pub settings: Settings,
    /// Where Raft runs: a runtime of its own, so that nothing else a node does
    /// costs an election.
    pub runtime: Handle,
}

/// Why a group did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// It runs already.
    #[error("the group runs already")]
    Running,
    /// The log says that this replica had a life, but its state is gone, or is
    /// older than what the log still has. It must be replaced by a new replica.
    #[error("the group has a log but no state on this node")]
    StateLost,
    /// The log cannot be opened for this replica.
    #[error("the log of the group cannot be opened")]
    Log(#[source] OpenLogError),
    /// The machine failed.
    #[error("the group could not start")]
    Fault(#[from] Fault),
    /// The host is closing.
    #[error("the host is closing")]
    Closing,
}

impl From<OpenLogError> for StartError {
    fn from(error: OpenLogError) -> Self {
        match error {
            OpenLogError::Open => Self::Running,
            OpenLogError::Fault(fault) => Self::Fault(fault),
            error => Self::Log(error),
        }
    }
}

/// Builds openraft instances; hides the type of the transport.
#[async_trait]
trait Builder: Send + Sync {
    async fn build(
        &self,
        group: GroupId,
        replica: ReplicaId,
        config: Arc<openraft::Config>,
        log: LogStore,
        machine: StateMachine,
    ) -> Result<Raft, openraft::errors::Fatal<TypeConfig>>;
}

struct Over<T>(Arc<T>);

#[async_trait]
impl<T: Transport> Builder for Over<T> {
    async fn build(
        &self,
        group: GroupId,
        replica: ReplicaId,
        config: Arc<openraft::Config>,
        log: LogStore,
        machine: StateMachine,
    ) -> Result<Raft, openraft::errors::Fatal<TypeConfig>> {
        let network = self.0.network(group, replica, log.glance());
        Raft::new(replica, config, network, log, machine).await
    }
}

/// Every group that runs on this node.
pub struct Host {
    pub(crate) node: NodeId,
    cluster: ClusterId,
    pub(crate) settings: Settings,
    pub(crate) runtime: Handle,
    log: Arc<Log>,
    builder: Arc<dyn Builder>,
    pub(crate) peers: Arc<dyn Witnesses>,
    pub(crate) alarm: Arc<Alarm>,
    applies: Arc<Durations>,
    brisk: Brisk,
    pub(crate) knocking: Knocking,
    pub(crate) groups: RwLock<BTreeMap<GroupId, Arc<Group>>>,
    /// Starts and stops of groups are serial.
    changing: tokio::sync::Mutex<()>,
    keepers: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

impl Host {
    /// Opens the log of the node. No group runs until it is started.
    pub async fn open<T: Transport>(
        options: HostOptions,
        transport: Arc<T>,
    ) -> Result<Arc<Self>, Fault> {
        let HostOptions { cluster, node, disk, log_directory, settings, runtime } = options;
        settings.raft_config(cluster.to_string())?;
        clockwork::tick_together(settings.timing.tick());
        let alarm = Arc::new(Alarm::new());
        let for_log = alarm.clone();
        let opening = blocking::spawn_on(&runtime, move || {
            disk.create_directory(&log_directory)?;
            Log::open(disk.as_ref(), &log_directory, settings.log, for_log)
        });
        let log = opening.await.map_err(|error| Fault::caused("open the log", error))??;
        let host = Arc::new(Self {
            node,
            cluster,
            settings,
            log: Arc::new(log),
            builder: Arc::new(Over(transport.clone())),
            peers: transport,
            alarm,
            applies: Arc::default(),
            brisk: Brisk::default(),
            knocking: Knocking::default(),
            groups: RwLock::new(BTreeMap::new()),
            changing: tokio::sync::Mutex::new(()),
            keepers: parking_lot::Mutex::default(),
            runtime: runtime.clone(),
        });
        let mut keepers = vec![runtime.spawn(crate::keeper::keep(Arc::downgrade(&host)))];
        if settings.rest_beats > 0 {
            let tick = settings.timing.tick();
            keepers.push(runtime.spawn(crate::rest::keep(Arc::downgrade(&host), tick)));
        }
        *host.keepers.lock() = keepers;
        Ok(host)
    }

    /// Groups that have a log on this node, and the replicas they belong to.
    pub async fn stored_groups(&self) -> Result<BTreeMap<GroupId, ReplicaId>, Fault> {
        self.block(|log| log.owners()).await?
    }

    /// Starts the replica of a group on this node. It takes part in the group
    /// when the call returns.
    pub async fn start_group(
        self: &Arc<Self>,
        group: GroupId,
        replica: ReplicaId,
        machine: Arc<dyn Machine>,
    ) -> Result<(), StartError> {
        let _serial = self.changing.lock().await;
        if self.keepers.lock().is_empty() {
            return Err(StartError::Closing);
        }
        let store = self.block(move |log| log.group(group, replica)).await??;
        let started = self.build(group, replica, machine, store).await;
        if started.is_err() {
            self.log.close_group(group);
        }
        self.groups.write().insert(group, started?);
        Ok(())
    }

    async fn build(
        &self,
        id: GroupId,
        replica: ReplicaId,
        machine: Arc<dyn Machine>,
        store: LogStore,
    ) -> Result<Arc<Group>, StartError> {
        let (checked, extent) = (machine.clone(), store.extent());
        let (log, stored) = (store.glance(), store.clone());
        let since_snapshot = self.block(move |_| {
            let index = |id: Option<LogId>| id.map(|id| id.index);
            let position = checked.applied()?.position;
            let applied = position.map(|position| position.index);
            let lost = checked.is_new() && extent.vote.is_some();
            if lost || applied < index(extent.purged) {
                return Err(StartError::StateLost);
            }
            let yields = position.map_or(Ok(false), |position| stored.yield_to(position))?;
            if yields {
                tracing::warn!(
                    group = %id,
                    ?position,
                    "the log lost what was applied already, and is continued behind it"
                );
            }
            let is_ahead = yields || applied > index(extent.last);
            if is_ahead && !planted::is(Bug::TabletAheadOfLog) {
                // The log will be cut at the machine: a snapshot from before has
                // no entries behind it to be continued with.
                checked.discard_snapshot()?;
            }
            let next = |index: Option<u64>| index.map_or(0, |index| index + 1);
            let held = checked.current_snapshot()?.map(|snapshot| snapshot.position.index);
            Ok(next(applied).saturating_sub(next(held)))
        });
        let since_snapshot = since_snapshot.await??;
        let progress = Arc::new(Progress::keeping(self.settings.bytes_kept));
        progress.owe(since_snapshot);
        let (release, released) = oneshot::channel();
        let adapter =
            StateMachine::new(machine.clone(), progress.clone(), self.reporter(), release);
        let config = Arc::new(self.settings.raft_config(format!("{}/{id}", self.cluster))?);
        let builder = self.builder.clone();
        // Within the runtime, so that everything openraft spawns is on it.
        let built = self
            .runtime
            .spawn(async move { builder.build(id, replica, config, store, adapter).await });
        let raft = match built.await {
            Ok(Ok(raft)) => raft,
            Ok(Err(fatal)) => {
                return Err(Fault::caused(format!("start {id}"), fatal).into());
            }
            Err(_) => return Err(StartError::Closing),
        };
        let group = Group::new(GroupParts {
            id,
            replica,
            raft,
            log,
            machine,
            progress,
            settings: self.settings,
            released,
            runtime: self.runtime.clone(),
            peers: self.peers.clone(),
            brisk: self.brisk.clone(),
        });
        drop(self.runtime.spawn(Group::follow(Arc::downgrade(&group))));
        Ok(group)
    }

    /// Stops the replica of a group; its log and its machine stay. The machine
    /// is not called any more when the call returns. A group that does not run
    /// is no error.
    pub async fn stop_group(&self, group: GroupId) -> Result<(), Fault> {
        let _serial = self.changing.lock().await;
        self.stop(group).await
    }

    async fn stop(&self, id: GroupId) -> Result<(), Fault> {
        let Some(group) = self.groups.write().remove(&id) else { return Ok(()) };
        let raft = group.raft.clone();
        let released = group.released.lock().take();
        let stopped = self.runtime.spawn(async move {
            let stopped = raft.shutdown().await;
            drop(raft);
            if let Some(released) = released {
                // An error says that the adapter is gone, too.
                drop(released.await);
            }
            stopped
        });
        let limit = Duration::from_secs(RELEASE_SECONDS_MAX);
        let outcome = match tokio::time::timeout(limit, stopped).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(Fault::caused(format!("stop {id}"), error)),
            Ok(Err(error)) => Err(Fault::caused(format!("stop {id}"), error)),
            Err(_) => Err(Fault::new(format!("the machine of {id} did not let go"))),
        };
        group.status.send_modify(|status| status.role = crate::status::Role::Stopped);
        self.log.close_group(id);
        outcome
    }

    /// Stops the replica of a group for good: deletes its log and marks its id,
    /// which never starts again on this node. The machine is the caller's.
    pub async fn remove_group(&self, group: GroupId, replica: ReplicaId) -> Result<(), StartError> {
        let _serial = self.changing.lock().await;
        if self.groups.read().get(&group).is_some_and(|running| running.replica != replica) {
            return Err(StartError::Running);
        }
        self.stop(group).await?;
        self.block(move |log| log.remove_group(group, replica)).await??;
        Ok(())
    }

    /// Forms a new group, once, from one of its replicas: all members vote. A
    /// group that was formed already is left as it is.
    pub async fn initialize(
        &self,
        group: GroupId,
        members: BTreeMap<ReplicaId, NodeId>,
    ) -> Result<(), crate::change::ChangeError> {
        self.running(group)?.initialize(members).await
    }

    /// Proposes a command and waits until it is applied here.
    pub async fn propose(
        &self,
        group: GroupId,
        payload: Bytes,
        admission: Admission,
    ) -> Result<Proposed, ProposeError> {
        let running = self.group(group).ok_or(ProposeError::NoGroup)?;
        if self.alarm.fault().is_some() {
            return Err(ProposeError::Stopped);
        }
        running.propose(payload, admission).await
    }

    /// A read index, confirmed by a quorum after the call. Only the leader has
    /// one; nothing is awaited but the quorum.
    pub async fn read_index(&self, group: GroupId) -> Result<ReadIndexAnswer, ReadError> {
        self.group(group).ok_or(ReadError::NoGroup)?.read_index().await
    }

    /// Waits until this node may read linearizably from its own machine: asks
    /// whoever leads, and waits for the machine to get there.
    pub async fn read_barrier(&self, group: GroupId) -> Result<ReadIndexAnswer, ReadError> {
        self.group(group).ok_or(ReadError::NoGroup)?.read_barrier().await
    }

    /// Waits until this node has applied each index that `next` names, which is asked
    /// again at each; until it names none.
    pub async fn reached_all(
        &self,
        group: GroupId,
        next: impl Fn() -> Option<u64>,
    ) -> Result<(), ReadError> {
        let running = self.group(group).ok_or(ReadError::NoGroup)?;
        let reached = async {
            while let Some(index) = next() {
                if !running.progress.reached(index).await {
                    return false;
                }
            }
            true
        };
        tokio::select! {
            reached = tokio::time::timeout(self.settings.read_time(), reached) => match reached {
                Ok(true) => Ok(()),
                Ok(false) => Err(ReadError::Stopped),
                Err(_) => Err(ReadError::Lagging),
            },
            () = running.stopped() => Err(ReadError::Stopped),
        }
    }

    /// How a group is, seen from here.
    pub fn status(&self, group: GroupId) -> Option<GroupStatus> {
        self.group(group).map(|group| group.status())
    }

    /// The groups that run here.
    pub fn groups(&self) -> Vec<GroupId> {
        self.groups.read().keys().copied().collect()
    }

    /// Follows a group: told when leader, term, role or membership change. The
    /// positions in it are those of that moment; see [`status`](Self::status).
    pub fn watch(&self, group: GroupId) -> Option<watch::Receiver<GroupStatus>> {
        self.group(group).map(|group| group.status.subscribe())
    }

    /// Proposals and bytes of a group that wait for their answer here.
    pub fn waiting(&self, group: GroupId) -> Option<(usize, usize)> {
        self.group(group).map(|group| group.waiting())
    }

    /// The first fault of this host. The process must stop.
    pub fn fault(&self) -> Option<Fault> {
        self.alarm.fault()
    }

    /// Waits for a fault of this host. The process must stop then.
    pub async fn faulted(&self) -> Fault {
        self.alarm.raised().await
    }

    /// How long the oldest synced write of the log has been waiting for the
    /// disk; a disk that hangs shows here, not in a fault.
    pub fn oldest_unfinished_write(&self) -> Option<Duration> {
        self.log.oldest_unfinished()
    }

    /// What the log writer has done so far.
    pub fn log_counts(&self) -> WriterCounts {
        self.log.counts()
    }

    /// How long synced writes of the log took.
    pub fn log_sync_durations(&self) -> DurationCounts {
        self.log.sync_durations()
    }

    /// Jobs that wait to be written to the log.
    pub fn log_queued(&self) -> usize {
        self.log.queued()
    }

    /// How long machines took to apply, each time a chunk of entries.
    pub fn apply_durations(&self) -> DurationCounts {
        self.applies.counts()
    }

    /// The purge point of a group's log here, and the positions of its entries
    /// from an index on; `None` if the group does not run here. For checks. Blocks.
    ///
    /// # Errors
    /// A fault if the log cannot be read.
    pub fn log_positions(&self, group: GroupId, from: u64) -> Result<Option<LogPositions>, Fault> {
        self.log.positions(group, from)
    }

    /// What the log has on its files. While it lives, they are open.
    pub fn log_claim(&self) -> Weak<Claim> {
        self.log.claim()
    }

    /// Stops every group and closes the log.
    pub async fn close(&self) -> Result<(), Fault> {
        let _serial = self.changing.lock().await;
        for keeper in self.keepers.lock().drain(..) {
            keeper.abort();
        }
        let mut outcome = Ok(());
        for group in self.groups() {
            outcome = outcome.and(self.stop(group).await);
        }
        self.block(|log| log.close()).await?;
        outcome
    }

    pub(crate) fn group(&self, group: GroupId) -> Option<Arc<Group>> {
        self.groups.read().get(&group).cloned()
    }

    pub(crate) fn running_groups(&self) -> Vec<Arc<Group>> {
        self.groups.read().values().cloned().collect()
    }

    pub(crate) fn running(&self, group: GroupId) -> Result<Arc<Group>, crate::change::ChangeError> {
        self.group(group).ok_or(crate::change::ChangeError::NoGroup)
    }

    fn reporter(&self) -> Reporter {
        Reporter { alarm: self.alarm.clone(), applies: self.applies.clone() }
    }

    async fn block<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Log) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let log = self.log.clone();
        blocking::spawn_on(&self.runtime, move || call(&log))
            .await
            .map_err(|error| Fault::caused("the runtime is closing", error))
    }
}
