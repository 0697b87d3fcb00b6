//! Each route through its real router, over a store in this process and a clock that
//! is advanced: status, headers and body as clients see them.

mod administration;
mod bad_input;
mod browser;
mod codes;
mod dry_run;
mod factors;
mod fedcm;
mod flows;
mod identities;
mod links;
mod oneself;
mod outside;
mod pages;
mod routes;
mod sessions;
mod settings;

use std::{
    net::IpAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, body::Body};
use cardea_identity::{
    Keys, Service, Settings,
    outbound::{NoWayOut, Outbound},
    password::Argon2Cost,
    schema::Schemas,
};
use cardea_storage::{
    Consistency, KeyId, Keyring, ManualClock, Secret, SeededEntropy, Store, StoreError, Tenant,
    Through, Timestamp,
    engine::memory::MemoryDisk,
    local::LocalShards,
    store::{Draft, ReadAnswer, ReadRequest, Verdict},
};
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Kratos, admin_routes, options::Options, public_routes};
use crate::{ClientAddress, consistency::observed};

/// 2027-01-15T08:00:00Z.
const START: Timestamp = Timestamp(1_800_000_000_000);
const PASSWORD: &str = "correct horse battery";

/// What a test works with.
struct World {
    public: Router,
    admin: Router,
    clock: Arc<ManualClock>,
    store: Arc<Failing>,
    service: Arc<Service>,
    tenant: Tenant,
}

/// A store that answers with an error while there is one.
struct Failing {
    inner: Arc<dyn Store>,
    reads: Mutex<Option<StoreError>>,
    commits: Mutex<Option<StoreError>>,
    /// How many reads need not be of the latest.
    stale: AtomicU64,
    /// What happens before the next commit.
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
}

#[async_trait]
impl Through for Failing {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        if let Some(error) = self.reads.lock().clone() {
            return Err(error);
        }
        if !matches!(request.consistency, Consistency::Strong) {
            self.stale.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.read(request).await
    }

    async fn commit(&self, draft: Draft) -> Result<Verdict, StoreError> {
        let meanwhile = self.meanwhile.lock().take();
        if let Some(what) = meanwhile {
            what.await;
        }
        if let Some(error) = self.commits.lock().clone() {
            return Err(error);
        }
        self.inner.commit(draft).await
    }
}

/// What came back.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self, pointer: &str) -> &str {
        self.body
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{pointer} is no text in {} {:#}", self.status, self.body))
    }

    /// The body with what differs from run to run named by its kind.
    fn golden(&self) -> Value {
        normalised(&self.body)
    }

    fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:#}", self.body);
        self
    }
}

/// A request to be sent.
struct Ask {
    method: Method,
    uri: String,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

impl Ask {
    fn new(method: Method, uri: impl Into<String>) -> Self {
        Self { method, uri: uri.into(), headers: Vec::new(), body: Body::empty() }
    }

    fn get(uri: impl Into<String>) -> Self {
        Self::new(Method::GET, uri)
    }

    fn post(uri: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::POST, uri).json(body)
    }

    fn delete(uri: impl Into<String>) -> Self {
        Self::new(Method::DELETE, uri)
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn token(self, token: &str) -> Self {
        self.header("x-session-token", token)
    }

    fn json(self, body: &Value) -> Self {
        self.text("application/json", body.to_string())
    }

    fn text(mut self, content_type: &str, body: impl Into<Body>) -> Self {
        self.headers.push(("content-type", content_type.to_owned()));
        self.body = body.into();
        self
    }
}

impl World {
    fn new() -> Self {
        let argon2 = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
        Self::with(Settings { argon2, ..Settings::default() })
    }

    /// A world that sends codes.
    fn with_codes() -> Self {
        let argon2 = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let codes = Settings { argon2, recovery: true, verification: true, ..Settings::default() };
        Self::with(codes)
    }

    fn with_options(options: Options) -> Self {
        let argon2 = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
        Self::made(Settings { argon2, ..Settings::default() }, options)
    }

    fn with(settings: Settings) -> Self {
        let options = Options::new(&settings.public_url);
        Self::made(settings, options)
    }

    /// Whose service asks other servers by that.
    fn reaching(settings: Settings, outbound: Arc<dyn Outbound>) -> Self {
        let options = Options::new(&settings.public_url);
        Self::wired(settings, options, outbound)
    }

    fn made(settings: Settings, options: Options) -> Self {
        Self::wired(settings, options, Arc::new(NoWayOut))
    }

