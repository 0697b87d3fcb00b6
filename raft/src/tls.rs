//! Mutual TLS between the nodes of a cluster.
//!
//! A cluster has one certificate [`Authority`], made with the cluster id and
//! naming it (`cardea://<cluster>` as a URI among its alternative names). Each
//! node has a certificate of that authority which names cluster and node
//! (`cardea://<cluster>/node/<name>`), and the DNS names and IP addresses at
//! which others reach it.
//!
//! Both sides of a connection show a certificate. Each checks the chain to the
//! one authority, the validity, the names, and that the other's certificate
//! belongs to its own cluster; the caller also checks that the host it called
//! is among the names. TLS 1.3 only, without resumption, so that each
//! connection judges expiry anew.
//!
//! Plain connections exist for development on one machine: both sides refuse
//! any address that is not loopback, and configuration must ask for them.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    CertificateError, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::danger::ClientCertVerifier as _,
    sign::CertifiedKey,
};
use webpki::EndEntityCert;

use crate::ids::ClusterId;

mod authority;
#[cfg(test)]
mod tests;
mod verify;

pub use authority::{Authority, Issued, Subject, Validity};

/// Why certificates or keys cannot be used. No message holds key material.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate in the PEM text, or one that does not parse.
    #[error("the {what} is not a certificate in PEM")]
    Certificate {
        /// Which of the inputs.
        what: &'static str,
    },
    /// No private key in the PEM text, or one that does not parse.
    #[error("the {what} is not a private key in PEM")]
    Key {
        /// Which of the inputs.
        what: &'static str,
    },
    /// The certificate names no cluster, or not in the form expected here.
    #[error("the {what} names no cluster")]
    Nameless {
        /// Which of the inputs.
        what: &'static str,
    },
    /// A certificate belongs to another cluster than expected.
    #[error("the certificate belongs to cluster {found}, not to {expected}")]
    OtherCluster {
        /// What was expected.
        expected: ClusterId,
        /// What the certificate says.
        found: ClusterId,
    },
    /// The private key does not belong to the certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// A name that cannot be put into a certificate.
    #[error("{0:?} cannot stand in a certificate")]
    Name(String),
    /// Making or signing a certificate failed.
    #[error("cannot make the certificate")]
    Issue(#[source] rcgen::Error),
    /// Other nodes would not speak to who shows it.
    #[error("no other node takes the certificate")]
    Refused(#[source] rustls::Error),
    /// The TLS library refused the configuration.
    #[error("cannot use the certificates")]
    Config(#[source] rustls::Error),
    /// The verifier could not be built from the authority's certificate.
    #[error("cannot verify against the authority")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// Who a certificate speaks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The name of the node, as given when the certificate was issued.
    pub node: String,
}

/// A node's own certificate and key, and the authority it trusts, read from PEM.
pub struct Credentials {
    identity: Identity,
    authority: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// Reads the authority's certificate, the node's certificate (with what
    /// comes between them, if anything) and the node's key.
    pub fn from_pem(authority: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let authority = certificates("authority", authority)?;
        let chain = certificates("node certificate", certificate)?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key { what: "node key" })?;
        let cluster =
            cluster_of_authority(&authority[0]).ok_or(TlsError::Nameless { what: "authority" })?;
        let identity =
            identity(&chain[0]).ok_or(TlsError::Nameless { what: "node certificate" })?;
        if identity.cluster != cluster {
            return Err(TlsError::OtherCluster { expected: cluster, found: identity.cluster });
        }
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider())
            .map_err(config_error)?;
        Ok(Self { identity, authority, chain, key })
    }

    /// Whether other nodes take the certificate at a moment, in milliseconds since the Unix
    /// epoch. One that is not valid yet passes: the clock may be wrong.
    ///
    /// # Errors
    /// If the authority did not issue it, or it is over.
    pub fn check(&self, now_ms: u64) -> Result<(), TlsError> {
        let others = verify::ClusterClients::new(self.roots()?, self.identity.cluster, provider())?;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
        match others.verify_client_cert(&self.chain[0], &self.chain[1..], now) {
            Ok(_)
            | Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            )) => Ok(()),
            Err(refused) => Err(TlsError::Refused(refused)),
        }
    }

    /// Whom the node's certificate names.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.authority {
            roots.add(certificate.clone()).map_err(TlsError::Config)?;
        }
        Ok(Arc::new(roots))
    }

    fn expect(&self, cluster: ClusterId) -> Result<(), TlsError> {
        if self.identity.cluster == cluster {
            Ok(())
        } else {
            Err(TlsError::OtherCluster { expected: cluster, found: self.identity.cluster })
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// How a listener accepts other nodes.
#[derive(Clone)]
pub enum ServerTls {
    /// Certificates of the cluster's authority on both sides.
    Mutual(Arc<rustls::ServerConfig>),
    /// No TLS; only on a loopback address, for development.
    LoopbackPlain,
}

/// How a node calls others.
#[derive(Clone)]
pub enum ClientTls {
    /// Certificates of the cluster's authority on both sides.
    Mutual(Arc<rustls::ClientConfig>),
    /// No TLS; only to a loopback address, for development.
    LoopbackPlain,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mutual(_) => "Mutual",
            Self::LoopbackPlain => "LoopbackPlain",
        })
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mutual(_) => "Mutual",
            Self::LoopbackPlain => "LoopbackPlain",
        })
    }
}

