//! What must be so once harm has ceased.

use std::sync::Arc;

use super::World;
use crate::{
    history::Violation,
    simulation::{
        cells::{CellKind, Fresh, Reply, Request, perform},
        client::BOOKS_A_CELL,
        machine::Power,
        promise::Answered,
        sight,
    },
};

/// Within what a cluster must heal.
pub const HEALED_MS_MAX: u64 = 120_000;

impl World {
    /// Harm ceases, and all must be well again.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.trace.say(self.now, format_args!("harm ceases"));
        self.network.calm();
        for at in 0..self.machines.len() {
            let machine = &mut self.machines[at];
            machine.pace.slow_by(0);
            machine.clock.set_skew(0);
            machine.paused_until = machine.paused_until.map(|_| self.now);
            machine.upgrades_at = 0;
            if machine.doomed {
                self.crash(at, Power::Lost, 0);
            }
            if self.machines[at].process.is_some() && !self.machines[at].runs_newest() {
                self.crash(at, Power::On, 0);
            }
            if self.machines[at].process.is_none() {
                self.start(at)?;
            }
        }
        self.until("every machine is a member again", HEALED_MS_MAX, |world| {
            sight::members(&world.machines).len() == world.machines.len()
        })?;
        self.heals = true;
        self.until("every node is live", HEALED_MS_MAX, |world| sight::are_live(&world.machines))?;
        self.until("every group has its leader and voters", HEALED_MS_MAX, |world| {
            sight::is_formed(&world.machines, &world.parameters)
        })?;
        if let Some(lost) = self.lost {
            self.until("the lost node has left", HEALED_MS_MAX, |world| {
                sight::has_left(&world.machines, lost)
            })?;
        }
        self.until("every client was answered", HEALED_MS_MAX, |world| {
            world.clients.iter().all(|client| !client.waits())
        })?;
        self.until("every index is whole", HEALED_MS_MAX, |world| {
            sight::is_indexed(&world.machines)
        })?;
        self.read_everything()?;
        self.until("all replicas are in step", HEALED_MS_MAX, |world| {
            sight::is_in_step(&world.machines)
        })
    }

    /// Every cell is read, those in use at every node, and must be answered.
    fn read_everything(&mut self) -> Result<(), Violation> {
        let cells = self.parameters.cells;
        for machine in 0..self.machines.len() {
            for n in 0..cells {
                for request in [
                    Request::Sides(n),
                    Request::Purse(n),
                    Request::Count(n, Fresh::Strong),
                    Request::Increment(n),
                    Request::Read(n),
                    Request::Lookup(n),
                    Request::Audit(n),
                ] {
                    self.ask_until_answered(machine, &request)?;
                }
            }
        }
        let registers = self.common.used(CellKind::Register, cells);
        let identifiers = self.common.used(CellKind::Identifier, cells);
        let (sessions, loans) = self.common.begun();
        let requests: Vec<Request> = registers
            .into_iter()
            .map(Request::Read)
            .chain(identifiers.iter().copied().map(Request::Lookup))
            .chain(identifiers.iter().copied().map(Request::Audit))
            .chain((1..=sessions).map(Request::Check))
            .chain((1..=loans).map(Request::Lent))
            .chain((1..=loans).map(Request::Loan))
            .chain((0..BOOKS_A_CELL * cells).map(Request::Book))
            .collect();
        for (at, request) in requests.into_iter().enumerate() {
            self.ask_until_answered(at % self.machines.len(), &request)?;
        }
        self.trace.say(self.now, format_args!("everything is read"));
        Ok(())
    }

    pub(super) fn ask_until_answered(
        &mut self,
        machine: usize,
        request: &Request,
    ) -> Result<(), Violation> {
        let deadline = self.now + HEALED_MS_MAX / 4;
        loop {
            let Some(node) = self.machines[machine].node() else {
                return Err(Violation(format!("it heals: n{machine} is gone")));
            };
            let answer: Arc<parking_lot::Mutex<Option<Reply>>> = Arc::default();
            let (told, store, asked) = (answer.clone(), node.store(), request.clone());
            let began = self.now;
            self.promises.began(request, began);
            let newest = self.machines[machine].runs_newest();
            self.machines[machine].run(async move {
                let reply = perform(store, asked, newest).await;
                *told.lock() = Some(reply);
            });
            while answer.lock().is_none() && self.now < deadline {
                self.pass()?;
            }
            let reply = answer.lock().take().unwrap_or(Reply::Unknown);
            let says_nothing = matches!(reply, Reply::Unknown | Reply::Not(_));
            let answered = Answered {
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
                    "it heals: n{machine} does not serve {request:?}: {reply:?}"
                )));
            }
        }
    }
}
