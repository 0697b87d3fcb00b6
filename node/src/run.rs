//! A node's life: the cluster opened, listeners up, serve; on SIGTERM or SIGINT
//! leaderships handed over, requests finished, state made durable, down.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::Router;
use cardea_api::keto::Door;
use cardea_cluster::{ClusterNode, directory::KeyRows};
use cardea_identity::{Settings, outbound::Outbound};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::{Builder, Handle, Runtime},
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    apikey::store::KeyStore,
    backend::Backend,
    clock::SystemClock,
    config::Config,
    courier,
    entropy::SystemEntropy,
    hooks,
    layers::{self, Layers, Rings},
    listener::{
        self,
        admission::Admission,
        gate::{Gate, GateOptions},
        grpc,
        health::{self, Readiness},
        keys::{Identification, SingleTenant},
        serve::serve,
        table::{Route, RouteTable},
        tls,
    },
    operator::{self, cluster::ClusterOperator},
    outbound::{self, OutboundOptions},
    preflight, providers,
    readiness::NodeReadiness,
    stall::WatchedLog,
    telemetry::{
        certificate::Certificates,
        cluster::ClusterMetrics,
        http::HttpMetrics,
        outbox::OutboxMetrics,
        password::PasswordMetrics,
        permission::PermissionMetrics,
        process::ProcessMetrics,
        registry::{Metrics, MetricsSource},
    },
    tokenizers,
    watchdog::{Bounds, Watchdog},
};

/// Threads of the runtime of consensus, at most. It never computes much, and a second
/// thread is mostly woken for what the first would do as soon: on two cores one thread
/// makes writes a tenth cheaper. So there is one for every four cores.
const RAFT_THREADS_MAX: usize = 4;
/// Connections of a listener that wait to be accepted: many clients come back at once.
const BACKLOG: u32 = 1024;
/// How long leaderships may take to be handed over at a stop.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(5);

/// Listeners for Keto's clients, as failures name them.
const READ: &str = "permission read";
const WRITE: &str = "permission write";
const LANGUAGE: &str = "permission language";

/// What the node serves beside its own health: routes with their handlers, and
/// the ports that decide who may call them.
pub struct Services {
    /// Every route of `router`.
    pub routes: Vec<Route>,
    /// Their handlers.
    pub router: Router,
    /// What browsers are shown on the public listener where nothing answers.
    pub lost: Router,
    /// Who callers are.
    pub identification: Identification,
    /// Whether the node can serve.
    pub readiness: Arc<dyn Readiness>,
    /// What has numbers to show.
    pub metrics: Vec<Arc<dyn MetricsSource>>,
}

/// A runtime that may be dropped within another.
struct RaftRuntime(Option<Runtime>);

impl RaftRuntime {
    fn start() -> std::io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / 4).clamp(1, RAFT_THREADS_MAX);
        let runtime = builder.worker_threads(threads).thread_name("raft").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for RaftRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs a node until it is told to stop.
pub async fn run_node(config: Config, stop_with_stdin: bool) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    watch_signals(stop.clone(), stop_with_stdin)?;
    // Before the node is in a cluster, or on its way into one.
    for (name, listen) in listeners(&config) {
        drop(bind(name, listen)?);
    }
    let raft = RaftRuntime::start().context("the runtime of consensus cannot be started")?;
    let handle = raft.handle().context("the runtime of consensus is gone")?;
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    let backend = Backend::open(&config, handle.clone(), clock, entropy).await?;
    let bounds = Bounds { handover: config.disk.stall_handover, stop: config.disk.stall_stop };
    let _watchdog =
        Watchdog::start(bounds, WatchedLog { backend: backend.clone(), runtime: handle })?;
    let failure = Arc::new(Mutex::new(None));
    let outcome = serve_node(&config, &backend, &failure, stop).await;
    let closed = backend.node().shutdown().await;
    outcome?;
    if let Some(error) = failure.lock().take() {
        return Err(error);
    }
    closed.context("the node did not stop cleanly")?;
    tracing::info!("stopped");
    Ok(())
}

type Failure = Arc<Mutex<Option<anyhow::Error>>>;

