//! The pipelined stream of appends to one replica.
//!
//! Requests are numbered as they are sent and answered in order. An append that
//! is too large goes as several requests and is answered by the last of them.
//! The oldest request without an answer has a deadline.
//!
//! A leader tells a follower of every commit, by an append without entries if it has
//! none. While batches follow each other closely such an append waits a moment for the
//! next one with entries, which says the same and more, and goes in its place: openraft
//! takes the answer to an append for that to all before it.
//!
//! Dropping the stream of answers takes the input away from the transport at
//! once, for openraft reads it again in the next stream.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use openraft::{
    base::BoxStream,
    errors::{RPCError, Unreachable},
    raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult},
};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use tonic::Streaming;

use super::{
    channels::{Channels, Line, Purpose},
    client::{raft_client, unreachable},
    confirmed::Account,
    proto,
    wire::{self, Route},
};
use crate::{
    encoding::entry_len,
    types::{LogEntry, TypeConfig, Vote},
};

/// How long an append without entries waits for one with entries, at most.
const HOLD: Duration = Duration::from_millis(2);
/// How long a call is not made again that was refused while there was nothing to send.
pub(super) const PAUSE: Duration = Duration::from_millis(25);
/// The longest time between the two that is remembered.
const APART_MAX: Duration = Duration::from_millis(20);

/// What openraft gets for each request.
pub(super) type Answer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Opens a stream that sends `input`, on the account of the replica at its other end.
pub(super) async fn open<S>(
    channels: Arc<Channels>,
    (route, account): (Route, Account),
    input: S,
    bytes_max: usize,
    deadline: Duration,
) -> Result<BoxStream<'static, Answer>, RPCError<TypeConfig>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let line = channels.line(route.to.0, Purpose::Replication);
    let exchange = Arc::new(Mutex::new(Exchange {
        input: Some(input),
        parts: VecDeque::new(),
        outstanding: VecDeque::new(),
        sequence: 0,
    }));
    // From here on the input is taken back whenever this future is dropped.
    let guard = TakeBack(exchange.clone());
    let start = Some((route, account.clone()));
    let requests = Requests { exchange, start, bytes_max, lull: Lull::default() };
    let call = timeout(deadline, raft_client(&line).append(requests)).await;
    let answers = match call {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => {
            // openraft waits after failures where its input is asked for a request. A
            // call that was refused before anybody asked would be made again at once,
            // by every replica that has something to send to a dead node.
            // Nor is it waited where there is none, because openraft has something else
            // to send by now: that, too, would be refused at once, and so on.
            if let Some(mut untouched) = guard.untouched()
                && untouched.next().await.is_none()
            {
                tokio::time::sleep(PAUSE).await;
            }
            return Err(unreachable(&status));
        }
        Err(_) => {
            channels.unheard(route.to.0, Purpose::Replication, &line, deadline);
            return Err(late(deadline));
        }
    };
    let session = Session { channels, route, account, line, answers, guard, deadline };
    Ok(stream::unfold(Some(session), |session| async move {
        let mut session = session?;
        match session.next().await {
            // Nothing may follow an error.
            Some(answer) => {
                let go_on = matches!(answer, Ok(Ok(_)));
                Some((answer, go_on.then_some(session)))
            }
            None => None,
        }
    })
    .boxed())
}

fn late(deadline: Duration) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(format!("no answer within {deadline:?}")))
}

/// Shared by the two directions of a stream.
struct Exchange<S> {
    input: Option<S>,
    parts: VecDeque<(AppendEntriesRequest<TypeConfig>, Part)>,
    outstanding: VecDeque<Outstanding>,
    sequence: u64,
}

#[derive(Clone, Copy)]
struct Part {
    first: bool,
    last: bool,
}

struct Outstanding {
    sequence: u64,
    vote: Vote,
    sent: Instant,
    part: Part,
}

struct TakeBack<S>(Arc<Mutex<Exchange<S>>>);

impl<S> TakeBack<S> {
    /// The input, if nothing was sent of it.
    fn untouched(&self) -> Option<S> {
        let mut exchange = self.0.lock();
        if exchange.sequence == 0 { exchange.input.take() } else { None }
    }
}

