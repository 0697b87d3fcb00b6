//! The layer over one store in this process, on RocksDB: no network and no log, so
//! what remains is the check itself. Nothing is kept from one check to the next but
//! the compiled language and the engine's block cache.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cardea_permission::{
    Context, Relationship, Service, Subject, Tuple, change::NewLanguage, engine::Limits,
    list::PageRequest, opl::SourceFile,
};
use cardea_storage::{
    Clock, Consistency, KeyId, Keyring, ManualClock, Secret, SeededEntropy, Slot, Space, Tenant,
    Timestamp,
    engine::{
        Engine, Usage,
        rocks::{RocksDisk, RocksSettings},
    },
    local::LocalShards,
    protocol::shards::Shards as _,
};
use serde::Serialize;
use tokio::task::JoinSet;

use super::{
    Round,
    model::{LANGUAGE, Model, Scale},
};
use crate::{cost::Process, latency::Latencies};

/// Whose tuples they are.
const TENANT: Tenant = Tenant(0);

/// A filled store.
pub struct Filled {
    service: Arc<Service>,
    shards: Arc<LocalShards>,
    at: PathBuf,
}

/// What filling it came to.
#[derive(Debug, Clone, Serialize)]
pub struct Import {
    /// Tuples.
    pub tuples: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Processor time, flushes and compactions with it, in seconds.
    pub cpu_seconds: f64,
    /// Bytes on disk after everything was compacted.
    pub disk_bytes: u64,
    /// Resident bytes of this process then.
    pub resident_bytes: u64,
}

/// What listing objects came to.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// Of whom.
    pub of: String,
    /// Results in all.
    pub results: u64,
    /// The first page of a thousand, in milliseconds.
    pub first_page_ms: f64,
    /// All pages, in milliseconds.
    pub all_ms: f64,
}

/// Tuples in one part of the import.
const PART: usize = 20_000;
/// How many questions are made ready beforehand, so that making them costs nothing.
const READY: u64 = 20_000;

