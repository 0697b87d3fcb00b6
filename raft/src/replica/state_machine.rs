//! openraft's state machine over a [`Machine`]: entries are applied in chunks
//! on a blocking thread, waiters are answered after their chunk is applied,
//! and the copy that a snapshot consists of is taken between two chunks, not in
//! the task that openraft spawns for building (there, later entries could
//! already be in it).

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use cardea_storage::{
    Fault,
    planted::{self, Bug},
};
use futures::{Stream, StreamExt, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    alarm::Alarm,
    durations::Durations,
    encoding::{self, StoredMembershipRecord},
    machine::{Entry, Machine, Payload, Snapshot},
    replica::Progress,
    types::{
        Answer, LogId, RaftSnapshot, SnapshotData, SnapshotMeta, StoredMembership, TypeConfig,
    },
};

/// Entries applied in one call of the machine, at most.
const CHUNK_ENTRIES_MAX: usize = 256;

/// Whom a replica tells what happens to it.
#[derive(Clone)]
pub(crate) struct Reporter {
    /// Of faults.
    pub(crate) alarm: Arc<Alarm>,
    /// How long each chunk took to apply.
    pub(crate) applies: Arc<Durations>,
}

/// Gives openraft a [`Machine`].
pub struct StateMachine {
    machine: Arc<dyn Machine>,
    progress: Arc<Progress>,
    reporter: Reporter,
    /// Dropped with the adapter, which tells who waits for that.
    _release: oneshot::Sender<()>,
}

impl StateMachine {
    pub(crate) fn new(
        machine: Arc<dyn Machine>,
        progress: Arc<Progress>,
        reporter: Reporter,
        release: oneshot::Sender<()>,
    ) -> Self {
        Self { machine, progress, reporter, _release: release }
    }

    /// Runs `call` where blocking is allowed; a fault raises the alarm.
    async fn block<T, F>(&self, call: F) -> Result<T, io::Error>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Machine) -> Result<T, Fault> + Send + 'static,
    {
        let machine = self.machine.clone();
        let result = crate::blocking::spawn(move || call(machine.as_ref()))
            .await
            .map_err(io::Error::other)?;
        result.map_err(|fault| {
            self.reporter.alarm.raise(fault.clone());
            fault.into()
        })
    }

    async fn apply_chunk(&self, chunk: Vec<EntryResponder<TypeConfig>>) -> Result<(), io::Error> {
        let mut entries = Vec::with_capacity(chunk.len());
        let mut responders = Vec::with_capacity(chunk.len());
        let mut bytes = 0;
        for (entry, responder) in chunk {
            let payload = match entry.payload {
                EntryPayload::Blank => Payload::Blank,
                EntryPayload::Normal(command) => {
                    bytes += command.0.len() as u64;
                    Payload::Command(command.0)
                }
                EntryPayload::Membership(membership) => {
                    let stored = StoredMembership::new(Some(entry.log_id), membership);
                    Payload::Membership(encoding::encode(&StoredMembershipRecord::from(&stored)))
                }
            };
            entries.push(Entry { position: (&entry.log_id).into(), payload });
            responders.push(responder);
        }
        let Some(last) = entries.last().map(|entry| entry.position.index) else {
            return Ok(());
        };
        let count = entries.len();
        let applies = self.reporter.applies.clone();
        let answers = self
            .block(move |machine| {
                let started = Instant::now();
                let answers = machine.apply(entries);
                applies.add(started.elapsed());
                answers
            })
            .await?;
        if answers.len() != count {
            let fault = Fault::new(format!(
                "the machine gave {} answers to {count} entries",
                answers.len()
            ));
            self.reporter.alarm.raise(fault.clone());
            return Err(fault.into());
        }
        self.progress.count(last, count as u64, bytes);
        self.progress.advance(last);
        for (responder, answer) in responders.into_iter().zip(answers) {
            if let Some(responder) = responder {
                responder.send(Answer(answer));
            }
        }
        Ok(())
    }

    async fn copy(&self, required: bool) -> Result<Option<RaftSnapshot>, io::Error> {
        let snapshot = self
            .block(move |machine| match machine.begin_snapshot(required)? {
                Some(snapshot) => described(snapshot).map(Some),
                None if !required => Ok(None),
                // Where nothing was applied there is nothing to copy.
                None if machine.applied()?.position.is_none() => Ok(Some(nothing())),
                None => Err(Fault::new("a required snapshot was not made")),
            })
            .await?;
        if snapshot.is_some() {
            self.progress.snapshotted();
        }
        Ok(snapshot)
    }
}

/// The copy of a machine that has applied nothing; it cannot be installed.
fn nothing() -> RaftSnapshot {
    let files = SnapshotData { directory: PathBuf::new(), guard: None };
    RaftSnapshot { meta: SnapshotMeta::default(), snapshot: files }
}

/// Gives the copy of a machine openraft's form.
fn described(snapshot: Snapshot) -> Result<RaftSnapshot, Fault> {
    let Snapshot { position, membership, directory, guard } = snapshot;
    let membership =
        if planted::is(Bug::SnapshotWithoutMembership) { Bytes::new() } else { membership };
    let last_membership =
        encoding::decode::<StoredMembershipRecord>("membership of a snapshot", membership)?
            .try_into()?;
    Ok(RaftSnapshot {
        meta: SnapshotMeta { last_log_id: Some(position.into()), last_membership },
        snapshot: SnapshotData { directory, guard: Some(guard) },
    })
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let (position, membership) = self
            .block(|machine| {
                let applied = machine.applied()?;
                let membership = match applied.membership {
                    None => StoredMembership::default(),
                    Some(bytes) => {
                        encoding::decode::<StoredMembershipRecord>("applied membership", bytes)?
                            .try_into()?
                    }
                };
                Ok((applied.position, membership))
            })
            .await?;
        if let Some(position) = position {
            self.progress.advance(position.index);
        }
        Ok((position.map(LogId::from), membership))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.try_ready_chunks(CHUNK_ENTRIES_MAX);
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) => self.apply_chunk(chunk).await?,
                Err(error) => {
                    self.apply_chunk(error.0).await?;
                    return Err(error.1);
                }
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        let built = self.copy(force).await.transpose()?;
        Some(SnapshotBuilder { built: Some(built) })
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let built = self
            .copy(true)
            .await
            .and_then(|snapshot| snapshot.ok_or_else(|| io::Error::other("nothing to copy")));
        SnapshotBuilder { built: Some(built) }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let Some(last) = meta.last_log_id else {
            return Err(io::Error::other("a snapshot of nothing cannot be installed"));
        };
        let membership = encoding::encode(&StoredMembershipRecord::from(&meta.last_membership));
        self.block(move |machine| {
            // At start openraft installs a stored snapshot that is newer than the
            // machine. Ours never is: a copy is made of what is already durable.
            if machine.current_snapshot()?.is_some_and(|s| s.directory == snapshot.directory) {
                return Err(Fault::new("the machine is older than its own snapshot"));
            }
            machine.install(snapshot.take_over(), (&last).into(), membership)
        })
        .await?;
        self.progress.snapshotted();
        self.progress.advance(last.index);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        self.block(|machine| machine.current_snapshot()?.map(described).transpose()).await
    }
}

/// Hands openraft the copy that was taken when the builder was made.
pub struct SnapshotBuilder {
    built: Option<Result<RaftSnapshot, io::Error>>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        self.built.take().unwrap_or_else(|| Err(io::Error::other("the copy was taken already")))
    }
}
