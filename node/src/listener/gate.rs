//! What every request passes before a handler sees it, and what every answer
//! gets on its way out.
//!
//! 1. A request id is taken or made; the client's address is found.
//! 2. The admin listener refuses foreign hosts and web pages; where pages are listed, a
//!    browser that asks beforehand is told what they may send.
//! 3. The path is looked up in the route table, leniently where Ory is. Who asks for a page
//!    where there is none is shown one that says so, on the public listener.
//! 4. Under overload it is refused, or waits a moment ([`admission`](super::admission)).
//! 5. Administrative routes ask for a key, unless the listener trusts its
//!    callers; a key that is shown counts wherever it is shown.
//! 6. The tenant is that of the host name, and a key's must be the same.
//! 7. The body is bounded, the time is bounded, the handler runs.
//! 8. Security headers, the access log, metrics.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, response::Response};
use cardea_api::kratos::pages::asks_for_page;
use cardea_storage::Entropy;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body::Body as _;
use http_body_util::Limited;
use tower::ServiceExt as _;

use super::{
    admission::{Admission, Place},
    client::{ClientAddress, PeerAddress, client_address, is_secure},
    cors::{self, Origins, Page},
    grpc,
    keys::{Caller, Grant, Identification, Presented, Tenant},
    origin::{Hosts, host_of},
    refusal::Refusal,
    table::{Audience, Found, RouteTable},
};
use crate::{
    apikey::ApiKey,
    config::{cidr::Cidr, value::Size},
    telemetry::{http::HttpMetrics, request_id::RequestId},
};

/// What a gRPC body may hold at least: a message of the largest size that services
/// take, and its frame.
const GRPC_BODY: Size = Size(cardea_api::keto::grpc::MESSAGE_BYTES_MAX as u64 * 2);

/// Which listener a request came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Browsers and applications.
    Public,
    /// Operators and backends.
    Admin,
}

impl Side {
    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Side::Public => "public",
            Side::Admin => "admin",
        }
    }
}

/// How a listener judges requests.
#[derive(Clone)]
pub struct GateOptions {
    /// Which listener it is.
    pub side: Side,
    /// Whether whoever reaches it may call administrative routes without a
    /// key: the admin listener on loopback, behind client certificates, or
    /// where the operator wrote `auth = "none"`.
    pub trusts_callers: bool,
    /// The names the admin listener answers to.
    pub hosts: Hosts,
    /// The web pages that may call it from elsewhere.
    pub origins: Origins,
    /// Proxies whose word counts.
    pub trusted_proxies: Vec<Cidr>,
    /// Whether the listener itself speaks TLS.
    pub tls: bool,
    /// For how long browsers are to come back over TLS alone; zero: they are not told.
    pub hsts: Duration,
    /// The largest body.
    pub body: Size,
    /// The longest time.
    pub timeout: Duration,
    /// Routes that are answered when the work is done, however long it takes.
    pub unhurried: &'static [&'static str],
    /// Where administrative routes are redirected to on the public listener
    /// when no key is shown; `None`: they answer 401.
    pub redirect_admin: Option<String>,
    /// Whether each request gets a log line.
    pub access_log: bool,
    /// Where request ids come from.
    pub entropy: Arc<dyn Entropy>,
}

/// A listener's gate.
pub struct Gate {
    options: GateOptions,
    table: Arc<RouteTable>,
    identification: Identification,
    metrics: HttpMetrics,
    admission: Admission,
    inner: Router,
    lost: Option<Router>,
}

impl Gate {
    /// A gate before `inner`, which answers the routes of `table`.
    pub fn new(
        options: GateOptions,
        table: Arc<RouteTable>,
        identification: Identification,
        metrics: HttpMetrics,
        inner: Router,
    ) -> Self {
        let admission = Admission::new();
        Self { options, table, identification, metrics, admission, inner, lost: None }
    }

    /// With the places that all listeners share.
    pub fn admitting(self, admission: Admission) -> Self {
        Self { admission, ..self }
    }

    /// Shows browsers what `lost` answers where nothing else does.
    pub fn leading(self, lost: Router) -> Self {
        Self { lost: Some(lost), ..self }
    }