impl Filled {
    /// Fills a new store below `at`, which must not be in use.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn new(
        at: &Path,
        scale: Scale,
        cache_bytes: usize,
    ) -> anyhow::Result<(Self, Import)> {
        std::fs::remove_dir_all(at).ok();
        let settings = RocksSettings { block_cache_bytes: cache_bytes, ..RocksSettings::default() };
        let disk = RocksDisk::new(settings)?;
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp(1_800_000_000_000)));
        let shards = LocalShards::open(&disk, at, 1, clock)?;
        let ring = Keyring::new(vec![(KeyId(1), Secret::new([1; 32]))]).context("a key")?;
        let store = shards.store(Arc::new(SeededEntropy::new(1)));
        let service = Arc::new(Service::new(store, &ring, Limits::default()));
        let files = vec![SourceFile { name: "main.ts".to_owned(), text: LANGUAGE.to_owned() }];
        service.put_language(TENANT, NewLanguage { files, follows: None, force: false }).await?;
        let (began, before) = (Instant::now(), Process::generator().cpu_seconds()?);
        let (mut tuples, mut all) = (0, scale.tuples());
        loop {
            let part: Vec<Relationship> = all.by_ref().take(PART).map(Relationship::from).collect();
            if part.is_empty() {
                break;
            }
            tuples += part.len() as u64;
            service.import(TENANT, part).await?;
        }
        let (seconds, used) = (began.elapsed().as_secs_f64(), Process::generator().cpu_seconds()?);
        let filled = Self { service, shards, at: at.to_owned() };
        let engine = filled.engine()?;
        tokio::task::spawn_blocking(move || engine.compact()).await??;
        let import = Import {
            tuples,
            seconds,
            cpu_seconds: used - before,
            disk_bytes: filled.usage()?.disk_bytes,
            resident_bytes: Process::generator().resident_bytes()?,
        };
        Ok((filled, import))
    }

    fn engine(&self) -> anyhow::Result<Arc<dyn Engine>> {
        let shard = self.shards.locate(Slot::new(Space::Graph, 0))?;
        Ok(self.shards.machine(shard).context("the graph has no shard")?.engine())
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        Ok(self.engine()?.usage())
    }

    /// Asks a model's questions for a while.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn check(
        &self,
        scale: Scale,
        model: Model,
        clients: usize,
        over: Duration,
    ) -> anyhow::Result<Round> {
        let asked: Arc<Vec<Tuple>> = Arc::new(ready(scale, model).collect());
        let wrong = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        let (began, before) = (Instant::now(), Process::generator().cpu_seconds()?);
        for client in 0..clients {
            let (service, asked, wrong) = (self.service.clone(), asked.clone(), wrong.clone());
            tasks.spawn(async move {
                let mut latencies = Latencies::default();
                let mut at = client * 7919 % asked.len();
                while began.elapsed() < over {
                    let sent = Instant::now();
                    let answer = service.check(TENANT, &asked[at], 0, Consistency::Strong).await;
                    latencies.record(sent.elapsed());
                    if !answer.is_ok_and(|answer| answer.value == model.holds()) {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                    at = (at + 1) % asked.len();
                    // Nothing waits here, so the others get their turn.
                    tokio::task::yield_now().await;
                }
                latencies
            });
        }
        let mut all = Latencies::default();
        while let Some(done) = tasks.join_next().await {
            all.merge(&done?);
        }
        let elapsed = began.elapsed().as_secs_f64();
        let used = Process::generator().cpu_seconds()? - before;
        Ok(Round {
            model: model.name(),
            of: "in process".to_owned(),
            clients,
            rate: all.count() as f64 / elapsed,
            cpu_us: used * 1e6 / all.count().max(1) as f64,
            latency: all.summary(),
            wrong: wrong.load(Ordering::Relaxed),
        })
    }

    /// Lists the documents that somebody views.
    ///
    /// # Errors
    /// If the store fails, or the list is not as long as it must be.
    pub async fn list(&self, subject: &Subject, results: u64) -> anyhow::Result<Listed> {
        let (began, mut first_page_ms, mut found) = (Instant::now(), 0.0, 0);
        let given = Context::new();
        let mut page = PageRequest { size: 1_000, token: None };
        loop {
            let strong = Consistency::Strong;
            let listed = self
                .service
                .list_objects(TENANT, "Doc", "view", subject, &given, &page, strong)
                .await?;
            if found == 0 {
                first_page_ms = began.elapsed().as_secs_f64() * 1e3;
            }
            found += listed.value.items.len() as u64;
            page.token = listed.value.next;
            if page.token.is_none() {
                break;
            }
        }
        anyhow::ensure!(found == results, "{found} objects were listed, not {results}");
        let of = "in process".to_owned();
        Ok(Listed { of, results, first_page_ms, all_ms: began.elapsed().as_secs_f64() * 1e3 })
    }

    /// Removes it from the disk.
    pub fn remove(self) {
        let at = self.at.clone();
        drop(self);
        std::fs::remove_dir_all(at).ok();
    }
}

/// A model's questions, in an order that no cache could learn.
pub fn ready(scale: Scale, model: Model) -> impl Iterator<Item = Tuple> {
    let different = scale.questions(model);
    (0..READY.min(different * 4))
        .map(move |number| scale.question(model, number.wrapping_mul(1_000_003) % different))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::model::Ids;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_model_is_answered_as_it_must_be() {
        let directory = tempfile::tempdir().unwrap();
        let scale = Scale::of(2_000, Ids::Short);
        let (filled, import) =
            Filled::new(&directory.path().join("store"), scale, 8 << 20).await.unwrap();
        assert_eq!(import.tuples, scale.tuples().count() as u64);
        for model in Model::ALL {
            let round = filled.check(scale, model, 4, Duration::from_millis(100)).await.unwrap();
            assert_eq!(round.wrong, 0, "{round:?}");
            assert!(round.latency.count > 0, "{round:?}");
        }
        for &results in scale.lists() {
            filled.list(&scale.lister(results), results).await.unwrap();
        }
    }
}
