//! Simulated clients: each asks one thing after the other, of whichever machine
//! it likes, and gives up after a while.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use cardea_storage::store::Snaptoken;
use parking_lot::Mutex;

use super::{
    cells::{CellKind, Fresh, Reply, Request, books::SHELVES, perform},
    machine::Machine,
    parameters::Parameters,
    promise::Answered,
    replay::{self, Chances},
};
use crate::dice::Dice;

/// How long a client waits for an answer.
const PATIENCE_MS: u64 = 12_000;
/// Of a hundred requests, those that go where the last one went.
const FAITHFUL_PERCENT: usize = 60;
/// Requests after which a register or an identifier is left alone and a new one
/// takes its place: longer histories take too long to judge.
const HISTORY_MAX: u64 = 30;
/// What was just acknowledged and nobody has looked at.
const CHASED_MAX: usize = 4;
/// Books for each place of the other kinds.
pub const BOOKS_A_CELL: u64 = 12;

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
    /// Rows that were lent.
    loans: u64,
    /// What each count was last told to be, and where.
    tokens: BTreeMap<u64, (u64, Snaptoken)>,
    /// How often each place of a kind was used.
    turns: BTreeMap<(CellKind, u64), u64>,
    /// The book that somebody took up last.
    book: u64,
    /// Requests that are to follow one that was just acknowledged.
    chased: VecDeque<Request>,
}

impl Common {
    /// The number of the cell that is at a place now.
    fn take_turn(&mut self, kind: CellKind, place: u64, cells: u64) -> u64 {
        let turn = self.turns.entry((kind, place)).or_default();
        *turn += 1;
        place + cells * (*turn / HISTORY_MAX)
    }

    /// Every cell of a kind that was ever used.
    pub fn used(&self, kind: CellKind, cells: u64) -> Vec<u64> {
        let turns = self.turns.iter().filter(|((of, _), _)| *of == kind);
        turns
            .flat_map(|((_, place), turns)| {
                (0..=turns / HISTORY_MAX).map(move |turn| place + cells * turn)
            })
            .collect()
    }

    /// The last session and the last loan that were begun.
    pub fn begun(&self) -> (u64, u64) {
        (self.sessions, self.loans)
    }

    fn fresh_value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    /// Somebody should look at what was just acknowledged.
    fn note(&mut self, request: &Request, reply: &Reply) {
        if let (Request::Increment(n), Reply::Counted(value, token)) = (request, reply) {
            self.tokens.insert(*n, (*value, token.clone()));
        }
        if matches!(reply, Reply::Done | Reply::Unknown) {
            // Whoever swaps or releases needs what is there.
            match request {
                Request::Write(n, to) | Request::Swap(n, _, to) => {
                    self.registers.insert(*n, *to);
                }
                Request::Claim(n, who) => {
                    self.owners.insert(*n, *who);
                }
                _ => {}
            }
        }
        if !matches!(reply, Reply::Done | Reply::Counted(..) | Reply::Until(..)) {
            return;
        }
        if let Request::Free(n, _) = request {
            // Both sides are wanted at once.
            self.chase(Request::Take(*n, false));
            return self.chase(Request::Take(*n, true));
        }
        let look = match request {
            Request::Write(n, _) | Request::Swap(n, ..) => Request::Read(*n),
            Request::Claim(n, _) | Request::Release(n, _) => Request::Lookup(*n),
            Request::Increment(n) => Request::Count(*n, Fresh::Bounded(0)),
            Request::Take(n, _) => Request::Sides(*n),
            Request::Issue(n) | Request::Revoke(n) => Request::Check(*n),
            Request::Lend(n, _) | Request::Renew(n, _) => Request::Lent(*n),
            Request::Move(n, ..) => Request::Purse(*n),
            Request::Shelve(n, _) | Request::Discard(n) => Request::Book(*n),
            _ => return,
        };
        self.chase(look);
    }

