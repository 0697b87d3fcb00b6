//! The layers above the store, with their routes.
//!
//! A layer needs the cluster's keys, and those are known only once the node
//! belongs to a cluster and the directory has arrived. Until then every route
//! answers 503; when a key is rotated the layers are made anew around it, and
//! requests under way finish on the former ones. Whatever else keeps the node from
//! relying on its configuration is asked for with every request.

mod guards;

use std::{sync::Arc, thread, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    response::Response,
};
use cardea_api::{
    ApiError, StillAllowed, keto,
    kratos::options::{self, CookieOptions, Options},
};
use cardea_cluster::runtime::obstacle::Obstacle;
use cardea_identity::{
    Keys, Service, Settings,
    courier::{Limits, Templates},
    flow::{Purpose, captcha::ProofOfWork},
    outbound::Outbound,
    password::{Argon2Cost, Breaches, Policy, PoolOptions, PoolUsage},
    schema::Schemas,
    session::{ImportedCookies, Sliding},
    social::Providers,
    table::{Identities, IdentityKey},
};
use cardea_permission::{Service as Permission, departure};
use cardea_storage::{Key, Keyring, Secret, Store, Table as _, Tenant};
use http::StatusCode;
use parking_lot::RwLock;
use tower::ServiceExt as _;

pub use self::guards::{keto_routes, routes};
use crate::{
    config::{
        Config,
        relying_party::relying_party,
        secret::{SecretError, read_text},
        settings::{AddressProof, RequiredAal, SameSite},
    },
    courier,
    listener::{
        client::ClientAddress,
        keys::{Caller, Presented},
        refusal::Refusal,
    },
    operator::cluster::sentence,
    telemetry::request_id::RequestId,
};

/// The cluster's rings that layers take their keys from.
#[derive(Debug, Clone, Copy)]
pub struct Rings<'a> {
    /// Authenticates tokens.
    pub token: &'a Keyring,
    /// Files what must only be found again.
    pub index: &'a Keyring,
    /// Seals what must be read again.
    pub sealing: &'a Keyring,
    /// Seals page tokens.
    pub cursor: &'a Keyring,
}

/// Says why nothing may be served for now; asked with every request.
pub type Obstacles = Arc<dyn Fn() -> Option<Obstacle> + Send + Sync>;

/// The layers, made.
pub(crate) struct Made {
    pub(crate) service: Arc<Service>,
    pub(crate) permission: Arc<Permission>,
    router: Router,
    lost: Router,
}

/// The layers of a node.
pub struct Layers {
    store: Arc<dyn Store>,
    settings: Settings,
    options: Options,
    outbound: Arc<dyn Outbound>,
    permission_limits: cardea_permission::engine::Limits,
    keto: Arc<keto::Shared>,
    obstacles: Obstacles,
    made: RwLock<Option<Arc<Made>>>,
}

/// The identity whose row this is, as tuples name it.
fn departs(key: &Key) -> Option<(Tenant, String)> {
    let IdentityKey { tenant, id } = Identities::read_key(key)?;
    Some((tenant, id.to_string()))
}

impl std::fmt::Debug for Layers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layers").field("made", &self.are_made()).finish_non_exhaustive()
    }
}

impl Layers {
    /// Layers over `store`, not made yet.
    pub fn new(
        store: Arc<dyn Store>,
        settings: Settings,
        options: Options,
        outbound: Arc<dyn Outbound>,
        permission_limits: cardea_permission::engine::Limits,
        keto: keto::Options,
        obstacles: Obstacles,
    ) -> Arc<Self> {
        let store = cardea_api::consistency::observed(store);
        Arc::new(Self {
            store,
            settings,
            options,
            outbound,
            permission_limits,
            keto: keto::Shared::new(keto),
            obstacles,
            made: RwLock::default(),
        })
    }

