//! The world: machines, network, clients, harm and invariants, moved on by the
//! millisecond.
//!
//! 1. The cluster is made; nothing disturbs it. In every other world it runs the binary
//!    before the newest, and its machines are upgraded from here on.
//! 2. Harm comes, for as long as the run is asked to last. Clients work; the
//!    invariants look on.
//! 3. Harm ceases. The cluster must heal within a bound: every machine a member,
//!    every group with its replicas in step, every read answered by every node.
//! 4. What clients were promised is judged.

mod harming;
mod healing;
mod upgrading;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use cardea_cluster::{NodeId, life::BackupError};
use parking_lot::Mutex;

use super::{
    client::{Client, Common},
    harm::{self, Scene},
    invariant::{self, Invariant, Seen},
    machine::{Entrance, Machine, Power, address, plan},
    network::Network,
    parameters::Parameters,
    promise::{BackedUp, Promises},
    sight,
    trace::Trace,
};
use crate::{dice::Dice, history::Violation};

pub use self::healing::HEALED_MS_MAX;

/// The invariants look every so many milliseconds.
const LOOK_MS: u64 = 5;
/// For how long a cluster may be in the making.
const FORMED_MS_MAX: u64 = 120_000;
/// How long a doomed machine may wait for its crash.
const DOOM_MS_MAX: u64 = 5_000;
/// For how long others go on by what they knew of a clock.
const ASTRAY_MS: u64 = 12_000;
/// Mean time to a harm that comes right behind another, in milliseconds.
const BURST_MS_MEAN: u64 = 15;
/// How often harm is drawn until something is possible.
const DRAWS: usize = 12;

/// A simulated world.
pub struct World {
    now: u64,
    dice: Dice,
    parameters: Parameters,
    network: Network,
    machines: Vec<Machine>,
    clients: Vec<Client>,
    common: Common,
    promises: Promises,
    invariants: Vec<Box<dyn Invariant>>,
    trace: Trace,
    roles: BTreeMap<(usize, u64), String>,
    next_harm: u64,
    /// The machine that harm came over last.
    last_harmed: usize,
    doomed_until: BTreeMap<usize, u64>,
    /// Until when the clocks of machines count as off.
    astray_until: BTreeMap<usize, u64>,
    /// The node that each machine was last seen to be.
    nodes: BTreeMap<usize, NodeId>,
    /// The node of a machine that was lost.
    lost: Option<NodeId>,
    /// Whether harm has ceased.
    heals: bool,
    backups: Vec<Backup>,
    /// What nobody could decide at the end.
    pub undecided: Option<String>,
    /// How often each kind of harm was done.
    pub harmed: BTreeMap<&'static str, u64>,
}

/// A backup that is being made.
struct Backup {
    machine: usize,
    process: u64,
    directory: PathBuf,
    began: u64,
    made: Arc<Mutex<Option<Result<(), BackupError>>>>,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(seed: u64, parameters: Parameters, trace: Trace) -> Self {
        let mut dice = Dice::new(seed);
        let network = Network::new(
            dice.split(),
            parameters.delay_ms_min,
            parameters.delay_ms_mean,
            parameters.loss_percent,
        );
        let mut machines: Vec<Machine> =
            (0..parameters.nodes).map(|n| Machine::new(n, 0, &mut dice, &parameters)).collect();
        if parameters.upgrade_ms > 0 {
            machines.iter_mut().for_each(|machine| machine.upgrades_at = u64::MAX);
        }
        let clients = (0..parameters.clients).map(|n| Client::new(n, &mut dice)).collect();
        Self {
            now: 0,
            dice,
            parameters,
            network,
            machines,
            clients,
            common: Common::default(),
            promises: Promises::default(),
            invariants: invariant::all(),
            trace,
            roles: BTreeMap::new(),
            next_harm: 0,
            last_harmed: 0,
            doomed_until: BTreeMap::new(),
            astray_until: BTreeMap::new(),
            nodes: BTreeMap::new(),
            lost: None,
            heals: false,
            backups: Vec::new(),
            undecided: None,
            harmed: BTreeMap::new(),
        }
    }

    /// Milliseconds since the world began.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// What was taken down.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What clients were promised.
    pub fn promises(&self) -> &Promises {
        &self.promises
    }

