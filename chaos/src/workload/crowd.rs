//! Everybody who works with a cluster during a run: people, registers, contests,
//! permissions and pulses, at one or more places.

use std::sync::Arc;

use tokio::{runtime::Handle, task::JoinSet};

use super::{Run, contest, counter, permission, person, pulse};
use crate::dice::Dice;

/// A place where clients stand: its runtime, whose sockets are of that place, and
/// how the run looks from there.
#[derive(Debug, Clone)]
pub struct Stand {
    /// The runtime.
    pub handle: Handle,
    /// The run.
    pub run: Arc<Run>,
}

/// How many work at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// People at each place.
    pub people: usize,
    /// Registers, whose clients stand at all places.
    pub registers: usize,
    /// Whether identifiers are contested, at each place.
    pub contests: bool,
}

/// Those who work.
#[derive(Debug)]
pub struct Crowd {
    /// When each home group acknowledged writes.
    pub pulses: Arc<pulse::Pulses>,
    clients: JoinSet<()>,
}

impl Crowd {
    /// Sets them to work. `homes` are identities for the pulses.
    pub fn gather(stands: &[Stand], homes: &pulse::Homes, size: Size, dice: &mut Dice) -> Self {
        let pulses = Arc::new(pulse::Pulses::default());
        let mut clients = JoinSet::new();
        for Stand { handle, run } in stands {
            for (group, made) in homes {
                for node in &run.near {
                    let Some((identity, created)) = made.get(*node) else { continue };
                    let home = (*group, identity.clone(), *created);
                    let (run, pulses) = (Arc::clone(run), Arc::clone(&pulses));
                    let beat = pulse::beat(run, pulses, home, *node, dice.split());
                    clients.spawn_on(beat, handle);
                }
            }
            for _ in 0..size.people {
                clients.spawn_on(person::live(Arc::clone(run), dice.split()), handle);
            }
            clients.spawn_on(permission::guard(Arc::clone(run), dice.split()), handle);
            if size.contests {
                clients.spawn_on(contest::compete(Arc::clone(run), dice.split()), handle);
            }
        }
        for number in 0..size.registers {
            let mut around = stands.to_vec();
            around.rotate_left(number % stands.len().max(1));
            let Some(handle) = around.first().map(|stand| stand.handle.clone()) else { break };
            clients.spawn_on(counter::count(around, dice.split()), &handle);
        }
        Self { pulses, clients }
    }

    /// Waits until all came to their end, after the run was stopped.
    pub async fn disperse(mut self) -> anyhow::Result<()> {
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        Ok(())
    }
}
