//! The calling side: what openraft holds to reach one replica.

use std::{collections::HashMap, fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use cardea_storage::engine::Disk;
use futures::{Stream, StreamExt, stream};
use openraft::{
    RaftNetworkFactory,
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{
        Backoff, NetAppend, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote,
        RPCOption, RPCTypes, stream_append_sequential,
    },
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tonic::{Status, transport::Channel};

use super::{
    MESSAGE_BYTES_MAX, TransportSettings, append,
    beats::Beats,
    channels::{Channels, Line, Purpose},
    confirmed::{Account, Confirmed},
    convoy::{Convoy, Turn},
    ending::{self, Ending},
    proto::raft_client::RaftClient,
    refusal::Refusal,
    shipment,
    wire::{self, Route},
};
use crate::{
    ids::{ClusterId, GroupId, NodeId, ReplicaId},
    log::Glance,
    peers::Transport,
    pulse::{Assents, Pulse},
    read::{Question, ReadError, Testimony, Witnesses},
    tenure::Tenure,
    types::{Member, RaftSnapshot, SnapshotData, TypeConfig, Vote},
};

/// Carries the calls of all groups of one node to other nodes. Cheap to clone.
#[derive(Clone)]
pub struct GrpcTransport {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: ClusterId,
    node: NodeId,
    channels: Arc<Channels>,
    disk: Arc<dyn Disk>,
    settings: TransportSettings,
    beats: Mutex<HashMap<NodeId, Beats>>,
    confirmed: Confirmed,
    assents: Assents,
    convoy: Convoy,
}

impl Shared {
    fn beats(&self, to: NodeId) -> Beats {
        let mut beats = self.beats.lock();
        let start = || {
            let silence_max = Duration::from_millis(self.settings.beat_ms_max);
            let (channels, assents) = (self.channels.clone(), self.assents.clone());
            Beats::start(channels, self.cluster, self.node, to, silence_max, assents)
        };
        beats.entry(to).or_insert_with(start).clone()
    }
}

impl GrpcTransport {
    /// The transport of `node` in `cluster`; snapshots are read from `disk`.
    pub fn new(
        cluster: ClusterId,
        node: NodeId,
        channels: Arc<Channels>,
        disk: Arc<dyn Disk>,
        settings: TransportSettings,
    ) -> Self {
        let (beats, confirmed, assents) = Default::default();
        let convoy = Convoy::new(settings.snapshot_bytes_per_second);
        let shared =
            Shared { cluster, node, channels, disk, settings, beats, confirmed, assents, convoy };
        Self { shared: Arc::new(shared) }
    }

    #[cfg(test)]
    pub(super) fn convoy(&self) -> &Convoy {
        &self.shared.convoy
    }

    /// The channels, which the cluster layer shares.
    pub fn channels(&self) -> &Arc<Channels> {
        &self.shared.channels
    }
}

impl fmt::Debug for GrpcTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTransport")
            .field("cluster", &self.shared.cluster)
            .field("node", &self.shared.node)
            .finish_non_exhaustive()
    }
}

impl Transport for GrpcTransport {
    type Network = ReplicaClients;

    fn network(&self, group: GroupId, replica: ReplicaId, log: Glance) -> ReplicaClients {
        ReplicaClients { shared: self.shared.clone(), group, replica, log }
    }

    fn round_trip(&self, node: NodeId) -> Option<Duration> {
        self.shared.channels.round_trip(node)
    }
}

#[async_trait]
impl Witnesses for GrpcTransport {
    async fn ask(&self, node: NodeId, question: Question) -> Result<Testimony, ReadError> {
        let deadline = Duration::from_millis(self.shared.settings.read_index_ms_max);
        self.shared.beats(node).ask(question, deadline).await.map_err(ReadError::Unconfirmed)
    }

    async fn refuses(&self, node: NodeId) -> bool {
        self.shared.channels.refuses(node).await
    }

    fn pulse(&self, node: NodeId, pulses: Vec<Pulse>) {
        let beats = self.shared.beats(node);
        let cluster = self.shared.cluster;
        for pulse in pulses {
            let from = (self.shared.node, pulse.from);
            let route = Route { cluster, group: pulse.group, from, to: (node, pulse.to) };
            beats.pulse(route, pulse);
        }
    }
}

/// Makes the clients of one replica.
pub struct ReplicaClients {
    shared: Arc<Shared>,
    group: GroupId,
    replica: ReplicaId,
    log: Glance,
}

