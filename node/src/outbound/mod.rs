//! The way out: one HTTP client for discovery documents, keys, tokens, claims and
//! webhooks, guarded so that nobody can make a node ask what only the node can reach.
//!
//! 1. The URL is read strictly: HTTPS (plain HTTP only where configured), a host, no
//!    user info.
//! 2. The name is looked up here, and every address is judged by [`guard`]. Those that
//!    are not to be reached are dropped; if none is left, nothing is asked.
//! 3. The connection goes to the very address that was judged, so a name that changes
//!    its mind between two lookups gains nothing; TLS proves the name.
//! 4. The answer is read up to a bound, within a deadline that covers all of it. A
//!    redirect is an answer like any other and is not followed.
//!
//! Variables such as `HTTPS_PROXY` are not looked at. A connection serves one question.

pub mod guard;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use cardea_identity::outbound::{Outbound, Question, Reply, Unanswered};
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

use crate::config::{Config, cidr::Cidr};

/// The largest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most headers of an answer.
const HEADERS_MAX: usize = 100;
/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct OutboundOptions {
    /// Ranges that may be reached though they are special.
    pub allowed: Vec<Cidr>,
    /// Whether plain HTTP is spoken.
    pub plain_http: bool,
    /// How long a question may take.
    pub timeout: Duration,
    /// The largest body of an answer, in bytes.
    pub body_bytes_max: usize,
}

impl OutboundOptions {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let outbound = &config.outbound;
        Self {
            allowed: outbound.allowed_ranges.clone(),
            plain_http: outbound.plain_http,
            timeout: outbound.timeout,
            body_bytes_max: outbound.max_answer.as_usize(),
        }
    }
}

/// The client.
pub struct Client {
    options: OutboundOptions,
    tls: Arc<ClientConfig>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A URL taken apart.
struct Place {
    host: String,
    port: u16,
    tls: bool,
}

impl Client {
    /// A client that trusts the system's authorities, and those in `authority` (PEM).
    pub fn new(options: OutboundOptions, authority: Option<&Path>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        // A system without authorities can still reach those that are named.
        roots.add_parsable_certificates(system.certs);
        if let Some(path) = authority {
            let read = || format!("cannot read certificates from {}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(read)? {
                roots.add(certificate.with_context(read)?).with_context(read)?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { options, tls: Arc::new(tls) })
    }

    fn place(&self, uri: &Uri) -> Result<Place, Unanswered> {
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if self.options.plain_http => false,
            Some("http") => return Err(Unanswered::BadUrl("it is not HTTPS")),
            _ => return Err(Unanswered::BadUrl("it is no web address")),
        };
        let authority = uri.authority().ok_or(Unanswered::BadUrl("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(Unanswered::BadUrl("it names a user"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(Unanswered::BadUrl("it names no host"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Place { host, port, tls })
    }

    /// The addresses of a host that may be reached.
    async fn addresses(&self, place: &Place) -> Result<Vec<SocketAddr>, Unanswered> {
        let found = lookup_host((place.host.as_str(), place.port)).await;
        let found: Vec<_> = found.map_err(|error| unreachable(&error))?.collect();
        if found.is_empty() {
            return Err(Unanswered::Unreachable("the host has no address".to_owned()));
        }
        let may = |address: &SocketAddr| guard::may_reach(address.ip(), &self.options.allowed);
        let reachable: Vec<_> = found.into_iter().filter(may).take(ADDRESSES_MAX).collect();
        if reachable.is_empty() { Err(Unanswered::Forbidden) } else { Ok(reachable) }
    }

    async fn ask_now(&self, question: Question, within: Duration) -> Result<Reply, Unanswered> {
        let uri: Uri = question.url.parse().map_err(|_| Unanswered::BadUrl("it is malformed"))?;
        let place = self.place(&uri)?;
        let request = request(&uri, question)?;
        let stream = connect(&self.addresses(&place).await?, within).await?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        if !place.tls {
            return self.exchange(stream, request).await;
        }
        let name = ServerName::try_from(place.host.clone())
            .map_err(|_| Unanswered::BadUrl("its host is no name"))?;
        let connector = TlsConnector::from(self.tls.clone());
        let stream = connector.connect(name, stream).await.map_err(|error| unreachable(&error))?;
        self.exchange(stream, request).await
    }

    async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<Reply, Unanswered> {
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
            let status = answer.status().as_u16();
            let most = self.options.body_bytes_max;
            let body = Limited::new(answer.into_body(), most).collect().await;
            let body = body.map_err(|error| {
                if error.downcast_ref::<http_body_util::LengthLimitError>().is_some() {
                    Unanswered::TooLarge(most)
                } else {
                    Unanswered::Unreachable(error.to_string())
                }
            })?;
            Ok(Reply { status, body: body.to_bytes() })
        };
        // The connection lives as long as the exchange, and not longer.
        tokio::pin!(exchange, connection);
        tokio::select! {
            reply = &mut exchange => reply,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(unreachable(&error)),
            },
        }
    }
}

#[async_trait]
impl Outbound for Client {
    async fn ask(&self, question: Question) -> Result<Reply, Unanswered> {
        let within = question.within.unwrap_or(self.options.timeout);
        tokio::time::timeout(within, self.ask_now(question, within))
            .await
            .unwrap_or(Err(Unanswered::TooLate))
    }
}

/// Connects to the first address that answers, within a time of which the silence of one
/// takes no more than its share: IPv6 that leads nowhere is common.
async fn connect(addresses: &[SocketAddr], within: Duration) -> Result<TcpStream, Unanswered> {
    let Some((last, others)) = addresses.split_last() else { return Err(Unanswered::Forbidden) };
    let share = within / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in others {
        if let Ok(Ok(stream)) = tokio::time::timeout(share, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    TcpStream::connect(last).await.map_err(|error| unreachable(&error))
}

fn request(uri: &Uri, question: Question) -> Result<Request<Full<Bytes>>, Unanswered> {
    let bad = |_| Unanswered::BadUrl("a header is malformed");
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(question.verb.name()).uri(path);
    let host = uri.authority().map_or("", |authority| authority.as_str());
    request = request.header(header::HOST, host).header(header::CONNECTION, "close");
    request = request.header(header::USER_AGENT, concat!("cardea/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &question.headers {
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| bad(()))?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    request.body(Full::new(question.body)).map_err(|_| bad(()))
}

fn unreachable(error: &dyn std::error::Error) -> Unanswered {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        told = format!("{told}: {cause}");
        source = cause.source();
    }
    Unanswered::Unreachable(told)
}
