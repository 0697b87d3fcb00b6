//! A service over a store in this process, with a clock that is advanced and a
//! store that counts.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use cardea_storage::{
    Clock, Consistency, KeyId, Keyring, ManualClock, Secret, SeededEntropy, Slot, Snaptoken, Space,
    Store, StoreError, Through, Timestamp,
    engine::memory::MemoryDisk,
    key::slot_of,
    local::LocalShards,
    store::{Draft, Read, ReadAnswer, ReadRequest, Verdict},
    txn::{Condition, Effect},
};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    Client, FlowId, Keys, Scope, Service, Settings,
    flow::{
        BeginLogin, BeginRegistration, BeginRejection, BeginSettings, Flow, LoggedIn,
        LoginRejection, LoginSubmission, Registered, RegistrationRejection, RegistrationSubmission,
        SettingsRejection, SettingsSubmission,
    },
    identity::{CreateRejection, NewIdentity, NewPassword},
    model::{CsrfDigest, Identity},
    password::Argon2Cost,
    schema::Schemas,
    session::Proof,
};

/// When every test begins.
pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000);
/// A password that the policy takes.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// The browser of a test's person.
pub(crate) const BROWSER: CsrfDigest = CsrfDigest([7; 32]);

/// What a test works with.
pub(crate) struct World {
    pub(crate) service: Arc<Service>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) counted: Arc<Counted>,
    pub(crate) scope: Scope,
}

/// Reads, and what they were answered.
type Given = (Vec<Read>, ReadAnswer);

/// A store that counts what is asked of it, and fails when told.
pub(crate) struct Counted {
    inner: Arc<dyn Store>,
    pub(crate) reads: AtomicUsize,
    pub(crate) rows: AtomicUsize,
    pub(crate) commits: AtomicUsize,
    pub(crate) ops: AtomicUsize,
    /// What the last commit named lay in these.
    pub(crate) spaces: Mutex<BTreeSet<Space>>,
    pub(crate) fails: AtomicBool,
    /// How often a quorum was asked, one question after the other: those asked at once
    /// count as one.
    pub(crate) rounds: AtomicUsize,
    asking: AtomicUsize,
    /// What local reads have answered, and answer again: a replica that falls behind.
    pub(crate) behind: Mutex<Option<Vec<Given>>>,
    /// This node's own clock, where it is not the store's.
    pub(crate) skewed: OnceLock<Arc<dyn Clock>>,
    /// What happens before a read, and how many are left until then.
    pub(crate) meanwhile: Mutex<Option<(usize, BoxFuture<'static, ()>)>>,
}

impl Counted {
    /// Reads, rows asked for, commits and changes since the last call.
    pub(crate) fn take(&self) -> [usize; 4] {
        [&self.reads, &self.rows, &self.commits, &self.ops].map(|n| n.swap(0, Ordering::SeqCst))
    }

    /// Asks a quorum so often.
    async fn ask(&self, rounds: usize) {
        if self.asking.fetch_add(1, Ordering::SeqCst) == 0 {
            self.rounds.fetch_add(rounds, Ordering::SeqCst);
        }
        // Whoever is to ask at the same time does.
        tokio::task::yield_now().await;
        self.asking.fetch_sub(1, Ordering::SeqCst);
    }

    fn is_due(&self) -> Option<BoxFuture<'static, ()>> {
        let mut meanwhile = self.meanwhile.lock();
        let (left, _) = meanwhile.as_mut()?;
        match left.checked_sub(1) {
            Some(less) => {
                *left = less;
                None
            }
            None => meanwhile.take().map(|(_, what)| what),
        }
    }
}

#[async_trait]
impl Through for Counted {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.rows.fetch_add(request.reads.len(), Ordering::SeqCst);
        if let Some(what) = self.is_due() {
            what.await;
        }
        let nobody = Consistency::AtLeast(Snaptoken::default());
        let local = [Consistency::Eventual, nobody].contains(&request.consistency);
        let reads = request.reads.clone();
        if local && let Some(given) = self.behind.lock().as_ref() {
            let before = given.iter().find(|(asked, _)| *asked == reads);
            if let Some((_, answer)) = before {
                return Ok(answer.clone());
            }
        }
        let strong = request.consistency == Consistency::Strong;
        let seen = request.seen.clone();
        let answer = self.inner.read(request).await?;
        let asks = answer.snaptoken.positions.iter().any(|at| seen.revision(at.shard).is_none());
        if strong && asks {
            self.ask(1).await;
        }
        if local && let Some(given) = self.behind.lock().as_mut() {
            given.push((reads, answer.clone()));
        }
        Ok(answer)
    }

    async fn commit(&self, draft: Draft) -> Result<Verdict, StoreError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.ops.fetch_add(draft.ops.len(), Ordering::SeqCst);
        let checked = draft.checks.iter().filter_map(|check| check.condition.as_ref());
        let changed = draft.ops.iter().filter_map(|op| op.effect.as_ref());
        let places = checked.map(Condition::place).chain(changed.map(Effect::key));
        let spaces: BTreeSet<Space> =
            places.filter_map(|at| slot_of(at)).map(Slot::space).collect();
        // Over several shards one is asked after the others.
        let rounds = spaces.len().min(2);
        *self.spaces.lock() = spaces;
        self.ask(rounds).await;
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Unknown);
        }
        self.inner.commit(draft).await
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.skewed.get().unwrap_or_else(|| self.inner.clock())
    }
}

