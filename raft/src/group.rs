//! A running replica of one group: proposals, reads and status.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::async_runtime::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::{Instant, timeout},
};

use crate::{
    admission::{Admission, Gate},
    batches::{Batch, Batches, Entrance, Opened},
    confirm::{Brisk, Confirmations},
    ids::{GroupId, ReplicaId},
    log::Glance,
    machine::{Machine, Position},
    office, pack,
    patience::Patience,
    propose::{ProposeError, Proposed},
    read::{ReadError, ReadIndexAnswer, Witnesses},
    replica::Progress,
    rest::Rest,
    rounds::Rounds,
    settings::Settings,
    status::{GroupStatus, Role},
    types::{Command, Raft},
};

/// How long a reader waits for news of a leader before it asks again anyway.
const LEADER_NEWS_MS: u64 = 100;

/// Proposals in one batch, at most.
const BATCH_MAX: usize = 256;

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
    proposals: Batches<Command, Result<Proposed, ProposeError>>,
    patience: Patience,
    pub(crate) log: Glance,
    pub(crate) rest: Arc<Rest>,
    pub(crate) peers: Arc<dyn Witnesses>,
    pub(crate) confirmations: Confirmations,
    rounds: Arc<Rounds<Result<ReadIndexAnswer, ReadError>>>,
}

/// What a [`Group`] is made of.
pub(crate) struct GroupParts {
    pub(crate) id: GroupId,
    pub(crate) replica: ReplicaId,
    pub(crate) raft: Raft,
    pub(crate) log: Glance,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) settings: Settings,
    pub(crate) released: oneshot::Receiver<()>,
    pub(crate) runtime: Handle,
    pub(crate) peers: Arc<dyn Witnesses>,
    pub(crate) brisk: Brisk,
}

