//! Pages of other origins: those that are listed, and all others.

use http::HeaderMap;

use super::*;

const APP: &str = "https://app.example";
const EVIL: &str = "https://app.example.evil";

/// A listener that lists one origin.
fn listing(side: Side, cookies: bool) -> Gate {
    let origins = Origins::new(&[APP.parse().unwrap()], cookies);
    // An admin listener on loopback, as Keto's are without `admin.auth`.
    gate_with(GateOptions { origins, ..options(side, side == Side::Admin) }, false)
}

fn from(origin: &str, method: &Method, path: &str) -> http::request::Builder {
    request(method, path).header(header::ORIGIN, origin).header("sec-fetch-site", "cross-site")
}

async fn preflight(gate: &Gate, origin: &str, path: &str) -> Response {
    let asked = from(origin, &Method::OPTIONS, path)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type,x-grpc-web");
    send(gate, asked.body(Body::empty()).unwrap()).await
}

fn said(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

fn says_nothing(headers: &HeaderMap) -> bool {
    !headers.keys().any(|name| name.as_str().starts_with("access-control-"))
}

#[tokio::test]
async fn preflight_of_a_listed_page_names_methods_and_headers() {
    for (side, cookies) in [(Side::Public, true), (Side::Admin, false)] {
        let answer = preflight(&listing(side, cookies), APP, "/admin/identities").await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let headers = answer.headers();
        assert_eq!(said(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN), APP);
        assert_eq!(said(headers, header::ACCESS_CONTROL_ALLOW_METHODS), "GET, POST, HEAD");
        let taken = said(headers, header::ACCESS_CONTROL_ALLOW_HEADERS);
        for name in ["authorization", "content-type", "x-grpc-web", "grpc-timeout"] {
            assert!(taken.split(", ").any(|taken| taken == name), "{name}: {taken}");
        }
        assert_eq!(said(headers, header::ACCESS_CONTROL_MAX_AGE), "600");
        let shares = said(headers, header::ACCESS_CONTROL_ALLOW_CREDENTIALS) == "true";
        assert_eq!(shares, cookies, "{side:?}");
        assert_eq!(said(headers, header::VARY), "origin");
    }
}

#[tokio::test]
async fn preflight_of_any_other_page_is_no_permission() {
    for side in [Side::Public, Side::Admin] {
        let refused = if side == Side::Public { 405 } else { 403 };
        for (gate, origins) in [
            // Off by default: then nobody is listed.
            (gate(side, false), [APP, EVIL, "null"]),
            (listing(side, true), [EVIL, "null", "http://app.example"]),
        ] {
            for origin in origins {
                let answer = preflight(&gate, origin, "/admin/identities").await;
                assert_eq!(answer.status(), refused, "{side:?} {origin}");
                assert!(says_nothing(answer.headers()), "{:?}", answer.headers());
            }
        }
        let nothing = preflight(&listing(side, true), APP, "/nothing").await;
        assert_eq!(nothing.status(), 404);
    }
    // Without what makes it one, it is a method like any other.
    let plain = from(APP, &Method::OPTIONS, "/echo").body(Body::empty()).unwrap();
    assert_eq!(send(&listing(Side::Public, true), plain).await.status(), 405);
}

#[tokio::test]
async fn answers_to_listed_pages_can_be_read_and_no_others() {
    let gate = listing(Side::Public, true);
    let get = |origin| from(origin, &Method::GET, "/sessions/whoami").body(Body::empty()).unwrap();
    let answer = send(&gate, get(APP)).await;
    assert_eq!(answer.status(), 200);
    let headers = answer.headers();
    assert_eq!(said(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN), APP);
    assert_eq!(said(headers, header::ACCESS_CONTROL_ALLOW_CREDENTIALS), "true");
    let shown = said(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS);
    assert!(shown.contains("grpc-status") && shown.contains("x-cardea-snaptoken"), "{shown}");
    let answer = send(&gate, get(EVIL)).await;
    assert!(says_nothing(answer.headers()));
    assert_eq!(said(answer.headers(), header::VARY), "origin", "kept apart from the other");
    // What is refused can be read too: a page tells its visitor why.
    let refused = from(APP, &Method::GET, "/admin/identities").body(Body::empty()).unwrap();
    let refused = send(&gate, refused).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(said(refused.headers(), header::ACCESS_CONTROL_ALLOW_ORIGIN), APP);
}

#[tokio::test]
async fn page_shows_a_key_even_where_the_listener_trusts_its_callers() {
    let gate = listing(Side::Admin, false);
    assert_eq!(status(&gate, &Method::GET, "/admin/identities", None).await, 200, "no page");
    let ask = |origin, seed: Option<u8>| {
        let mut asked = from(origin, &Method::GET, "/admin/identities");
        if let Some(seed) = seed {
            let key = key(seed).reveal();
            asked = asked.header(header::AUTHORIZATION, format!("Bearer {}", key.as_str()));
        }
        asked.body(Body::empty()).unwrap()
    };
    assert_eq!(send(&gate, ask(APP, None)).await.status(), 401);
    assert_eq!(send(&gate, ask(APP, Some(OTHER_AREA))).await.status(), 403);
    assert_eq!(send(&gate, ask(APP, Some(READS))).await.status(), 200);
    assert_eq!(send(&gate, ask(EVIL, Some(READS))).await.status(), 403, "not listed");
    // An image or a form of a listed page names no origin, and is refused as ever.
    let image = request(&Method::GET, "/sessions/whoami").header("sec-fetch-site", "cross-site");
    assert_eq!(send(&gate, image.body(Body::empty()).unwrap()).await.status(), 403);
    let elsewhere = Request::get("/sessions/whoami")
        .header(header::HOST, "rebound.example")
        .header(header::ORIGIN, APP);
    assert_eq!(send(&gate, elsewhere.body(Body::empty()).unwrap()).await.status(), 421);
}

#[tokio::test]
async fn refused_grpc_web_call_of_a_page_is_told_in_its_form() {
    let call = from(APP, &Method::POST, "/admin/identities")
        .header(header::CONTENT_TYPE, "application/grpc-web+proto");
    let answer = send(&listing(Side::Admin, false), call.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "16");
    assert_eq!(said(answer.headers(), header::ACCESS_CONTROL_ALLOW_ORIGIN), APP);
}
