//! Every route that the node answers, on each listener, to everybody who may not
//! call it: no key, a key that is none, the wrong scope, the wrong tenant.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{Router, body::Body};
use cardea_node::{
    apikey::{AREAS, ApiKey, Scope},
    config::value::Size,
    entropy::SystemEntropy,
    layers,
    listener::{
        client::PeerAddress,
        cors::Origins,
        gate::{Gate, GateOptions, Side},
        grpc, health,
        keys::{ApiKeys, Grant, Identification, KeysUnavailable, SingleTenant, Tenant},
        origin::Hosts,
        table::{Audience, Route, RouteTable},
    },
    operator,
    telemetry::http::HttpMetrics,
};
use http::{Method, Request, header};

/// Keys by the byte that they are made of.
struct Keys(BTreeMap<u8, Grant>);

#[async_trait]
impl ApiKeys for Keys {
    async fn recognize(&self, presented: &ApiKey) -> Result<Option<Grant>, KeysUnavailable> {
        let found = self.0.iter().find(|(seed, _)| presented.is(&key(**seed).digest()));
        Ok(found.map(|(_, grant)| grant.clone()))
    }
}

fn key(seed: u8) -> ApiKey {
    ApiKey::from_random([seed; 40])
}

const OTHER_TENANT: u8 = 200;
const ADMIN: u8 = 201;
const FORGED: u8 = 202;

/// A key for each single scope there is, one for everything, one of a stranger.
fn keys() -> Keys {
    let scopes = AREAS.into_iter().flat_map(|area| [Scope::Read(area), Scope::Write(area)]);
    let own = (1_u8..).zip(scopes).map(|(seed, scope)| (seed, Tenant(0), scope));
    let others = [(OTHER_TENANT, Tenant(1), Scope::Admin), (ADMIN, Tenant(0), Scope::Admin)];
    let grants = own.chain(others).map(|(seed, tenant, scope)| {
        (seed, Grant { key: key(seed).id(), tenant, scopes: vec![scope] })
    });
    Keys(grants.collect())
}

fn all_routes() -> Vec<Route> {
    let routes = health::routes().into_iter().chain(grpc::routes());
    let routes = routes.chain(operator::routes::routes());
    routes.chain(layers::routes()).collect()
}

fn gate(side: Side, trusts_callers: bool) -> Gate {
    let options = GateOptions {
        side,
        trusts_callers,
        hosts: Hosts::default(),
        origins: Origins::default(),
        trusted_proxies: Vec::new(),
        tls: false,
        hsts: Duration::ZERO,
        body: Size(1024),
        timeout: Duration::from_secs(5),
        unhurried: &[],
        redirect_admin: None,
        access_log: false,
        entropy: Arc::new(SystemEntropy),
    };
    let identification = Identification { keys: Arc::new(keys()), tenants: Arc::new(SingleTenant) };
    let table = Arc::new(RouteTable::new(all_routes()).unwrap());
    // Whatever passes the gate is answered so, and nothing else is.
    let reached = Router::new().fallback(|| async { http::StatusCode::IM_A_TEAPOT });
    Gate::new(options, table, identification, HttpMetrics::new(), reached)
}

/// A path of a route.
fn path_of(route: &Route) -> String {
    let path = route.path.replace("{id}", "a-b").replace("{node}", "1").replace("{group}", "1");
    let path = path.replace("{purpose}", "seal").replace("{kind}", "totp");
    let path = path.replace("{external_id}", "x").replace("{provider}", "x");
    assert!(!path.contains('{'), "{path}: a parameter that this test does not fill");
    path
}

async fn status(gate: &Gate, route: &Route, seed: Option<u8>) -> u16 {
    let path = path_of(route);
    let mut request =
        Request::builder().method(&route.method).uri(path).header(header::HOST, "127.0.0.1:4434");
    if let Some(seed) = seed {
        let bearer = format!("Bearer {}", key(seed).reveal().as_str());
        request = request.header(header::AUTHORIZATION, bearer);
    }
    let peer = PeerAddress("127.0.0.1:50000".parse().unwrap());
    gate.answer(peer, request.body(Body::empty()).unwrap()).await.status().as_u16()
}

const REACHED: u16 = 418;

#[tokio::test]
async fn no_route_on_any_listener_is_reached_by_whoever_may_not_call_it() {
    for (side, trusts) in [(Side::Public, false), (Side::Admin, false), (Side::Admin, true)] {
        let gate = gate(side, trusts);
        for route in all_routes() {
            let place = format!("{side:?} (trusts {trusts}) {} {}", route.method, route.path);
            let Audience::Operators(wanted) = route.audience else {
                assert_eq!(status(&gate, &route, None).await, REACHED, "{place}");
                continue;
            };
            let without = if trusts { REACHED } else { 401 };
            assert_eq!(status(&gate, &route, None).await, without, "no key: {place}");
            assert_eq!(status(&gate, &route, Some(FORGED)).await, 401, "forged: {place}");
            assert_eq!(status(&gate, &route, Some(OTHER_TENANT)).await, 403, "tenant: {place}");
            assert_eq!(status(&gate, &route, Some(ADMIN)).await, REACHED, "admin: {place}");
            for (seed, grant) in keys().0 {
                let [held] = grant.scopes[..] else { unreachable!("each key has one scope") };
                if grant.tenant == Tenant(0) {
                    let answer = if held == Scope::Admin || held == wanted { REACHED } else { 403 };
                    assert_eq!(status(&gate, &route, Some(seed)).await, answer, "{held}: {place}");
                }
            }
        }
    }
}