impl<S> Drop for TakeBack<S> {
    fn drop(&mut self) {
        let taken = {
            let mut exchange = self.0.lock();
            exchange.parts.clear();
            exchange.input.take()
        };
        drop(taken);
    }
}

/// The direction to the replica.
struct Requests<S> {
    exchange: Arc<Mutex<Exchange<S>>>,
    /// Until the first request is sent.
    start: Option<(Route, Account)>,
    bytes_max: usize,
    lull: Lull,
}

/// The time from an append without entries to the next one with some.
struct Lull {
    /// Smoothed.
    apart: Duration,
    /// When the last append came that had none, and none with entries since.
    since: Option<Instant>,
    held: Option<AppendEntriesRequest<TypeConfig>>,
    alarm: Pin<Box<Sleep>>,
}

impl Default for Lull {
    fn default() -> Self {
        let alarm = Box::pin(sleep_until(Instant::now()));
        Self { apart: APART_MAX, since: None, held: None, alarm }
    }
}

impl Lull {
    /// Takes an append; gives back what is to be sent now, in order.
    fn pass(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        is_first: bool,
    ) -> [Option<AppendEntriesRequest<TypeConfig>>; 2] {
        let now = Instant::now();
        let held = self.held.take();
        if request.entries.is_empty() {
            self.since.get_or_insert(now);
            // Of two that say the same the newer one is enough.
            let older = held.filter(|held| !continues(held, &request));
            if is_first || self.apart > HOLD {
                return [older, Some(request)];
            }
            self.alarm.as_mut().reset(now + HOLD);
            self.held = Some(request);
            return [older, None];
        }
        if let Some(since) = self.since.take() {
            self.note(now - since);
        }
        [held.filter(|held| !continues(held, &request)), Some(request)]
    }

    /// What was held long enough.
    fn expired(&mut self, cx: &mut Context<'_>) -> Option<AppendEntriesRequest<TypeConfig>> {
        if self.held.is_none() || self.alarm.as_mut().poll(cx).is_pending() {
            return None;
        }
        self.since = None;
        self.note(APART_MAX);
        self.held.take()
    }

    fn note(&mut self, apart: Duration) {
        self.apart = self.apart * 3 / 4 + apart.min(APART_MAX) / 4;
    }
}

/// Whether `next` says all that `request`, which has no entries, says.
fn continues(
    request: &AppendEntriesRequest<TypeConfig>,
    next: &AppendEntriesRequest<TypeConfig>,
) -> bool {
    next.vote == request.vote
        && next.prev_log_id == request.prev_log_id
        && next.leader_commit >= request.leader_commit
}

impl<S> Stream for Requests<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    type Item = proto::AppendRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let exchange = self.exchange.clone();
        let mut exchange = exchange.lock();
        while exchange.parts.is_empty() {
            let next = match exchange.input.as_mut() {
                Some(input) => input.poll_next_unpin(cx),
                None => Poll::Ready(None),
            };
            let bytes_max = self.bytes_max;
            match next {
                Poll::Pending => match self.lull.expired(cx) {
                    Some(held) => exchange.parts = split(held, bytes_max),
                    None => return Poll::Pending,
                },
                Poll::Ready(None) => {
                    exchange.input = None;
                    match self.lull.held.take() {
                        Some(held) => exchange.parts = split(held, bytes_max),
                        None => return Poll::Ready(None),
                    }
                }
                Poll::Ready(Some(request)) => {
                    let is_first = self.start.is_some();
                    let passed = self.lull.pass(request, is_first).into_iter().flatten();
                    exchange.parts = passed.flat_map(|r| split(r, bytes_max)).collect();
                }
            }
        }
        let Some((request, part)) = exchange.parts.pop_front() else {
            return Poll::Ready(None);
        };
        exchange.sequence += 1;
        let sequence = exchange.sequence;
        let (vote, sent) = (request.vote, Instant::now());
        exchange.outstanding.push_back(Outstanding { sequence, vote, sent, part });
        let (route, account) = self.start.take().unzip();
        let lost = account.and_then(|account| account.lost(&vote));
        Poll::Ready(Some(wire::append_request(route, lost, sequence, &request)))
    }
}

