//! Heartbeats of all groups to one node, and the questions of readers, over one
//! stream.
//!
//! A task per node takes them from a queue, puts into one message what has come
//! together, and hands answers out by sequence. It connects when there
//! is something to send, and gives the connection up when nothing at all was
//! answered for a while.
//!
//! While a question is under way, others gather and go together when it is answered,
//! or when the first of them has waited for a moment: a message costs both nodes far
//! more than a question in it. Heartbeats wait for nothing, and take with them what
//! has gathered.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use openraft::{
    errors::{RPCError, Unreachable},
    raft::{AppendEntriesRequest, StreamAppendResult},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    channels::{Channels, Purpose},
    client::{describe, raft_client},
    proto,
    refusal::Refusal,
    wire::{self, Route},
};
use crate::{
    ids::{ClusterId, NodeId},
    pulse::{Assents, Pulse},
    read::{Question, Testimony},
    types::TypeConfig,
};

/// Heartbeats that wait to be sent to one node; more are refused.
const QUEUE: usize = 4_096;
/// Heartbeats in one message.
const BATCH: usize = 512;
/// Messages under way to the connection.
const MESSAGES: usize = 16;
/// How long questions gather while another is under way, at most. Over a long way
/// several are under way at a time.
const GATHER: Duration = Duration::from_micros(500);
/// How often it is said, at most, that answers come too late.
const LATE_TOLD_EVERY: Duration = Duration::from_secs(60);

type Outcome = Result<StreamAppendResult<TypeConfig>, String>;
type Told = Result<Testimony, String>;

/// What waits to be sent.
enum Item {
    Heartbeat {
        route: Route,
        request: AppendEntriesRequest<TypeConfig>,
        answer: oneshot::Sender<Outcome>,
    },
    Question {
        question: Question,
        answer: oneshot::Sender<Told>,
    },
    /// Nobody waits for what comes back.
    Pulse(Route, Pulse),
}

impl Item {
    /// Whether whoever asked gave up.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Heartbeat { answer, .. } => answer.is_closed(),
            Self::Question { answer, .. } => answer.is_closed(),
            Self::Pulse(..) => false,
        }
    }
}

/// Heartbeats to one node.
#[derive(Clone)]
pub(super) struct Beats {
    queue: mpsc::Sender<Item>,
}

impl Beats {
    /// Starts the task that sends them; it ends with the last clone.
    pub(super) fn start(
        channels: Arc<Channels>,
        cluster: ClusterId,
        from: NodeId,
        to: NodeId,
        silence_max: Duration,
        assents: Assents,
    ) -> Self {
        let (queue, items) = mpsc::channel(QUEUE);
        let gathered = Gathered::default();
        let pump = Pump {
            channels,
            cluster,
            from,
            to,
            silence_max,
            assents,
            sequence: 0,
            items,
            next: None,
            gathered,
            late: Late::default(),
        };
        tokio::spawn(pump.run());
        Self { queue }
    }

    /// Sends one, and waits at most `deadline` for its answer.
    pub(super) async fn send(
        &self,
        route: Route,
        request: AppendEntriesRequest<TypeConfig>,
        deadline: Duration,
    ) -> Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>> {
        let unreachable = |what: String| RPCError::Unreachable(Unreachable::from_string(what));
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Item::Heartbeat { route, request, answer })
            .map_err(|_| unreachable("too many heartbeats wait".to_owned()))?;
        match timeout(deadline, answered).await {
            Ok(Ok(outcome)) => outcome.map_err(unreachable),
            Ok(Err(_)) => Err(unreachable("the connection was lost".to_owned())),
            Err(_) => Err(unreachable(format!("no heartbeat answered within {deadline:?}"))),
        }
    }

    /// Sends a pulse; if too much waits already, it is lost.
    pub(super) fn pulse(&self, route: Route, pulse: Pulse) {
        drop(self.queue.try_send(Item::Pulse(route, pulse)));
    }

    /// Asks a question, and waits at most `deadline` for its answer.
    pub(super) async fn ask(&self, question: Question, deadline: Duration) -> Told {
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Item::Question { question, answer })
            .map_err(|_| "too many questions wait".to_owned())?;
        match timeout(deadline, answered).await {
            Ok(Ok(told)) => told,
            Ok(Err(_)) => Err("the connection was lost".to_owned()),
            Err(_) => Err(format!("no answer within {deadline:?}")),
        }
    }
}

