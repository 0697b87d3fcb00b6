//! How commands reach a node: a small HTTP client for the admin listener.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::{
    cli::exit::Failure,
    config::{layers::SECRET_PREFIX, secret::read_private},
    listener::tls::certificates,
};

/// The largest answer that a command reads.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Where help lists what every command takes, behind its own options.
pub const EVERYWHERE: &str = "Options of every command";

/// Which node a command talks to, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// The node's admin listener
    #[arg(
        long = "admin-url",
        env = "CARDEA_ADMIN_URL",
        default_value = "http://127.0.0.1:4434",
        global = true,
        value_name = "URL",
        help_heading = EVERYWHERE
    )]
    pub url: String,
    /// A file that holds an API key; or set CARDEA_SECRET_API_KEY
    #[arg(
        long,
        env = "CARDEA_API_KEY_FILE",
        global = true,
        value_name = "FILE",
        help_heading = EVERYWHERE
    )]
    pub api_key_file: Option<PathBuf>,
    /// The authority of the listener's certificate (PEM), for https
    #[arg(
        long = "admin-ca-file",
        env = "CARDEA_ADMIN_CA_FILE",
        global = true,
        value_name = "FILE",
        help_heading = EVERYWHERE
    )]
    pub ca_file: Option<PathBuf>,
    /// A certificate (PEM), for a listener that asks for one (`admin.auth = "mtls"`)
    #[arg(
        long = "admin-cert-file",
        env = "CARDEA_ADMIN_CERT_FILE",
        global = true,
        value_name = "FILE",
        help_heading = EVERYWHERE
    )]
    pub certificate_file: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(
        long = "admin-cert-key-file",
        env = "CARDEA_ADMIN_CERT_KEY_FILE",
        global = true,
        value_name = "FILE",
        help_heading = EVERYWHERE
    )]
    pub certificate_key_file: Option<PathBuf>,
}

/// A client of one node.
pub struct OperatorClient {
    base: Uri,
    key: Option<Zeroizing<String>>,
    /// Of https alone.
    tls: Option<Arc<ClientConfig>>,
}

