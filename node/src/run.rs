//! A node's life: listeners up, serve, drain on SIGTERM or SIGINT, down.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context as _;
use async_trait::async_trait;
use axum::Router;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    apikey::ApiKey,
    config::Config,
    entropy::SystemEntropy,
    listener::{
        self,
        gate::{Gate, GateOptions},
        health::{self, Readiness},
        keys::{ApiKeys, Grant, Identification, KeysUnavailable, SingleTenant},
        serve::serve,
        table::{Route, RouteTable},
        tls,
    },
    telemetry::{http::HttpMetrics, process::ProcessMetrics, registry::Metrics},
};

/// What the node serves beside its own health: routes with their handlers, and
/// the ports that decide who may call them.
pub struct Services {
    /// Every route of `router`.
    pub routes: Vec<Route>,
    /// Their handlers.
    pub router: Router,
    /// Who callers are.
    pub identification: Identification,
    /// Whether the node can serve.
    pub readiness: Arc<dyn Readiness>,
}

impl Services {
    /// A node whose store is not open: it answers its health, and lets nobody
    /// in by key.
    pub fn without_store() -> Self {
        Self {
            routes: Vec::new(),
            router: Router::new(),
            identification: Identification {
                keys: Arc::new(NoKeys),
                tenants: Arc::new(SingleTenant),
            },
            readiness: Arc::new(StoreClosed),
        }
    }
}

struct NoKeys;

#[async_trait]
impl ApiKeys for NoKeys {
    async fn recognize(&self, _presented: &ApiKey) -> Result<Option<Grant>, KeysUnavailable> {
        Err(KeysUnavailable)
    }
}

struct StoreClosed;

impl Readiness for StoreClosed {
    fn obstacles(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([("database", "the store is not open".to_owned())])
    }
}

/// Runs a node until it is told to stop.
pub async fn run_node(config: Config, stop_with_stdin: bool) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    watch_signals(stop.clone(), stop_with_stdin)?;
    serve_listeners(&config, Services::without_store(), stop).await
}

/// Serves both listeners until `stop`, then drains them.
pub async fn serve_listeners(
    config: &Config,
    services: Services,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let http = HttpMetrics::new();
    let shown = http.clone();
    let metrics = Arc::new(Metrics::new(|registry| shown.register(registry)));
    metrics.add(Arc::new(ProcessMetrics));
    let routes = health::routes().into_iter().chain(services.routes);
    let table = Arc::new(RouteTable::new(routes)?);
    let router = services.router.merge(health::router(services.readiness, metrics));
    let gate = |options: GateOptions| {
        let identification = services.identification.clone();
        Arc::new(Gate::new(
            options,
            Arc::clone(&table),
            identification,
            http.clone(),
            router.clone(),
        ))
    };
    let (public, admin) = (&config.public, &config.admin);
    let public_tls = tls(&public.tls_certificate_file, &public.tls_key_file, None)?;
    let authority = admin.client_authority_file.as_deref();
    let admin_tls = tls(&admin.tls_certificate_file, &admin.tls_key_file, authority)?;
    let public_listener = bind("public", public.listen).await?;
    let admin_listener = bind("admin", admin.listen).await?;
    tracing::info!(
        version = health::VERSION,
        region = config.node.region,
        public = %public_listener.local_addr()?,
        admin = %admin_listener.local_addr()?,
        "listening"
    );
    let entropy = || Arc::new(SystemEntropy);
    let limits = listener::serve_limits(config);
    let public_gate = gate(listener::public_gate(config, entropy()));
    let admin_gate = gate(listener::admin_gate(config, entropy()));
    tokio::join!(
        serve(public_listener, public_tls, public_gate, limits, stop.clone()),
        serve(admin_listener, admin_tls, admin_gate, limits, stop.clone()),
    );
    tracing::info!("drained");
    Ok(())
}

fn tls(
    certificate: &Option<impl AsRef<Path>>,
    key: &Option<impl AsRef<Path>>,
    client_authority: Option<&Path>,
) -> anyhow::Result<Option<TlsAcceptor>> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            tls::acceptor(certificate.as_ref(), key.as_ref(), client_authority).map(Some)
        }
        _ => Ok(None),
    }
}

async fn bind(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("the {name} listener cannot stand on {address}"))
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