    /// Answers one request.
    pub async fn answer(&self, peer: PeerAddress, mut request: Request<Body>) -> Response {
        let started = Instant::now();
        let request_id = RequestId::of(request.headers(), &*self.options.entropy);
        request.headers_mut().insert(RequestId::HEADER, request_id.header());
        request.extensions_mut().insert(request_id.clone());
        let client = client_address(peer.0.ip(), request.headers(), &self.options.trusted_proxies);
        request.extensions_mut().insert(ClientAddress(client));
        request.extensions_mut().insert(peer);
        let grpc = grpc::media_type(request.headers());
        let (method, is_get) =
            (request.method().clone(), matches!(*request.method(), Method::GET | Method::HEAD));

        let secure = self.is_secure(peer, request.headers());
        let page = self.options.origins.page(request.headers());
        let mut route = "unmatched";
        let mut place = None;
        let admitting = self.admit(peer, page.as_ref(), &mut request, &mut route, &mut place);
        let outcome = admitting.await;
        let mut response = match outcome {
            Ok(Admitted::Redirected(to)) => redirect(&to),
            Ok(Admitted::Asked(methods)) => permit(&methods),
            Ok(Admitted::Passed) => self.run(request, route).await,
            Ok(Admitted::Lost(lost)) => match lost.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            Err(refusal) => refusal.answer(Some(request_id.as_str())),
        };
        if let Some(place) = place {
            place.answered(response.status());
        }
        if let Some(media_type) = grpc {
            response = grpc::in_form(media_type, response);
        }
        finish_headers(response.headers_mut(), &request_id, is_get);
        if secure {
            self.insist_on_tls(response.headers_mut());
        }
        self.options.origins.finish(page.as_ref(), response.headers_mut());

        let (took, status) = (started.elapsed(), grpc::http_status(&response));
        self.metrics.observe(self.options.side.name(), &method, route, status, took);
        if self.options.access_log && !(status.is_success() && is_probe(route)) {
            // The route's pattern, never the path or query: those carry ids,
            // tokens and codes.
            tracing::info!(
                target: "cardea::access",
                listener = self.options.side.name(),
                request_id = request_id.as_str(),
                client = %client,
                method = %method,
                route,
                status = status.as_u16(),
                took_ms = (took.as_secs_f64() * 1_000_000.0).round() / 1000.0,
            );
        }
        response
    }

    async fn admit(
        &self,
        peer: PeerAddress,
        page: Option<&Page>,
        request: &mut Request<Body>,
        route_name: &mut &'static str,
        place: &mut Option<Place>,
    ) -> Result<Admitted, Refusal> {
        let options = &self.options;
        if options.side == Side::Admin {
            options.hosts.check(request.uri(), request.headers(), page)?;
        }
        if let Some(path) = self.table.lenient(request.uri().path(), options.side == Side::Admin) {
            *request.uri_mut() = with_path(request.uri(), &path)?;
        }
        let route = match self.table.find(request.method(), request.uri().path()) {
            Found::Route(route) => route,
            Found::OtherMethods(methods)
                if page.is_some() && cors::is_preflight(request.method(), request.headers()) =>
            {
                *route_name = "preflight";
                return Ok(Admitted::Asked(methods));
            }
            Found::OtherMethods(allow) => return Err(Refusal::method_not_allowed(allow)),
            Found::Nothing => {
                let lost = self.lost.clone().filter(|_| asks_for_page(request.headers()));
                return lost.map(Admitted::Lost).ok_or_else(Refusal::not_found);
            }
        };
        *route_name = route.path;
        if let Some(class) = route.class {
            let entered = self.admission.enter(class, &route.method, route.path).await;
            *place = Some(entered.map_err(|_| Refusal::overloaded())?);
        }

        let tenant = host_of(request.uri(), request.headers())
            .map_or(Some(Tenant::default()), |host| self.identification.tenants.of_host(&host))
            .ok_or_else(|| {
                Refusal::new(StatusCode::MISDIRECTED_REQUEST, "No tenant answers under this host.")
            })?;
        let grant = match route.audience {
            Audience::Everyone => None,
            Audience::Operators(scope) => {
                let recognized = self.recognize(request.headers()).await?;
                let (grant, key) = recognized.unzip();
                if let Some(key) = key {
                    let keys = self.identification.keys.clone();
                    request.extensions_mut().insert(Presented { keys, key, scope, tenant });
                }
                match &grant {
                    Some(grant) if !grant.allows(scope) => {
                        return Err(Refusal::new(
                            StatusCode::FORBIDDEN,
                            format!("The API key lacks the scope {scope}."),
                        ));
                    }
                    Some(grant) if grant.tenant != tenant => {
                        return Err(Refusal::new(
                            StatusCode::FORBIDDEN,
                            "The API key belongs to another tenant.",
                        ));
                    }
                    // Whom a listener trusts are those who reach it, not what pages do there.
                    None if page.is_some() || !options.trusts_callers => {
                        if let Some(base) = &options.redirect_admin {
                            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
                            return Ok(Admitted::Redirected(format!(
                                "{}{path}",
                                base.trim_end_matches('/')
                            )));
                        }
                        return Err(Refusal::new(
                            StatusCode::UNAUTHORIZED,
                            "This route needs an API key: Authorization: Bearer cardea_key_…",
                        ));
                    }
                    _ => {}
                }
                grant
            }
        };
        let secure = self.is_secure(peer, request.headers());
        request.extensions_mut().insert(Caller { tenant, grant, secure });
        self.bound_body(request)?;
        Ok(Admitted::Passed)
    }

