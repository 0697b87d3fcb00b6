//! The gate from outside: every route through every listener, as everybody.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Extension, Router,
    body::Body,
    response::Response,
    routing::{any, get},
};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;

use super::{
    client::{ClientAddress, PeerAddress},
    cors::Origins,
    gate::{Gate, GateOptions, Side},
    health,
    keys::{ApiKeys, Caller, Grant, Identification, KeysUnavailable, Tenant, Tenants},
    origin::Hosts,
    table::{Audience, Route, RouteTable},
};
use crate::{
    apikey::{ApiKey, Scope},
    config::value::Size,
    entropy::SystemEntropy,
    telemetry::{http::HttpMetrics, registry::Metrics},
};

mod cors;
mod logged;
mod overload;

/// Keys by the first byte of their randomness.
struct Keys(BTreeMap<u8, (Tenant, Vec<Scope>)>, bool);

fn key(seed: u8) -> ApiKey {
    ApiKey::from_random([seed; 40])
}

#[async_trait]
impl ApiKeys for Keys {
    async fn recognize(&self, presented: &ApiKey) -> Result<Option<Grant>, KeysUnavailable> {
        if self.1 {
            return Err(KeysUnavailable);
        }
        Ok(self.0.iter().find(|(seed, _)| presented.is(&key(**seed).digest())).map(
            |(_, (tenant, scopes))| Grant {
                key: presented.id(),
                tenant: *tenant,
                scopes: scopes.clone(),
            },
        ))
    }
}

struct ByHost;

impl Tenants for ByHost {
    fn of_host(&self, host: &str) -> Option<Tenant> {
        match host {
            "two.example" => Some(Tenant(2)),
            "stranger.example" => None,
            _ => Some(Tenant(0)),
        }
    }
}

struct Ready;

impl health::Readiness for Ready {
    fn obstacles(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([("store", "no leader".to_owned())])
    }
}

const ALL: u8 = 1;
const READS: u8 = 2;
const OTHER_AREA: u8 = 3;
const OTHER_TENANT: u8 = 4;
const UNKNOWN: u8 = 9;

fn routes() -> Vec<Route> {
    let mut routes = health::routes();
    routes.extend([
        Route::open(Method::GET, "/sessions/whoami").refusable(),
        Route::open(Method::POST, "/echo"),
        Route::open(Method::GET, "/slow"),
        Route::open(Method::POST, "/slow").refusable(),
        Route::open(Method::GET, "/long"),
        Route::guarded(Method::GET, "/admin/identities", Scope::Read("identity")),
        Route::guarded(Method::POST, "/admin/identities", Scope::Write("identity")),
        Route::guarded(Method::DELETE, "/admin/identities/{id}", Scope::Write("identity")),
        Route::guarded(Method::POST, "/clusterless/drain", Scope::Write("cluster")),
    ]);
    routes
}

fn options(side: Side, trusts_callers: bool) -> GateOptions {
    GateOptions {
        side,
        trusts_callers,
        hosts: Hosts::new(["two.example".to_owned()]),
        origins: Origins::default(),
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        tls: false,
        hsts: Duration::ZERO,
        body: Size(64),
        timeout: Duration::from_millis(200),
        unhurried: &["/long"],
        redirect_admin: None,
        access_log: true,
        entropy: Arc::new(SystemEntropy),
    }
}

fn gate_with(options: GateOptions, keys_down: bool) -> Gate {
    let keys = BTreeMap::from([
        (ALL, (Tenant(0), vec![Scope::Admin])),
        (
            READS,
            (
                Tenant(0),
                vec![Scope::Read("identity"), Scope::Read("cluster"), Scope::Read("metrics")],
            ),
        ),
        (OTHER_AREA, (Tenant(0), vec![Scope::All("oauth")])),
        (OTHER_TENANT, (Tenant(2), vec![Scope::Admin])),
    ]);
    let metrics = HttpMetrics::new();
    let shown = metrics.clone();
    let registry = Arc::new(Metrics::new(|registry| shown.register(registry)));
    let who = |Extension(caller): Extension<Caller>,
               Extension(client): Extension<ClientAddress>| async move {
        format!("tenant {} client {} secure {}", caller.tenant.0, client.0, caller.secure)
    };
    let inner = Router::new()
        .merge(health::router(Arc::new(Ready), registry))
        .route("/sessions/whoami", get(who))
        .route("/echo", any(|body: axum::body::Bytes| async move { body }))
        .route("/slow", get(std::future::pending::<()>).post(std::future::pending::<()>))
        .route(
            "/long",
            get(|| async {
                // Longer than others may take.
                tokio::time::sleep(Duration::from_millis(500)).await;
                "done"
            }),
        )
        .route("/admin/identities", any(who))
        .route("/admin/identities/{id}", any(who))
        .route("/clusterless/drain", any(who))
        .route("/forgotten", any(|| async { "not in the table" }));
    let identification =
        Identification { keys: Arc::new(Keys(keys, keys_down)), tenants: Arc::new(ByHost) };
    Gate::new(options, Arc::new(RouteTable::new(routes()).unwrap()), identification, metrics, inner)
}