    /// Makes them, in place of those there were.
    ///
    /// # Errors
    /// If a preset schema cannot be read or a hashing thread cannot be started.
    pub fn make(&self, rings: Rings<'_>) -> anyhow::Result<()> {
        let keys = Keys::from_rings(rings.token, rings.index, rings.sealing, rings.cursor);
        let permission = Permission::new(self.store.clone(), rings.cursor, self.permission_limits);
        let permission = Arc::new(permission);
        let former = self.made.read().as_ref().map(|made| made.service.clone());
        let service = Arc::new(match former {
            Some(former) => former.rekeyed(keys),
            None => {
                let schemas = Schemas::preset()?;
                // Who is deleted takes the relation tuples along whose subject it is.
                let store = departure::bound(self.store.clone(), permission.clone(), departs);
                Service::start(store, keys, schemas, self.settings.clone())?
                    .with_outbound(self.outbound.clone())
            }
        });
        let keto = keto::Keto::new(permission.clone(), self.keto.clone());
        let kratos = cardea_api::kratos::Kratos::new(service.clone(), self.options.clone());
        let lost = cardea_api::kratos::pages::lost(kratos.clone());
        let router = cardea_api::kratos::public_routes(kratos.clone())
            .merge(cardea_api::kratos::admin_routes(kratos))
            .merge(keto::router(keto))
            .layer(middleware::from_fn(introduce));
        *self.made.write() = Some(Arc::new(Made { service, permission, router, lost }));
        Ok(())
    }

    /// Ends what would go on without end: the node is about to stop.
    pub fn close(&self) {
        self.keto.close();
    }

    /// Whether they answer.
    pub fn are_made(&self) -> bool {
        self.made.read().is_some()
    }

    /// All layers, once they are made.
    pub(crate) fn made(&self) -> Option<Arc<Made>> {
        self.made.read().clone()
    }

    /// The identity layer, once it is made.
    pub fn service(&self) -> Option<Arc<Service>> {
        self.made.read().as_ref().map(|made| made.service.clone())
    }

    /// What the hashing threads have done and are doing.
    pub fn password_usage(&self) -> Option<PoolUsage> {
        self.made.read().as_ref().map(|made| made.service.password_usage())
    }

    /// Watches and deletions under way.
    pub fn keto_usage(&self) -> keto::Usage {
        self.keto.usage()
    }

    /// Answers every route of the layers; what else is asked of it is theirs to
    /// refuse.
    pub fn router(self: &Arc<Self>) -> Router {
        let layers = self.clone();
        Router::new().fallback(move |request: Request| {
            let layers = layers.clone();
            async move { layers.answer(request).await }
        })
    }