impl ReplicaClients {
    fn client(&self, target: ReplicaId, member: &Member, purpose: Purpose) -> ReplicaClient {
        let shared = self.shared.clone();
        let route = Route {
            cluster: shared.cluster,
            group: self.group,
            from: (shared.node, self.replica),
            to: (member.node, target),
        };
        let account = shared.confirmed.of(self.group, target);
        let (log, turn) = (self.log.clone(), None);
        let tenure = Tenure::of(&log);
        ReplicaClient { shared, route, account, tenure, log, turn, purpose }
    }
}

impl RaftNetworkFactory<TypeConfig> for ReplicaClients {
    type Network = ReplicaClient;

    async fn new_client(&mut self, target: ReplicaId, member: &Member) -> ReplicaClient {
        self.client(target, member, Purpose::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: ReplicaId, member: &Member) -> ReplicaClient {
        self.client(target, member, Purpose::Liveness)
    }

    async fn new_snapshot_client(&mut self, target: ReplicaId, member: &Member) -> ReplicaClient {
        self.client(target, member, Purpose::Snapshots)
    }
}

/// Calls one replica on behalf of another. Votes and hand-overs take the
/// channel of the heartbeats, whatever the client was made for.
pub struct ReplicaClient {
    shared: Arc<Shared>,
    route: Route,
    account: Account,
    tenure: Tenure,
    log: Glance,
    /// That of the next snapshot.
    turn: Option<Turn>,
    purpose: Purpose,
}

impl ReplicaClient {
    /// A call with one answer, over the channel of the heartbeats.
    async fn call<T, F>(
        &self,
        option: &RPCOption,
        call: impl FnOnce(RaftClient<Channel>) -> F,
    ) -> Result<T, RPCError<TypeConfig>>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let (to, channels) = (self.route.to.0, &self.shared.channels);
        // Whole: over a long way the last quarter decides.
        let deadline = option.hard_ttl();
        let line = channels.line(to, Purpose::Liveness);
        match timeout(deadline, call(raft_client(&line))).await {
            Ok(Ok(answer)) => {
                channels.heard(&line);
                Ok(answer)
            }
            Ok(Err(status)) => Err(unreachable(&status)),
            // Deadlines of votes are short: the heartbeats judge the connection.
            Err(_) => Err(RPCError::Unreachable(Unreachable::from_string(format!(
                "no answer within {deadline:?}"
            )))),
        }
    }
}

impl NetAppend<TypeConfig> for ReplicaClient {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.tenure.tells(&request);
        if self.purpose == Purpose::Liveness && request.entries.is_empty() {
            if self.shared.assents.cover(self.route.group, self.route.to.1, &request) {
                return Ok(AppendEntriesResponse::Success);
            }
            let beats = self.shared.beats(self.route.to.0);
            let vote = request.vote;
            let answer = beats.send(self.route, request, option.hard_ttl()).await?;
            let lost = |what| RPCError::Unreachable(Unreachable::from_string(what));
            self.account.answered(&vote, &answer).map_err(lost)?;
            return Ok(answer.into());
        }
        let once = stream::iter([request]);
        let mut answers = self.stream_append(once, option).await?;
        match answers.next().await {
            Some(answer) => answer.map(Into::into),
            None => Err(RPCError::Network(NetworkError::from_string("no answer to the append"))),
        }
    }
}

impl NetStreamAppend<TypeConfig> for ReplicaClient {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        if self.purpose == Purpose::Liveness {
            return stream_append_sequential(self, input, option);
        }
        // openraft's bound follows the heartbeat interval; a disk that needs
        // longer for one sync is no reason to begin anew.
        let settings = self.shared.settings;
        let deadline = option.soft_ttl().max(Duration::from_millis(settings.append_ms_max));
        let channels = self.shared.channels.clone();
        let replica = (self.route, self.account.clone());
        let bytes_max = settings.append_bytes_max;
        let (account, leader) = (self.account.clone(), self.tenure.leader());
        let input = self.tenure.appends(input);
        Box::pin(async move {
            if account.ending().is_none() {
                account.sends(leader);
                let answers = append::open(channels, replica, input, bytes_max, deadline).await?;
                return Ok(answers as BoxStream<'s, _>);
            }
            Ok(ending::answered(account, input, move |input| {
                append::open(channels, replica, input, bytes_max, deadline)
            }))
        })
    }
}