    /// The key that the request shows with its grant, if it shows one; a wrong
    /// one is refused, not ignored.
    async fn recognize(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<(Grant, Arc<ApiKey>)>, Refusal> {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
        let refused = || Refusal::new(StatusCode::UNAUTHORIZED, "The API key is not valid.");
        let text = value.to_str().map_err(|_| refused())?;
        let (scheme, key) = text.split_once(' ').ok_or_else(refused)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused());
        }
        let key = ApiKey::parse(key.trim()).map_err(|_| refused())?;
        match self.identification.keys.recognize(&key).await {
            Ok(Some(grant)) => Ok(Some((grant, Arc::new(key)))),
            Ok(None) => Err(refused()),
            Err(unavailable) => Err(Refusal::unavailable(unavailable.to_string())),
        }
    }

    fn is_secure(&self, peer: PeerAddress, headers: &HeaderMap) -> bool {
        is_secure(peer.0.ip(), self.options.tls, headers, &self.options.trusted_proxies)
    }

    /// RFC 6797. Without it the first plain request of a browser is anybody's; over a
    /// plain connection it would be (§ 7.2).
    fn insist_on_tls(&self, headers: &mut HeaderMap) {
        let seconds = self.options.hsts.as_secs();
        let value = HeaderValue::from_str(&format!("max-age={seconds}"));
        if let (true, Ok(value)) = (seconds > 0, value) {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
        }
    }

    fn bound_body(&self, request: &mut Request<Body>) -> Result<(), Refusal> {
        // Services bound their messages themselves, and say so in their form.
        let is_grpc = grpc::media_type(request.headers()).is_some();
        let most = if is_grpc { self.options.body.max(GRPC_BODY) } else { self.options.body };
        if request.body().size_hint().lower() > most.bytes() {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("The body may hold at most {most}."),
            ));
        }
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = Body::new(Limited::new(body, most.as_usize()));
        Ok(())
    }

    async fn run(&self, request: Request<Body>, route: &str) -> Response {
        let request_id = request.extensions().get::<RequestId>().cloned();
        let is_safe = request.method().is_safe();
        let answer = self.inner.clone().oneshot(request);
        let patience = match self.options.unhurried.contains(&route) {
            true => Duration::MAX,
            false => self.options.timeout,
        };
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                let refusal = if is_safe {
                    Refusal::unavailable("The request was not answered in time.")
                } else {
                    Refusal::outcome_unknown(
                        "The request was not answered in time; whether it took effect is not known.",
                    )
                };
                refusal.answer(request_id.as_ref().map(RequestId::as_str))
            }
        }
    }
}

enum Admitted {
    Passed,
    /// A browser asked what its page may send; these are the methods of the path.
    Asked(String),
    Redirected(String),
    /// A browser asked for a page where nothing answers; this shows it one.
    Lost(Router),
}

fn permit(methods: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    cors::permit(methods, response.headers_mut());
    response
}

fn redirect(to: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

fn with_path(uri: &Uri, path: &str) -> Result<Uri, Refusal> {
    let mut parts = uri.clone().into_parts();
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let rewritten = format!("{path}{query}").parse();
    parts.path_and_query = Some(rewritten.map_err(|_| Refusal::not_found())?);
    Uri::from_parts(parts).map_err(|_| Refusal::not_found())
}

/// Whether a route is asked by machines all day: it is logged only where it does not answer well.
fn is_probe(route: &str) -> bool {
    route.starts_with("/health/") || route == "/metrics"
}

/// Headers of every answer. A handler's own choice stays.
fn finish_headers(headers: &mut HeaderMap, request_id: &RequestId, is_get: bool) {
    headers.insert(RequestId::HEADER, request_id.header());
    let defaults = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-site"),
    ];
    for (name, value) in defaults {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if is_get {
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("private, no-cache, no-store, must-revalidate"));
    }
}