/// N31 (and N30: what a proxy says of a client's certificate is nobody's word): there is
/// no name, no probe and no spelling before which the gate looks away.
#[tokio::test]
async fn no_header_and_no_spelling_of_a_path_opens_a_route_of_operators() {
    let headers = [
        ("user-agent", "kube-probe/1.30"),
        ("user-agent", "GoogleHC/1.0"),
        ("user-agent", "ELB-HealthChecker/2.0"),
        ("x-original-url", "/health/alive"),
        ("x-rewrite-url", "/health/alive"),
        ("x-forwarded-uri", "/health/alive"),
        ("x-http-method-override", "GET"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1;host=localhost"),
        ("x-client-cert", "CN=one"),
        ("x-ssl-client-verify", "SUCCESS"),
        ("x-forwarded-client-cert", "Hash=00;Subject=\"CN=one\""),
        ("x-remote-user", "root"),
        ("cookie", "admin=1"),
    ];
    let spelled: [fn(&str) -> String; 9] = [
        |path| format!("/health/alive/..{path}"),
        |path| format!("/health/alive/%2e%2e{path}"),
        |path| format!("/health/ready;{path}"),
        |path| format!("/{path}"),
        |path| format!("/.{path}"),
        |path| format!("{path}/"),
        |path| path.replacen('/', "/%2F", 1),
        |path| format!("{path}?path=/health/alive"),
        |path| path.to_uppercase(),
    ];
    for side in [Side::Public, Side::Admin] {
        let gate = gate(side, false);
        let peer = PeerAddress("127.0.0.1:50000".parse().unwrap());
        for route in all_routes() {
            let Audience::Operators(_) = route.audience else { continue };
            let path = path_of(&route);
            let ask = |path: &str| {
                let builder = Request::builder().method(&route.method).uri(path);
                builder.header(header::HOST, "127.0.0.1:4434")
            };
            for (name, value) in headers {
                let request = ask(&path).header(name, value).body(Body::empty()).unwrap();
                let status = gate.answer(peer, request).await.status();
                assert_eq!(status, 401, "{side:?} {} {path}, {name}: {value}", route.method);
            }
            for spelled in spelled {
                let path = spelled(&path);
                let request = ask(&path).body(Body::empty()).unwrap();
                let status = gate.answer(peer, request).await.status().as_u16();
                let refused = matches!(status, 401 | 404 | 405);
                assert!(refused, "{side:?} {} {path}: {status}", route.method);
            }
        }
    }
}

#[tokio::test]
async fn grpc_calls_are_refused_in_their_own_form() {
    let calls: Vec<Route> = all_routes().into_iter().filter(|r| r.path.contains(".v1")).collect();
    assert!(calls.len() > 15, "{calls:?}");
    for (side, trusts) in [(Side::Public, false), (Side::Admin, false)] {
        let gate = gate(side, trusts);
        let call = async |path: &str, seed: Option<u8>, media_type: &str| {
            let mut request = Request::post(path)
                .header(header::HOST, "127.0.0.1:4434")
                .header(header::CONTENT_TYPE, media_type);
            if let Some(seed) = seed {
                let bearer = format!("Bearer {}", key(seed).reveal().as_str());
                request = request.header(header::AUTHORIZATION, bearer);
            }
            let peer = PeerAddress("127.0.0.1:50000".parse().unwrap());
            let answer = gate.answer(peer, request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(answer.headers()[header::CONTENT_TYPE], media_type, "{path}");
            answer.headers()["grpc-status"].to_str().unwrap().parse::<u16>().unwrap()
        };
        for media_type in ["application/grpc", "application/grpc-web+proto"] {
            for Route { path, audience, .. } in &calls {
                let Audience::Operators(_) = audience else { continue };
                assert_eq!(call(path, None, media_type).await, 16, "no key: {path}");
                assert_eq!(call(path, Some(FORGED), media_type).await, 16, "forged: {path}");
                assert_eq!(call(path, Some(OTHER_TENANT), media_type).await, 7, "tenant: {path}");
            }
            assert_eq!(call("/ory.keto.Nothing/Do", Some(ADMIN), media_type).await, 12);
        }
    }
}

#[test]
fn what_is_administrative_by_its_path_is_for_operators() {
    // Keto has no path for administrators: whoever may ask it is a backend.
    let keto = [
        "/relation-tuples",
        "/namespaces",
        "/opl",
        "/access/",
        "/ory.keto.",
        "/cardea.permission.",
        "/grpc.reflection.",
    ];
    for route in all_routes() {
        let administrative = ["/admin", "/cluster", "/metrics"]
            .iter()
            .chain(&keto)
            .any(|prefix| route.path.starts_with(prefix));
        let guarded = matches!(route.audience, Audience::Operators(_));
        assert_eq!(guarded, administrative, "{} {}", route.method, route.path);
    }
    let write = |method: &Method| !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    for route in all_routes() {
        if let Audience::Operators(Scope::Read(_)) = route.audience {
            // Questions to Keto may be too long for a URL.
            let asks = route.method == Method::POST
                && keto.iter().any(|prefix| route.path.starts_with(prefix));
            assert!(asks || !write(&route.method), "{} {} changes", route.method, route.path);
        }
    }
}
