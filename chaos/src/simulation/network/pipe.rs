//! What a connection is made of: two pipes, one for each direction, and a
//! stream at each end that reads from one and writes into the other.
//!
//! A pipe is held by both its ends and goes with the second. It lies in the
//! network's state and is found by its id, so that cutting, breaking and
//! delivering need no word with those who hold its ends.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Link, Network, RESEND_MS, State};

/// Bytes under way in one direction of a connection.
const WINDOW_BYTES: usize = 256 << 10;

/// A connection, and one of its directions: true is away from who opened it.
pub(super) type PipeId = (u64, bool);

/// One direction of a connection.
pub(super) struct Pipe {
    pub(super) link: Link,
    /// The processes at both ends.
    pub(super) ends: (u64, u64),
    pub(super) under_way: VecDeque<(u64, Bytes)>,
    bytes_under_way: usize,
    last_at: u64,
    arrived: VecDeque<Bytes>,
    /// When the end of the stream arrives.
    end_at: Option<u64>,
    ended: bool,
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Ends that are still held by a process.
    held: u8,
}

impl State {
    /// A connection broke in this direction: what was under way is lost, and who
    /// waits at an end is told.
    pub(super) fn break_pipe(&mut self, id: PipeId, woken: &mut Vec<Waker>) {
        self.busy.remove(&id);
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        if !pipe.broken && !pipe.ended {
            self.counts.broken += 1;
        }
        pipe.broken = true;
        pipe.under_way.clear();
        woken.extend(pipe.reader.take());
        woken.extend(pipe.writer.take());
    }

    /// Breaks the pipes of a kind.
    pub(super) fn break_pipes(&mut self, woken: &mut Vec<Waker>, which: impl Fn(&Pipe) -> bool) {
        let ids: Vec<PipeId> =
            self.pipes.iter().filter(|(_, pipe)| which(pipe)).map(|(id, _)| *id).collect();
        for id in ids {
            self.break_pipe(id, woken);
        }
    }

    /// An end of a pipe is gone; with the second one the pipe is.
    fn let_go(&mut self, id: PipeId) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        pipe.held = pipe.held.saturating_sub(1);
        if pipe.held == 0 {
            self.pipes.remove(&id);
            self.busy.remove(&id);
        }
    }

    /// What is due arrives.
    pub(super) fn deliver(&mut self, id: PipeId, woken: &mut Vec<Waker>) {
        let Some(pipe) = self.pipes.get_mut(&id) else {
            self.busy.remove(&id);
            return;
        };
        let due = |at: u64| at <= self.now;
        let head = pipe.under_way.front().map(|(at, _)| *at).or(pipe.end_at);
        if !head.is_some_and(due) {
            return;
        }
        if self.cut.contains_key(&pipe.link) {
            // Sent again and again; arrives some time after the link is mended.
            self.counts.held += 1;
            let until = self.now + RESEND_MS / 2 + self.dice.draw() % RESEND_MS;
            let shift = |at: &mut u64| *at = (*at).max(until);
            pipe.under_way.iter_mut().for_each(|(at, _)| shift(at));
            pipe.end_at.iter_mut().for_each(shift);
            pipe.last_at = pipe.last_at.max(until);
            return;
        }
        while let Some((at, _)) = pipe.under_way.front() {
            if *at > self.now {
                break;
            }
            if let Some((_, bytes)) = pipe.under_way.pop_front() {
                self.counts.delivered += 1;
                pipe.arrived.push_back(bytes);
            }
        }
        if pipe.under_way.is_empty() {
            if pipe.end_at.is_some_and(|at| at <= self.now) {
                pipe.ended = true;
                pipe.end_at = None;
            }
            if pipe.end_at.is_none() {
                self.busy.remove(&id);
            }
        }
        woken.extend(pipe.reader.take());
    }

    /// Opens a connection between two processes, each with its machine.
    pub(super) fn connect(&mut self, from: (usize, u64), to: (usize, u64)) -> u64 {
        self.connections += 1;
        let id = self.connections;
        let mut pipe = |direction: bool, (from, to): ((usize, u64), (usize, u64))| {
            let pipe = Pipe {
                link: (from.0, to.0),
                ends: (from.1, to.1),
                under_way: VecDeque::new(),
                bytes_under_way: 0,
                last_at: 0,
                arrived: VecDeque::new(),
                end_at: None,
                ended: false,
                broken: false,
                reader: None,
                writer: None,
                held: 2,
            };
            self.pipes.insert((id, direction), pipe);
        };
        pipe(true, (from, to));
        pipe(false, (to, from));
        id
    }
}

/// One end of a connection.
pub(super) struct Stream {
    pub(super) network: Network,
    pub(super) reads: PipeId,
    pub(super) writes: PipeId,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.network.0.lock();
        let Some(pipe) = state.pipes.get_mut(&self.reads) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if let Some(bytes) = pipe.arrived.front_mut() {
            let taken = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..taken]);
            bytes.advance(taken);
            if bytes.is_empty() {
                pipe.arrived.pop_front();
            }
            pipe.bytes_under_way = pipe.bytes_under_way.saturating_sub(taken);
            let writer = pipe.writer.take();
            drop(state);
            if let Some(writer) = writer {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.ended {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.network.0.lock();
        let Some(link) = state.pipes.get(&self.writes).map(|pipe| pipe.link) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let delay = state.delay(link);
        let at = state.now + delay;
        let Some(pipe) = state.pipes.get_mut(&self.writes) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let room = WINDOW_BYTES.saturating_sub(pipe.bytes_under_way);
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = room.min(buf.len());
        pipe.last_at = pipe.last_at.max(at);
        pipe.bytes_under_way += taken;
        let at = pipe.last_at;
        pipe.under_way.push_back((at, Bytes::copy_from_slice(&buf[..taken])));
        state.busy.insert(self.writes);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Stream {
    /// The end of what this side says is on its way.
    fn finish(&self) {
        let mut state = self.network.0.lock();
        let now = state.now;
        if let Some(pipe) = state.pipes.get_mut(&self.writes)
            && !pipe.broken
            && !pipe.ended
            && pipe.end_at.is_none()
        {
            pipe.end_at = Some(pipe.last_at.max(now + 1));
            state.busy.insert(self.writes);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut woken = Vec::new();
        let mut state = self.network.0.lock();
        let machine = state.pipes.get(&self.writes).map(|pipe| pipe.link.0);
        let dark = machine.is_some_and(|machine| state.dark.contains(&machine));
        if !dark {
            // What comes is read by nobody: the other side's writes fail.
            state.break_pipe(self.reads, &mut woken);
        }
        state.let_go(self.reads);
        drop(state);
        if !dark {
            self.finish();
        }
        self.network.0.lock().let_go(self.writes);
        woken.into_iter().for_each(Waker::wake);
    }
}