impl OperatorClient {
    /// A client as the command line says.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        let base: Uri = connection.url.parse().map_err(|_| {
            Failure::Usage(format!("\"{}\" is no URL of an admin listener", connection.url))
        })?;
        if base.host().is_none() || !matches!(base.scheme_str(), Some("http" | "https")) {
            return Err(Failure::Usage(format!("\"{}\" is no http or https URL", connection.url)));
        }
        let key = match std::env::var(format!("{SECRET_PREFIX}API_KEY")) {
            Ok(key) => Some(Zeroizing::new(key)),
            Err(_) => match &connection.api_key_file {
                Some(file) => Some(read_private(file).map_err(anyhow::Error::from)?),
                None => None,
            },
        };
        let certificate = match (&connection.certificate_file, &connection.certificate_key_file) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => {
                let told = "--admin-cert-file and --admin-cert-key-file go together";
                return Err(Failure::Usage(told.to_owned()));
            }
        };
        let tls = match (base.scheme_str(), &connection.ca_file) {
            (Some("https"), None) => {
                return Err(Failure::Usage("https needs --admin-ca-file".to_owned()));
            }
            (Some("https"), Some(authority)) => {
                let made = tls(authority, certificate);
                Some(Arc::new(made.map_err(|error| Failure::Usage(format!("{error:#}")))?))
            }
            _ => None,
        };
        Ok(Self { base, key, tls })
    }

    /// A client of a node on this machine that trusts whoever reaches it, and is shown
    /// nothing: what the environment holds is for others.
    ///
    /// # Errors
    /// None that a port could bring about.
    pub fn of_this_machine(port: u16) -> Result<Self, Failure> {
        let base = format!("http://127.0.0.1:{port}").parse::<Uri>();
        let base = base.map_err(anyhow::Error::from)?;
        Ok(Self { base, key: None, tls: None })
    }

    /// Asks `GET path`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, Bytes::new(), Duration::from_secs(10)).await
    }

    /// Sends `POST path`; `patience` is how long the work may take.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(anyhow::Error::from)?;
        self.call(Method::POST, path, body.into(), patience).await
    }

    /// Sends `POST path` with a body as it is.
    pub async fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<T, Failure> {
        self.call(Method::POST, path, body, patience).await
    }

    /// Asks `GET path`, and hands over what comes as it comes, for as long as any does;
    /// gives the answer's header of a name.
    pub async fn stream(
        &self,
        path: &str,
        header: &str,
        sink: &mut Sink<'_>,
    ) -> Result<Option<String>, Failure> {
        let exchanged = self.exchange(Method::GET, path, Bytes::new(), Some(sink)).await;
        let answer = exchanged.map_err(|error| match error.downcast::<NotTaken>() {
            // Not the node's fault.
            Ok(NotTaken(error)) => Failure::Failed(error),
            Err(error) => {
                Failure::Unavailable(format!("{} did not answer to the end: {error:#}", self.base))
            }
        })?;
        if !answer.status.is_success() {
            return Err(refusal(answer.status, &answer.body));
        }
        let value = answer.headers.get(header).and_then(|value| value.to_str().ok());
        Ok(value.map(str::to_owned))
    }

    /// Sends `PUT path`; `patience` is how long the work may take.
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(anyhow::Error::from)?;
        self.call(Method::PUT, path, body.into(), patience).await
    }

    /// Sends `DELETE path`.
    pub async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.call(Method::DELETE, path, Bytes::new(), Duration::from_secs(30)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<T, Failure> {
        let Answer { status, body: answer, .. } =
            match tokio::time::timeout(patience, self.exchange(method, path, body, None)).await {
                Ok(Ok(answered)) => answered,
                Ok(Err(error)) => {
                    return Err(Failure::Unavailable(format!(
                        "{} cannot be reached: {error:#}",
                        self.base
                    )));
                }
                Err(_) => {
                    return Err(Failure::Unavailable(format!(
                        "{} did not answer in time",
                        self.base
                    )));
                }
            };
        if status.is_success() {
            let answer = if answer.is_empty() { Bytes::from_static(b"null") } else { answer };
            return serde_json::from_slice(&answer)
                .with_context(|| format!("{} gave an answer that is not understood", self.base))
                .map_err(Failure::from);
        }
        Err(refusal(status, &answer))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        sink: Option<&mut Sink<'_>>,
    ) -> anyhow::Result<Answer> {
        let host = self.base.host().context("no host")?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.base.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect((bare, port)).await?;
        let prefix = self.base.path().trim_end_matches('/');
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        if let Some(key) = &self.key {
            let mut value = http::HeaderValue::from_str(&format!("Bearer {}", key.trim()))
                .context("the API key is no header text")?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body))?;
        match &self.tls {
            Some(tls) => {
                let name = ServerName::try_from(bare.to_owned())?;
                let connector = tokio_rustls::TlsConnector::from(tls.clone());
                converse(TokioIo::new(connector.connect(name, stream).await?), request, sink).await
            }
            None => {
                converse(TokioIo::new(stream), request, sink).await.map_err(|error| {
                    match error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
                        true => error.context(
                            "no answer of HTTP: a listener with a certificate is \
                                           asked by https",
                        ),
                        false => error,
                    }
                })
            }
        }
    }
}

/// How a listener with a certificate of an authority is called, by whom a certificate names.
fn tls(authority: &Path, certificate: Option<(PathBuf, PathBuf)>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(authority)? {
        roots.add(authority)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some((certificate, key)) = certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let key = read_private(&key)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .context("--admin-cert-key-file holds no private key")?;
    builder
        .with_client_auth_cert(certificates(&certificate)?, key)
        .context("--admin-cert-file and --admin-cert-key-file")
}

/// What came could not be taken.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct NotTaken(anyhow::Error);

/// Takes what comes.
pub type Sink<'a> = dyn FnMut(&[u8]) -> anyhow::Result<()> + Send + 'a;

/// An answer; its body is empty where a sink took it.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

fn refusal(status: StatusCode, answer: &[u8]) -> Failure {
    let parsed: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let error = &parsed["error"];
    let why = error["reason"].as_str().or(error["message"].as_str()).unwrap_or("no reason given");
    let text = format!("{why} ({status})");
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            Failure::Unavailable(text)
        }
        StatusCode::UNAUTHORIZED => Failure::Failed(anyhow::anyhow!(
            "{text}; the admin listener is asked by --admin-url, a key is shown by --api-key-file \
             or CARDEA_SECRET_API_KEY"
        )),
        _ => Failure::Failed(anyhow::anyhow!(text)),
    }
}

