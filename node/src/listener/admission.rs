//! Who is served when more is asked for than can be: refused here, before anything was
//! paid for a request, and not where its write is proposed.
//!
//! 1. A route belongs to a [`Class`], and each class has room of its own: who waits for a
//!    password to be hashed, or for a disk, takes no place of those who ask for a session.
//!    What a node says of itself and what operators tell it belong to none, and pass.
//! 2. Every answer is compared with the quickest that its route gave in the last minutes:
//!    what is far away or much is slow always, and is no overload. If most answers were
//!    late, and for longer than a burst, a queue stands somewhere behind this listener, and
//!    fewer are let in; once they are in time again, more are (the delay is CoDel's,
//!    RFC 8289; the limit is raised and lowered as by Netflix's concurrency limits).
//! 3. Who finds no place waits a moment for one, and the newest gets the next: the oldest
//!    has the least patience left. Whoever waited in vain is told to come again.
//!
//! Nobody is refused while fewer than the least limit are under way, nor before answers
//! were late: a burst that is served in time passes as a whole.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use http::{Method, StatusCode};
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use crate::telemetry::registry::{MetricsSource, Samples};

/// So much longer than its route's quickest an answer takes that is late. Not that a leader is
/// far all at once, because the near one is gone: two trips around the world are no overload.
const LATE: Duration = Duration::from_millis(800);
/// How often answers are judged.
const JUDGED_EVERY: Duration = Duration::from_millis(100);
/// So often in a row most were late before fewer are let in: what lasts less is a burst.
const BURST_MAX: u32 = 5;
/// The same while fewer are let in already.
const RELAPSE_MAX: u32 = 2;
/// How long one waits for a place.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// How long a route's quickest answer counts at least, and twice as long at most.
const QUICKEST_FOR: Duration = Duration::from_secs(60);
/// What counts as quick at most: an overload that lasts is not taken for the way.
const QUICKEST_MAX: Duration = Duration::from_secs(1);
/// So many of a class are under way at most, however quick they are.
const LIMIT_MAX: usize = 8_192;

/// Requests that wait for the same things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Asks.
    Read,
    /// Changes something.
    Write,
    /// Goes on with a flow that was begun, or makes people: a password may be hashed, for
    /// which there is a queue with a bound of its own.
    Hashing,
}

impl Class {
    const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Hashing];

    /// The class of a route of the layers.
    pub fn of(method: &Method, path: &str) -> Self {
        let makes_people = path == "/admin/identities" && !method.is_safe()
            || path == "/admin/identities/{id}" && *method == Method::PUT;
        if makes_people || path.starts_with("/self-service/") && *method == Method::POST {
            Self::Hashing
        } else if method.is_safe() {
            Self::Read
        } else {
            Self::Write
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Hashing => "hashing",
        }
    }

    /// So many may be under way in any case. More may wait to be hashed than the queue for
    /// it takes, so that it is that queue which refuses them.
    const fn limit_min(self) -> usize {
        match self {
            Self::Read | Self::Write => 128,
            Self::Hashing => 512,
        }
    }
}

/// There is no place now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overloaded;

/// The places of all listeners of a node.
#[derive(Debug, Clone)]
pub struct Admission([Arc<Room>; 3]);

/// The places of a class.
#[derive(Debug)]
struct Room(Mutex<State>);

#[derive(Debug)]
struct State {
    limit_min: usize,
    limit_max: usize,
    limit: usize,
    under_way: usize,
    /// By arrival.
    waiting: BTreeMap<u64, oneshot::Sender<Place>>,
    arrivals: u64,
    routes: HashMap<(&'static str, Method), Quickest>,
    judged_at: Instant,
    /// Answers since then.
    answers: usize,
    /// Of these, the late ones.
    late: usize,
    /// So often in a row most were.
    late_in_a_row: u32,
    admitted_total: u64,
    refused_total: u64,
}

/// The quickest answer of a route.
#[derive(Debug)]
struct Quickest {
    since: Instant,
    former: Duration,
    now: Duration,
}

/// A place of one that is under way; given back when dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    entered: Option<Entered>,
}

#[derive(Debug)]
struct Entered {
    at: Instant,
    route: (&'static str, Method),
    is_answered: bool,
}

impl Admission {
    /// Everybody is let in at first.
    pub fn new() -> Self {
        Self::within(Class::limit_min, LIMIT_MAX)
    }

    /// With other limits.
    pub(crate) fn within(limit_min: impl Fn(Class) -> usize, limit_max: usize) -> Self {
        Self(Class::ALL.map(|class| Room::new(limit_min(class), limit_max)))
    }

    /// A place for a request of this route.
    ///
    /// # Errors
    /// If none is free and none gets free within a moment.
    pub async fn enter(
        &self,
        class: Class,
        method: &Method,
        path: &'static str,
    ) -> Result<Place, Overloaded> {
        let room = self.room(class);
        let mut place = match room.place() {
            Ok(place) => place,
            Err((arrival, freed)) => {
                let _leaves = Leaves { room, arrival };
                let waited = tokio::time::timeout(WAIT_MAX, freed).await;
                waited.ok().and_then(Result::ok).ok_or(Overloaded).inspect_err(|_| {
                    room.0.lock().refused_total += 1;
                })?
            }
        };
        let route = (path, method.clone());
        place.entered = Some(Entered { at: Instant::now(), route, is_answered: false });
        room.0.lock().admitted_total += 1;
        Ok(place)
    }