/// Cuts an append into parts of at most `bytes_max` bytes, each with at least
/// one entry.
fn split(
    request: AppendEntriesRequest<TypeConfig>,
    bytes_max: usize,
) -> VecDeque<(AppendEntriesRequest<TypeConfig>, Part)> {
    let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = request;
    let mut parts = VecDeque::new();
    let mut part = AppendEntriesRequest { vote, prev_log_id, entries: vec![], leader_commit };
    let mut bytes = 0;
    for entry in entries {
        let len = entry_len(&entry);
        if !part.entries.is_empty() && bytes + len > bytes_max {
            let next = AppendEntriesRequest {
                vote: part.vote,
                prev_log_id: part.entries.last().map(|entry: &LogEntry| entry.log_id),
                entries: vec![],
                leader_commit: part.leader_commit,
            };
            let first = parts.is_empty();
            parts.push_back((std::mem::replace(&mut part, next), Part { first, last: false }));
            bytes = 0;
        }
        bytes += len;
        part.entries.push(entry);
    }
    let first = parts.is_empty();
    parts.push_back((part, Part { first, last: true }));
    parts
}

/// The direction from the replica.
struct Session<S> {
    channels: Arc<Channels>,
    route: Route,
    account: Account,
    line: Arc<Line>,
    answers: Streaming<proto::AppendResponse>,
    guard: TakeBack<S>,
    deadline: Duration,
}