async fn converse<S>(
    io: TokioIo<S>,
    request: Request<Full<Bytes>>,
    mut sink: Option<&mut Sink<'_>>,
) -> anyhow::Result<Answer>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let (parts, mut incoming) = response.into_parts();
    let (status, headers) = (parts.status, parts.headers);
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.context("the answer broke off")?;
        let Some(data) = frame.data_ref() else { continue };
        match &mut sink {
            Some(sink) if status.is_success() => sink(data).map_err(NotTaken)?,
            _ => {
                let short = body.len() + data.len() <= ANSWER_BYTES_MAX;
                anyhow::ensure!(short, "the answer is longer than {ANSWER_BYTES_MAX} bytes");
                body.extend_from_slice(data);
            }
        }
    }
    driver.abort();
    Ok(Answer { status, headers, body: body.into() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use cardea_raft::{
        ClusterId,
        tls::{Authority, Subject, Validity},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// A listener with `admin.auth = "mtls"` is for operators, too.
    #[tokio::test]
    async fn a_listener_that_asks_for_a_certificate_is_shown_one() {
        let long = Validity { not_before_ms: 0, not_after_ms: 4_102_444_800_000 };
        let authority = Authority::create(ClusterId([5; 16]), long).unwrap();
        let subject = Subject { node: "op".to_owned(), hosts: vec!["127.0.0.1".to_owned()] };
        let issued = authority.issue(&subject, long).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let ca = write("authority.pem", authority.certificate_pem());
        let (own, key) =
            (write("op.pem", &issued.certificate_pem), write("op.key", &issued.key_pem));
        let acceptor = crate::listener::tls::acceptor(&own, &key, Some(&ca)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = [0; 4096];
                let read = stream.read(&mut head).await.unwrap_or(0);
                if read > 0 {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntrue";
                    stream.write_all(answer).await.unwrap();
                    stream.shutdown().await.ok();
                }
            }
        });
        let with = |certificate: Option<&PathBuf>, key: Option<&PathBuf>| Connection {
            url: url.clone(),
            api_key_file: None,
            ca_file: Some(ca.clone()),
            certificate_file: certificate.cloned(),
            certificate_key_file: key.cloned(),
        };
        let known = OperatorClient::new(&with(Some(&own), Some(&key))).unwrap();
        assert!(known.get::<bool>("/x").await.unwrap());
        let nobody = OperatorClient::new(&with(None, None)).unwrap();
        assert!(matches!(nobody.get::<bool>("/x").await, Err(Failure::Unavailable(_))));
        assert!(matches!(OperatorClient::new(&with(Some(&own), None)), Err(Failure::Usage(_))));
        // What is wrong here is not told as if the node were.
        let other =
            authority.issue(&Subject { node: "b".to_owned(), hosts: vec![] }, long).unwrap();
        let other = write("other.key", &other.key_pem);
        for wrong in [
            with(Some(&own), Some(&other)),
            with(Some(&key), Some(&key)),
            Connection { ca_file: Some(folder.path().join("none")), ..with(None, None) },
        ] {
            let told = OperatorClient::new(&wrong).map(drop);
            assert!(matches!(told, Err(Failure::Usage(_))), "{wrong:?}");
        }
        let plain = Connection { url: url.replace("https", "http"), ..with(None, None) };
        let told = OperatorClient::new(&plain).unwrap().get::<bool>("/x").await.unwrap_err();
        assert!(told.to_string().contains("asked by https"), "{told}");
        serving.abort();
    }
}
