//! The simulated network: connections that carry bytes in order, as TCP does,
//! with what may happen to TCP.
//!
//! - A segment takes the link's delay; a lost one is sent again later, and holds
//!   back those behind it.
//! - A cut link carries nothing in its direction. What was under way arrives some
//!   time after the link is mended, unless the connection broke meanwhile.
//! - A killed process ends its connections, and the others hear of it; a machine
//!   without power says nothing, and only their own patience tells them.
//!
//! Addresses are `nK:port`. A process listens under an incarnation of its own, so
//! that what a dead one still sends reaches nobody.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use cardea_raft::transport::{ByteStream, Dialer};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
};

use crate::dice::Dice;

/// Bytes under way in one direction of a connection.
const WINDOW_BYTES: usize = 256 << 10;
/// How long until a lost segment is sent again, at least.
const RESEND_MS: u64 = 200;
/// Connections that nobody has accepted.
const BACKLOG: usize = 64;

type Link = (usize, usize);
type PipeId = (u64, bool);

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

struct State {
    now: u64,
    dice: Dice,
    delay_ms_min: u64,
    delay_ms_mean: u64,
    loss_percent: usize,
    cut: BTreeSet<Link>,
    clogged: BTreeMap<Link, u64>,
    listeners: BTreeMap<String, Port>,
    /// Machines that are without power.
    dark: BTreeSet<usize>,
    pipes: BTreeMap<PipeId, Pipe>,
    /// Pipes with something under way.
    busy: BTreeSet<PipeId>,
    connections: u64,
    counts: Counts,
}

/// What the network did to those who used it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Segments delivered.
    pub delivered: u64,
    /// Segments that were sent again.
    pub lost: u64,
    /// Times that a segment was held back by a cut link.
    pub held: u64,
    /// Connections that broke.
    pub broken: u64,
}

struct Port {
    process: u64,
    accepts: mpsc::Sender<Box<dyn ByteStream>>,
}

