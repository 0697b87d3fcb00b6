//! Simulated clients: each asks one thing after the other, of whichever machine
//! it likes, and gives up after a while.

use std::{collections::BTreeMap, sync::Arc};

use cardea_storage::store::Snaptoken;
use parking_lot::Mutex;

use super::{
    cells::{Fresh, Reply, Request, perform},
    machine::Machine,
    promise::Answered,
};
use crate::dice::Dice;

/// How long a client waits for an answer.
const PATIENCE_MS: u64 = 12_000;
/// Of a hundred requests, those that go where the last one went.
const FAITHFUL_PERCENT: usize = 60;

/// What clients know of what the others did.
#[derive(Debug, Default)]
pub struct Common {
    next_value: u64,
    /// What was last written to a register, perhaps.
    registers: BTreeMap<u64, u64>,
    /// Who last claimed an identifier, perhaps.
    owners: BTreeMap<u64, u64>,
    /// Sessions that were issued.
    sessions: u64,
    /// What each count was last told to be, and where.
    tokens: BTreeMap<u64, (u64, Snaptoken)>,
}

/// A client.
pub struct Client {
    number: usize,
    dice: Dice,
    favourite: usize,
    next_at: u64,
    pending: Option<Pending>,
}

struct Pending {
    machine: usize,
    process: u64,
    request: Request,
    began: u64,
    answer: Arc<Mutex<Option<Reply>>>,
}

impl Client {
    /// A client that begins soon.
    pub fn new(number: usize, dice: &mut Dice) -> Self {
        Self { number, dice: dice.split(), favourite: 0, next_at: 0, pending: None }
    }

    /// Whether it waits for an answer.
    pub fn waits(&self) -> bool {
        self.pending.is_some()
    }

    /// Takes the answer, if there is one by now.
    pub fn hear(
        &mut self,
        now: u64,
        machines: &[Machine],
        common: &mut Common,
    ) -> Option<Answered> {
        let pending = self.pending.as_ref()?;
        let answer = pending.answer.lock().take();
        let process = machines[pending.machine].process.as_ref().map(|process| process.number);
        let gone = process != Some(pending.process) || now > pending.began + PATIENCE_MS;
        let reply = match answer {
            Some(reply) => reply,
            None if gone => Reply::Unknown,
            None => return None,
        };
        let Pending { machine, request, began, .. } = self.pending.take()?;
        if let (Request::Increment(n), Reply::Counted(value, token)) = (&request, &reply) {
            common.tokens.insert(*n, (*value, token.clone()));
        }
        Some(Answered { client: self.number, machine, request, reply, began, ended: now })
    }

    /// Asks something, if it is time to.
    pub fn ask(
        &mut self,
        now: u64,
        machines: &[Machine],
        common: &mut Common,
        (cells, think_ms_mean): (u64, u64),
    ) -> Option<(usize, Request)> {
        if self.pending.is_some() || now < self.next_at {
            return None;
        }
        self.next_at = now + 1 + self.dice.draw() % (2 * think_ms_mean + 1);
        if !self.dice.percent(FAITHFUL_PERCENT) {
            self.favourite = self.dice.below(machines.len());
        }
        let machine = &machines[self.favourite];
        // One that stands still takes requests, too.
        let node = machine.node()?;
        let process = machine.process.as_ref()?.number;
        let request = self.choose(common, cells);
        let answer: Arc<Mutex<Option<Reply>>> = Arc::default();
        let (told, store, asked) = (answer.clone(), node.store(), request.clone());
        machine.run(async move {
            let reply = perform(store, asked).await;
            *told.lock() = Some(reply);
        });
        self.pending = Some(Pending {
            machine: machine.number,
            process,
            request: request.clone(),
            began: now,
            answer,
        });
        Some((machine.number, request))
    }

    fn choose(&mut self, common: &mut Common, cells: u64) -> Request {
        let dice = &mut self.dice;
        let n = dice.draw() % cells;
        let mut fresh_value = || {
            common.next_value += 1;
            common.next_value
        };
        match dice.below(100) {
            0..10 => Request::Read(n),
            10..15 => {
                let value = fresh_value();
                common.registers.insert(n, value);
                Request::Write(n, value)
            }
            15..22 => {
                let value = fresh_value();
                let from = common.registers.insert(n, value).unwrap_or(0);
                Request::Swap(n, from, value)
            }
            22..32 => {
                let who = fresh_value();
                common.owners.insert(n, who);
                Request::Claim(n, who)
            }
            32..38 => Request::Release(n, common.owners.get(&n).copied().unwrap_or(1)),
            38..42 => Request::Lookup(n),
            42..48 => Request::Audit(n),
            48..58 => Request::Increment(n),
            58..68 => {
                let fresh = match (dice.below(4), common.tokens.get(&n)) {
                    (0, _) => Fresh::Strong,
                    (1, _) => Fresh::Bounded(dice.draw() % 2_000),
                    (2, Some((value, token))) => Fresh::AtLeast(token.clone(), *value),
                    _ => Fresh::Eventual,
                };
                Request::Count(n, fresh)
            }
            68..76 => Request::Take(n, dice.percent(50)),
            76..80 => Request::Free(n, dice.percent(50)),
            80..84 => Request::Sides(n),
            84..88 => {
                common.sessions += 1;
                Request::Issue(common.sessions)
            }
            88..91 => Request::Revoke(1 + dice.draw() % common.sessions.max(1)),
            91..95 => Request::Check(1 + dice.draw() % common.sessions.max(1)),
            95..97 => Request::Lend(n, dice.draw() % 6_000),
            97 => Request::Loan(n),
            _ => Request::Lent(n),
        }
    }
}