impl<S> Session<S> {
    /// The next answer for openraft; `None` at the end of the input.
    async fn next(&mut self) -> Option<Answer> {
        loop {
            let (until, finished) = {
                let exchange = self.guard.0.lock();
                let since = exchange.outstanding.front().map_or_else(Instant::now, |o| o.sent);
                let idle = exchange.outstanding.is_empty();
                (since + self.deadline, exchange.input.is_none() && idle)
            };
            let message = match timeout_at(until, self.answers.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) if self.ended() => return None,
                Ok(Ok(None)) => {
                    return Some(Err(RPCError::Unreachable(Unreachable::from_string(
                        "the replica ended the stream",
                    ))));
                }
                Ok(Err(status)) => return Some(Err(unreachable(&status))),
                // All was answered, only the end of the stream does not come.
                Err(_) if finished => return None,
                Err(_) => {
                    let oldest = self.guard.0.lock().outstanding.front().map(|o| o.sent);
                    if oldest.is_none_or(|sent| sent.elapsed() < self.deadline) {
                        continue;
                    }
                    let to = self.route.to.0;
                    self.channels.unheard(to, Purpose::Replication, &self.line, self.deadline);
                    return Some(Err(late(self.deadline)));
                }
            };
            self.channels.heard(&self.line);
            match self.accept(message) {
                Ok(None) => {}
                Ok(Some(answer)) => return Some(Ok(answer)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Whether all there was to send has been sent and answered.
    fn ended(&self) -> bool {
        let exchange = self.guard.0.lock();
        exchange.input.is_none() && exchange.parts.is_empty() && exchange.outstanding.is_empty()
    }

    fn accept(
        &self,
        message: proto::AppendResponse,
    ) -> Result<Option<StreamAppendResult<TypeConfig>>, RPCError<TypeConfig>> {
        let broken = |what: String| RPCError::Unreachable(Unreachable::from_string(what));
        let oldest = self.guard.0.lock().outstanding.pop_front();
        let Some(Outstanding { sequence, vote, part, .. }) = oldest else {
            return Err(broken("an answer that nobody asked for".to_owned()));
        };
        if sequence != message.sequence {
            return Err(broken(format!("answer {} to request {sequence}", message.sequence)));
        }
        let result = wire::append_result(message.outcome).map_err(|status| unreachable(&status))?;
        self.account.answered(&vote, &result).map_err(broken)?;
        match result {
            // The parts before were accepted: the log changed under the stream.
            Err(StreamAppendError::Conflict(at)) if !part.first => {
                Err(broken(format!("conflict at {at} in the middle of an append")))
            }
            Ok(_) if !part.last => Ok(None),
            result => Ok(Some(result)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::{EntryPayload, vote::RaftLeaderId};

    use super::*;
    use crate::{
        ids::ReplicaId,
        types::{Command, LeaderId, LogEntry, LogId, Vote},
    };

    fn id(index: u64) -> LogId {
        LogId::new(LeaderId::new(1, ReplicaId(1)), index)
    }

    fn request(sizes: &[usize]) -> AppendEntriesRequest<TypeConfig> {
        let entry = |(at, size): (usize, &usize)| LogEntry {
            log_id: id(11 + at as u64),
            payload: EntryPayload::Normal(Command(Bytes::from(vec![0; *size]))),
        };
        AppendEntriesRequest {
            vote: Vote::new_committed(1, ReplicaId(1)),
            prev_log_id: Some(id(10)),
            entries: sizes.iter().enumerate().map(entry).collect(),
            leader_commit: Some(id(9)),
        }
    }

    #[test]
    fn appends_are_split_by_bytes_and_stay_consecutive() {
        let parts = split(request(&[400, 400, 400, 5_000, 1, 1]), 1_000);
        let counts: Vec<_> = parts.iter().map(|(part, _)| part.entries.len()).collect();
        assert_eq!(counts, [2, 1, 1, 2]);
        let mut previous = Some(id(10));
        for (part, _) in &parts {
            assert_eq!(part.prev_log_id, previous);
            previous = part.entries.last().map(|entry| entry.log_id);
        }
        assert_eq!(previous, Some(id(16)));
        let flags: Vec<_> = parts.iter().map(|(_, part)| (part.first, part.last)).collect();
        assert_eq!(flags, [(true, false), (false, false), (false, false), (false, true)]);
    }

    fn lull_of_close_batches() -> Lull {
        Lull { apart: Duration::ZERO, ..Lull::default() }
    }

    /// What passes at once: how many entries each has.
    fn passed(lull: &mut Lull, request: AppendEntriesRequest<TypeConfig>) -> Vec<usize> {
        lull.pass(request, false).into_iter().flatten().map(|r| r.entries.len()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_waits_for_entries_that_follow_closely_and_goes_with_them() {
        let mut lull = lull_of_close_batches();
        assert!(passed(&mut lull, request(&[])).is_empty());
        assert_eq!(passed(&mut lull, request(&[1, 1])), [2]);
        assert!(lull.held.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_that_nothing_follows_goes_after_a_moment_and_the_next_at_once() {
        let mut lull = lull_of_close_batches();
        assert!(passed(&mut lull, request(&[])).is_empty());
        let held = std::future::poll_fn(|cx| match lull.expired(cx) {
            Some(held) => Poll::Ready(held),
            None => Poll::Pending,
        });
        assert_eq!(held.await.leader_commit, Some(id(9)));
        assert_eq!(passed(&mut lull, request(&[])), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_entries_do_not_repeat_is_sent_before_them() {
        let mut lull = lull_of_close_batches();
        assert!(passed(&mut lull, request(&[])).is_empty());
        let elsewhere = AppendEntriesRequest { prev_log_id: Some(id(7)), ..request(&[1]) };
        assert_eq!(passed(&mut lull, elsewhere), [0, 1]);
        let mut lull = lull_of_close_batches();
        assert!(passed(&mut lull, request(&[])).is_empty());
        let behind = AppendEntriesRequest { leader_commit: Some(id(8)), ..request(&[1]) };
        assert_eq!(passed(&mut lull, behind), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn commits_wait_for_nobody_where_batches_are_far_apart() {
        let mut lull = Lull::default();
        for _ in 0..20 {
            assert_eq!(passed(&mut lull, request(&[])), [0]);
            tokio::time::sleep(HOLD * 2).await;
            assert_eq!(passed(&mut lull, request(&[1])), [1]);
        }
        // Now they come closer.
        for _ in 0..20 {
            passed(&mut lull, request(&[]));
            tokio::time::sleep(HOLD / 2).await;
            assert_eq!(passed(&mut lull, request(&[1])), [1]);
        }
        assert!(passed(&mut lull, request(&[])).is_empty());
    }

    #[test]
    fn an_append_without_entries_is_one_part() {
        let parts = split(request(&[]), 1_000);
        assert_eq!(parts.len(), 1);
        assert!(parts[0].1.first && parts[0].1.last);
    }
}
