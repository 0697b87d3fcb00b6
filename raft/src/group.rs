//! A running replica of one group: proposals, reads and status.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    async_runtime::WatchReceiver as _,
    errors::{LinearizableReadError, RaftError},
    raft::linearizable_read::LinearizerOption,
};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::timeout,
};

use crate::{
    admission::{Admission, Gate},
    ids::{GroupId, NodeId, ReplicaId},
    machine::{Machine, Position},
    propose::{ProposeError, Proposed, leader_named},
    read::{ReadError, ReadIndexAnswer, ReadIndexClient},
    replica::Progress,
    rounds::Rounds,
    settings::Settings,
    status::GroupStatus,
    types::{Command, Raft},
};

/// How long a reader waits for news of a leader before it asks again anyway.
const LEADER_NEWS_MS: u64 = 100;

/// A running replica of one group.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) replica: ReplicaId,
    pub(crate) raft: Raft,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) settings: Settings,
    pub(crate) status: watch::Sender<GroupStatus>,
    /// Resolves when openraft's worker has let go of the machine.
    pub(crate) released: Mutex<Option<oneshot::Receiver<()>>>,
    gate: Arc<Gate>,
    runtime: Handle,
    peers: Arc<dyn ReadIndexClient>,
    at_leader: Arc<Rounds<Result<ReadIndexAnswer, ReadError>>>,
    at_follower: Arc<Rounds<Result<ReadIndexAnswer, ReadError>>>,
}

/// What a [`Group`] is made of.
pub(crate) struct GroupParts {
    pub(crate) id: GroupId,
    pub(crate) replica: ReplicaId,
    pub(crate) raft: Raft,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) settings: Settings,
    pub(crate) released: oneshot::Receiver<()>,
    pub(crate) runtime: Handle,
    pub(crate) peers: Arc<dyn ReadIndexClient>,
}

impl Group {
    pub(crate) fn new(parts: GroupParts) -> Arc<Self> {
        let GroupParts { id, replica, raft, machine, progress, settings, released, runtime, peers } =
            parts;
        let linger = Duration::from_micros(settings.read_linger_us_max);
        let group = Self {
            id,
            replica,
            status: watch::Sender::new(GroupStatus::default()),
            released: Mutex::new(Some(released)),
            gate: Arc::new(Gate::new(settings.proposals_max, settings.proposal_bytes_max)),
            at_leader: Arc::new(Rounds::new(linger)),
            at_follower: Arc::new(Rounds::new(linger)),
            raft,
            machine,
            progress,
            settings,
            runtime,
            peers,
        };
        group.status.send_replace(group.status());
        Arc::new(group)
    }

