//! Doing harm.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cardea_cluster::{
    GroupId,
    life::{BackupPlan, back_up, decommission},
};
use parking_lot::Mutex;

use super::{ASTRAY_MS, Backup, DOOM_MS_MAX, World};
use crate::simulation::{
    harm::{self, Harm},
    machine::{Machine, Power},
    sight,
};

impl World {
    /// Does harm.
    pub fn inflict(&mut self, harm: Harm) {
        let count = self.machines.len();
        let name = match harm {
            Harm::Isolate { machine, outward, inward, ms } => {
                let until = ms.map_or(u64::MAX, |ms| self.now + ms);
                for other in (0..count).filter(|other| *other != machine) {
                    if outward {
                        self.network.cut(machine, other, until);
                    }
                    if inward {
                        self.network.cut(other, machine, until);
                    }
                }
                match (outward && inward, ms) {
                    (true, None) => "isolate",
                    (false, None) => "isolate one way",
                    (_, Some(_)) => "blink",
                }
            }
            Harm::Split(set) => {
                for one in 0..count {
                    for other in 0..count {
                        if (set >> one) & 1 != (set >> other) & 1 {
                            self.network.cut(one, other, u64::MAX);
                        }
                    }
                }
                "split"
            }
            Harm::CutLink(from, to) => {
                self.network.cut(from, to, u64::MAX);
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
            Harm::SlowDisk(machine, ms, dies) => {
                self.machines[machine].pace.slow_by(ms);
                if let Some(dies) = dies {
                    self.machines[machine].doomed = true;
                    self.doomed_until.insert(machine, self.now + dies);
                }
                "slow disk"
            }
            Harm::Clock(machine, ms, leads) => {
                self.machines[machine].clock.set_skew(ms);
                let until = if ms == 0 { self.now + ASTRAY_MS } else { u64::MAX };
                if ms != 0 || self.astray_until.contains_key(&machine) {
                    self.astray_until.insert(machine, until);
                }
                if let Some(group) = leads {
                    self.ask_to_lead(machine, group, machine);
                }
                "clock"
            }
            Harm::Transfer(machine, group, to) => {
                self.ask_to_lead(machine, group, to);
                "transfer"
            }
            Harm::Drain(machine, drains) => {
                self.tell_state(machine, drains);
                "drain"
            }
            Harm::Join => {
                let number = self.machines.len();
                self.machines.push(Machine::new(
                    number,
                    self.now,
                    &mut self.dice,
                    &self.parameters,
                ));
                self.machines[number].starts_at = Some(self.now + 1);
                "join"
            }
            Harm::Replace(machine, down_ms) => {
                let Some(node) = self.nodes.remove(&machine) else { return };
                self.lost = Some(node);
                self.crash(machine, Power::LostAll, down_ms);
                self.machines[machine].replace();
                "replace"
            }
            Harm::Backup(machine, fence_ms) => {
                self.back_up(machine, fence_ms);
                "backup"
            }
        };
        *self.harmed.entry(name).or_default() += 1;
    }

    /// A machine asks that another one, or it itself, lead a group.
    fn ask_to_lead(&self, machine: usize, group: GroupId, to: usize) {
        let to = self.nodes.get(&to).copied();
        if let Some((node, to)) = self.machines[machine].node().zip(to) {
            self.machines[machine].run(async move {
                // It may be refused, or nobody may answer.
                node.move_leader(group, to).await.ok();
            });
        }
    }

    /// Has a machine say in its node's row whether it drains.
    pub(super) fn tell_state(&self, machine: usize, drains: bool) {
        if let Some(node) = self.machines[machine].node()
            && let Some(member) = node.member()
        {
            let own = member.node();
            self.machines[machine].run(async move {
                node.set_node_state(own, harm::state_of(drains)).await.ok();
            });
        }
    }

    /// Once harm has ceased, has each node that drains serve again, as an operator would who
    /// looks: a drain that was asked for before may take hold after the first call.
    pub(super) fn call_up(&self) {
        for machine in 0..self.machines.len() {
            let member = self.machines[machine].node().and_then(|node| node.member());
            if self.heals && member.is_some_and(|member| !sight::is_live(&member)) {
                self.tell_state(machine, false);
            }
        }
    }

    /// Has a node make a backup; what becomes of it is looked at when it is made.
    fn back_up(&mut self, machine: usize, fence_ms: u64) {
        let at = &self.machines[machine];
        let (Some(node), Some(process)) = (at.node(), &at.process) else { return };
        let Some(member) = node.member() else { return };
        let directory = PathBuf::from(format!("/backups/{}", self.now));
        let made: Arc<Mutex<Option<_>>> = Arc::default();
        let (told, fence) = (made.clone(), Duration::from_millis(fence_ms));
        let plan = BackupPlan { directory: directory.clone(), fence };
        at.run(async move {
            let outcome = back_up(&member, &plan, |_| {}).await;
            *told.lock() = Some(outcome.map(drop));
        });
        let process = process.number;
        self.backups.push(Backup { machine, process, directory, began: self.now, made });
    }

    /// Has the node of a machine that was lost let go, as an operator would who
    /// tries until it is done.
    pub(super) fn let_go(&mut self) {
        let Some(lost) = self.lost else { return };
        let machine = self.dice.below(self.machines.len());
        let Some(member) = self.machines[machine].node().and_then(|node| node.member()) else {
            return;
        };
        self.machines[machine].run(async move {
            // It goes on by itself; and it is asked for again.
            let asked = decommission(&member, lost, false, Duration::ZERO, |_| {}).await;
            if let Err(error) = asked {
                tracing::debug!(node = %lost, ?error, "a lost node is there yet");
            }
        });
    }
}
