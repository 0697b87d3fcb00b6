//! Accepting connections: bounded in number, with a time for everything, and
//! let go gently when the node stops.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::body::Body;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{client::PeerAddress, gate::Gate, stall::StallGuard};

/// Bounds of a listener's connections.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Connections open at once; more wait in the kernel's queue.
    pub connections: u32,
    /// The largest request head, in bytes.
    pub head_bytes: usize,
    /// The longest time for a request's head, and for a TLS handshake.
    pub head_timeout: Duration,
    /// The longest time that a write may make no progress.
    pub write_timeout: Duration,
    /// How long open requests are given once the node stops.
    pub drain_timeout: Duration,
}

/// Serves `listener` until `stop`, then drains: idle connections are closed,
/// running requests finish within the drain time.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    gate: Arc<Gate>,
    limits: ServeLimits,
    stop: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(limits.connections as usize));
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&connections).acquire_owned() => permit,
            () = stop.cancelled() => break,
        };
        let Ok(permit) = permit else { break };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a client gone before it was
                    // accepted: neither is a reason to stop listening.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let (gate, tls, stop) = (Arc::clone(&gate), tls.clone(), stop.clone());
        tokio::spawn(async move {
            accept(stream, peer, tls, gate, limits, stop).await;
            drop(permit);
        });
    }
    drop(listener);
    let drained = connections.acquire_many(limits.connections);
    if tokio::time::timeout(limits.drain_timeout, drained).await.is_err() {
        tracing::warn!("some requests did not finish in time and are cut off");
    }
}

async fn accept(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    gate: Arc<Gate>,
    limits: ServeLimits,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    match tls {
        None => converse(stream, peer, gate, limits, stop).await,
        Some(acceptor) => {
            let handshake = tokio::time::timeout(limits.head_timeout, acceptor.accept(stream));
            match handshake.await {
                Ok(Ok(stream)) => converse(stream, peer, gate, limits, stop).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "the TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
            }
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: SocketAddr,
    gate: Arc<Gate>,
    limits: ServeLimits,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let gate = Arc::clone(&gate);
        async move {
            let answer = gate.answer(PeerAddress(peer), request.map(Body::new)).await;
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // Names as Ory's servers write them, for clients that compare letters.
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(128)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let guarded = StallGuard::new(stream, limits.write_timeout, limits.head_timeout);
    let io = TokioIo::new(guarded);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}
