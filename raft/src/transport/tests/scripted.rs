//! The called side, played by a test.

use std::pin::Pin;

use cardea_storage::Fault;
use futures::{Stream, stream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::{
    transport::{
        proto::{
            self,
            raft_server::{Raft, RaftServer},
        },
        reception,
    },
    types::SnapshotData,
};

/// How the other node behaves.
pub(super) struct Script {
    /// Appends that it reads before it answers the first.
    pub(super) hoard: usize,
    /// Appends that it answers; then it stalls.
    pub(super) answers: usize,
    /// Appends that it says yes to; its log does not hold what the others go on from.
    pub(super) holds: usize,
    /// What each stream of appends began by telling it that it lost: an index.
    pub(super) told_lost: Mutex<Vec<Option<u64>>>,
    /// Added to the sequence of each answer.
    pub(super) skew: u64,
    /// Whether it answers heartbeats.
    pub(super) beats: bool,
    /// Where it receives snapshots.
    pub(super) disk: MemoryDisk,
    /// The snapshots it received.
    pub(super) received: Mutex<Vec<SnapshotData>>,
    /// The bytes that each snapshot was said to have.
    pub(super) told_bytes: Mutex<Vec<u64>>,
    /// Milliseconds it waits for a piece.
    pub(super) chunk_ms_max: u64,
    /// Streams of heartbeats so far, and heartbeats in each message.
    pub(super) seen_beats: Mutex<(usize, Vec<usize>)>,
    /// Appends read so far.
    pub(super) appended: watch::Sender<usize>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            hoard: 1,
            answers: usize::MAX,
            holds: usize::MAX,
            told_lost: Mutex::default(),
            skew: 0,
            beats: true,
            disk: MemoryDisk::new(2),
            received: Mutex::default(),
            told_bytes: Mutex::default(),
            chunk_ms_max: 5_000,
            seen_beats: Mutex::default(),
            appended: watch::Sender::new(0),
        }
    }
}

/// Where a scripted node receives.
pub(super) const RECEIVED: &str = "/there/incoming";

pub(super) struct Scripted(pub(super) Arc<Script>);

impl Scripted {
    pub(super) fn routes(script: &Arc<Script>) -> Routes {
        Routes::new(
            RaftServer::new(Self(script.clone()))
                .max_decoding_message_size(super::super::MESSAGE_BYTES_MAX),
        )
    }
}

fn success(sequence: u64) -> proto::AppendResponse {
    let matched = Some(proto::Position { term: 1, replica: 11, index: sequence });
    let outcome = proto::append_response::Outcome::Success(proto::Matched { matched });
    proto::AppendResponse { sequence, outcome: Some(outcome) }
}

fn conflict(sequence: u64, at: proto::Position) -> proto::AppendResponse {
    let outcome = proto::append_response::Outcome::Conflict(at);
    proto::AppendResponse { sequence, outcome: Some(outcome) }
}

#[tonic::async_trait]
impl Raft for Scripted {
    type AppendStream = ReceiverStream<Result<proto::AppendResponse, Status>>;
    type BeatStream = Pin<Box<dyn Stream<Item = Result<proto::BeatResponse, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let script = self.0.clone();
        let (answers, outgoing) = mpsc::channel(64);
        tokio::spawn(async move {
            let mut incoming = request.into_inner();
            let (mut hoarded, mut answered, mut full) = (Vec::new(), 0, false);
            while let Ok(Some(message)) = incoming.message().await {
                if message.route.is_some() {
                    script.told_lost.lock().push(message.lost.map(|lost| lost.index));
                }
                script.appended.send_modify(|appended| *appended += 1);
                let sequence = message.sequence + script.skew;
                hoarded.push(match message.previous {
                    Some(at) if *script.appended.borrow() > script.holds => conflict(sequence, at),
                    _ => success(sequence),
                });
                full |= hoarded.len() >= script.hoard;
                if full {
                    for answer in hoarded.drain(..) {
                        if answered == script.answers {
                            std::future::pending::<()>().await;
                        }
                        answered += 1;
                        let _ = answers.send(Ok(answer)).await;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn beat(
        &self,
        request: Request<Streaming<proto::BeatRequest>>,
    ) -> Result<Response<Self::BeatStream>, Status> {
        let script = self.0.clone();
        script.seen_beats.lock().0 += 1;
        let answers =
            stream::unfold((request.into_inner(), script), |(mut incoming, script)| async {
                loop {
                    let message = incoming.message().await.ok()??;
                    script.seen_beats.lock().1.push(message.beats.len());
                    if !script.beats {
                        continue;
                    }
                    let answer = |beat: proto::Beat| proto::BeatAnswer {
                        sequence: beat.sequence,
                        outcome: Some(proto::beat_answer::Outcome::Success(proto::Matched {
                            matched: beat.previous,
                        })),
                    };
                    let answers = message.beats.into_iter().map(answer).collect();
                    return Some((
                        Ok(proto::BeatResponse { answers, ..Default::default() }),
                        (incoming, script),
                    ));
                }
            });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(
        &self,
        _: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteResponse>, Status> {
        std::future::pending().await
    }

    async fn pre_vote(
        &self,
        _: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteResponse>, Status> {
        std::future::pending().await
    }

    async fn transfer_leader(
        &self,
        _: Request<proto::TransferLeaderRequest>,
    ) -> Result<Response<proto::TransferLeaderResponse>, Status> {
        std::future::pending().await
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<proto::SnapshotChunk>>,
    ) -> Result<Response<proto::SnapshotResponse>, Status> {
        let script = self.0.clone();
        let receiving = tokio::spawn(async move {
            let mut incoming = request.into_inner();
            let begin = incoming.message().await?;
            let disk: Arc<dyn Disk> = Arc::new(script.disk.clone());
            let chunk_max = Duration::from_millis(script.chunk_ms_max);
            let fresh = script.disk.clone();
            let make = move || -> Result<_, Fault> {
                fresh.create_directory(RECEIVED.as_ref())?;
                Ok(RECEIVED.into())
            };
            let received = reception::receive(&mut incoming, disk, make, chunk_max).await?;
            script.received.lock().push(received);
            let Some(proto::SnapshotChunk {
                chunk: Some(proto::snapshot_chunk::Chunk::Begin(begin)),
            }) = begin
            else {
                return Err(Status::internal("no begin"));
            };
            script.told_bytes.lock().push(begin.bytes);
            Ok(proto::SnapshotResponse { vote: begin.vote })
        });
        receiving.await.unwrap().map(Response::new)
    }
}
