//! A service over a store in this process, and a reference engine that is too simple
//! to be wrong.

pub(crate) mod model;
pub(crate) mod reference;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use cardea_storage::{
    Consistency, KeyId, Keyring, ManualClock, Secret, SeededEntropy, Snaptoken, Store, Tenant,
    Timestamp, engine::memory::MemoryDisk, local::LocalShards,
};

use crate::{
    Answered, Service, Tuple, change::NewLanguage, engine::Limits, opl::SourceFile,
    reverse::flow::Taker, write::Change,
};

/// When every test begins.
pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000);
/// Whose everything is.
pub(crate) const TENANT: Tenant = Tenant(0);

/// What a test works with.
pub(crate) struct World {
    pub(crate) service: Service,
    pub(crate) clock: Arc<ManualClock>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let disk = MemoryDisk::new(1);
        let shards = LocalShards::open(&disk, Path::new("test"), 1, clock.clone()).unwrap();
        Self::over(shards.store(Arc::new(SeededEntropy::new(7))), clock, limits)
    }

    pub(crate) fn over(store: Arc<dyn Store>, clock: Arc<ManualClock>, limits: Limits) -> Self {
        Self { service: Service::new(store, &ring(), limits), clock }
    }

    /// A world with a language and tuples.
    pub(crate) async fn of(language: &str, tuples: &[&str]) -> Self {
        let world = Self::new();
        world.speak(language).await;
        world.insert(tuples).await;
        world
    }

    pub(crate) async fn speak(&self, text: &str) -> Snaptoken {
        let new = NewLanguage { files: files(text), follows: None, force: true };
        self.service.put_language(TENANT, new).await.unwrap().1
    }

    pub(crate) async fn insert(&self, tuples: &[&str]) -> Snaptoken {
        let mut token = Snaptoken::default();
        for part in tuples.chunks(500) {
            let changes = part.iter().map(|text| Change::Insert(tuple(text).into())).collect();
            token.merge(&self.service.change_tuples(TENANT, changes).await.unwrap());
        }
        token
    }

    pub(crate) async fn delete(&self, text: &str) -> Snaptoken {
        let changes = vec![Change::Delete(tuple(text))];
        self.service.change_tuples(TENANT, changes).await.unwrap()
    }

    /// Yes, no, or why neither.
    pub(crate) async fn check(&self, text: &str) -> String {
        let answer = self.service.check(TENANT, &tuple(text), 0, Consistency::Strong).await;
        match answer {
            Ok(answer) if answer.value => "yes".to_owned(),
            Ok(_) => "no".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

/// Takes what a look-up gives.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) names: Vec<String>,
    pub(crate) parts: usize,
    pub(crate) at: Vec<Snaptoken>,
    /// After which part it is enough.
    pub(crate) parts_max: Option<usize>,
}

#[async_trait]
impl Taker for Taken {
    async fn take(&mut self, names: Answered<Vec<String>>) -> bool {
        self.parts += 1;
        self.names.extend(names.value);
        self.at.push(names.snaptoken);
        self.at.dedup();
        self.parts_max.is_none_or(|most| self.parts < most)
    }
}

/// The cluster's keys.
pub(crate) fn ring() -> Keyring {
    Keyring::new(vec![(KeyId(1), Secret::new([1; 32]))]).unwrap()
}

/// A language of one file.
pub(crate) fn files(text: &str) -> Vec<SourceFile> {
    vec![SourceFile { name: "main.ts".to_owned(), text: text.to_owned() }]
}

/// A tuple.
pub(crate) fn tuple(text: &str) -> Tuple {
    text.parse().unwrap()
}
