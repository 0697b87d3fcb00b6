//! Each route through its real router, over a store in this process.

use std::{path::Path, sync::Arc};

use axum::{Router, body::Body};
use cardea_permission::{Service, engine::Limits};
use cardea_storage::{
    KeyId, Keyring, ManualClock, Secret, SeededEntropy, Tenant, Timestamp,
    engine::memory::MemoryDisk, local::LocalShards,
};
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Keto, Options, Shared, Usage, router};

mod authzen;
mod bad_input;
mod bulk;
mod checks;
mod deletions;
mod grpc;
mod grpc_refusals;
mod languages;
mod relationships;
mod tenants;
mod watch;

const LANGUAGE: &str = "
class User implements Namespace {}
class Group implements Namespace { related: { members: (User | SubjectSet<Group, \"members\">)[] } }
class Doc implements Namespace {
  related: { owners: User[]; viewers: (User | SubjectSet<Group, \"members\">)[]; banned: User[] }
  permits = {
    view: (ctx: Context): boolean =>
      (this.related.viewers.includes(ctx.subject) || this.related.owners.includes(ctx.subject)) &&
      !this.related.banned.includes(ctx.subject),
  }
}";

/// A namespace whose permissions rest on themselves.
const CYCLIC: &str = "
class Cyclic implements Namespace {
  related: { x: Cyclic[] }
  permits = {
    a: (ctx: Context): boolean => this.permits.b(ctx),
    b: (ctx: Context): boolean => this.permits.a(ctx),
    odd: (ctx: Context): boolean => !this.permits.odd(ctx),
  }
}";

struct World {
    router: Router,
    shared: Arc<Shared>,
    tenant: Tenant,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:#}", self.body);
        self
    }

    fn token(&self) -> String {
        self.headers["x-cardea-snaptoken"].to_str().unwrap().to_owned()
    }

    fn reason(&self) -> &str {
        self.body["error"]["reason"].as_str().unwrap_or_default()
    }

    fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }
}

impl World {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self::of(limits, Options::default())
    }

    fn of(limits: Limits, options: Options) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(1_800_000_000_000)));
        let disk = MemoryDisk::new(1);
        let shards = LocalShards::open(&disk, Path::new("test"), 2, clock).unwrap();
        let ring = Keyring::new(vec![(KeyId(1), Secret::new([1; 32]))]).unwrap();
        let store = shards.store(Arc::new(SeededEntropy::new(7)));
        let service = Arc::new(Service::new(store, &ring, limits));
        let shared = Shared::new(options);
        let router = router(Keto::new(service, shared.clone()));
        Self { router, shared, tenant: Tenant::default() }
    }

    /// The same cluster as another tenant sees it.
    fn of_tenant(&self, tenant: u32) -> Self {
        let (router, shared) = (self.router.clone(), self.shared.clone());
        Self { router, shared, tenant: Tenant(tenant) }
    }

    /// With a language in force.
    async fn speaking() -> Self {
        let world = Self::new();
        world.speak(LANGUAGE).await.is(200);
        world
    }

    async fn speak(&self, text: &str) -> Answer {
        let files = json!({"files": [{"name": "main.ts", "text": text}]});
        self.send(Method::PUT, "/admin/opl", files.to_string(), &[]).await
    }

    async fn send(
        &self,
        method: Method,
        uri: &str,
        body: String,
        headers: &[(&'static str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(self.tenant);
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = match bytes.len() {
            0 => Value::Null,
            _ => serde_json::from_slice(&bytes).unwrap(),
        };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// What clients of gRPC call.
    fn grpc(&self) -> Router {
        self.router.clone().layer(axum::Extension(Tenant::default()))
    }

    async fn get(&self, uri: &str) -> Answer {
        self.send(Method::GET, uri, String::new(), &[]).await
    }

    async fn put(&self, body: &Value) -> Answer {
        self.send(Method::PUT, "/admin/relation-tuples", body.to_string(), &[]).await
    }

    async fn patch(&self, body: &Value) -> Answer {
        self.send(Method::PATCH, "/admin/relation-tuples", body.to_string(), &[]).await
    }

    async fn post(&self, uri: &str, body: &Value) -> Answer {
        self.send(Method::POST, uri, body.to_string(), &[]).await
    }

    /// Makes a tuple of its text.
    async fn tuple(&self, text: &str) -> Answer {
        self.put(&tuple(text)).await.is(201)
    }
}

/// The body of a tuple.
fn tuple(text: &str) -> Value {
    let tuple: cardea_permission::Tuple = text.parse().unwrap();
    serde_json::to_value(super::wire::RelationshipBody::from(&tuple)).unwrap()
}