/// Who waits for an answer.
enum Waiter {
    Heartbeat(oneshot::Sender<Outcome>),
    Question(oneshot::Sender<Told>),
    Pulse(Pulse),
}

impl Waiter {
    /// Tells that there will be no answer.
    fn fail(self, reason: String) {
        // Who gave up waiting has dropped the other end.
        match self {
            Self::Heartbeat(answer) => drop(answer.send(Err(reason))),
            Self::Question(answer) => drop(answer.send(Err(reason))),
            // A yes ends by itself.
            Self::Pulse(_) => {}
        }
    }
}

struct Waiting {
    sent: Instant,
    waiter: Waiter,
}

struct Pump {
    channels: Arc<Channels>,
    cluster: ClusterId,
    from: NodeId,
    to: NodeId,
    silence_max: Duration,
    assents: Assents,
    sequence: u64,
    items: mpsc::Receiver<Item>,
    /// Goes as soon as the connection takes a message.
    next: Option<Item>,
    gathered: Gathered,
    late: Late,
}

/// Answers in a row that nobody waited for any more.
#[derive(Default)]
struct Late {
    in_a_row: u32,
    told: Option<Instant>,
}

impl Late {
    /// Takes an answer in; whether to say that they come too late. A few may be due to
    /// a pause.
    fn is_to_be_told(&mut self, is_late: bool, now: Instant) -> bool {
        const IN_A_ROW: u32 = 5;
        self.in_a_row = if is_late { self.in_a_row.saturating_add(1) } else { 0 };
        let is_new = self.told.is_none_or(|told| now.duration_since(told) >= LATE_TOLD_EVERY);
        let is_told = self.in_a_row >= IN_A_ROW && is_new;
        if is_told {
            self.told = Some(now);
        }
        is_told
    }
}

/// Questions that wait for one under way.
#[derive(Default)]
struct Gathered {
    items: Vec<Item>,
    /// When they go even so.
    until: Option<Instant>,
    /// The last question that was sent, until it is answered.
    under_way: Option<u64>,
}

impl Gathered {
    /// Takes an item in, if it is to wait.
    fn keep(&mut self, item: Item) -> Option<Item> {
        if self.under_way.is_none() || !matches!(item, Item::Question { .. }) {
            return Some(item);
        }
        if self.items.is_empty() {
            self.until = Some(Instant::now() + GATHER);
        }
        self.items.push(item);
        None
    }

    /// What goes now.
    fn take(&mut self) -> Vec<Item> {
        self.until = None;
        std::mem::take(&mut self.items)
    }

    /// An answer came: it may be the one that is waited for.
    fn answered(&mut self, sequence: u64) {
        if self.under_way.is_some_and(|last| last <= sequence) {
            self.under_way = None;
        }
    }
}

impl Pump {
    async fn run(mut self) {
        while let Some(item) = self.items.recv().await {
            if let Err(reason) = self.session(item).await {
                tracing::debug!(node = %self.to, %reason, "heartbeats find no way");
            }
            // Who waited for the connection that ended is told so by this.
            (self.next, self.gathered) = (None, Gathered::default());
        }
    }