/// Accepts nodes of `cluster`, to which the credentials must belong too.
pub fn server_tls(credentials: &Credentials, cluster: ClusterId) -> Result<ServerTls, TlsError> {
    credentials.expect(cluster)?;
    let provider = provider();
    let verifier = verify::ClusterClients::new(credentials.roots()?, cluster, provider.clone())?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Config)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(credentials.chain.clone(), credentials.key.clone_key())
        .map_err(config_error)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(ServerTls::Mutual(Arc::new(config)))
}

/// Calls nodes of `cluster`, to which the credentials must belong too.
pub fn client_tls(credentials: &Credentials, cluster: ClusterId) -> Result<ClientTls, TlsError> {
    credentials.expect(cluster)?;
    let provider = provider();
    let verifier = verify::ClusterServers::new(credentials.roots()?, cluster, provider.clone())?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())
        .map_err(config_error)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(ClientTls::Mutual(Arc::new(config)))
}

/// Whom a certificate names; `None` if it is no certificate of a node.
pub fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let mut identities = parsed.valid_uri_names().filter_map(|name| {
        let (cluster, node) = name.strip_prefix(SCHEME)?.split_once(NODE)?;
        Some(Identity { cluster: parse_cluster(cluster)?, node: node.to_owned() })
    });
    let first = identities.next()?;
    // Two names would let the reader choose.
    identities.next().is_none().then_some(first)
}

const SCHEME: &str = "cardea://";
const NODE: &str = "/node/";

fn authority_name(cluster: ClusterId) -> String {
    format!("{SCHEME}{cluster}")
}

fn node_name(cluster: ClusterId, node: &str) -> String {
    format!("{SCHEME}{cluster}{NODE}{node}")
}

fn cluster_of_authority(certificate: &CertificateDer<'_>) -> Option<ClusterId> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    parsed.valid_uri_names().find_map(|name| parse_cluster(name.strip_prefix(SCHEME)?))
}

fn parse_cluster(text: &str) -> Option<ClusterId> {
    let digits = text.as_bytes();
    if digits.len() != 32 || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(|id| ClusterId(id.to_be_bytes()))
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Certificate { what })?;
    if certificates.is_empty() { Err(TlsError::Certificate { what }) } else { Ok(certificates) }
}

fn config_error(error: rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch,
        other => TlsError::Config(other),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