    /// Shows a page to whoever asks for one that is not there, whatever stands in the way of
    /// those that are.
    pub fn lost(self: &Arc<Self>) -> Router {
        let layers = self.clone();
        Router::new().fallback(move |request: Request| {
            let lost = layers.made().map(|made| made.lost.clone());
            async move {
                let id = request.extensions().get::<RequestId>().cloned();
                let Some(lost) = lost else {
                    return Refusal::not_found().answer(id.as_ref().map(RequestId::as_str));
                };
                match lost.oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
        })
    }

    async fn answer(&self, request: Request<Body>) -> Response {
        let refused = |why: String| {
            let id = request.extensions().get::<RequestId>();
            Refusal::unavailable(why).answer(id.map(RequestId::as_str))
        };
        let Some(made) = self.made.read().clone() else {
            return refused("This node does not belong to an initialised cluster yet.".to_owned());
        };
        if let Some(obstacle) = (self.obstacles)() {
            return refused(sentence(&obstacle));
        }
        match made.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Tells the API who calls, in its own words.
async fn introduce(mut request: Request, next: Next) -> Response {
    let extensions = request.extensions_mut();
    if let Some(tenant) = extensions.get::<Caller>().map(|caller| caller.tenant) {
        extensions.insert(tenant);
    }
    if let Some(address) = extensions.get::<ClientAddress>().map(|address| address.0) {
        extensions.insert(cardea_api::ClientAddress(address));
    }
    if let Some(presented) = extensions.remove::<Presented>() {
        extensions.insert(StillAllowed::new(move || {
            let presented = presented.clone();
            Box::pin(async move {
                match presented.still_holds().await {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(ApiError::unauthorized("The API key is no longer valid.")),
                    Err(error) => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE)
                        .reason(error.to_string())
                        .retry_after(Duration::from_secs(1))),
                }
            })
        }));
    }
    next.run(request).await
}

/// What opens session cookies of Ory Kratos, if its secrets are given.
///
/// # Errors
/// If the file of its secrets cannot be read.
pub fn imported_cookies(config: &Config) -> Result<Option<ImportedCookies>, SecretError> {
    let file = config.secrets.imported_cookies_file.as_deref();
    let secrets = read_text("imported_cookies", file, |name| std::env::var(name).ok())?;
    Ok(secrets.map(|secrets| {
        let lines = secrets.expose().lines().map(str::trim).filter(|line| !line.is_empty());
        let secrets = lines.map(|secret| Secret::new(secret.to_owned())).collect();
        ImportedCookies::new(config.sessions.cookie_name.clone(), secrets)
    }))
}

/// The identity layer's settings under a configuration.
pub fn identity_settings(config: &Config, templates: Templates, providers: Providers) -> Settings {
    let (argon2, sessions, flows) = (&config.argon2, &config.sessions, &config.flows);
    let mails = courier::sends_mails(config);
    let sends = mails || courier::sends_texts(config);
    let factors = &config.factors;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Settings {
        session_lifespan: sessions.lifespan,
        session_extend_before_end: (!sessions.earliest_extend.is_zero())
            .then_some(sessions.earliest_extend),
        proof_of_work: ProofOfWork {
            flows: config.captcha.flows.iter().filter_map(|flow| Purpose::parse(flow)).collect(),
            bits: config.captcha.bits,
        },
        session_sliding: (!sessions.sliding.is_zero())
            .then_some(Sliding { before_end: sessions.sliding, at_most: sessions.sliding_max }),
        flow_lifespan: flows.lifespan,
        flow_retention: flows.retention,
        verification: flows.verification.unwrap_or(sends),
        recovery: flows.recovery.unwrap_or(sends),
        selectable_schemas: flows.registration_schemas.clone(),
        code_login: flows.code_login,
        code_second_factor: factors.code,
        code_lifespan: flows.code_lifespan,
        link_lifespan: flows.link_lifespan,
        recovery_proof: address_proof(flows.recovery_use),
        verification_proof: address_proof(flows.verification_use),
        session_after_registration: flows.session_after_registration,
        session_required_aal: required_aal(sessions.required_aal),
        settings_required_aal: required_aal(flows.settings_required_aal),
        totp: factors
            .totp
            .then(|| factors.totp_issuer.clone().unwrap_or_else(|| config.pages.name.clone())),
        lookup_secrets: factors.lookup_secrets,
        relying_party: relying_party(config),
        passkeys: factors.passkeys.unwrap_or(true),
        security_keys: factors.security_keys.unwrap_or(true),
        passwordless_keys: factors.security_keys_passwordless,
        imported_tokens: sessions.imported_tokens,
        factor_change_ends_sessions: factors.change_ends_sessions,
        notify_changes: factors.notify.unwrap_or(mails),
        self_export: flows.export,
        self_erasure: flows.erasure,
        message_limits: message_limits(config),
        templates,
        language: config.courier.language,
        providers,
        default_return_url: identity_options(config).urls.default_return,
        privileged_session_max_age: flows.privileged_session_max_age,
        password_policy: password_policy(config),
        breaches: breaches(config),
        argon2: argon2_cost(config),
        pool: PoolOptions {
            memory_bytes_max: argon2.pool_memory.as_usize(),
            threads_max: cores,
            queue_max: argon2.queue as usize,
            ..PoolOptions::default()
        },
        public_url: public_url(config),
        ..Settings::default()
    }
}

/// What a hash of a new password costs under a configuration.
pub fn argon2_cost(config: &Config) -> Argon2Cost {
    let argon2 = &config.argon2;
    Argon2Cost {
        memory_kib: u32::try_from(argon2.memory.bytes() / 1024).unwrap_or(u32::MAX),
        passes: argon2.iterations,
        lanes: argon2.parallelism,
    }
}

/// What new passwords must be under a configuration.
fn password_policy(config: &Config) -> Policy {
    let passwords = &config.passwords;
    Policy {
        length_min: passwords.min_length as usize,
        length_min_beside_second: passwords.min_length_with_second_factor as usize,
        identifier_similarity_check: passwords.similarity_check,
        ..Policy::default()
    }
}

/// Who is asked about breached passwords under a configuration.
fn breaches(config: &Config) -> Option<Breaches> {
    let passwords = &config.passwords;
    passwords.breaches.then(|| Breaches {
        url: passwords.breaches_url.trim_end_matches('/').to_owned(),
        found_max: passwords.breaches_max.into(),
        errors_ignored: passwords.breaches_ignore_network_errors,
        within: passwords.breaches_timeout,
    })
}

fn message_limits(config: &Config) -> Limits {
    let messages = &config.messages;
    Limits {
        window: messages.window,
        per_address: messages.max_per_address,
        per_source: messages.max_per_source,
        texts_per_country: messages.max_texts_per_country,
        mails: messages.max_mails,
        texts: messages.max_texts,
        text_prefixes: messages.text_prefixes.clone(),
    }
}

const fn required_aal(named: RequiredAal) -> cardea_identity::session::RequiredAal {
    match named {
        RequiredAal::Aal1 => cardea_identity::session::RequiredAal::Aal1,
        RequiredAal::HighestAvailable => cardea_identity::session::RequiredAal::HighestAvailable,
    }
}

const fn address_proof(named: AddressProof) -> cardea_identity::flow::AddressProof {
    match named {
        AddressProof::Code => cardea_identity::flow::AddressProof::Code,
        AddressProof::Link => cardea_identity::flow::AddressProof::Link,
    }
}

/// How the identity layer's API behaves under a configuration.
pub fn identity_options(config: &Config) -> Options {
    let (pages, sessions) = (&config.pages, &config.sessions);
    let mut options = Options::new(&public_url(config));
    let urls = &mut options.urls;
    for (url, named) in [
        (&mut urls.login, &pages.login_url),
        (&mut urls.registration, &pages.registration_url),
        (&mut urls.settings, &pages.settings_url),
        (&mut urls.recovery, &pages.recovery_url),
        (&mut urls.verification, &pages.verification_url),
        (&mut urls.error, &pages.error_url),
        (&mut urls.default_return, &pages.default_return_url),
    ] {
        if let Some(named) = named {
            url.clone_from(named);
        }
    }
    options.theme.name.clone_from(&pages.name);
    options.theme.logo_url.clone_from(&pages.logo_url);
    options.theme.accent = pages.accent;
    options.urls.allowed_return.clone_from(&pages.allowed_return_urls);
    options.cookies = CookieOptions {
        name: sessions.cookie_name.clone(),
        domain: sessions.cookie_domain.clone(),
        same_site: match sessions.cookie_same_site {
            SameSite::Lax => options::SameSite::Lax,
            SameSite::Strict => options::SameSite::Strict,
            SameSite::None => options::SameSite::None,
        },
        secure: sessions.cookie_secure,
        persistent: sessions.cookie_persistent,
    };
    options.session_cache = sessions.cache_for;
    options
}

/// The base URL of the public listener, without a slash at the end.
pub fn public_url(config: &Config) -> String {
    let public = &config.public;
    base_url(public.url.as_deref(), public.tls_certificate_file.is_some(), public.listen)
}

/// The base URL of the admin listener, without a slash at the end.
pub fn admin_url(config: &Config) -> String {
    let admin = &config.admin;
    base_url(admin.url.as_deref(), admin.tls_certificate_file.is_some(), admin.listen)
}

fn base_url(named: Option<&str>, tls: bool, listen: std::net::SocketAddr) -> String {
    let scheme = if tls { "https" } else { "http" };
    let url = named.map_or_else(|| format!("{scheme}://{listen}"), str::to_owned);
    url.trim_end_matches('/').to_owned()
}

/// How the permission layer's API behaves under a configuration.
pub fn keto_options(config: &Config) -> keto::Options {
    keto::Options {
        watchers_max: config.permission.max_watchers as usize,
        subject_type: config.permission.authzen_subject_type.clone(),
        public_url: public_url(config),
        ..keto::Options::default()
    }
}

/// The bounds of questions about permissions under a configuration.
pub fn permission_limits(config: &Config) -> cardea_permission::engine::Limits {
    let permission = &config.permission;
    cardea_permission::engine::Limits {
        depth: permission.max_depth,
        width: permission.max_width.min(cardea_permission::engine::WIDTH_MAX),
        size: permission.max_size as usize,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cardea_storage::{
        KeyId, ManualClock, Secret, SeededEntropy, Tenant, Timestamp, engine::memory::MemoryDisk,
        local::LocalShards,
    };
    use http_body_util::BodyExt as _;
    use parking_lot::Mutex;

    use super::*;

    fn ring() -> Keyring {
        Keyring::new(vec![(KeyId(1), Secret::new([1; 32]))]).unwrap()
    }

    #[tokio::test]
    async fn what_stands_in_the_way_refuses_every_request_and_says_why() {
        let clock = Arc::new(ManualClock::new(Timestamp(1_800_000_000_000)));
        let shards = LocalShards::open(&MemoryDisk::new(1), Path::new("x"), 1, clock).unwrap();
        let store = shards.store(Arc::new(SeededEntropy::new(3)));
        let cheap = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let settings = Settings { argon2: cheap, ..Settings::default() };
        let obstacle = Arc::new(Mutex::new(None));
        let layers = {
            let obstacle = obstacle.clone();
            Layers::new(
                store,
                settings,
                Options::new("http://x"),
                Arc::new(cardea_identity::outbound::NoWayOut),
                cardea_permission::engine::Limits::default(),
                keto::Options::default(),
                Arc::new(move || *obstacle.lock()),
            )
        };
        let ask = async || {
            let caller = Caller { tenant: Tenant::default(), grant: None, secure: false };
            let request = Request::get("/sessions/whoami").extension(caller);
            let request = request.body(Body::empty()).unwrap();
            let response = layers.answer(request).await;
            let status = response.status();
            let retry = response.headers().contains_key(http::header::RETRY_AFTER);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            (status.as_u16(), retry, body["error"]["reason"].as_str().unwrap_or("").to_owned())
        };
        let (status, retry, reason) = ask().await;
        assert_eq!((status, retry), (503, true));
        assert!(reason.contains("does not belong"), "{reason}");
        let ring = ring();
        let rings = Rings { token: &ring, index: &ring, sealing: &ring, cursor: &ring };
        layers.make(rings).unwrap();
        assert_eq!(ask().await.0, 401);
        for (stands, wanted) in [
            (Obstacle::Unconfirmed, "This node has not heard from a quorum"),
            (Obstacle::Restoring, "A backup is being restored"),
            (Obstacle::ClockNotCompared, "This node's clock was not compared"),
        ] {
            *obstacle.lock() = Some(stands);
            let (status, retry, reason) = ask().await;
            assert_eq!((status, retry), (503, true), "{stands}");
            assert!(reason.starts_with(wanted), "{reason}");
        }
        *obstacle.lock() = None;
        assert_eq!(ask().await.0, 401);
    }
}
