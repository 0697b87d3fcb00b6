//! TLS of the public and admin listeners, from PEM files.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio_rustls::TlsAcceptor;

/// An acceptor with this certificate chain and key; with `client_authority`,
/// only clients with a certificate of that authority are accepted.
pub fn acceptor(
    certificate: &Path,
    key: &Path,
    client_authority: Option<&Path>,
) -> anyhow::Result<TlsAcceptor> {
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read the private key in {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?;
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots
                    .add(authority)
                    .with_context(|| format!("{} holds no authority", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .with_context(|| format!("{} cannot verify clients", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .with_context(|| format!("{} and its key do not fit together", certificate.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if client_authority.is_some() {
        // Each connection judges the client's certificate anew, its expiry with it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The acceptor of a listener, where it has a certificate and a key.
///
/// # Errors
/// See [`acceptor`].
pub fn of_listener(
    certificate: &Option<impl AsRef<Path>>,
    key: &Option<impl AsRef<Path>>,
    client_authority: Option<&Path>,
) -> anyhow::Result<Option<TlsAcceptor>> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            acceptor(certificate.as_ref(), key.as_ref(), client_authority).map(Some)
        }
        _ => Ok(None),
    }
}

/// The certificates of a file, at least one.
///
/// # Errors
/// If it cannot be read, or holds none.
pub fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || format!("cannot read certificates from {}", path.display());
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .with_context(read)?
        .collect::<Result<_, _>>()
        .with_context(read)?;
    anyhow::ensure!(!chain.is_empty(), "{} holds no certificate", path.display());
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use cardea_raft::{
        ClusterId,
        tls::{Authority, Issued, Subject, Validity},
    };
    use rustls::{ClientConfig, HandshakeKind, pki_types::ServerName};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };
    use tokio_rustls::TlsConnector;

    use super::*;

    const LONG: Validity = Validity { not_before_ms: 0, not_after_ms: 4_102_444_800_000 };
    const OVER: Validity = Validity { not_before_ms: 0, not_after_ms: 1_600_000_000_000 };

    fn issued(authority: &Authority, validity: Validity) -> Issued {
        let subject = Subject { node: "one".to_owned(), hosts: vec!["127.0.0.1".to_owned()] };
        authority.issue(&subject, validity).unwrap()
    }

    fn client(trusted: &Authority, shown: Option<&Issued>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let authority = trusted.certificate_pem();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let chain = CertificateDer::pem_slice_iter(issued.certificate_pem.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    /// How a client was greeted, if it was.
    async fn greeted(
        address: std::net::SocketAddr,
        client: &TlsConnector,
    ) -> Option<HandshakeKind> {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = client.connect(name, stream).await.ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await.ok()?;
        (said == "hello").then(|| stream.get_ref().1.handshake_kind()).flatten()
    }

    /// N30: who has no certificate of the authority, or one that is over, is nobody, and
    /// what a connection was told before counts for no later one.
    #[tokio::test]
    async fn clients_without_a_certificate_of_the_authority_are_not_spoken_to() {
        let cluster = ClusterId([5; 16]);
        let authority = Authority::create(cluster, LONG).unwrap();
        let stranger = Authority::create(cluster, LONG).unwrap();
        let own = issued(&authority, LONG);
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let acceptor = acceptor(
            &write("own.pem", &own.certificate_pem),
            &write("own.key", &own.key_pem),
            Some(&write("authority.pem", authority.certificate_pem())),
        );
        let acceptor = acceptor.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    stream.write_all(b"hello").await.unwrap();
                    stream.shutdown().await.unwrap();
                }
            }
        });
        let known = client(&authority, Some(&issued(&authority, LONG)));
        for _ in 0..2 {
            let kind = greeted(address, &known).await.unwrap();
            assert_eq!(format!("{kind:?}"), "Full", "it is not resumed");
        }
        for shown in [None, Some(issued(&stranger, LONG)), Some(issued(&authority, OVER))] {
            let refused = client(&authority, shown.as_ref());
            assert!(greeted(address, &refused).await.is_none());
        }
        serving.abort();
    }
}