    fn chase(&mut self, request: Request) {
        self.chased.push_back(request);
        if self.chased.len() > CHASED_MAX {
            self.chased.pop_front();
        }
    }
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
        common.note(&request, &reply);
        Some(Answered { client: self.number, machine, request, reply, began, ended: now })
    }

    /// Asks something, if it is time to.
    pub fn ask(
        &mut self,
        now: u64,
        machines: &[Machine],
        common: &mut Common,
        parameters: &Parameters,
        last_harmed: usize,
    ) -> Option<(usize, Request)> {
        if self.pending.is_some() {
            return None;
        }
        let chases = !common.chased.is_empty() && self.dice.percent(parameters.chase_percent);
        if now < self.next_at && !chases {
            return None;
        }
        self.next_at = now + 1 + self.dice.draw() % (2 * parameters.think_ms_mean + 1);
        if !self.dice.percent(FAITHFUL_PERCENT) {
            self.favourite = self.dice.below(machines.len());
        }
        if chases && self.dice.percent(parameters.haunt_percent) {
            self.favourite = last_harmed;
        }
        let machine = &machines[self.favourite];
        // One that stands still takes requests, too.
        let node = machine.node()?;
        let process = machine.process.as_ref()?.number;
        let chased = if chases { common.chased.pop_front() } else { None };
        let request = chased.unwrap_or_else(|| self.choose(common, parameters));
        let answer: Arc<Mutex<Option<Reply>>> = Arc::default();
        let store = match node.member() {
            Some(member) => {
                let chances = Chances {
                    replayed: parameters.replay_percent,
                    unheard: parameters.unheard_percent,
                };
                replay::over(&node.store(), member.shards(), self.dice.split(), chances)
            }
            None => node.store(),
        };
        let (told, asked) = (answer.clone(), request.clone());
        let newest = machine.runs_newest();
        machine.run(async move {
            let reply = perform(store, asked, newest).await;
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

    fn choose(&mut self, common: &mut Common, parameters: &Parameters) -> Request {
        let cells = parameters.cells;
        let place = self.dice.draw() % cells;
        let shares = parameters.mix.shares();
        let mut drawn = self.dice.draw() % shares.iter().sum::<u64>().max(1);
        let kind = shares.iter().position(|share| match drawn.checked_sub(*share) {
            Some(left) => {
                drawn = left;
                false
            }
            None => true,
        });
        match kind {
            Some(1) => self.identifier(common, place, cells),
            Some(2) => self.count(common, place),
            Some(3) => match self.dice.below(100) {
                0..40 => Request::Take(place, self.dice.percent(50)),
                40..75 => Request::Free(place, self.dice.percent(50)),
                _ => Request::Sides(place),
            },
            Some(4) => self.session(common),
            Some(5) => self.loan(common, parameters.loan_ms_max),
            Some(6) => match self.dice.below(100) {
                0..60 => Request::Move(place, 1 + self.dice.draw() % 20, self.dice.percent(50)),
                _ => Request::Purse(place),
            },
            Some(7) => self.book(common, cells, parameters.again_and_again_percent),
            _ => self.register(common, place, cells),
        }
    }

    fn book(&mut self, common: &mut Common, cells: u64, again_percent: usize) -> Request {
        // Many, so that most are left alone for long; and some that are moved on at once, before
        // what moved them first can have come again.
        if !self.dice.percent(again_percent) {
            common.book = self.dice.draw() % (BOOKS_A_CELL * cells);
        }
        let n = common.book;
        match self.dice.below(100) {
            0..50 => Request::Shelve(n, self.dice.draw() % SHELVES),
            50..65 => Request::Discard(n),
            _ => Request::Book(n),
        }
    }

    fn register(&mut self, common: &mut Common, place: u64, cells: u64) -> Request {
        let n = common.take_turn(CellKind::Register, place, cells);
        match self.dice.below(100) {
            0..40 => Request::Read(n),
            40..65 => {
                let value = common.fresh_value();
                Request::Write(n, value)
            }
            _ => {
                let value = common.fresh_value();
                let from = common.registers.get(&n).copied().unwrap_or(0);
                Request::Swap(n, from, value)
            }
        }
    }

    fn identifier(&mut self, common: &mut Common, place: u64, cells: u64) -> Request {
        let n = common.take_turn(CellKind::Identifier, place, cells);
        match self.dice.below(100) {
            0..35 => {
                let who = common.fresh_value();
                Request::Claim(n, who)
            }
            35..55 => Request::Release(n, common.owners.get(&n).copied().unwrap_or(1)),
            55..70 => Request::Lookup(n),
            70..80 => Request::Owner(n),
            _ => Request::Audit(n),
        }
    }

    fn count(&mut self, common: &mut Common, n: u64) -> Request {
        let dice = &mut self.dice;
        if dice.percent(50) {
            return Request::Increment(n);
        }
        let fresh = match (dice.below(5), common.tokens.get(&n)) {
            (0, _) => Fresh::Strong,
            (1, _) => Fresh::Bounded(dice.draw() % 2_000),
            (2, _) => Fresh::Bounded(dice.draw() % 50),
            (3, Some((value, token))) => Fresh::AtLeast(token.clone(), *value),
            _ => Fresh::Eventual,
        };
        Request::Count(n, fresh)
    }

    fn session(&mut self, common: &mut Common) -> Request {
        let known = |dice: &mut Dice, last: u64| {
            // Mostly one of the last.
            let back = if dice.percent(80) { last.min(6) } else { last };
            last - dice.draw() % back.max(1)
        };
        match self.dice.below(100) {
            0..35 => {
                common.sessions += 1;
                Request::Issue(common.sessions)
            }
            35..60 => Request::Revoke(known(&mut self.dice, common.sessions.max(1))),
            _ => Request::Check(known(&mut self.dice, common.sessions.max(1))),
        }
    }

    fn loan(&mut self, common: &mut Common, ms_max: u64) -> Request {
        let last = common.loans.max(1);
        // One that may be there yet.
        let known = last - self.dice.draw() % last.min(4);
        let ms = self.dice.draw() % ms_max;
        match self.dice.below(100) {
            0..20 => {
                common.loans += 1;
                Request::Lend(common.loans, ms)
            }
            20..65 => Request::Renew(known, ms),
            65..80 => Request::Lent(known),
            _ => Request::Loan(known),
        }
    }
}