/// One direction of a connection.
struct Pipe {
    link: Link,
    /// The processes at both ends.
    ends: (u64, u64),
    under_way: VecDeque<(u64, Bytes)>,
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

impl Network {
    /// A network without machines.
    pub fn new(dice: Dice, delay_ms_min: u64, delay_ms_mean: u64, loss_percent: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: 0,
            dice,
            delay_ms_min,
            delay_ms_mean,
            loss_percent,
            cut: BTreeSet::new(),
            clogged: BTreeMap::new(),
            listeners: BTreeMap::new(),
            dark: BTreeSet::new(),
            pipes: BTreeMap::new(),
            busy: BTreeSet::new(),
            connections: 0,
            counts: Counts::default(),
        })))
    }

    /// A process of a machine listens at `address` from now on.
    pub fn listen(
        &self,
        machine: usize,
        process: u64,
        address: &str,
    ) -> mpsc::Receiver<Box<dyn ByteStream>> {
        let (accepts, incoming) = mpsc::channel(BACKLOG);
        let mut state = self.0.lock();
        state.dark.remove(&machine);
        state.listeners.insert(address.to_owned(), Port { process, accepts });
        incoming
    }

    /// How a process opens connections.
    pub fn dialer(&self, machine: usize, process: u64) -> Arc<dyn Dialer> {
        Arc::new(MachineDialer { network: self.clone(), machine, process })
    }

    /// A process ends. If its machine lost power nobody is told.
    pub fn end(&self, machine: usize, process: u64, silently: bool) {
        let mut woken = Vec::new();
        let mut state = self.0.lock();
        state.listeners.retain(|_, port| port.process != process);
        if silently {
            state.dark.insert(machine);
        }
        let ids: Vec<PipeId> = state
            .pipes
            .iter()
            .filter(|(_, pipe)| pipe.ends.0 == process || pipe.ends.1 == process)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if silently {
                // Its own side is gone; the other learns nothing.
                if let Some(pipe) = state.pipes.get_mut(&id) {
                    pipe.under_way.clear();
                }
                state.busy.remove(&id);
            } else {
                state.break_pipe(id, &mut woken);
            }
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// The machine has power again: whoever still talks to its last process is
    /// told that nobody is there.
    pub fn power_on(&self, machine: usize) {
        let mut woken = Vec::new();
        let mut state = self.0.lock();
        state.dark.remove(&machine);
        let living: BTreeSet<u64> = state.listeners.values().map(|port| port.process).collect();
        let ids: Vec<PipeId> = state
            .pipes
            .iter()
            .filter(|(_, pipe)| {
                let dead = |end: usize, process| end == machine && !living.contains(&process);
                dead(pipe.link.0, pipe.ends.0) || dead(pipe.link.1, pipe.ends.1)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            state.break_pipe(id, &mut woken);
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Cuts one direction between two machines.
    pub fn cut(&self, from: usize, to: usize) {
        self.0.lock().cut.insert((from, to));
    }

    /// Mends everything, and lets clogged links flow.
    pub fn heal(&self) {
        let mut state = self.0.lock();
        state.cut.clear();
        state.clogged.clear();
    }

    /// Whether a direction is cut.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.0.lock().cut.contains(&(from, to))
    }

    /// Slows one direction down by so many milliseconds.
    pub fn clog(&self, from: usize, to: usize, ms: u64) {
        self.0.lock().clogged.insert((from, to), ms);
    }

    /// No more losses and long ways: what is left of the run is to heal.
    pub fn calm(&self) {
        self.heal();
        let mut state = self.0.lock();
        state.loss_percent = 0;
        state.delay_ms_mean = state.delay_ms_mean.min(3);
    }

    /// Breaks every connection between two machines.
    pub fn reset(&self, one: usize, other: usize) {
        let mut woken = Vec::new();
        let mut state = self.0.lock();
        let ids: Vec<PipeId> = state
            .pipes
            .iter()
            .filter(|(_, pipe)| pipe.link == (one, other) || pipe.link == (other, one))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            state.break_pipe(id, &mut woken);
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Time moves on: delivers what is due.
    pub fn advance(&self, now: u64) {
        let mut woken = Vec::new();
        let mut state = self.0.lock();
        state.now = now;
        let ids: Vec<PipeId> = state.busy.iter().copied().collect();
        for id in ids {
            state.deliver(id, &mut woken);
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.0.lock().counts
    }
}

impl State {
    /// How long a segment takes on a link, and longer if it is lost.
    fn delay(&mut self, link: Link) -> u64 {
        let mean = self.delay_ms_mean;
        // The mean of two throws of up to twice the mean is roughly bell-shaped.
        let drawn = if mean == 0 {
            0
        } else {
            (self.dice.draw() % (2 * mean + 1) + self.dice.draw() % (2 * mean + 1)) / 2
        };
        let mut delay = self.delay_ms_min + drawn + self.clogged.get(&link).copied().unwrap_or(0);
        let mut again = RESEND_MS;
        while self.dice.percent(self.loss_percent) {
            self.counts.lost += 1;
            delay += again;
            again = (again * 2).min(3_000);
        }
        delay.max(1)
    }

    fn break_pipe(&mut self, id: PipeId, woken: &mut Vec<Waker>) {
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

    /// An end of a pipe is gone; with the second one the pipe is.
    fn let_go(&mut self, id: PipeId) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        pipe.held = pipe.held.saturating_sub(1);
        if pipe.held == 0 {
            self.pipes.remove(&id);
            self.busy.remove(&id);
        }
    }

    fn deliver(&mut self, id: PipeId, woken: &mut Vec<Waker>) {
        let Some(pipe) = self.pipes.get_mut(&id) else {
            self.busy.remove(&id);
            return;
        };
        let due = |at: u64| at <= self.now;
        let head = pipe.under_way.front().map(|(at, _)| *at).or(pipe.end_at);
        if !head.is_some_and(due) {
            return;
        }
        if self.cut.contains(&pipe.link) {
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

    fn connect(&mut self, from: (usize, u64), to: (usize, u64)) -> (u64, bool) {
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
        (id, true)
    }
}

struct MachineDialer {
    network: Network,
    machine: usize,
    process: u64,
}

enum Dialled {
    Open(Stream),
    Refused,
    /// Nothing comes back.
    Silence,
}

impl MachineDialer {
    fn knock(&self, address: &str) -> Dialled {
        let mut state = self.network.0.lock();
        let Some(machine) = machine_of(address) else { return Dialled::Refused };
        let ways = [(self.machine, machine), (machine, self.machine)];
        if state.dark.contains(&machine) || ways.iter().any(|way| state.cut.contains(way)) {
            return Dialled::Silence;
        }
        let Some(port) = state.listeners.get(address) else { return Dialled::Refused };
        let (process, accepts) = (port.process, port.accepts.clone());
        let Ok(permit) = accepts.try_reserve() else { return Dialled::Silence };
        let (id, _) = state.connect((self.machine, self.process), (machine, process));
        drop(state);
        let theirs =
            Stream { network: self.network.clone(), reads: (id, true), writes: (id, false) };
        permit.send(Box::new(theirs));
        Dialled::Open(Stream {
            network: self.network.clone(),
            reads: (id, false),
            writes: (id, true),
        })
    }
}

fn machine_of(address: &str) -> Option<usize> {
    address.strip_prefix('n')?.split(':').next()?.parse().ok()
}

#[async_trait]
impl Dialer for MachineDialer {
    async fn dial(&self, address: &str) -> io::Result<Box<dyn ByteStream>> {
        let machine = machine_of(address).unwrap_or(self.machine);
        let round_trip = {
            let mut state = self.network.0.lock();
            state.delay((self.machine, machine)) + state.delay((machine, self.machine))
        };
        tokio::time::sleep(Duration::from_millis(round_trip)).await;
        loop {
            match self.knock(address) {
                Dialled::Open(stream) => return Ok(Box::new(stream)),
                Dialled::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
                Dialled::Silence => tokio::time::sleep(Duration::from_millis(RESEND_MS)).await,
            }
        }
    }
}

/// One end of a connection.
struct Stream {
    network: Network,
    reads: PipeId,
    writes: PipeId,
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
