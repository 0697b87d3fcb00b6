//! Deterministic simulation: whole nodes, each with everything from the store
//! down to the log and the calls between nodes, on one thread, over a simulated
//! network, simulated disks and simulated time, moved by one seed.
//!
//! What runs is the code that ships: `cluster`, `raft` and `storage`, openraft,
//! tonic and HTTP/2 included. Simulated are the engine (in memory, with what a
//! crash may lose), TCP (connections in memory), threads (turns), clocks and
//! chance. Left out are RocksDB, TLS, and the layers above the store.
//!
//! One process runs one seed, since libraries draw from sources that a process
//! initialises once; `cardea-simulate` seeds them before anything else, see
//! there. Reading order: [`parameters`], [`machine`], [`network`], [`replay`],
//! [`cells`] (what clients do), [`promise`] (what they are told), [`invariant`],
//! [`harm`], [`world`], [`planted`] (what must be found).

pub mod cells;
pub mod client;
pub mod harm;
pub mod invariant;
pub mod machine;
pub mod network;
pub mod parameters;
pub mod planted;
pub mod promise;
pub mod replay;
pub mod sight;
pub mod time;
pub mod trace;
pub mod world;

use std::{
    collections::BTreeMap,
    fmt,
    io::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use self::{parameters::Parameters, trace::Trace, world::World};
use crate::{dice::Dice, history::Violation};

/// What became of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Milliseconds that it lasted, in its own time.
    pub lived_ms: u64,
    /// The fingerprint of all that happened.
    pub digest: String,
    /// Lines of the trace.
    pub lines: u64,
    /// Requests: answered, of unknown outcome, not done.
    pub requests: (u64, u64, u64),
    /// How often each kind of harm was done.
    pub harmed: BTreeMap<&'static str, u64>,
    /// Backups that were looked into.
    pub backups: u64,
    /// What was broken.
    pub violation: Option<Violation>,
    /// What nobody could decide.
    pub undecided: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answered, unknown, refused) = self.requests;
        write!(
            f,
            "seed {} {} lived {} ms, requests {answered} answered {unknown} unknown {refused} not done, \
             {} backups, harm {:?}, ",
            self.seed, self.digest, self.lived_ms, self.backups, self.harmed,
        )?;
        match (&self.violation, &self.undecided) {
            (Some(violation), _) => write!(f, "BROKEN: {violation}"),
            (None, Some(what)) => write!(f, "UNDECIDED: {what}"),
            (None, None) => f.write_str("good"),
        }
    }
}

/// The time of the world.
static NOW_MS: AtomicU64 = AtomicU64::new(0);

/// How often it is looked whether time goes on.
const WATCH: Duration = Duration::from_secs(5);

/// Ends the process if the world's time does not move for so long of real time: in
/// a simulated world whoever tries again without waiting stops time. What panicked
/// before is told instead; then nobody has to wait as long.
pub fn watch_over(stuck: Duration, say: fn(&str)) {
    std::thread::spawn(move || {
        let (mut before, mut stood) = (0, Duration::ZERO);
        loop {
            std::thread::sleep(WATCH);
            let now = NOW_MS.load(Ordering::Relaxed);
            stood = if now == before { stood + WATCH } else { Duration::ZERO };
            before = now;
            let told = match panicked() {
                Some(panic) if stood >= 4 * WATCH => format!("no panic: {panic}"),
                _ if stood >= stuck => format!(
                    "time goes on: it stands still at {now} ms, somebody tries without waiting"
                ),
                _ => continue,
            };
            say(&format!("BROKEN: {told}"));
            std::process::exit(1);
        }
    });
}

static PANICKED: Mutex<Option<String>> = Mutex::new(None);

/// What a task of a node panicked with, if one did.
fn panicked() -> Option<String> {
    PANICKED.lock().clone()
}

/// Lives through the world of a seed, with harm for `harmed_ms`. The process
/// must have been seeded, too, and can do so once.
pub fn run(seed: u64, harmed_ms: u64, copy: Option<Box<dyn Write>>) -> Report {
    std::panic::set_hook(Box::new(|panic| {
        PANICKED.lock().get_or_insert(panic.to_string());
    }));
    let mut dice = Dice::new(seed);
    let parameters = Parameters::drawn(&mut dice);
    let mut trace = Trace::new(copy);
    trace.say(0, format_args!("{parameters:?}"));
    let mut world = World::new(dice.draw(), parameters, trace);
    let violation = world.live(harmed_ms).err();
    let promises = world.promises();
    Report {
        seed,
        lived_ms: world.now(),
        digest: world.trace().digest(),
        lines: world.trace().lines(),
        requests: (promises.answered, promises.unknown, promises.refused),
        harmed: world.harmed.clone(),
        backups: promises.backups,
        violation,
        undecided: world.undecided.clone(),
    }
}