    /// From a first item until the connection fails. Whoever waits when it
    /// returns is told by the end of its `answer`.
    async fn session(&mut self, first: Item) -> Result<(), String> {
        let line = self.channels.line(self.to, Purpose::Liveness);
        let (messages, outgoing) = mpsc::channel(MESSAGES);
        let mut waiting = BTreeMap::new();
        let mut message = self.batch(first, &mut waiting);
        message.caller = Some(wire::caller(self.cluster, self.from, self.to));
        messages.send(message).await.map_err(|error| error.to_string())?;

        let mut client = raft_client(&line);
        let call = client.beat(ReceiverStream::new(outgoing));
        let mut answers = match timeout(self.silence_max, call).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return self.fail(waiting, describe(&status)),
            Err(_) => {
                self.channels.unheard(self.to, Purpose::Liveness, &line, self.silence_max);
                return self.fail(waiting, "not connected in time".to_owned());
            }
        };
        let mut heard = Instant::now();
        loop {
            let heard_until = waiting
                .first_key_value()
                .map(|(_, oldest): (_, &Waiting)| oldest.sent + self.silence_max);
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(message)) => {
                        self.channels.heard(&line);
                        heard = Instant::now();
                        for answer in message.answers {
                            self.answered(answer, &mut waiting);
                        }
                        for testimony in message.testimonies {
                            self.gathered.answered(testimony.sequence);
                            testified(testimony, &mut waiting);
                        }
                    }
                    Ok(None) => return self.fail(waiting, "the node ended the stream".to_owned()),
                    Err(status) => return self.fail(waiting, describe(&status)),
                },
                permit = messages.reserve(), if self.has_work() => {
                    let Ok(permit) = permit else {
                        return self.fail(waiting, "the stream is closed".to_owned());
                    };
                    if let Some(message) = self.next_message(&mut waiting) {
                        permit.send(message);
                    }
                }
                item = self.items.recv(), if !self.has_work() => {
                    let Some(item) = item else { return Ok(()) };
                    self.next = self.gathered.keep(item);
                }
                () = sleep_until(self.gathered.until.unwrap_or_else(Instant::now)),
                    if self.gathered.until.is_some() =>
                {
                    self.gathered.under_way = None;
                    self.gathered.until = None;
                }
                () = sleep_until(heard_until.unwrap_or_else(Instant::now)),
                    if heard_until.is_some() =>
                {
                    // One replica may hang while the node answers for others.
                    match waiting.pop_first() {
                        Some((_, oldest)) if oldest.sent < heard => {}
                        _ => {
                            let silence_max = self.silence_max;
                            self.channels.unheard(self.to, Purpose::Liveness, &line, silence_max);
                            return self.fail(waiting, "the node fell silent".to_owned());
                        }
                    }
                }
            }
        }
    }

    /// Whether something is there that may wait no longer, or may have to wait.
    fn has_work(&self) -> bool {
        let ripe = self.gathered.under_way.is_none() && !self.gathered.items.is_empty();
        ripe || self.next.is_some() || !self.items.is_empty()
    }

    /// A message of what has gathered or waits in the queue, unless that is only
    /// questions while one is under way.
    fn next_message(&mut self, waiting: &mut BTreeMap<u64, Waiting>) -> Option<proto::BeatRequest> {
        if let Some(first) = self.next.take() {
            return Some(self.batch(first, waiting));
        }
        if self.gathered.under_way.is_none()
            && let Some(first) = self.gathered.items.pop()
        {
            return Some(self.batch(first, waiting));
        }
        while let Ok(item) = self.items.try_recv() {
            if let Some(item) = self.gathered.keep(item) {
                return Some(self.batch(item, waiting));
            }
        }
        None
    }

    /// A message of `first`, what has gathered and what else waits in the queue. What
    /// nobody waits for any more is left out.
    fn batch(&mut self, first: Item, waiting: &mut BTreeMap<u64, Waiting>) -> proto::BeatRequest {
        let sent = Instant::now();
        let mut message = proto::BeatRequest::default();
        let mut gathered = self.gathered.take().into_iter();
        let mut next = Some(first);
        while let Some(item) = next {
            if !item.is_given_up() {
                self.sequence += 1;
                let waiter = match item {
                    Item::Heartbeat { route, request, answer } => {
                        message.beats.push(wire::beat(self.sequence, route, &request));
                        Waiter::Heartbeat(answer)
                    }
                    Item::Question { question, answer } => {
                        message.questions.push(wire::question(self.sequence, &question));
                        self.gathered.under_way = Some(self.sequence);
                        Waiter::Question(answer)
                    }
                    Item::Pulse(route, pulse) => {
                        message.beats.push(wire::beat(self.sequence, route, &pulse.beat()));
                        Waiter::Pulse(pulse)
                    }
                };
                waiting.insert(self.sequence, Waiting { sent, waiter });
            }
            next = gathered.next();
            if next.is_none() && message.beats.len() + message.questions.len() < BATCH {
                next = self.items.try_recv().ok();
            }
        }
        message
    }

    fn answered(&mut self, answer: proto::BeatAnswer, waiting: &mut BTreeMap<u64, Waiting>) {
        let Some(Waiting { sent, waiter }) = waiting.remove(&answer.sequence) else {
            return;
        };
        let now = Instant::now();
        let outcome = match wire::beat_result(answer.outcome) {
            Ok(Ok(result)) => {
                self.channels.measured(self.to, now.duration_since(sent));
                Ok(result)
            }
            Ok(Err(number)) => Err(refused(number)),
            Err(status) => Err(status.message().to_owned()),
        };
        match waiter {
            Waiter::Heartbeat(waiter) => {
                if outcome.is_ok() && self.late.is_to_be_told(waiter.is_closed(), now) {
                    tracing::warn!(
                        node = %self.to,
                        round_trip = ?now.duration_since(sent),
                        "heartbeats are answered too late to count: the way is longer than \
                         raft.heartbeat allows"
                    );
                }
                // Who gave up waiting has dropped the other end.
                let _ = waiter.send(outcome);
            }
            Waiter::Pulse(pulse) => {
                let is_yes = matches!(outcome, Ok(Ok(_)));
                self.assents.answered(&pulse, sent, is_yes);
            }
            Waiter::Question(_) => waiter.fail("an answer to something else".to_owned()),
        }
    }

    fn fail(&self, waiting: BTreeMap<u64, Waiting>, reason: String) -> Result<(), String> {
        for waiter in waiting.into_values() {
            waiter.waiter.fail(reason.clone());
        }
        Err(reason)
    }
}