async fn serve_node(
    config: &Config,
    backend: &Arc<Backend>,
    failure: &Failure,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let store = backend.node().store();
    let providers = providers::providers(config)?;
    let settings = Settings {
        imported_cookies: layers::imported_cookies(config)?,
        ..layers::identity_settings(config, courier::templates(config)?, providers)
    };
    let settings = Settings {
        hooks: hooks::hooks(config)?,
        organizations: providers::organizations(config)?,
        password_migration: crate::migration::hook(config)?,
        tokenizers: tokenizers::tokenizers(config)?,
        ..settings
    };
    let calls_hooks = !settings.hooks.is_empty();
    let authority = config.outbound.authority_file.as_deref();
    let outbound = outbound::Client::new(OutboundOptions::of(config), authority)?;
    let mut options = layers::identity_options(config);
    if let Some(css) = preflight::stylesheet(config)? {
        options.theme.css = css;
    }
    let obstacles = {
        let node = backend.node().clone();
        Arc::new(move || node.obstacle())
    };
    let limits = layers::permission_limits(config);
    let keto = layers::keto_options(config);
    let outbound: Arc<dyn Outbound> = Arc::new(outbound);
    let carriers = courier::carriers(config, &outbound)?;
    let layers = Layers::new(store.clone(), settings, options, outbound, limits, keto, obstacles);
    let keys = Arc::new(KeyStore::new(store));
    let readiness = Arc::new(NodeReadiness::new(backend.clone(), layers.clone()));
    let operator = Arc::new(ClusterOperator::new(backend.clone(), keys.clone()));
    let services = Services {
        routes: operator::routes::routes().into_iter().chain(layers::routes()).collect(),
        router: operator::routes::router(operator).merge(layers.router()),
        lost: layers.lost(),
        identification: Identification { keys, tenants: Arc::new(SingleTenant) },
        readiness: readiness.clone(),
        metrics: vec![
            Arc::new(ClusterMetrics(backend.clone())),
            Arc::new(PasswordMetrics(layers.clone())),
            Arc::new(OutboxMetrics(layers.clone())),
            Arc::new(PermissionMetrics(layers.clone())),
        ],
    };
    let fail = {
        let (failure, stop) = (failure.clone(), stop.clone());
        move |error: anyhow::Error| {
            tracing::error!(error = format!("{error:#}"), "this node stops");
            failure.lock().get_or_insert(error);
            stop.cancel();
        }
    };
    let refused = fail.clone();
    backend.seek(move |error| refused(anyhow::Error::new(error)));
    backend.node().directory().expect_layers();
    let posting = carriers.map(|carriers| tokio::spawn(courier::run(layers.clone(), carriers)));
    let calling = calls_hooks.then(|| tokio::spawn(hooks::run(layers.clone())));
    let erasing = tokio::spawn(crate::erasure::run(layers.clone()));
    let deleting = tokio::spawn(crate::deletions::run(layers.clone()));
    let finishing = tokio::spawn(crate::finished::run(layers.clone()));
    let counting = tokio::spawn(crate::outbox::run(layers.clone()));
    let sealing = tokio::spawn(crate::audit::run(layers.clone()));
    let informed = tokio::spawn(crate::schemas::run(layers.clone()));
    let keyed = tokio::spawn(follow_keys(backend.node().clone(), layers.clone(), fail.clone()));
    let closing = CancellationToken::new();
    let serving = serve_listeners(config, services, closing.clone());
    let ending = async {
        tokio::select! {
            () = stop.cancelled() => {}
            fault = backend.node().faulted() => fail(anyhow::Error::new(fault)),
        }
        readiness.stop();
        // First, while this node still answers: whoever asks it meanwhile is
        // answered by the new leaders.
        backend.hand_over(HAND_OVER_WITHIN).await;
        layers.close();
        closing.cancel();
    };
    tokio::pin!(serving);
    let outcome = tokio::select! {
        outcome = &mut serving => outcome,
        () = ending => serving.await,
    };
    keyed.abort();
    informed.abort();
    sealing.abort();
    finishing.abort();
    counting.abort();
    erasing.abort();
    deleting.abort();
    for task in [posting, calling].into_iter().flatten() {
        task.abort();
    }
    outcome
}

