//! A network in memory. A link between two nodes can be cut in one direction;
//! what is on its way over a cut link is lost, and the caller is told that the
//! other is unreachable.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io::{Read, Write},
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use cardea_storage::{Fault, engine::Disk};
use futures::{Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use openraft::{
    OptionalSend, RaftNetworkFactory,
    errors::{Fatal, NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, stream_append_sequential, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    ids::{GroupId, NodeId, ReplicaId},
    log::Glance,
    peers::{Groups, Replica, Transport},
    pulse::{Assents, Pulse},
    read::{Question, ReadError, Testimony, Witnesses},
    tenure::Tenure,
    types::{Beat, Member, RaftSnapshot, SnapshotData, TypeConfig, Vote},
};

type Config = TypeConfig;

/// How often a parked snapshot looks whether it may go on.
const PARKED: Duration = Duration::from_millis(5);

#[derive(Clone)]
struct Station {
    groups: Weak<dyn Groups>,
    disk: Arc<dyn Disk>,
}

#[derive(Default)]
struct State {
    stations: BTreeMap<NodeId, Station>,
    cut: BTreeSet<(NodeId, NodeId)>,
    hung: BTreeSet<(NodeId, NodeId)>,
    refused: BTreeSet<(NodeId, NodeId)>,
    withheld: BTreeSet<(NodeId, NodeId)>,
    parked: BTreeSet<NodeId>,
    shipped: BTreeMap<NodeId, usize>,
}

/// Every node of a test and the links between them.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    state: Arc<Mutex<State>>,
}

impl MemoryNetwork {
    /// No nodes, no cut links.
    pub fn new() -> Self {
        Self::default()
    }

    /// The transport of `node`.
    pub fn transport(&self, node: NodeId) -> Arc<MemoryTransport> {
        Arc::new(MemoryTransport { network: self.clone(), node, assents: Assents::default() })
    }

    /// Calls to `node` reach `groups` from now on; files arrive on `disk`.
    pub fn attach(&self, node: NodeId, groups: &Arc<dyn Groups>, disk: Arc<dyn Disk>) {
        let station = Station { groups: Arc::downgrade(groups), disk };
        self.state.lock().stations.insert(node, station);
    }

    /// Calls to `node` reach nobody from now on.
    pub fn detach(&self, node: NodeId) {
        self.state.lock().stations.remove(&node);
    }

    /// Cuts what goes from one node to another; the way back stays.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.state.lock().cut.insert((from, to));
    }

    /// What one node's replicas tell another's is lost from now on; it may ask, and is
    /// answered.
    pub fn withhold(&self, from: NodeId, to: NodeId) {
        self.state.lock().withheld.insert((from, to));
    }

    /// Questions from one node to another are never answered from now on, as by a
    /// process that was stopped.
    pub fn hang(&self, from: NodeId, to: NodeId) {
        self.state.lock().hung.insert((from, to));
    }

    /// Calls to a node, to see whether anybody listens there, are refused to another from
    /// now on, though somebody does.
    pub fn refuse(&self, node: NodeId, to: NodeId) {
        self.state.lock().refused.insert((node, to));
    }

    /// Snapshots for `node` arrive from now on, but nobody has them, until
    /// [`unpark`](Self::unpark).
    pub fn park(&self, node: NodeId) {
        self.state.lock().parked.insert(node);
    }

    /// Snapshots for `node` are had.
    pub fn unpark(&self, node: NodeId) {
        self.state.lock().parked.remove(&node);
    }

    /// Snapshots whose files came to `node`.
    pub fn shipped(&self, node: NodeId) -> usize {
        self.state.lock().shipped.get(&node).copied().unwrap_or(0)
    }

    /// Cuts both ways between `node` and every other.
    pub fn isolate(&self, node: NodeId) {
        let mut state = self.state.lock();
        let others: Vec<_> = state.stations.keys().copied().filter(|id| *id != node).collect();
        for other in others {
            state.cut.insert((node, other));
            state.cut.insert((other, node));
        }
    }

    /// Mends what goes from one node to another.
    pub fn mend(&self, from: NodeId, to: NodeId) {
        self.state.lock().cut.remove(&(from, to));
    }

    /// Mends every link.
    pub fn heal(&self) {
        self.state.lock().cut.clear();
    }

    fn tells(&self, from: NodeId, to: NodeId) -> bool {
        self.passes(from, to) && !self.state.lock().withheld.contains(&(from, to))
    }

    fn passes(&self, from: NodeId, to: NodeId) -> bool {
        !self.state.lock().cut.contains(&(from, to))
    }

    fn station(&self, node: NodeId) -> Option<Station> {
        self.state.lock().stations.get(&node).cloned()
    }
}

