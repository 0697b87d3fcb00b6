//! What a permission check costs by itself: the layer over one store in this process,
//! without a network and without a log, on both engines.
//!
//! The only run that links the crates that it measures. Every check is a request of
//! its own, with nothing kept from the one before but the compiled language; questions
//! are drawn at random over all objects. `strong` and `local` are the same here, for
//! nobody else holds the data.

use std::{
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cardea_permission::{
    Service, Tuple,
    change::NewLanguage,
    engine::Limits,
    opl::SourceFile,
    write::{CHANGES_MAX, Change},
};
use cardea_storage::{
    Clock, Consistency, KeyId, Keyring, ManualClock, Secret, SeededEntropy, Tenant, Timestamp,
    engine::{
        Disk,
        memory::MemoryDisk,
        rocks::{RocksDisk, RocksSettings},
    },
    local::LocalShards,
};

use crate::{latency::Latencies, table::Table, table::whole};

/// Options of the run.
#[derive(Debug, clap::Args)]
pub struct ChecksArgs {
    /// Tuples beside those of the models
    #[arg(long, default_value_t = 100_000)]
    tuples: u32,
    /// How long each figure is taken over
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Where the tablets of RocksDB are made
    #[arg(long, default_value = "target/bench/checks")]
    data: std::path::PathBuf,
}

const TENANT: Tenant = Tenant(0);
/// Groups that models are spread over, so that not one key is read again and again.
const COPIES: u32 = 100;
const WIDE: u32 = 10_000;

const LANGUAGE: &str = "
class User implements Namespace {}
class Group implements Namespace { related: { members: (User | SubjectSet<Group, \"members\">)[] } }
class Folder implements Namespace {
  related: { parents: Folder[]; viewers: (User | SubjectSet<Group, \"members\">)[] }
  permits = {
    view: (ctx: Context): boolean =>
      this.related.viewers.includes(ctx.subject) ||
      this.related.parents.traverse((p) => p.permits.view(ctx)),
  }
}";

/// A question, drawn by number.
type Question = fn(u32) -> String;

const MODELS: [(&str, Question, bool); 7] = [
    ("direct", |at| format!("Group:direct-{at}#members@user-{at}"), true),
    ("3 hops", |at| format!("Group:short-{at}-0#members@user-{at}"), true),
    ("10 hops", |at| format!("Group:long-{at}-0#members@user-{at}"), true),
    ("group of 10,000, member", |at| format!("Group:wide#members@user-{}", at * 97 % WIDE), true),
    ("group of 10,000, stranger", |at| format!("Group:wide#members@stranger-{at}"), false),
    ("folder 50 deep, viewer", |at| format!("Folder:deep-{at}-0#view@user-{at}"), true),
    ("folder 50 deep, stranger", |at| format!("Folder:deep-{at}-0#view@stranger"), false),
];

/// Runs it.
///
/// # Errors
/// If the store fails, or a check gives another answer than it must.
pub async fn run(args: &ChecksArgs) -> anyhow::Result<()> {
    let mut table = Table::new(["check", "engine", "checks/s", "p50 µs", "p99 µs"]);
    std::fs::create_dir_all(&args.data)?;
    let rocks = RocksDisk::new(RocksSettings::default())?;
    let memory = MemoryDisk::new(1);
    let engines: [(&str, &dyn Disk); 2] = [("memory", &memory), ("RocksDB", &rocks)];
    for (engine, disk) in engines {
        let at = args.data.join(engine);
        std::fs::remove_dir_all(&at).ok();
        let (service, took, made) = filled(disk, &at, args.tuples).await?;
        let rate = f64::from(made) / took.as_secs_f64();
        say(&format!("{engine}: {made} tuples made, {}/s", whole(rate)))?;
        for (name, question, expected) in MODELS {
            let (rate, latencies) =
                measured(&service, question, expected, Duration::from_secs(args.seconds)).await?;
            let summary = latencies.summary();
            table.row([
                name.to_owned(),
                engine.to_owned(),
                whole(rate),
                format!("{:.0}", summary.p50_ms * 1000.0),
                format!("{:.0}", summary.p99_ms * 1000.0),
            ]);
        }
        std::fs::remove_dir_all(&at).ok();
    }
    say(&table.to_string())
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

async fn filled(
    disk: &dyn Disk,
    at: &Path,
    tuples: u32,
) -> anyhow::Result<(Service, Duration, u32)> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp(1_800_000_000_000)));
    let shards = LocalShards::open(disk, at, 1, clock)?;
    let ring = Keyring::new(vec![(KeyId(1), Secret::new([1; 32]))]).context("a key")?;
    let store = shards.store(Arc::new(SeededEntropy::new(1)));
    let service = Service::new(store, &ring, Limits::default());
    let files = vec![SourceFile { name: "main.ts".to_owned(), text: LANGUAGE.to_owned() }];
    service.put_language(TENANT, NewLanguage { files, follows: None, force: false }).await?;
    let (mut made, mut left) = (0, Vec::new());
    let began = Instant::now();
    for text in texts(tuples) {
        left.push(Change::Insert(text.parse::<Tuple>()?.into()));
        made += 1;
        if left.len() == CHANGES_MAX {
            service.change_tuples(TENANT, std::mem::take(&mut left)).await?;
        }
    }
    service.change_tuples(TENANT, left).await?;
    Ok((service, began.elapsed(), made))
}

fn texts(filler: u32) -> impl Iterator<Item = String> {
    let models = (0..COPIES).flat_map(|at| {
        let chain = move |name: &'static str, hops: u32| {
            let links = (1..hops).map(move |hop| {
                format!("Group:{name}-{at}-{}#members@(Group:{name}-{at}-{hop}#members)", hop - 1)
            });
            links.chain([format!("Group:{name}-{at}-{}#members@user-{at}", hops - 1)])
        };
        let folders = (1..50).map(move |deep| {
            format!("Folder:deep-{at}-{}#parents@(Folder:deep-{at}-{deep})", deep - 1)
        });
        [format!("Group:direct-{at}#members@user-{at}")]
            .into_iter()
            .chain(chain("short", 3))
            .chain(chain("long", 10))
            .chain(folders)
            .chain([format!("Folder:deep-{at}-49#viewers@user-{at}")])
    });
    let wide = (0..WIDE).map(|at| format!("Group:wide#members@user-{at}"));
    let filler = (0..filler).map(|at| format!("Folder:file-{at}#viewers@user-{}", at % 10_000));
    models.chain(wide).chain(filler)
}

async fn measured(
    service: &Service,
    question: Question,
    expected: bool,
    over: Duration,
) -> anyhow::Result<(f64, Latencies)> {
    let asked: Vec<Tuple> = (0..COPIES).map(|at| question(at).parse()).collect::<Result<_, _>>()?;
    let mut latencies = Latencies::default();
    let began = Instant::now();
    let mut at = 0_usize;
    while began.elapsed() < over {
        // Strides over the copies, in no order that a cache could learn.
        at = (at + 37) % asked.len();
        let sent = Instant::now();
        let answer = service.check(TENANT, &asked[at], 0, Consistency::Strong).await?;
        latencies.record(sent.elapsed());
        anyhow::ensure!(answer.value == expected, "{} is {}", asked[at], answer.value);
    }
    Ok((latencies.count() as f64 / began.elapsed().as_secs_f64(), latencies))
}