/// Makes the layers when the cluster's keys arrive, and again when they change.
async fn follow_keys(node: Arc<ClusterNode>, layers: Arc<Layers>, fail: impl Fn(anyhow::Error)) {
    let mut views = node.directory().watch();
    let mut made_of = KeyRows::new();
    loop {
        let view = views.borrow_and_update().clone();
        // Those of a backup arrive one by one.
        if !view.keys.is_empty() && view.keys != made_of && !view.is_restoring() {
            let made = match node.keyrings_of(&view.keys) {
                Ok(rings) => {
                    let layers = layers.clone();
                    // Hashes a password to be ready for whoever does not exist.
                    tokio::task::spawn_blocking(move || {
                        layers.make(Rings {
                            token: &rings.token,
                            index: &rings.index,
                            sealing: &rings.sealing,
                            cursor: &rings.cursor,
                        })
                    })
                    .await
                    .unwrap_or_else(|error| Err(error.into()))
                }
                Err(error) => Err(error.into()),
            };
            match made {
                Ok(()) => {
                    node.directory().took_up(&view.keys);
                    made_of.clone_from(&view.keys);
                }
                Err(error) => return fail(error.context("the cluster's keys cannot be used")),
            }
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}

/// Serves all listeners until `stop`, then drains them.
pub async fn serve_listeners(
    config: &Config,
    services: Services,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let http = HttpMetrics::new();
    let shown = http.clone();
    let metrics = Arc::new(Metrics::new(|registry| shown.register(registry)));
    metrics.add(Arc::new(ProcessMetrics));
    let certificates = Certificates::of(config);
    metrics.add(Arc::new(certificates.clone()));
    tokio::spawn(certificates.warn(SystemClock::new(), stop.clone()));
    let admission = Admission::new();
    metrics.add(Arc::new(admission.clone()));
    services.metrics.into_iter().for_each(|source| metrics.add(source));
    let own = || health::routes().into_iter().chain(grpc::routes());
    let table = Arc::new(RouteTable::new(own().chain(services.routes))?);
    let readiness = services.readiness;
    let router = services.router.merge(health::router(readiness.clone(), metrics));
    let gate = |options: GateOptions, table: &Arc<RouteTable>, door| {
        let identification = services.identification.clone();
        let table = Arc::clone(table);
        let router = router.clone().merge(grpc::router(readiness.clone(), door)?);
        let gate = Gate::new(options, table, identification, http.clone(), router);
        anyhow::Ok(gate.admitting(admission.clone()))
    };
    let (public, admin) = (&config.public, &config.admin);
    let public_tls = tls::of_listener(&public.tls_certificate_file, &public.tls_key_file, None)?;
    let authority = admin.client_authority_file.as_deref();
    let admin_tls = tls::of_listener(&admin.tls_certificate_file, &admin.tls_key_file, authority)?;
    let public_listener = bind("public", public.listen)?;
    let admin_listener = bind("admin", admin.listen)?;
    tracing::info!(
        version = health::VERSION,
        region = config.node.region,
        public = %public_listener.local_addr()?,
        admin = %admin_listener.local_addr()?,
        "listening"
    );
    let entropy = || Arc::new(SystemEntropy);
    let limits = listener::serve_limits(config);
    let public_gate = gate(listener::public_gate(config, entropy()), &table, None)?;
    let public_gate = Arc::new(public_gate.leading(services.lost));
    let admin_gate = Arc::new(gate(listener::admin_gate(config, entropy()), &table, None)?);
    let permission = &config.permission;
    let mut doors = Vec::new();
    for (name, door, listen) in [
        (READ, Door::Read, permission.read_listen),
        (WRITE, Door::Write, permission.write_listen),
        (LANGUAGE, Door::Language, permission.opl_listen),
    ] {
        let Some(listen) = listen else { continue };
        let table = Arc::new(RouteTable::new(own().chain(layers::keto_routes(door)))?);
        let gate = gate(listener::keto_gate(config, listen, entropy()), &table, Some(door))?;
        let bound = bind(name, listen)?;
        doors.push(serve(bound, admin_tls.clone(), Arc::new(gate), limits, stop.clone()));
    }
    tokio::join!(
        futures::future::join_all(doors),
        serve(public_listener, public_tls, public_gate, limits, stop.clone()),
        serve(admin_listener, admin_tls, admin_gate, limits, stop.clone()),
    );
    tracing::info!("drained");
    Ok(())
}

/// Where the node listens, but for other nodes, which it does first.
fn listeners(config: &Config) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    let permission = &config.permission;
    [
        ("public", Some(config.public.listen)),
        ("admin", Some(config.admin.listen)),
        (READ, permission.read_listen),
        (WRITE, permission.write_listen),
        (LANGUAGE, permission.opl_listen),
    ]
    .into_iter()
    .filter_map(|(name, listen)| Some((name, listen?)))
}

fn bind(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| format!("the {name} listener cannot stand on {address}"))
}

/// Cancels `stop` on SIGTERM, on SIGINT and, if asked to, at the end of
/// standard input.
fn watch_signals(stop: CancellationToken, with_stdin: bool) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    if with_stdin {
        // A thread of its own: a blocked read cannot be cancelled, and ends
        // with the process.
        let stop = stop.clone();
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
            tracing::info!("the supervisor is gone: draining");
            stop.cancel();
        })?;
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
            _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
            () = stop.cancelled() => {}
        }
        stop.cancel();
    });
    Ok(())
}