    /// How things are now.
    pub(crate) fn status(&self) -> GroupStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        GroupStatus::of(&metrics, self.progress.applied())
    }

    /// The leader this replica follows, with its node.
    fn leader(&self) -> Option<(ReplicaId, NodeId)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader?;
        metrics.membership_config.get_node(&leader).map(|member| (leader, member.node))
    }

    /// Proposals and bytes that wait for their answer.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        self.gate.waiting()
    }

    /// Entries in the log that are not applied.
    pub(crate) fn unapplied(&self) -> u64 {
        let last = self.raft.metrics().borrow_watched().last_log_index;
        let next = |index: Option<u64>| index.map_or(0, |index| index + 1);
        next(last).saturating_sub(next(self.progress.applied()))
    }

    pub(crate) async fn propose(
        &self,
        payload: Bytes,
        admission: Admission,
    ) -> Result<Proposed, ProposeError> {
        let Some(_place) = self.gate.enter(payload.len(), admission) else {
            return Err(ProposeError::Overloaded);
        };
        if admission == Admission::Ordinary
            && self.unapplied() > self.settings.unapplied_entries_max
        {
            return Err(ProposeError::Overloaded);
        }
        let write = self.raft.client_write(Command(payload));
        match timeout(self.settings.proposal_time(), write).await {
            Err(_) => Err(ProposeError::Unknown),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(response)) => {
                Ok(Proposed { position: Position::from(&response.log_id), answer: response.data.0 })
            }
        }
    }

    /// A read index confirmed by a quorum after the call; only at the leader.
    pub(crate) async fn read_index(self: &Arc<Self>) -> Result<ReadIndexAnswer, ReadError> {
        let group = self.clone();
        let ask = move || {
            let group = group.clone();
            async move { group.confirm().await }
        };
        self.at_leader.join(&self.runtime, ask).await.unwrap_or(Err(ReadError::Stopped))
    }

    /// One round with a quorum.
    async fn confirm(&self) -> Result<ReadIndexAnswer, ReadError> {
        // Before the round: if it succeeds, this node led at this time.
        let leaders_now = self.machine.leader_now();
        let option = LinearizerOption::new(Some(Duration::ZERO), true)
            .with_wait_timeout(self.settings.read_time());
        match self.raft.get_read_linearizer(option).await {
            Ok(linearizer) => {
                let read = linearizer.read_log_id().log_id();
                let term = self.raft.metrics().borrow_watched().current_term;
                Ok(ReadIndexAnswer { index: read.index, term, leaders_now })
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(ReadError::NotLeader { leader: leader_named(&forward) })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(few))) => {
                Err(ReadError::Unconfirmed(few.to_string()))
            }
            Err(RaftError::Fatal(_)) => Err(ReadError::Stopped),
        }
    }

    /// Waits until this replica may read linearizably: asks whoever leads for a
    /// read index, and waits for the machine to reach it.
    pub(crate) async fn read_barrier(self: &Arc<Self>) -> Result<ReadIndexAnswer, ReadError> {
        let deadline = self.settings.read_time();
        let mut last = ReadError::Unconfirmed("no leader is known".to_owned());
        let asked = timeout(deadline, async {
            loop {
                match self.ask_leader().await {
                    Ok(answer) => {
                        return match self.progress.reached(answer.index).await {
                            true => Ok(answer),
                            false => Err(ReadError::Stopped),
                        };
                    }
                    Err(error @ (ReadError::NoGroup | ReadError::Stopped)) => return Err(error),
                    Err(ReadError::Lagging) => {}
                    Err(error) => last = error,
                }
                self.leader_news().await;
            }
        });
        match asked.await {
            Ok(result) => result,
            Err(_) => Err(last),
        }
    }

    /// Asks whoever leads, once.
    async fn ask_leader(self: &Arc<Self>) -> Result<ReadIndexAnswer, ReadError> {
        match self.leader() {
            None => Err(ReadError::NotLeader { leader: None }),
            Some((replica, _)) if replica == self.replica => self.read_index().await,
            Some((_, node)) => {
                let (peers, id) = (self.peers.clone(), self.id);
                let deadline = self.settings.read_time();
                let group = Arc::downgrade(self);
                let ask = move || {
                    // A later round may find another leader.
                    let node = group
                        .upgrade()
                        .and_then(|group| group.leader())
                        .map_or(node, |(_, node)| node);
                    let peers = peers.clone();
                    async move {
                        match timeout(deadline, peers.read_index(node, id)).await {
                            Ok(answer) => answer,
                            Err(_) => Err(ReadError::Unconfirmed("no answer in time".to_owned())),
                        }
                    }
                };
                self.at_follower.join(&self.runtime, ask).await.unwrap_or(Err(ReadError::Stopped))
            }
        }
    }

    /// Waits for a change of leader, or a short while.
    async fn leader_news(&self) {
        let mut news = self.status.subscribe();
        news.mark_unchanged();
        let while_ms = Duration::from_millis(LEADER_NEWS_MS);
        if let Ok(Err(_)) = timeout(while_ms, news.changed()).await {
            tokio::time::sleep(while_ms).await;
        }
    }

    /// Publishes the status whenever leader, term, role or membership change;
    /// ends with the replica.
    pub(crate) async fn follow(group: std::sync::Weak<Self>) {
        let Some(mut news) = group.upgrade().map(|group| group.raft.server_metrics()) else {
            return;
        };
        while news.changed().await.is_ok() {
            let Some(group) = group.upgrade() else { return };
            group.status.send_replace(group.status());
        }
    }
}