    /// Lives through the phases.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn live(&mut self, harmed_ms: u64) -> Result<(), Violation> {
        self.form()?;
        self.begin_upgrade()?;
        let until = self.now + harmed_ms;
        self.next_harm = self.now;
        while self.now < until {
            self.upgrade();
            self.harm();
            self.work();
            self.pass()?;
        }
        self.heal()?;
        let (broken, undecided) = self.promises.judge();
        self.undecided = undecided;
        broken.map_or(Ok(()), Err)
    }

    /// Makes the cluster.
    fn form(&mut self) -> Result<(), Violation> {
        for machine in 0..self.machines.len() {
            self.start(machine)?;
        }
        // Nothing disturbed it: there is nothing to heal from.
        self.keeps("it forms", "the cluster is formed", FORMED_MS_MAX, |world| {
            sight::is_formed(&world.machines, &world.parameters)
        })
    }

    fn start(&mut self, machine: usize) -> Result<(), Violation> {
        let entrance = if machine == 0 && !self.machines[0].replaced {
            Entrance::Init(plan(self.parameters.home_shards))
        } else {
            let others = (0..self.machines.len()).filter(|other| *other != machine);
            Entrance::Join(others.map(address).collect())
        };
        let (machines, network) = (&mut self.machines, &self.network);
        let newest = machines[machine].upgrades_at <= self.now;
        machines[machine]
            .start(network, &self.parameters, entrance, newest)
            .map_err(|error| Violation(format!("no runtime: {error}")))?;
        let process = machines[machine].process.as_ref().map(|process| process.number);
        let binary = if newest { "newest" } else { "one before" };
        self.trace.say(self.now, format_args!("n{machine} starts as {process:?}, the {binary}"));
        Ok(())
    }

    /// Lets time pass until something holds, as it must once harm has ceased.
    fn until(
        &mut self,
        what: &str,
        ms_max: u64,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), Violation> {
        self.keeps("it heals", what, ms_max, holds)
    }

    /// Lets time pass until something holds that was promised.
    fn keeps(
        &mut self,
        promise: &str,
        what: &str,
        ms_max: u64,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), Violation> {
        let deadline = self.now + ms_max;
        while !holds(self) {
            if self.now >= deadline {
                let why = sight::describe(&self.machines);
                return Err(Violation(format!("{promise}: {what}: not within {ms_max} ms; {why}")));
            }
            for _ in 0..20 {
                self.pass()?;
            }
        }
        self.trace.say(self.now, format_args!("{what}"));
        Ok(())
    }

    /// A millisecond passes.
    fn pass(&mut self) -> Result<(), Violation> {
        self.now += 1;
        super::NOW_MS.store(self.now, std::sync::atomic::Ordering::Relaxed);
        self.network.advance(self.now);
        let mut order: Vec<usize> = (0..self.machines.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, self.dice.below(at + 1));
        }
        for machine in order {
            self.machines[machine].step(self.now);
            if self.machines[machine].starts_at.is_some_and(|at| at <= self.now) {
                self.start(machine)?;
            }
            self.notice_faults(machine)?;
        }
        if let Some(panicked) = super::panicked() {
            return Err(Violation(format!("no panic: {panicked}")));
        }
        self.hear()?;
        self.take_backups()?;
        if self.now.is_multiple_of(LOOK_MS) {
            let seen = sight::look(&self.machines, self.now)?;
            self.tell_roles(&seen);
            self.note_nodes();
            invariant::look(&mut self.invariants, &seen)?;
        }
        if self.now.is_multiple_of(1_000) {
            self.let_go();
            self.call_up();
        }
        Ok(())
    }

    /// Takes down who leads and who follows, where that changed.
    fn tell_roles(&mut self, seen: &[Seen]) {
        for seen in seen {
            let (machine, group) = (seen.machine, seen.group);
            let role = format!("{:?} in term {}", seen.status.role, seen.status.term);
            let known = self.roles.entry((machine, group.0)).or_default();
            if *known != role {
                let applied = seen.status.applied;
                self.trace.say(
                    self.now,
                    format_args!("n{machine} {group} is {role}, applied {applied:?}"),
                );
                *known = role;
            }
        }
    }

    fn note_nodes(&mut self) {
        for machine in &self.machines {
            if let Some(member) = machine.node().and_then(|node| node.member()) {
                self.nodes.insert(machine.number, member.node());
            }
        }
    }

    /// Clients take their answers.
    fn hear(&mut self) -> Result<(), Violation> {
        for client in &mut self.clients {
            let Some(answered) = client.hear(self.now, &self.machines, &mut self.common) else {
                continue;
            };
            self.trace.say(
                self.now,
                format_args!(
                    "client {} n{} {:?} since {} → {:?}",
                    answered.client,
                    answered.machine,
                    answered.request,
                    answered.began,
                    answered.reply
                ),
            );
            self.promises.answered(&answered)?;
        }
        Ok(())
    }

    /// Looks into the backups that are done.
    fn take_backups(&mut self) -> Result<(), Violation> {
        for backup in std::mem::take(&mut self.backups) {
            let machine = &self.machines[backup.machine];
            let process = machine.process.as_ref().map(|process| process.number);
            let made = backup.made.lock().take();
            match made {
                None if process == Some(backup.process) => self.backups.push(backup),
                None => {}
                Some(Err(error)) => {
                    self.trace.say(self.now, format_args!("no backup: {}", sight::chain(&error)));
                }
                Some(Ok(())) => {
                    let times = (backup.began, self.now);
                    let read = BackedUp::read(&machine.disk, &backup.directory, times);
                    let read = read.map_err(|error| {
                        Violation(format!("a backup can be read: {}", sight::chain(&error)))
                    })?;
                    self.trace.say(self.now, format_args!("a backup of n{}", backup.machine));
                    self.promises.backed_up(&read)?;
                }
            }
        }
        Ok(())
    }

    /// Clients ask.
    fn work(&mut self) {
        for client in &mut self.clients {
            let (common, last) = (&mut self.common, self.last_harmed);
            let asked = client.ask(self.now, &self.machines, common, &self.parameters, last);
            if let Some((_, request)) = asked {
                self.promises.began(&request, self.now);
            }
        }
    }

    /// A process whose disk failed dies; any other fault is a finding.
    fn notice_faults(&mut self, at: usize) -> Result<(), Violation> {
        let machine = &self.machines[at];
        if let Some(error) = machine.failure()
            && !machine.doomed
        {
            let why = sight::chain(&error);
            return Err(Violation(format!("no fault of its own: n{at} does not come up: {why}")));
        }
        let member = machine.node().and_then(|node| node.member());
        let fault = member.and_then(|member| member.host().fault());
        let overdue = self.doomed_until.get(&at).is_some_and(|until| *until <= self.now);
        match fault {
            Some(fault) if !machine.doomed => {
                let why = sight::chain(&fault);
                Err(Violation(format!("no fault of its own: n{at} stops: {why}")))
            }
            None if !(machine.doomed && overdue || machine.failure().is_some()) => Ok(()),
            _ => {
                self.doomed_until.remove(&at);
                let down_ms = 50 + self.dice.draw() % 3_000;
                self.crash(at, Power::Lost, down_ms);
                Ok(())
            }
        }
    }

    fn crash(&mut self, at: usize, power: Power, down_ms: u64) {
        self.trace.say(self.now, format_args!("n{at} crashes, power {power:?}"));
        self.machines[at].crash(&self.network, power);
        self.machines[at].starts_at = Some(self.now + down_ms);
        self.doomed_until.remove(&at);
    }

    fn harm(&mut self) {
        if self.now < self.next_harm {
            return;
        }
        let mean = match self.dice.percent(self.parameters.burst_percent) {
            true => BURST_MS_MEAN,
            false => self.parameters.harm_ms_mean,
        };
        self.next_harm = self.now + 1 + self.dice.draw() % (2 * mean);
        let now = self.now;
        self.astray_until.retain(|_, until| *until > now);
        let astray: BTreeSet<usize> = self.astray_until.keys().copied().collect();
        let scene = Scene {
            machines: &self.machines,
            network: &self.network,
            astray: &astray,
            replaced: self.lost.is_some(),
            last: self.last_harmed,
            now,
        };
        // Much of what is drawn is not among the harms of this world.
        let (dice, parameters) = (&mut self.dice, &self.parameters);
        let drawn = (0..DRAWS).find_map(|_| harm::draw(dice, parameters, &scene));
        if let Some(harm) = drawn {
            self.trace.say(self.now, format_args!("{harm:?}"));
            self.last_harmed = harm.machine().unwrap_or(self.last_harmed);
            self.inflict(harm);
        }
    }
}