fn testified(testimony: proto::Testimony, waiting: &mut BTreeMap<u64, Waiting>) {
    let Some(Waiting { waiter, .. }) = waiting.remove(&testimony.sequence) else { return };
    let Waiter::Question(waiter) = waiter else {
        return waiter.fail("an answer to something else".to_owned());
    };
    let told = match wire::told(testimony.outcome) {
        Ok(Ok(told)) => Ok(told),
        Ok(Err(number)) => Err(refused(number)),
        Err(status) => Err(status.message().to_owned()),
    };
    // Who gave up waiting has dropped the other end.
    drop(waiter.send(told));
}

fn refused(number: u32) -> String {
    match Refusal::from_number(number) {
        Some(refusal) => format!("refused: {refusal}"),
        None => format!("refused for an unknown reason {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_come_too_late_are_told_once_a_minute() {
        let (mut late, begun) = (Late::default(), Instant::now());
        let mut tell =
            |is_late, second| late.is_to_be_told(is_late, begun + Duration::from_secs(second));
        assert_eq!([true; 5].map(|is_late| tell(is_late, 0)), [false, false, false, false, true]);
        assert!(!tell(true, 59));
        assert!(tell(true, 60));
        // One in time, and it is a pause until more are missed.
        assert!(!tell(false, 130));
        assert!(!tell(true, 131));
    }
}
