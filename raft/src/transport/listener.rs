//! The listener for other nodes: this crate's service, and whatever else the
//! node says to its like, on one port.

use std::{io, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use super::{connection::Connection, network::Listener};
use crate::tls::ServerTls;

/// Time for a TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes at a time; more callers wait in the backlog.
const HANDSHAKES: usize = 64;
/// Time for calls under way once the listener is told to stop.
const GRACE: Duration = Duration::from_secs(3);

/// Why a listener does not serve, or ceased to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Without TLS only loopback addresses may be listened at.
    #[error("without TLS a node must listen at a loopback address, not at {0}")]
    Exposed(std::net::SocketAddr),
    /// The socket failed.
    #[error("the listener failed")]
    Io(#[from] io::Error),
    /// The HTTP server failed.
    #[error("the server failed")]
    Server(#[from] tonic::transport::Error),
}

/// Serves `routes` to other nodes until `stopping`, and a few seconds longer
/// for calls under way. Requests carry a [`PeerInfo`](super::PeerInfo) among
/// their extensions.
pub async fn serve(
    listener: impl Into<Listener>,
    tls: ServerTls,
    routes: Routes,
    stopping: CancellationToken,
) -> Result<(), ServeError> {
    const STREAM_WINDOW: u32 = 4 << 20;
    const CONNECTION_WINDOW: u32 = 64 << 20;
    const STREAMS: u32 = 65_536;
    const RESETS: usize = 16_384;
    let (connections, accepting) = incoming(listener.into(), tls, &stopping)?;
    let serving = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        // Each group that ends a stream resets it; hundreds may at once.
        .http2_max_pending_accept_reset_streams(Some(RESETS))
        .http2_max_local_error_reset_streams(Some(RESETS))
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, stopping.clone().cancelled_owned());
    let outcome = tokio::select! {
        outcome = serving => outcome.map_err(ServeError::Server),
        () = async { stopping.cancelled().await; sleep(GRACE).await } => Ok(()),
    };
    if let Some(accepting) = accepting {
        accepting.abort();
    }
    outcome
}

type Connections = BoxStream<'static, io::Result<Connection>>;

/// The connections that come in, and the task that accepts them.
fn incoming(
    listener: Listener,
    tls: ServerTls,
    stopping: &CancellationToken,
) -> Result<(Connections, Option<AbortHandle>), ServeError> {
    let listener = match listener {
        Listener::Tcp(listener) => listener,
        Listener::Streams { incoming, .. } => {
            let streams = ReceiverStream::new(incoming).map(|s| Ok(Connection::Other(s)));
            return Ok((streams.boxed(), None));
        }
    };
    let at = listener.local_addr()?;
    if matches!(tls, ServerTls::LoopbackPlain) && !at.ip().is_loopback() {
        return Err(ServeError::Exposed(at));
    }
    let (accepted, connections) = mpsc::channel(HANDSHAKES);
    let accepting = tokio::spawn(accept(listener, tls, accepted, stopping.clone()));
    Ok((ReceiverStream::new(connections).boxed(), Some(accepting.abort_handle())))
}

async fn accept(
    listener: TcpListener,
    tls: ServerTls,
    accepted: mpsc::Sender<io::Result<Connection>>,
    stopping: CancellationToken,
) {
    let handshakes = std::sync::Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let tcp = tokio::select! {
            () = stopping.cancelled() => return,
            tcp = listener.accept() => tcp,
        };
        let tcp = match tcp {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                // Out of file descriptors, or a caller that has gone already.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, accepted) = (tls.clone(), accepted.clone());
        tokio::spawn(async move {
            let from = tcp.peer_addr().ok();
            match timeout(HANDSHAKE_MAX, shake_hands(tcp, tls)).await {
                Ok(Ok(connection)) => {
                    let _ = accepted.send(Ok(connection)).await;
                }
                Ok(Err(error)) if is_gone(&error) => {
                    tracing::debug!(?from, %error, "a caller went away");
                }
                Ok(Err(error)) => tracing::warn!(?from, %error, "refused a connection"),
                Err(_) => tracing::warn!(?from, "a caller did not finish its handshake"),
            }
            drop(permit);
        });
    }
}

/// Whether a caller hung up: nodes that dial one that does not serve yet give up
/// after a while, and lie in its backlog until it does.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

async fn shake_hands(tcp: TcpStream, tls: ServerTls) -> io::Result<Connection> {
    tcp.set_nodelay(true)?;
    Ok(match tls {
        ServerTls::Mutual(config) => {
            let stream = TlsAcceptor::from(config).accept(tcp).await?;
            Connection::Tls(Box::new(stream.into()))
        }
        ServerTls::LoopbackPlain => Connection::Plain(tcp),
    })
}