/// One node's access to a [`MemoryNetwork`].
pub struct MemoryTransport {
    network: MemoryNetwork,
    node: NodeId,
    assents: Assents,
}

impl Transport for MemoryTransport {
    type Network = MemoryClients;

    fn network(&self, group: GroupId, _replica: ReplicaId, log: Glance) -> MemoryClients {
        let (network, assents) = (self.network.clone(), self.assents.clone());
        MemoryClients { network, node: self.node, group, log, assents }
    }
}

#[async_trait]
impl Witnesses for MemoryTransport {
    async fn ask(&self, node: NodeId, question: Question) -> Result<Testimony, ReadError> {
        let lost = || ReadError::Unconfirmed(format!("{node} is unreachable"));
        if self.network.state.lock().hung.contains(&(self.node, node)) {
            return std::future::pending().await;
        }
        if !self.network.passes(self.node, node) {
            return Err(lost());
        }
        let station = self.network.station(node).ok_or_else(lost)?;
        let groups = station.groups.upgrade().ok_or_else(lost)?;
        let told = groups.testify(&question).ok_or_else(lost)?;
        if self.network.passes(node, self.node) { Ok(told) } else { Err(lost()) }
    }

    async fn refuses(&self, node: NodeId) -> bool {
        if self.network.state.lock().refused.contains(&(node, self.node)) {
            return true;
        }
        let passes = self.network.passes(self.node, node) && self.network.passes(node, self.node);
        passes && self.network.station(node).is_none_or(|there| there.groups.strong_count() == 0)
    }

    fn pulse(&self, node: NodeId, pulses: Vec<Pulse>) {
        let sent = Instant::now();
        for pulse in pulses {
            let (network, group) = (self.network.clone(), pulse.group);
            let way = Way { network, from: self.node, to: node, group, target: pulse.to };
            let assents = self.assents.clone();
            drop(tokio::spawn(async move {
                let told = way.beat(pulse.beat()).await;
                let is_yes = matches!(told, Ok(AppendEntriesResponse::Success));
                assents.answered(&pulse, sent, is_yes);
            }));
        }
    }
}

/// Makes clients for one replica.
pub struct MemoryClients {
    network: MemoryNetwork,
    node: NodeId,
    group: GroupId,
    log: Glance,
    assents: Assents,
}

impl RaftNetworkFactory<Config> for MemoryClients {
    type Network = MemoryClient;

    async fn new_client(&mut self, target: ReplicaId, member: &Member) -> MemoryClient {
        let (network, group) = (self.network.clone(), self.group);
        let way = Way { network, from: self.node, to: member.node, group, target };
        let (log, assents) = (self.log.clone(), self.assents.clone());
        MemoryClient { way, tenure: Tenure::of(&log), log, assents, beats: false }
    }

    async fn new_heartbeat_client(&mut self, target: ReplicaId, member: &Member) -> MemoryClient {
        MemoryClient { beats: true, ..self.new_client(target, member).await }
    }
}

/// From a node to a replica on another.
#[derive(Clone)]
struct Way {
    network: MemoryNetwork,
    from: NodeId,
    to: NodeId,
    group: GroupId,
    target: ReplicaId,
}

impl Way {
    fn unreachable(&self) -> Unreachable<Config> {
        Unreachable::from_string(format!("{} of {} on {}", self.target, self.group, self.to))
    }

    /// The replica, if the way there is open.
    fn go(&self) -> Result<Replica, RPCError<Config>> {
        if !self.network.tells(self.from, self.to) {
            return Err(self.unreachable().into());
        }
        self.network
            .station(self.to)
            .and_then(|station| station.groups.upgrade())
            .and_then(|groups| groups.replica(self.group))
            .filter(|replica| replica.id == self.target)
            .ok_or_else(|| self.unreachable().into())
    }

    /// What came back, if the way back is open.
    fn back<T, E: std::error::Error>(&self, result: Result<T, E>) -> Result<T, RPCError<Config>> {
        if !self.network.passes(self.to, self.from) {
            return Err(self.unreachable().into());
        }
        result.map_err(|error| NetworkError::from_string(error).into())
    }