fn gate(side: Side, trusts_callers: bool) -> Gate {
    gate_with(options(side, trusts_callers), false)
}

fn request(method: &Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:4434")
}

async fn send(gate: &Gate, request: Request<Body>) -> Response {
    gate.answer(PeerAddress("127.0.0.1:50000".parse().unwrap()), request).await
}

async fn status(gate: &Gate, method: &Method, path: &str, seed: Option<u8>) -> u16 {
    let mut request = request(method, path);
    if let Some(seed) = seed {
        request = request
            .header(header::AUTHORIZATION, format!("Bearer {}", key(seed).reveal().as_str()));
    }
    send(gate, request.body(Body::empty()).unwrap()).await.status().as_u16()
}

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// What a caller is told who may pass: everything but a refusal of the gate.
fn passes(status: u16) -> bool {
    matches!(status, 200 | 503)
}

#[tokio::test]
async fn every_route_on_every_listener_is_refused_to_whoever_may_not_call_it() {
    for (side, trusts) in [(Side::Public, false), (Side::Admin, false), (Side::Admin, true)] {
        let gate = gate(side, trusts);
        for route in routes() {
            if route.path == "/slow" {
                continue;
            }
            let path = route.path.replace("{id}", "some-id");
            let place = format!("{side:?} trusts {trusts}: {} {path}", route.method);
            let Audience::Operators(scope) = route.audience else {
                assert!(passes(status(&gate, &route.method, &path, None).await), "{place}");
                continue;
            };
            let without_key = status(&gate, &route.method, &path, None).await;
            assert_eq!(without_key, if trusts { 200 } else { 401 }, "no key: {place}");
            assert_eq!(
                status(&gate, &route.method, &path, Some(UNKNOWN)).await,
                401,
                "unknown: {place}"
            );
            assert_eq!(
                status(&gate, &route.method, &path, Some(OTHER_AREA)).await,
                403,
                "scope: {place}"
            );
            assert_eq!(
                status(&gate, &route.method, &path, Some(OTHER_TENANT)).await,
                403,
                "tenant: {place}"
            );
            assert_eq!(status(&gate, &route.method, &path, Some(ALL)).await, 200, "admin: {place}");
            let wanted = if matches!(scope, Scope::Read(_)) { 200 } else { 403 };
            assert_eq!(
                status(&gate, &route.method, &path, Some(READS)).await,
                wanted,
                "reads: {place}"
            );
        }
    }
}

#[tokio::test]
async fn a_key_of_another_kind_is_refused_and_not_ignored() {
    let gate = gate(Side::Admin, true);
    for value in ["Bearer ory_pat_x", "Basic dXNlcjpwYXNz", "Bearer", "Bearer cardea_key_00_x"] {
        let request = request(&Method::GET, "/admin/identities")
            .header(header::AUTHORIZATION, value)
            .body(Body::empty())
            .unwrap();
        assert_eq!(send(&gate, request).await.status(), 401, "{value}");
    }
}

#[tokio::test]
async fn nobody_is_let_in_while_keys_cannot_be_read() {
    let gate = gate_with(options(Side::Public, false), true);
    assert_eq!(status(&gate, &Method::GET, "/admin/identities", Some(ALL)).await, 503);
    assert_eq!(status(&gate, &Method::GET, "/sessions/whoami", None).await, 200);
}

