//! A rolling upgrade, in worlds that have one: to a binary that brings an index.

use super::World;
use crate::{
    history::Violation,
    simulation::{
        cells::{Request, books::SHELVES},
        client::BOOKS_A_CELL,
        machine::Power,
        sight,
    },
};

/// Within what the first machine must be back.
const UPGRADED_MS_MAX: u64 = 120_000;

impl World {
    /// One machine gets the newest binary, and both write books in turn, in peace: what
    /// the index must make good is there in every such world. When the others get it
    /// is drawn.
    pub(super) fn begin_upgrade(&mut self) -> Result<(), Violation> {
        if self.parameters.upgrade_ms == 0 {
            return Ok(());
        }
        let (older, newer) = (0, 1);
        self.machines[newer].upgrades_at = self.now;
        self.upgrade();
        self.until("the first machine is upgraded", UPGRADED_MS_MAX, |world| {
            world.machines[newer].runs_newest()
                && sight::is_formed(&world.machines, &world.parameters)
        })?;
        for book in 0..BOOKS_A_CELL {
            let on = book % SHELVES;
            if book % 4 > 0 {
                self.ask_until_answered(newer, &Request::Shelve(book, on))?;
            }
            match book % 4 {
                // The index has never heard of it.
                0 => self.ask_until_answered(older, &Request::Shelve(book, on))?,
                // It has it on another shelf, or though it is gone.
                1 => self.ask_until_answered(older, &Request::Shelve(book, (on + 1) % SHELVES))?,
                2 => self.ask_until_answered(older, &Request::Discard(book))?,
                _ => {}
            }
        }
        let now = self.now;
        for machine in self.machines.iter_mut().filter(|machine| machine.upgrades_at > now) {
            machine.upgrades_at = now + 1 + self.dice.draw() % self.parameters.upgrade_ms;
        }
        Ok(())
    }

    /// Restarts machines that are to have the newest binary and run the one before.
    pub(super) fn upgrade(&mut self) {
        for at in 0..self.machines.len() {
            let machine = &self.machines[at];
            let due = machine.upgrades_at <= self.now && machine.process.is_some();
            if due && !machine.runs_newest() {
                let down_ms = 50 + self.dice.draw() % 1_000;
                self.crash(at, Power::On, down_ms);
            }
        }
    }
}