    fn wired(settings: Settings, options: Options, outbound: Arc<dyn Outbound>) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let disk = MemoryDisk::new(1);
        let shards = LocalShards::open(&disk, Path::new("test"), 2, clock.clone()).unwrap();
        let store = Arc::new(Failing {
            inner: shards.store(Arc::new(SeededEntropy::new(7))),
            reads: Mutex::default(),
            commits: Mutex::default(),
            stale: AtomicU64::default(),
            meanwhile: Mutex::default(),
        });
        let ring = Keyring::new(vec![(KeyId(1), Secret::new([1; 32]))]).unwrap();
        let service = Service::start(
            observed(store.clone()),
            Keys::new(&ring),
            Schemas::preset().unwrap(),
            settings,
        );
        let service = Arc::new(service.unwrap().with_outbound(outbound));
        let kratos = Kratos::new(service.clone(), options);
        Self {
            public: public_routes(kratos.clone()),
            admin: admin_routes(kratos),
            clock,
            store,
            service,
            tenant: Tenant::default(),
        }
    }

    /// The same cluster as another tenant sees it.
    fn of_tenant(&self, tenant: u32) -> Self {
        Self {
            public: self.public.clone(),
            admin: self.admin.clone(),
            clock: self.clock.clone(),
            store: self.store.clone(),
            service: self.service.clone(),
            tenant: Tenant(tenant),
        }
    }

    async fn send(&self, router: &Router, ask: Ask) -> Answer {
        let mut request = Request::builder().method(ask.method).uri(ask.uri);
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(ask.body).unwrap();
        request.extensions_mut().insert(self.tenant);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        request.extensions_mut().insert(ClientAddress(address));
        let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = match bytes.len() {
            0 => Value::Null,
            _ => serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned())),
        };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn public(&self, ask: Ask) -> Answer {
        self.send(&self.public, ask).await
    }

    async fn admin(&self, ask: Ask) -> Answer {
        self.send(&self.admin, ask).await
    }

    /// Creates an identity that can log in, and gives its id.
    async fn create(&self, email: &str) -> String {
        let created = self.admin(Ask::post("/admin/identities", &new_identity(email))).await;
        created.is(201).text("/id").to_owned()
    }

    /// A new flow's id.
    async fn flow(&self, purpose: &str) -> String {
        let flow = self.public(Ask::get(format!("/self-service/{purpose}/api"))).await;
        flow.is(200).text("/id").to_owned()
    }

    async fn submit_login(&self, flow: &str, email: &str, password: &str) -> Answer {
        let body = json!({"method": "password", "identifier": email, "password": password});
        let uri = format!("/self-service/login?flow={flow}");
        self.public(Ask::post(uri, &body).header("user-agent", "test/1")).await
    }

    async fn submit_registration(&self, flow: &str, email: &str) -> Answer {
        let body = json!({"method": "password", "password": PASSWORD, "traits": traits(email)});
        let uri = format!("/self-service/registration?flow={flow}");
        self.public(Ask::post(uri, &body).header("user-agent", "test/1")).await
    }

    /// Logs in, and gives the session's token and id.
    async fn log_in(&self, email: &str) -> (String, String) {
        let flow = self.flow("login").await;
        let done = self.submit_login(&flow, email, PASSWORD).await.is(200);
        (done.text("/session_token").to_owned(), done.text("/session/id").to_owned())
    }

    async fn whoami(&self, token: &str) -> Answer {
        self.public(Ask::get("/sessions/whoami").token(token)).await
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn traits(email: &str) -> Value {
    json!({"email": email, "name": {"first": "Ann"}})
}

fn new_identity(email: &str) -> Value {
    json!({
        "schema_id": "default",
        "traits": traits(email),
        "credentials": {"password": {"config": {"password": PASSWORD}}},
    })
}

/// The envelope of an error, without its request's id.
fn envelope(code: u16, status: &str, reason: &str, message: &str) -> Value {
    json!({"error": {"code": code, "status": status, "reason": reason, "message": message}})
}

const BAD_REQUEST: &str = "The request was malformed or contained invalid parameters";
const UNAUTHORIZED: &str = "The request could not be authorized";

fn normalised(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(normalised).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), normalised(value))).collect()
        }
        Value::String(text) => Value::String(normalised_text(text)),
        other => other.clone(),
    }
}

fn normalised_text(text: &str) -> String {
    if text.starts_with("ory_st_") {
        return "<token>".to_owned();
    }
    if cardea_identity::time::parse_rfc3339(text).is_some() {
        return "<time>".to_owned();
    }
    let mut text = text.to_owned();
    let mut at = 0;
    while at + 36 <= text.len() {
        match text.get(at..at + 36) {
            Some(part) if crate::request::is_uuid(part) => {
                text.replace_range(at..at + 36, "<uuid>");
                at += 6;
            }
            _ => at += 1,
        }
    }
    text
}