    /// Takes a heartbeat there.
    async fn beat(&self, beat: Beat) -> Result<AppendEntriesResponse<Config>, RPCError<Config>> {
        let replica = self.go()?;
        let groups = self.network.station(self.to).and_then(|there| there.groups.upgrade());
        if groups.is_some_and(|groups| groups.hears(self.group, self.target, &beat)) {
            return self.back(Ok::<_, Fatal<Config>>(AppendEntriesResponse::Success));
        }
        self.back(replica.raft.append_entries(beat).await)
    }

    fn ship(&self, from: &Path, to: &Path) -> Result<SnapshotData, Fault> {
        let absent = || Fault::new("a node without a disk");
        let source = self.network.station(self.from).ok_or_else(absent)?.disk;
        let target = self.network.station(self.to).ok_or_else(absent)?.disk;
        for file in source.files_below(from)? {
            let (mut content, _) = source.read_stream(&from.join(&file))?;
            let mut bytes = Vec::new();
            content
                .read_to_end(&mut bytes)
                .map_err(|error| Fault::caused("read a file to send", error))?;
            let mut sink = target.write_stream(&to.join(&file))?;
            sink.write_all(&bytes)
                .map_err(|error| Fault::caused("write a received file", error))?;
            sink.finish()?;
        }
        Ok(SnapshotData::received(target, to.to_path_buf()))
    }
}

/// Calls from one replica to another.
#[derive(Clone)]
pub struct MemoryClient {
    way: Way,
    tenure: Tenure,
    log: Glance,
    assents: Assents,
    /// Whether it is for heartbeats.
    beats: bool,
}

impl RaftNetworkV2<Config> for MemoryClient {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Config>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Config>, RPCError<Config>> {
        self.tenure.tells(&rpc);
        let Way { group, target, .. } = self.way;
        if self.beats && self.assents.cover(group, target, &rpc) {
            return Ok(AppendEntriesResponse::Success);
        }
        self.way.beat(rpc).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<Config>, RPCError<Config>>>,
            RPCError<Config>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Config>> + OptionalSend + Unpin + 'static,
    {
        if self.beats {
            return stream_append_sequential(self, input, option);
        }
        let client = self.clone();
        Box::pin(async move {
            let replica = client.way.go()?;
            let there = client.way.clone();
            let input = client.tenure.appends(input).take_while(move |_| {
                let tells = there.network.tells(there.from, there.to);
                async move { tells }
            });
            let answers = replica.raft.stream_append(input);
            let answers = answers.map(move |answer| client.way.back(answer));
            Ok(answers.boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Config>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Config>, RPCError<Config>> {
        let replica = self.way.go()?;
        self.way.back(replica.vote(rpc).await)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Config>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Config>, RPCError<Config>> {
        let replica = self.way.go()?;
        self.way.back(replica.pre_vote(rpc).await)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Config>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Config>, RPCError<Config>> {
        let replica = self.way.go()?;
        self.way.back(replica.hand_over(request).await)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Config>, StreamingError<Config>> {
        let replica = self.way.go()?;
        let last = snapshot.meta.last_log_id.map_or(0, |last| last.index);
        let hold = self.log.holds().map(|holds| holds.begin(self.way.target, last));
        if let Some(None) = hold {
            return Err(NetworkError::from_string("there is a newer snapshot").into());
        }
        let (way, source) = (self.way.clone(), snapshot.snapshot.directory.clone());
        let receiver = replica.clone();
        let shipped = tokio::task::spawn_blocking(move || {
            let directory = receiver.begin_receive()?;
            way.ship(&source, &directory)
        });
        let files = match shipped.await {
            Ok(Ok(files)) => files,
            Ok(Err(fault)) => return Err(NetworkError::new(&fault).into()),
            Err(error) => return Err(NetworkError::new(&error).into()),
        };
        *self.way.network.state.lock().shipped.entry(self.way.to).or_default() += 1;
        while self.way.network.state.lock().parked.contains(&self.way.to) {
            tokio::time::sleep(PARKED).await;
        }
        let received = RaftSnapshot { meta: snapshot.meta, snapshot: files };
        // The files took their time; the way may be cut by now.
        self.way.go()?;
        Ok(self.way.back(replica.raft.install_full_snapshot(vote, received).await)?)
    }
}