impl NetVote<TypeConfig> for ReplicaClient {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = wire::vote_request(self.route, &request);
        let answer =
            self.call(&option, |mut client| async move { client.vote(message).await }).await?;
        let answer = wire::voted(answer.into_inner()).map_err(|status| unreachable(&status))?;
        if let Some(ending) = Ending::of(&request, &answer) {
            self.account.voted(ending);
        }
        Ok(answer)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = wire::vote_request(self.route, &request);
        let answer =
            self.call(&option, |mut client| async move { client.pre_vote(message).await }).await?;
        wire::voted(answer.into_inner()).map_err(|status| unreachable(&status))
    }
}

impl NetTransferLeader<TypeConfig> for ReplicaClient {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = wire::transfer_request(self.route, &request);
        let answer = self
            .call(&option, |mut client| async move { client.transfer_leader(message).await })
            .await?;
        wire::transferred(answer.into_inner()).map_err(|status| unreachable(&status))
    }
}

impl NetSnapshot<TypeConfig> for ReplicaClient {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let started = Instant::now();
        // Its log will not end where it did when it voted.
        self.account.sends(Some(vote.leader_id));
        let shared = &self.shared;
        let bounds = shipment::Bounds {
            chunk_bytes: shared.settings.chunk_bytes,
            chunk_max: Duration::from_millis(shared.settings.chunk_ms_max),
            install_max: Duration::from_millis(shared.settings.snapshot_ms_max),
        };
        let line = shared.channels.line(self.route.to.0, Purpose::Snapshots);
        let client = raft_client(&line);
        let (route, log, next_turn) = (self.route, &self.log, &mut self.turn);
        let sending = async {
            let (disk, convoy) = (&shared.disk, &shared.convoy);
            let bytes = shipment::bytes_of(disk, &snapshot).await;
            let turn = next_turn.take().or_else(|| convoy.turn_now(bytes));
            let Some(turn) = turn else {
                *next_turn = Some(convoy.turn(bytes).await);
                return Err(shipment::Failure::Outdated);
            };
            let last = snapshot.meta.last_log_id.map_or(0, |last| last.index);
            let hold = log.holds().map(|holds| holds.begin(route.to.1, last));
            if let Some(None) = hold {
                *next_turn = Some(turn);
                return Err(shipment::Failure::Outdated);
            }
            let _under_way = (turn, hold);
            shipment::send(client, route, vote, snapshot, disk, convoy, bounds).await
        };
        tokio::select! {
            // Dropping the call resets the stream; the receiver removes what it has.
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => match sent {
                Ok(vote) => {
                    shared.channels.heard(&line);
                    Ok(SnapshotResponse::new(vote))
                }
                Err(shipment::Failure::Local(error)) => Err(StreamingError::StorageError(error)),
                Err(shipment::Failure::Call(status)) => Err(unreachable(&status).into()),
                // openraft reads the newest and comes again at once.
                Err(shipment::Failure::Outdated) => Err(StreamingError::Timeout(Timeout {
                    action: RPCTypes::InstallSnapshot,
                    id: route.from.1,
                    target: route.to.1,
                    timeout: started.elapsed(),
                })),
                Err(shipment::Failure::Stalled) => {
                    let to = self.route.to.0;
                    let silence = bounds.chunk_max;
                    shared.channels.unheard(to, Purpose::Snapshots, &line, silence);
                    Err(StreamingError::Unreachable(Unreachable::from_string(
                        "the snapshot made no progress",
                    )))
                }
            },
        }
    }
}

impl NetBackoff<TypeConfig> for ReplicaClient {
    fn backoff(&self) -> Option<Backoff> {
        const FIRST_MS: u64 = 25;
        const LAST_MS: u64 = 500;
        let doubled = std::iter::successors(Some(FIRST_MS), |ms| Some((ms * 2).min(LAST_MS)));
        Some(Backoff::new(doubled.map(Duration::from_millis)))
    }
}

/// A client of the service on a line.
pub(super) fn raft_client(line: &Line) -> RaftClient<Channel> {
    RaftClient::new(line.channel.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A call that failed or was refused: try again later.
pub(super) fn unreachable(status: &Status) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(describe(status)))
}

/// What a status says, for a log line.
pub(super) fn describe(status: &Status) -> String {
    match Refusal::of(status) {
        Some(refusal) => format!("refused: {refusal}: {}", status.message()),
        None => format!("{}: {}", status.code(), status.message()),
    }
}
