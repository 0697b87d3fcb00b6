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

mod pipe;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    task::Waker,
    time::Duration,
};

use async_trait::async_trait;
use cardea_raft::transport::{ByteStream, Dialer};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use self::pipe::{Pipe, PipeId, Stream};
use crate::dice::Dice;

/// How long until a lost segment is sent again, at least.
const RESEND_MS: u64 = 200;
/// Connections that nobody has accepted.
const BACKLOG: usize = 64;

type Link = (usize, usize);

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

struct State {
    now: u64,
    dice: Dice,
    delay_ms_min: u64,
    delay_ms_mean: u64,
    loss_percent: usize,
    /// Links that carry nothing, and until when.
    cut: BTreeMap<Link, u64>,
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

impl Network {
    /// A network without machines.
    pub fn new(dice: Dice, delay_ms_min: u64, delay_ms_mean: u64, loss_percent: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: 0,
            dice,
            delay_ms_min,
            delay_ms_mean,
            loss_percent,
            cut: BTreeMap::new(),
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
        let dead = |end: usize, process| end == machine && !living.contains(&process);
        state.break_pipes(&mut woken, |pipe| {
            dead(pipe.link.0, pipe.ends.0) || dead(pipe.link.1, pipe.ends.1)
        });
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Cuts one direction between two machines.
    pub fn cut(&self, from: usize, to: usize, until: u64) {
        let mut state = self.0.lock();
        let known = state.cut.entry((from, to)).or_default();
        *known = until.max(*known);
    }

    /// Mends everything, and lets clogged links flow.
    pub fn heal(&self) {
        let mut state = self.0.lock();
        state.cut.clear();
        state.clogged.clear();
    }

    /// Whether a direction is cut.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.0.lock().cut.contains_key(&(from, to))
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
        let between = [(one, other), (other, one)];
        state.break_pipes(&mut woken, |pipe| between.contains(&pipe.link));
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Time moves on: delivers what is due.
    pub fn advance(&self, now: u64) {
        let mut woken = Vec::new();
        let mut state = self.0.lock();
        state.now = now;
        state.cut.retain(|_, until| *until > now);
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
        if state.dark.contains(&machine) || ways.iter().any(|way| state.cut.contains_key(way)) {
            return Dialled::Silence;
        }
        let Some(port) = state.listeners.get(address) else { return Dialled::Refused };
        let (process, accepts) = (port.process, port.accepts.clone());
        let Ok(permit) = accepts.try_reserve() else { return Dialled::Silence };
        let id = state.connect((self.machine, self.process), (machine, process));
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
