//! What lies beneath the connections: TCP, or whatever else carries bytes in
//! order and says when it cannot. A simulation brings a network of its own.

use std::{io, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, lookup_host},
    sync::mpsc,
};

/// A stream of bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for S {}

/// Opens streams to other nodes; the counterpart of [`Listener::Streams`].
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// A stream to whoever listens at `address`, as `host:port`.
    async fn dial(&self, address: &str) -> io::Result<Box<dyn ByteStream>>;
}

/// Where a node listens to other nodes, and how it calls them.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Another network, which takes part without TLS.
    Streams {
        /// The streams that others open.
        incoming: mpsc::Receiver<Box<dyn ByteStream>>,
        /// How this node opens streams.
        dialer: Arc<dyn Dialer>,
    },
}

impl Listener {
    /// What a node that listens here calls others by.
    pub fn network(&self) -> Network {
        match self {
            Self::Tcp(_) => Network::Tcp,
            Self::Streams { dialer, .. } => Network::Streams(dialer.clone()),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

/// How a node calls others.
#[derive(Clone, Default)]
pub enum Network {
    /// TCP.
    #[default]
    Tcp,
    /// Another network.
    Streams(Arc<dyn Dialer>),
}

/// Tries the allowed addresses of `host:port` in order.
pub(super) async fn dial_tcp(
    address: &str,
    allowed: impl Fn(&SocketAddr) -> bool,
) -> io::Result<TcpStream> {
    let mut failure = None;
    for to in lookup_host(address).await? {
        if !allowed(&to) {
            failure = Some(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("without TLS only loopback addresses may be called, not {to}"),
            ));
            continue;
        }
        match TcpStream::connect(to).await {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                return Ok(tcp);
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("{address} resolves to nothing"))
    }))
}

/// Whether every address of `host:port` refuses a connection.
pub(super) async fn refuses(address: &str) -> bool {
    let Ok(addresses) = lookup_host(address).await else { return false };
    let mut refused = false;
    for to in addresses {
        match TcpStream::connect(to).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => refused = true,
            _ => return false,
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_refuses_once_nobody_listens_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(!refuses(&address).await);
        drop(listener);
        assert!(refuses(&address).await);
        assert!(!refuses("no address").await);
    }

    #[tokio::test]
    async fn plain_calls_reach_loopback_addresses_alone() {
        let error = dial_tcp("192.0.2.1:1", |to| to.ip().is_loopback()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