#[tokio::test]
async fn browsers_are_shown_a_page_where_nothing_answers_and_nobody_else_is() {
    let page = || Router::new().fallback(async || (StatusCode::NOT_FOUND, "a page"));
    let public = gate(Side::Public, false).leading(page());
    let browsers = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let ask = async |gate: &Gate, method: Method, path: &str, accept: &str| {
        let request = request(&method, path).header(header::ACCEPT, accept);
        let response = send(gate, request.body(Body::empty()).unwrap()).await;
        assert!(response.headers().contains_key("x-request-id"), "{path}");
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        (response.status().as_u16(), text(response).await)
    };
    let shown = ask(&public, Method::GET, "/nowhere?a=b", browsers).await;
    assert_eq!(shown, (404, "a page".to_owned()));
    for accept in ["*/*", "application/json", "application/json, text/html;q=0.9", ""] {
        let (status, body) = ask(&public, Method::GET, "/nowhere", accept).await;
        assert_eq!(status, 404, "{accept}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error"]["code"], 404, "{accept}: {body}");
    }
    // What is there is refused as before.
    assert_eq!(ask(&public, Method::GET, "/admin/identities", browsers).await.0, 401);
    assert_eq!(ask(&public, Method::PUT, "/sessions/whoami", browsers).await.0, 405);
    let admin = gate(Side::Admin, true);
    let (status, body) = ask(&admin, Method::GET, "/nowhere", browsers).await;
    assert!(status == 404 && body.contains("could not be found"), "{body}");
}

#[tokio::test]
async fn the_admin_listener_adds_the_prefix_and_the_public_one_does_not() {
    let admin = gate(Side::Admin, true);
    assert_eq!(status(&admin, &Method::GET, "/identities?page_size=1", None).await, 200);
    assert_eq!(status(&admin, &Method::DELETE, "/identities/x/", None).await, 200);
    let public = gate(Side::Public, false);
    assert_eq!(status(&public, &Method::GET, "/identities", Some(ALL)).await, 404);
    assert_eq!(status(&public, &Method::GET, "/admin/identities/", Some(ALL)).await, 200);
    assert_eq!(status(&public, &Method::GET, "/admin/identities/", None).await, 401);
}

#[tokio::test]
async fn the_public_listener_redirects_to_the_admin_one_if_told_to() {
    let mut options = options(Side::Public, false);
    options.redirect_admin = Some("http://admin.example:4434/".to_owned());
    let gate = gate_with(options, false);
    let request = request(&Method::GET, "/admin/identities?x=1").body(Body::empty()).unwrap();
    let response = send(&gate, request).await;
    assert_eq!(response.status(), 307);
    assert_eq!(
        response.headers()[header::LOCATION],
        "http://admin.example:4434/admin/identities?x=1"
    );
}

#[tokio::test]
async fn what_is_not_in_the_table_does_not_exist() {
    let gate = gate(Side::Admin, true);
    let response =
        send(&gate, request(&Method::GET, "/forgotten").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 404);
    let body: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(body["error"]["message"], "The requested resource could not be found");
    let response =
        send(&gate, request(&Method::PUT, "/sessions/whoami").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()[header::ALLOW], "GET, HEAD");
}