    fn room(&self, class: Class) -> &Arc<Room> {
        &self.0[class as usize]
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self::new()
    }
}

impl MetricsSource for Admission {
    fn gather(&self, samples: &mut Samples) {
        for class in Class::ALL {
            let state = self.room(class).0.lock();
            let labels = || vec![("class", class.name().to_owned())];
            for (name, help, value) in [
                ("http_limit", "Requests that may be under way", state.limit),
                ("http_under_way", "Requests under way", state.under_way),
                ("http_waiting", "Requests that wait to be let in", state.waiting.len()),
            ] {
                samples.gauge(name, help, labels(), value as f64);
            }
            let (admitted, refused) = (state.admitted_total, state.refused_total);
            samples.counter("http_admitted", "Requests let in", labels(), admitted);
            samples.counter("http_refused", "Requests refused by overload", labels(), refused);
        }
    }
}

impl Room {
    fn new(limit_min: usize, limit_max: usize) -> Arc<Self> {
        let state = State {
            limit_min,
            limit_max,
            limit: limit_max,
            under_way: 0,
            waiting: BTreeMap::new(),
            arrivals: 0,
            routes: HashMap::new(),
            judged_at: Instant::now(),
            answers: 0,
            late: 0,
            late_in_a_row: 0,
            admitted_total: 0,
            refused_total: 0,
        };
        Arc::new(Self(Mutex::new(state)))
    }

    /// A place, or where to wait for one.
    fn place(self: &Arc<Self>) -> Result<Place, (u64, oneshot::Receiver<Place>)> {
        let mut state = self.0.lock();
        state.judge();
        if state.under_way < state.limit {
            state.under_way += 1;
            return Ok(Place { room: self.clone(), entered: None });
        }
        // The oldest is refused in place of the newest.
        if state.waiting.len() >= state.limit {
            state.waiting.pop_first();
        }
        let (frees, freed) = oneshot::channel();
        let arrival = state.arrivals;
        state.arrivals += 1;
        state.waiting.insert(arrival, frees);
        Err((arrival, freed))
    }

    fn leave(self: &Arc<Self>, entered: Option<Entered>) {
        let mut state = self.0.lock();
        if let Some(entered) = entered {
            state.note(entered);
        }
        state.judge();
        state.under_way -= 1;
        while state.under_way < state.limit {
            let Some((_, frees)) = state.waiting.pop_last() else { break };
            if frees.is_closed() {
                continue;
            }
            state.under_way += 1;
            drop(state);
            // If it left meanwhile, the place comes back by being dropped.
            drop(frees.send(Place { room: self.clone(), entered: None }));
            state = self.0.lock();
        }
    }
}

impl State {
    fn note(&mut self, entered: Entered) {
        let (took, now) = (entered.at.elapsed(), Instant::now());
        let fresh = Quickest { since: now, former: QUICKEST_MAX, now: took.min(QUICKEST_MAX) };
        let quickest = self.routes.entry(entered.route).or_insert(fresh);
        if now - quickest.since >= QUICKEST_FOR {
            quickest.former = std::mem::replace(&mut quickest.now, QUICKEST_MAX);
            quickest.since = now;
        }
        let is_late = took > quickest.former.min(quickest.now) + LATE;
        // Who is refused further in, or gone before the answer, was not served quickly.
        if entered.is_answered {
            quickest.now = quickest.now.min(took);
        }
        if entered.is_answered || is_late {
            self.answers += 1;
            self.late += usize::from(is_late);
        }
    }

    /// Moves the limit by what was answered since it was judged last.
    fn judge(&mut self) {
        let now = Instant::now();
        let since = now - self.judged_at;
        if since < JUDGED_EVERY {
            return;
        }
        self.judged_at = now;
        let (answers, late) = (std::mem::take(&mut self.answers), std::mem::take(&mut self.late));
        if answers > 0 && late * 4 >= answers * 3 {
            self.late_in_a_row += 1;
            let patience = if self.limit < self.limit_max { RELAPSE_MAX } else { BURST_MAX };
            if self.late_in_a_row >= patience {
                self.limit = (self.limit.min(self.under_way) * 3 / 4).max(self.limit_min);
            }
            return;
        }
        // Where nothing is answered nothing is known, unless there was nothing to answer.
        if answers == 0 && self.under_way > 0 {
            return;
        }
        self.late_in_a_row = 0;
        for _ in 0..(since.as_millis() / JUDGED_EVERY.as_millis()).min(64) {
            self.limit = (self.limit + self.limit / 16 + 1).min(self.limit_max);
        }
    }
}

impl Place {
    /// The request was answered so.
    pub fn answered(mut self, status: StatusCode) {
        if let Some(entered) = &mut self.entered {
            entered.is_answered =
                !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.leave(self.entered.take());
    }
}

/// One that waits; takes itself off the list.
struct Leaves<'a> {
    room: &'a Room,
    arrival: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.room.0.lock().waiting.remove(&self.arrival);
    }
}

#[cfg(test)]
mod tests;
