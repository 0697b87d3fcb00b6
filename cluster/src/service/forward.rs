//! Proposals to another node, over one stream.
//!
//! A call for each proposal costs both nodes more than agreeing on it does. So a task
//! per node takes proposals from a queue, puts into one message what has come
//! together, and hands answers out by sequence as they come, several to a message.
//!
//! What is known of a proposal whose stream broke: nothing, unless the stream was
//! never opened. A node checks who calls before it takes anything from a stream, so a
//! refusal to open it proves that nothing was proposed; so does a connection that was
//! never made.
//!
//! A node of an older version has no such stream: its proposals go call by call.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use cardea_raft::{
    ClusterId, GroupId, NodeId,
    transport::{Channels, Purpose},
};
use cardea_storage::protocol::shards::{Admission, Terms};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::{
    client::{answer_of, certainly_nothing, over},
    proto,
};
use crate::shards::propose::Answer;

/// Proposals that wait to be sent to one node; more are refused.
const QUEUE: usize = 8_192;
/// Proposals in one message, and their bytes, about.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
/// Messages under way to the connection.
const MESSAGES: usize = 16;
/// How long the opening of a stream may take.
const OPEN_MAX: Duration = Duration::from_secs(2);

/// What became of a proposal that was handed in.
#[derive(Debug)]
pub(super) enum Forwarded {
    /// The node's answer, or what is known without one.
    Answered(Answer),
    /// The node is of an older version, and nothing was proposed.
    Unsupported,
}

struct Item {
    group: GroupId,
    command: Bytes,
    terms: Terms,
    answer: oneshot::Sender<Forwarded>,
}

/// The streams of proposals to other nodes.
#[derive(Default)]
pub(crate) struct Forwarders {
    queues: Mutex<BTreeMap<NodeId, mpsc::Sender<Item>>>,
}

/// From whom, to whom, over what.
pub(super) struct Way<'a> {
    pub(super) channels: &'a Arc<Channels>,
    pub(super) cluster: ClusterId,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
}

impl Forwarders {
    /// Has a node propose; `None` without an answer in time.
    pub(super) async fn propose(
        &self,
        way: Way<'_>,
        group: GroupId,
        command: Bytes,
        terms: Terms,
        patience: Duration,
    ) -> Option<Forwarded> {
        let (answer, answered) = oneshot::channel();
        if self.queue(way).try_send(Item { group, command, terms, answer }).is_err() {
            let reason = "too many proposals wait for the leader's node".to_owned();
            return Some(Forwarded::Answered(Answer::Unavailable(reason)));
        }
        match timeout(patience, answered).await {
            Ok(Ok(forwarded)) => Some(forwarded),
            // The stream broke, or there was no answer in time.
            Ok(Err(_)) | Err(_) => None,
        }
    }

    fn queue(&self, way: Way<'_>) -> mpsc::Sender<Item> {
        let mut queues = self.queues.lock();
        let start = || {
            let (queue, items) = mpsc::channel(QUEUE);
            let Way { channels, cluster, from, to } = way;
            let pump = Pump { channels: channels.clone(), cluster, from, to, sequence: 0, items };
            tokio::spawn(pump.run());
            queue
        };
        queues.entry(way.to).or_insert_with(start).clone()
    }
}

type Waiting = BTreeMap<u64, oneshot::Sender<Forwarded>>;

struct Pump {
    channels: Arc<Channels>,
    cluster: ClusterId,
    from: NodeId,
    to: NodeId,
    sequence: u64,
    items: mpsc::Receiver<Item>,
}

impl Pump {
    async fn run(mut self) {
        while let Some(item) = self.items.recv().await {
            if let Err(reason) = self.session(item).await {
                tracing::debug!(node = %self.to, %reason, "a stream of proposals ended");
            }
        }
    }

    /// From a first proposal until the stream breaks. Whoever waits when it returns
    /// is told by the end of its `answer`.
    async fn session(&mut self, first: Item) -> Result<(), String> {
        let (messages, outgoing) = mpsc::channel(MESSAGES);
        let mut waiting = Waiting::new();
        let mut message = self.batch(first, &mut waiting);
        message.caller = Some(proto::Caller {
            cluster: Bytes::copy_from_slice(&self.cluster.0),
            from_node: self.from.0,
            to_node: self.to.0,
        });
        messages.send(message).await.map_err(|error| error.to_string())?;
        let mut client = over(self.channels.channel(self.to, Purpose::Cluster));
        let call = client.propose_many(ReceiverStream::new(outgoing));
        let mut answers = match timeout(OPEN_MAX, call).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                if status.code() == Code::Unimplemented {
                    tell_all(waiting, || Forwarded::Unsupported);
                } else if certainly_nothing(&status) {
                    let reason = format!("{} was not reached: {}", self.to, status.message());
                    tell_all(waiting, || Forwarded::Answered(Answer::Unreached(reason.clone())));
                }
                return Err(status.message().to_owned());
            }
            Err(_) => return Err("not opened in time".to_owned()),
        };
        loop {
            tokio::select! {
                message = answers.message() => match message {
                    Ok(Some(message)) => {
                        for answer in message.answers {
                            if let Some(waiter) = waiting.remove(&answer.sequence) {
                                // Who gave up waiting has dropped the other end.
                                drop(waiter.send(Forwarded::Answered(answer_of(answer.response))));
                            }
                        }
                    }
                    Ok(None) => return Err("the node ended the stream".to_owned()),
                    Err(status) => return Err(status.message().to_owned()),
                },
                permit = messages.reserve(), if !self.items.is_empty() => {
                    let Ok(permit) = permit else { return Err("the stream is closed".to_owned()) };
                    if let Ok(item) = self.items.try_recv() {
                        permit.send(self.batch(item, &mut waiting));
                    }
                }
                item = self.items.recv(), if self.items.is_empty() => {
                    let Some(item) = item else { return Ok(()) };
                    let message = self.batch(item, &mut waiting);
                    if messages.send(message).await.is_err() {
                        return Err("the stream is closed".to_owned());
                    }
                }
            }
        }
    }

    /// A message of `first` and what else waits in the queue. What nobody waits for
    /// any more is left out: it was not proposed.
    fn batch(&mut self, first: Item, waiting: &mut Waiting) -> proto::ProposeBatch {
        let mut message = proto::ProposeBatch::default();
        let (mut bytes, mut next) = (0, Some(first));
        while let Some(Item { group, command, terms, answer }) = next {
            if !answer.is_closed() {
                self.sequence += 1;
                bytes += command.len();
                let (sequence, group) = (self.sequence, group.0);
                let bypass = terms.admission == Admission::Bypass;
                let claimant = terms.claimant;
                message.proposals.push(proto::Proposal {
                    sequence,
                    group,
                    command,
                    bypass,
                    claimant,
                });
                waiting.insert(sequence, answer);
            }
            if message.proposals.len() >= BATCH || bytes >= BATCH_BYTES {
                break;
            }
            next = self.items.try_recv().ok();
        }
        message
    }
}

fn tell_all(waiting: Waiting, what: impl Fn() -> Forwarded) {
    for waiter in waiting.into_values() {
        // Who gave up waiting has dropped the other end.
        drop(waiter.send(what()));
    }
}
