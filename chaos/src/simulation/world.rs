//! The world: machines, network, clients, harm and invariants, moved on by the
//! millisecond.
//!
//! 1. The cluster is made; nothing disturbs it.
//! 2. Harm comes, for as long as the run is asked to last. Clients work; the
//!    invariants look on.
//! 3. Harm ceases. The cluster must heal within a bound: every machine a member,
//!    every group with its replicas in step, every read answered by every node.
//! 4. What clients were promised is judged.

use std::{collections::BTreeMap, sync::Arc};

use cardea_cluster::NodeId;

use super::{
    cells::{Reply, Request, perform},
    client::{Client, Common},
    harm::{self, Harm},
    invariant::{self, Invariant, Seen},
    machine::{Entrance, Machine, Power, address, plan},
    network::Network,
    parameters::Parameters,
    promise::Promises,
    sight,
    trace::Trace,
};
use crate::{dice::Dice, history::Violation};

/// The invariants look every so many milliseconds.
const LOOK_MS: u64 = 5;
/// For how long a cluster may be in the making.
const FORMED_MS_MAX: u64 = 120_000;
/// Within what a cluster must heal.
pub const HEALED_MS_MAX: u64 = 120_000;
/// How long a doomed machine may wait for its crash.
const DOOM_MS_MAX: u64 = 5_000;
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
    doomed_until: BTreeMap<usize, u64>,
    /// How often each kind of harm was done.
    pub harmed: BTreeMap<&'static str, u64>,
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
        let machines =
            (0..parameters.nodes).map(|n| Machine::new(n, &mut dice, &parameters)).collect();
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
            doomed_until: BTreeMap::new(),
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
        let until = self.now + harmed_ms;
        self.next_harm = self.now;
        while self.now < until {
            self.harm();
            self.work();
            self.pass()?;
        }
        self.heal()?;
        match self.promises.judge().into_iter().next() {
            Some(violation) => Err(violation),
            None => Ok(()),
        }
    }

    /// Makes the cluster.
    fn form(&mut self) -> Result<(), Violation> {
        for machine in 0..self.machines.len() {
            self.start(machine)?;
        }
        self.until("the cluster is formed", FORMED_MS_MAX, |world| {
            sight::is_formed(&world.machines, &world.parameters)
        })
    }

    fn start(&mut self, machine: usize) -> Result<(), Violation> {
        let entrance = match machine {
            0 => Entrance::Init(plan(self.parameters.home_shards)),
            _ => Entrance::Join((0..self.parameters.nodes).map(address).collect()),
        };
        let (machines, network) = (&mut self.machines, &self.network);
        machines[machine]
            .start(network, &self.parameters, entrance)
            .map_err(|error| Violation(format!("no runtime: {error}")))?;
        let process = machines[machine].process.as_ref().map(|process| process.number);
        self.trace.say(self.now, format_args!("n{machine} starts as {process:?}"));
        Ok(())
    }

    /// Lets time pass until something holds.
    fn until(
        &mut self,
        what: &str,
        ms_max: u64,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), Violation> {
        let deadline = self.now + ms_max;
        while !holds(self) {
            if self.now >= deadline {
                let why = sight::describe(&self.machines);
                return Err(Violation(format!("{what}: not within {ms_max} ms; {why}")));
            }
            for _ in 0..20 {
                self.pass()?;
            }
        }
        self.trace.say(self.now, format_args!("{what}"));
        Ok(())
    }

    /// Harm ceases, and all must be well again.
    fn heal(&mut self) -> Result<(), Violation> {
        self.trace.say(self.now, format_args!("harm ceases"));
        self.network.calm();
        for at in 0..self.machines.len() {
            let machine = &mut self.machines[at];
            machine.pace.slow_by(0);
            machine.clock.set_skew(0);
            machine.paused_until = machine.paused_until.map(|_| self.now);
            if machine.doomed {
                self.crash(at, Power::Lost, 0);
            }
            if self.machines[at].process.is_none() {
                self.start(at)?;
            }
        }
        self.until("every machine is a member again", HEALED_MS_MAX, |world| {
            sight::members(&world.machines).len() == world.machines.len()
        })?;
        for machine in 0..self.machines.len() {
            self.tell_state(machine, false);
        }
        self.until("every group has its leader and voters", HEALED_MS_MAX, |world| {
            sight::is_formed(&world.machines, &world.parameters)
        })?;
        self.until("every client was answered", HEALED_MS_MAX, |world| {
            world.clients.iter().all(|client| !client.waits())
        })?;
        self.read_everything()?;
        self.until("all replicas are in step", HEALED_MS_MAX, |world| {
            sight::is_in_step(&world.machines)
        })
    }

    /// Every cell is read at every node, and must be answered.
    fn read_everything(&mut self) -> Result<(), Violation> {
        for machine in 0..self.machines.len() {
            for n in 0..self.parameters.cells {
                for request in [
                    Request::Read(n),
                    Request::Lookup(n),
                    Request::Audit(n),
                    Request::Sides(n),
                    Request::Count(n, super::cells::Fresh::Strong),
                    Request::Increment(n),
                ] {
                    self.ask_until_answered(machine, &request)?;
                }
            }
        }
        self.trace.say(self.now, format_args!("everything is read at every node"));
        Ok(())
    }

    fn ask_until_answered(&mut self, machine: usize, request: &Request) -> Result<(), Violation> {
        let deadline = self.now + HEALED_MS_MAX / 4;
        loop {
            let Some(node) = self.machines[machine].node() else {
                return Err(Violation(format!("n{machine} is gone after harm has ceased")));
            };
            let answer: Arc<parking_lot::Mutex<Option<Reply>>> = Arc::default();
            let (told, store, asked) = (answer.clone(), node.store(), request.clone());
            let began = self.now;
            self.promises.began(request, began);
            self.machines[machine].run(async move {
                let reply = perform(store, asked).await;
                *told.lock() = Some(reply);
            });
            while answer.lock().is_none() && self.now < deadline {
                self.pass()?;
            }
            let reply = answer.lock().take().unwrap_or(Reply::Unknown);
            let says_nothing = matches!(reply, Reply::Unknown | Reply::Not(_));
            let answered = super::promise::Answered {
                client: usize::MAX,
                machine,
                request: request.clone(),
                reply: reply.clone(),
                began,
                ended: self.now,
            };
            self.promises.answered(&answered)?;
            if !says_nothing {
                return Ok(());
            }
            if self.now >= deadline {
                return Err(Violation(format!(
                    "n{machine} does not serve {request:?} after harm has ceased: {reply:?}"
                )));
            }
        }
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
            return Err(Violation(format!("a task panicked: {panicked}")));
        }
        self.hear()?;
        if self.now.is_multiple_of(LOOK_MS) {
            let seen = sight::look(&self.machines)?;
            self.tell_roles(&seen);
            invariant::look(&mut self.invariants, &seen)?;
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

    /// Clients ask.
    fn work(&mut self) {
        let habits = (self.parameters.cells, self.parameters.think_ms_mean);
        for client in &mut self.clients {
            if let Some((_, request)) =
                client.ask(self.now, &self.machines, &mut self.common, habits)
            {
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
            return Err(Violation(format!("n{at} does not come up: {}", sight::chain(&error))));
        }
        let member = machine.node().and_then(|node| node.member());
        let fault = member.and_then(|member| member.host().fault());
        let overdue = self.doomed_until.get(&at).is_some_and(|until| *until <= self.now);
        match fault {
            Some(fault) if !machine.doomed => {
                Err(Violation(format!("n{at} stops by a fault: {}", sight::chain(&fault))))
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
        self.next_harm = self.now + 1 + self.dice.draw() % (2 * self.parameters.harm_ms_mean);
        let (dice, now) = (&mut self.dice, self.now);
        let mut draw = || harm::draw(dice, &self.parameters, &self.machines, &self.network, now);
        // Much of what is drawn is not among the harms of this world.
        if let Some(harm) = (0..DRAWS).find_map(|_| draw()) {
            self.trace.say(self.now, format_args!("{harm:?}"));
            self.inflict(harm);
        }
    }

    /// Does harm.
    pub fn inflict(&mut self, harm: Harm) {
        let count = self.machines.len();
        let name = match harm {
            Harm::Isolate { machine, outward, inward } => {
                for other in (0..count).filter(|other| *other != machine) {
                    if outward {
                        self.network.cut(machine, other);
                    }
                    if inward {
                        self.network.cut(other, machine);
                    }
                }
                if outward && inward { "isolate" } else { "isolate one way" }
            }
            Harm::Split(set) => {
                for one in 0..count {
                    for other in 0..count {
                        if (set >> one) & 1 != (set >> other) & 1 {
                            self.network.cut(one, other);
                        }
                    }
                }
                "split"
            }
            Harm::CutLink(from, to) => {
                self.network.cut(from, to);
                "cut link"
            }
            Harm::Heal => {
                self.network.heal();
                "heal"
            }
            Harm::Clog(from, to, ms) => {
                self.network.clog(from, to, ms);
                "clog"
            }
            Harm::Reset(one, other) => {
                self.network.reset(one, other);
                "reset"
            }
            Harm::Crash(machine, power, down_ms) => {
                self.crash(machine, power, down_ms);
                "crash"
            }
            Harm::Blackout(down_ms) => {
                for machine in 0..count {
                    if self.machines[machine].process.is_some() {
                        let later = self.dice.draw() % 500;
                        self.crash(machine, Power::LostAll, down_ms + later);
                    }
                }
                "blackout"
            }
            Harm::CrashAtWrite(machine, changes) => {
                self.machines[machine].disk.fail_after(changes);
                self.machines[machine].doomed = true;
                self.doomed_until.insert(machine, self.now + DOOM_MS_MAX);
                "crash at a write"
            }
            Harm::Pause(machine, ms) => {
                self.machines[machine].paused_until = Some(self.now + ms);
                "pause"
            }
            Harm::SlowDisk(machine, ms) => {
                self.machines[machine].pace.slow_by(ms);
                "slow disk"
            }
            Harm::Clock(machine, ms) => {
                self.machines[machine].clock.set_skew(ms);
                "clock"
            }
            Harm::Transfer(machine, group, to) => {
                if let Some(node) = self.machines[machine].node() {
                    let to = NodeId(to as u64 + 1);
                    self.machines[machine].run(async move {
                        // It may be refused, or nobody may answer.
                        node.move_leader(group, to).await.ok();
                    });
                }
                "transfer"
            }
            Harm::Drain(machine, drains) => {
                self.tell_state(machine, drains);
                "drain"
            }
            Harm::Join => {
                let number = self.machines.len();
                self.machines.push(Machine::new(number, &mut self.dice, &self.parameters));
                self.machines[number].starts_at = Some(self.now + 1);
                "join"
            }
        };
        *self.harmed.entry(name).or_default() += 1;
    }

    /// Has a machine say in its node's row whether it drains.
    fn tell_state(&self, machine: usize, drains: bool) {
        if let Some(node) = self.machines[machine].node()
            && let Some(member) = node.member()
        {
            let own = member.node();
            self.machines[machine].run(async move {
                node.set_node_state(own, harm::state_of(drains)).await.ok();
            });
        }
    }
}