/// Keys of a cluster.
pub(crate) fn keys(byte: u8) -> Keys {
    Keys::new(&Keyring::new(vec![(KeyId(1), Secret::new([byte; 32]))]).unwrap())
}

/// Settings whose hashes are cheap.
pub(crate) fn settings() -> Settings {
    Settings { argon2: Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 }, ..Settings::default() }
}

/// Traits with an e-mail address.
pub(crate) fn traits(email: &str) -> Value {
    json!({"email": email, "name": {"first": "Ann"}})
}

/// Somebody at an address.
pub(crate) fn client(ip: &str) -> Client {
    Client { ip: Some(ip.parse().unwrap()), user_agent: "test".to_owned(), ..Client::default() }
}

/// A password.
pub(crate) fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

impl World {
    /// Settings of who proves itself, in the browser.
    pub(crate) async fn settings(&self, proof: &Proof) -> Result<Flow, BeginRejection> {
        let begin = BeginSettings {
            proof: Some(proof.clone()),
            browser: Some(BROWSER),
            ..BeginSettings::default()
        };
        self.service.begin_settings(self.scope, begin).await
    }

    /// Submits them.
    pub(crate) async fn change(
        &self,
        flow: &Flow,
        proof: &Proof,
        submission: SettingsSubmission,
    ) -> Result<Flow, SettingsRejection> {
        let submission = SettingsSubmission { proof: Some(proof.clone()), ..submission };
        self.service.submit_settings(self.scope, flow.id, submission).await
    }

    pub(crate) fn new() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self::reaching(settings, Arc::new(crate::outbound::NoWayOut))
    }

    /// Whose service asks other servers by that.
    pub(crate) fn reaching(
        settings: Settings,
        outbound: Arc<dyn crate::outbound::Outbound>,
    ) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let disk = MemoryDisk::new(1);
        let shards = LocalShards::open(&disk, Path::new("test"), 2, clock.clone()).unwrap();
        let counted = Arc::new(Counted {
            inner: shards.store(Arc::new(SeededEntropy::new(7))),
            reads: AtomicUsize::new(0),
            rows: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
            ops: AtomicUsize::new(0),
            spaces: Mutex::default(),
            rounds: AtomicUsize::new(0),
            asking: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
            behind: Mutex::default(),
            skewed: OnceLock::new(),
            meanwhile: Mutex::default(),
        });
        let schemas = Schemas::preset().unwrap();
        let service = Service::start(counted.clone(), keys(1), schemas, settings).unwrap();
        let service = service.with_outbound(outbound);
        Self { service: Arc::new(service), clock, counted, scope: Scope::default() }
    }

    pub(crate) async fn begin_registration(&self) -> Flow {
        self.service.begin_registration(self.scope, BeginRegistration::default()).await.unwrap()
    }

    pub(crate) async fn begin_login(&self) -> Flow {
        self.service.begin_login(self.scope, BeginLogin::default()).await.unwrap()
    }

    pub(crate) async fn submit_registration(
        &self,
        flow: FlowId,
        email: &str,
    ) -> Result<Registered, RegistrationRejection> {
        let submission = RegistrationSubmission {
            method: "password".to_owned(),
            traits: traits(email),
            password: Some(secret(PASSWORD)),
            ..RegistrationSubmission::default()
        };
        self.service.submit_registration(self.scope, flow, submission, &client("192.0.2.1")).await
    }

    /// Signs up.
    pub(crate) async fn register(&self, email: &str) -> Registered {
        let flow = self.begin_registration().await;
        self.submit_registration(flow.id, email).await.unwrap()
    }

    pub(crate) async fn submit_login(
        &self,
        flow: FlowId,
        email: &str,
        password: &str,
        ip: &str,
    ) -> Result<LoggedIn, LoginRejection> {
        let submission = LoginSubmission {
            method: "password".to_owned(),
            identifier: Some(email.to_owned()),
            password: Some(secret(password)),
            ..LoginSubmission::default()
        };
        self.service.submit_login(self.scope, flow, submission, &client(ip)).await
    }

    /// A whole login.
    pub(crate) async fn log_in(
        &self,
        email: &str,
        password: &str,
    ) -> Result<LoggedIn, LoginRejection> {
        let flow = self.begin_login().await;
        self.submit_login(flow.id, email, password, "192.0.2.1").await
    }

    /// A whole login's proof.
    pub(crate) async fn proof(&self, email: &str) -> Proof {
        Proof::Token(self.log_in(email, PASSWORD).await.unwrap().issued.token)
    }

    pub(crate) async fn recognised(&self, proof: &Proof) -> bool {
        self.service.check_session(self.scope, proof, Default::default()).await.is_ok()
    }

    pub(crate) async fn create(
        &self,
        email: &str,
        password: Option<NewPassword>,
    ) -> Result<Identity, CreateRejection> {
        let new = NewIdentity {
            schema_id: String::new(),
            traits: traits(email),
            password,
            ..NewIdentity::default()
        };
        self.service.create_identity(self.scope, new).await
    }
}