impl Group {
    pub(crate) fn new(parts: GroupParts) -> Arc<Self> {
        let GroupParts {
            id,
            replica,
            raft,
            log,
            machine,
            progress,
            settings,
            released,
            runtime,
            peers,
            brisk,
        } = parts;
        let rest = Rest::new(&raft, &log, &progress, &settings, (id, replica));
        let linger = Duration::from_micros(settings.read_linger_us_max);
        let group = Self {
            id,
            replica,
            status: watch::Sender::new(GroupStatus::default()),
            released: Mutex::new(Some(released)),
            gate: Arc::new(Gate::new(settings.proposals_max, settings.proposal_bytes_max)),
            proposals: Batches::new(BATCH_MAX),
            patience: Patience::new(),
            confirmations: Confirmations::new(brisk),
            rounds: Arc::new(Rounds::new(linger)),
            raft,
            log,
            rest: Arc::new(rest),
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
        GroupStatus {
            resting: self.rest.is_resting(),
            ..GroupStatus::of(&metrics, self.progress.applied())
        }
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
        self: &Arc<Self>,
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
        let answered = timeout(self.settings.proposal_time(), self.agree(Command(payload)));
        answered.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Has a command agreed on, alone or in a batch.
    async fn agree(self: &Arc<Self>, command: Command) -> Result<Proposed, ProposeError> {
        match self.proposals.enter(command) {
            Entrance::Alone(command) => {
                // Also if the caller goes away: others wait for this to be done.
                let _done = Done(self);
                let started = Instant::now();
                let response = self.raft.client_write(command).await?;
                self.patience.took(started.elapsed());
                Ok(Proposed { position: Position::from(&response.log_id), answer: response.data.0 })
            }
            Entrance::Gathered { mut answer, opened, full } => {
                if let Some(batch) = full {
                    self.send(batch);
                }
                let told = match opened {
                    Some(opened) => match timeout(self.patience.gather(), &mut answer).await {
                        Ok(told) => told,
                        Err(_) => {
                            self.expire(opened);
                            answer.await
                        }
                    },
                    None => answer.await,
                };
                told.unwrap_or(Err(ProposeError::Unknown))
            }
        }
    }

    fn expire(self: &Arc<Self>, opened: Opened) {
        if let Some(batch) = self.proposals.expire(opened) {
            self.send(batch);
        }
    }

    /// Proposes batches, on a task of its own, as long as there are any.
    fn send(self: &Arc<Self>, batch: Batch<Command, Result<Proposed, ProposeError>>) {
        let group = self.clone();
        drop(self.runtime.spawn(async move {
            let mut next = Some(batch);
            while let Some(batch) = next {
                group.write(batch).await;
                next = group.proposals.done();
            }
        }));
    }

    /// Has a batch agreed on, and tells everybody.
    async fn write(&self, batch: Batch<Command, Result<Proposed, ProposeError>>) {
        // Who gave up waiting before the batch went is not proposed.
        let batch = batch.into_iter().filter(|(_, waiter)| !waiter.is_closed());
        let (commands, waiters): (Vec<_>, Vec<_>) = batch.unzip();
        if commands.is_empty() {
            return;
        }
        let (commands, shares) = pack::packed(self.machine.as_ref(), &self.settings, commands);
        // Without an answer they learn from the end of the channel that the outcome
        // is unknown.
        let started = Instant::now();
        let Ok(answers) = self.raft.client_write_many(commands).await else { return };
        let mut agreed = false;
        hand_out(answers, waiters, &shares, |answer, share| match answer {
            Some(Ok(Ok(written))) => {
                agreed = true;
                let position = Position::from(&written.log_id);
                let answers = match share {
                    1 => vec![written.response.0],
                    _ => self.machine.unpack(written.response.0),
                };
                answers.into_iter().map(|answer| Ok(Proposed { position, answer })).collect()
            }
            Some(Ok(Err(forward))) => vec![Err(ProposeError::from(forward)); share],
            Some(Err(_)) | None => vec![Err(ProposeError::Unknown); share],
        })
        .await;
        // Refusals are quick whatever the way is.
        if agreed {
            self.patience.took(started.elapsed());
        }
    }

    /// A read index confirmed by a quorum after the call; only at the leader.
    pub(crate) async fn read_index(self: &Arc<Self>) -> Result<ReadIndexAnswer, ReadError> {
        match self.followed() {
            Some(followed) if followed.leader == self.replica => self.confirmed().await,
            followed => Err(ReadError::NotLeader {
                leader: followed.and_then(|followed| self.node_of(followed.leader)),
            }),
        }
    }

    /// Joins the next round of confirmation.
    async fn confirmed(self: &Arc<Self>) -> Result<ReadIndexAnswer, ReadError> {
        let group = Arc::downgrade(self);
        let ask = move || {
            let group = group.upgrade();
            async move {
                let group = group.ok_or(ReadError::Stopped)?;
                match timeout(group.settings.read_time(), group.confirm()).await {
                    Ok(answer) => answer,
                    Err(_) => Err(ReadError::Unconfirmed("no answer in time".to_owned())),
                }
            }
        };
        self.rounds.join(&self.runtime, ask).await.unwrap_or(Err(ReadError::Stopped))
    }

    /// Waits until this replica may read linearizably: has a read index confirmed,
    /// and waits for the machine to reach it.
    pub(crate) async fn read_barrier(self: &Arc<Self>) -> Result<ReadIndexAnswer, ReadError> {
        let deadline = self.settings.read_time();
        let mut last = ReadError::Unconfirmed("no leader is known".to_owned());
        let asked = timeout(deadline, async {
            loop {
                match self.confirmed().await {
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
        tokio::select! {
            asked = asked => asked.unwrap_or(Err(last)),
            () = self.stopped() => Err(ReadError::Stopped),
        }
    }

    /// Waits until the replica stops. What waits for it to come further would wait in vain.
    pub(crate) async fn stopped(&self) {
        let mut status = self.status.subscribe();
        // It fails if it is gone, which is no different.
        drop(status.wait_for(|status| status.role == Role::Stopped).await);
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
        let Some((server, whole)) =
            group.upgrade().map(|group| (group.raft.server_metrics(), group.raft.metrics()))
        else {
            return;
        };
        office::follow(server, whole, |metrics| {
            let Some(group) = group.upgrade() else { return false };
            let status = GroupStatus::of(metrics, group.progress.applied());
            group.rest.wake();
            if group.status.borrow().term != status.term {
                group.patience.begin_term();
            }
            group.status.send_replace(status);
            true
        })
        .await;
    }
}

/// Something that was proposed alone is done when this is dropped.
struct Done<'a>(&'a Arc<Group>);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if let Some(batch) = self.0.proposals.done() {
            self.0.send(batch);
        }
    }
}

/// Tells each who waits its answer, in order: what `read` makes of the answer to each
/// entry is for the next so many of them, its share. It is given `None` for those for
/// whom the stream ends too early.
async fn hand_out<A, R>(
    answers: impl Stream<Item = A>,
    waiters: Vec<oneshot::Sender<R>>,
    shares: &[usize],
    mut read: impl FnMut(Option<A>, usize) -> Vec<R>,
) {
    // Where the group's core ends, openraft's stream does, and panics if asked again.
    let mut answers = pin!(answers.fuse());
    let mut waiters = waiters.into_iter();
    for share in shares {
        let told = read(answers.next().await, *share);
        // Should there be fewer, the others learn nothing.
        for (waiter, answer) in waiters.by_ref().take(*share).zip(told) {
            // Who gave up waiting has dropped the other end.
            drop(waiter.send(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    /// Found by simulation: a group whose core died with several proposals in one batch
    /// took its node along, for a release aborts on a panic.
    #[tokio::test]
    async fn answers_that_end_too_early_are_unknown_to_all_who_still_wait() {
        // As openraft's: one answer, and a stream that must not be asked after its end.
        let answers = stream::unfold(Some(7), |left| async move { left.map(|one| (one, None)) });
        let (waiters, told): (Vec<_>, Vec<_>) = (0..4).map(|_| oneshot::channel()).unzip();
        let shares = [1, 2, 1];
        hand_out(answers, waiters, &shares, |answer: Option<i32>, share| vec![answer; share]).await;
        let mut heard = Vec::new();
        for answer in told {
            heard.push(answer.await.unwrap());
        }
        assert_eq!(heard, [Some(7), None, None, None]);
    }
}