#[tokio::test]
async fn pages_and_foreign_hosts_do_not_reach_the_admin_listener() {
    let admin = gate(Side::Admin, true);
    let public = gate(Side::Public, false);
    let foreign = || {
        Request::get("/sessions/whoami")
            .header(header::HOST, "evil.example")
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(send(&admin, foreign()).await.status(), 421);
    assert_eq!(send(&public, foreign()).await.status(), 200);
    let page = || {
        request(&Method::GET, "/sessions/whoami")
            .header(header::ORIGIN, "https://app.example")
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(send(&admin, page()).await.status(), 403);
    assert_eq!(send(&public, page()).await.status(), 200);
}

#[tokio::test]
async fn the_tenant_comes_from_the_host_and_the_client_from_a_trusted_proxy() {
    let gate = gate(Side::Public, false);
    let request = |host: &str| {
        Request::get("/sessions/whoami")
            .header(header::HOST, host)
            .header("x-forwarded-for", "203.0.113.7")
            .header("x-forwarded-proto", "https")
            .body(Body::empty())
            .unwrap()
    };
    let through =
        |peer: &str, host: &str| gate.answer(PeerAddress(peer.parse().unwrap()), request(host));
    let answer = text(through("10.0.0.1:1", "two.example").await).await;
    assert_eq!(answer, "tenant 2 client 203.0.113.7 secure true");
    let answer = text(through("192.0.2.1:1", "one.example").await).await;
    assert_eq!(answer, "tenant 0 client 192.0.2.1 secure false");
    assert_eq!(through("192.0.2.1:1", "stranger.example").await.status(), 421);
}

#[tokio::test]
async fn bodies_and_time_are_bounded() {
    let gate = gate(Side::Public, false);
    let post = |body: Body| request(&Method::POST, "/echo").body(body).unwrap();
    assert_eq!(send(&gate, post(Body::from(vec![b'x'; 64]))).await.status(), 200);
    assert_eq!(send(&gate, post(Body::from(vec![b'x'; 65]))).await.status(), 413);
    let chunks = futures::stream::iter((0..9).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 8])));
    assert_eq!(send(&gate, post(Body::from_stream(chunks))).await.status(), 413);
    let response = send(&gate, request(&Method::GET, "/slow").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    assert!(text(response).await.contains("cluster_unavailable"));
    // What may have changed something is not told to come again.
    let response = send(&gate, request(&Method::POST, "/slow").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!response.headers().contains_key(header::RETRY_AFTER));
    assert!(text(response).await.contains("outcome_unknown"));
    // But for what takes as long as there is data: backups, restores, verification.
    let response = send(&gate, request(&Method::GET, "/long").body(Body::empty()).unwrap()).await;
    assert_eq!(text(response).await, "done");
}

#[tokio::test]
async fn answers_carry_the_request_id_and_security_headers_and_metrics_count_them() {
    let gate = gate(Side::Public, false);
    let request_with_id = request(&Method::GET, "/health/ready")
        .header("x-request-id", "abc-1")
        .body(Body::empty())
        .unwrap();
    let response = send(&gate, request_with_id).await;
    assert_eq!(response.headers()["x-request-id"], "abc-1");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.headers()["x-frame-options"], "DENY");
    assert!(response.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("no-store"));
    assert_eq!(response.status(), 503);
    assert_eq!(text(response).await, r#"{"errors":{"store":"no leader"}}"#);

    let scrape = request(&Method::GET, "/metrics")
        .header(header::AUTHORIZATION, format!("Bearer {}", key(READS).reveal().as_str()))
        .body(Body::empty())
        .unwrap();
    let metrics = text(send(&gate, scrape).await).await;
    let line = "cardea_http_requests_total{listener=\"public\",method=\"GET\",route=\"/health/ready\",status=\"503\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn browsers_are_told_over_tls_alone_to_come_back_by_it() {
    let told = async |hsts: u64, tls: bool, proto: Option<&str>| {
        let options =
            GateOptions { tls, hsts: Duration::from_secs(hsts), ..options(Side::Public, false) };
        let mut asked = request(&Method::GET, "/sessions/whoami");
        if let Some(proto) = proto {
            asked = asked.header("x-forwarded-proto", proto);
        }
        let peer = PeerAddress("10.0.0.1:1".parse().unwrap());
        let gate = gate_with(options, false);
        let answer = gate.answer(peer, asked.body(Body::empty()).unwrap()).await;
        let headers = answer.headers().clone();
        let value = headers.get(header::STRICT_TRANSPORT_SECURITY);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(told(31_536_000, true, None).await.as_deref(), Some("max-age=31536000"));
    assert_eq!(told(60, false, Some("https")).await.as_deref(), Some("max-age=60"));
    assert_eq!(told(60, false, None).await, None);
    assert_eq!(told(60, false, Some("http")).await, None);
    assert_eq!(told(0, true, None).await, None);
}

#[tokio::test]
async fn a_served_listener_answers_and_drains() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let limits = super::serve::ServeLimits {
        connections: 4,
        head_bytes: 8192,
        head_timeout: Duration::from_millis(300),
        write_timeout: Duration::from_secs(5),
        drain_timeout: Duration::from_secs(5),
    };
    let gate = Arc::new(gate(Side::Public, false));
    let served = tokio::spawn(super::serve::serve(listener, None, gate, limits, stop.clone()));

    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /health/alive HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");

    for begun in [&b"GET /health/al"[..], b"", b"PRI * HTTP/2"] {
        let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
        slow.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        // The head never completes, so the listener lets go of the connection.
        tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
    }

    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), served).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
