//! Whom a node speaks to, handshake by handshake.

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

const CLUSTER: ClusterId = ClusterId([0xab; 16]);
const OTHER: ClusterId = ClusterId([0xcd; 16]);
const LONG: Validity = Validity { not_before_ms: 0, not_after_ms: 4_102_444_800_000 };
const PAST: Validity = Validity { not_before_ms: 0, not_after_ms: 1_000_000_000_000 };
const FUTURE: Validity =
    Validity { not_before_ms: 4_000_000_000_000, not_after_ms: 4_102_444_800_000 };

fn subject(node: &str) -> Subject {
    let hosts = ["node.example", "10.1.2.3", "::1"].map(str::to_owned).into();
    Subject { node: node.to_owned(), hosts }
}

fn issued(authority: &Authority, validity: Validity) -> Credentials {
    let Issued { certificate_pem, key_pem } = authority.issue(&subject("a"), validity).unwrap();
    let authority = authority.certificate_pem().as_bytes();
    Credentials::from_pem(authority, certificate_pem.as_bytes(), key_pem.as_bytes()).unwrap()
}

/// Both ends' view of one handshake and one byte each way.
async fn meet(server: ServerTls, client: ClientTls, host: &'static str) -> Result<(), String> {
    let (ServerTls::Mutual(server), ClientTls::Mutual(client)) = (server, client) else {
        return Err("plain".to_owned());
    };
    let (near, far) = tokio::io::duplex(64 << 10);
    let serving = async move {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.flush().await
    };
    let calling = async move {
        let name = ServerName::try_from(host).unwrap();
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.write_u8(42).await?;
        stream.flush().await?;
        stream.read_u8().await.map(|byte| assert_eq!(byte, 42))
    };
    let (served, called): (std::io::Result<()>, std::io::Result<()>) =
        tokio::join!(serving, calling);
    match (served, called) {
        (Ok(()), Ok(())) => Ok(()),
        (served, called) => Err(format!("served: {served:?}, called: {called:?}")),
    }
}

#[tokio::test]
async fn two_nodes_of_a_cluster_meet_under_each_of_their_names() {
    let node = issued(&Authority::create(CLUSTER, LONG).unwrap(), LONG);
    for host in ["node.example", "10.1.2.3", "::1"] {
        let server = server_tls(&node, CLUSTER).unwrap();
        meet(server, client_tls(&node, CLUSTER).unwrap(), host).await.unwrap();
    }
    let server = server_tls(&node, CLUSTER).unwrap();
    let stray = meet(server, client_tls(&node, CLUSTER).unwrap(), "other.example").await;
    assert!(stray.unwrap_err().contains("NotValidForName"));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_both_sides() {
    let ours = issued(&Authority::create(CLUSTER, LONG).unwrap(), LONG);
    let theirs = issued(&Authority::create(CLUSTER, LONG).unwrap(), LONG);
    for (server, client) in [(&ours, &theirs), (&theirs, &ours)] {
        let server = server_tls(server, CLUSTER).unwrap();
        let met = meet(server, client_tls(client, CLUSTER).unwrap(), "node.example").await;
        let error = met.unwrap_err();
        assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
    }
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let node = issued(&Authority::create(CLUSTER, LONG).unwrap(), LONG);
    let provider = provider();
    let verifier =
        verify::ClusterServers::new(node.roots().unwrap(), CLUSTER, provider.clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let bare = ClientTls::Mutual(Arc::new(config));
    let met = meet(server_tls(&node, CLUSTER).unwrap(), bare, "node.example").await;
    assert!(met.unwrap_err().contains("NoCertificatesPresented"));
}

#[tokio::test]
async fn certificates_outside_their_time_are_refused_by_both_sides() {
    let authority = Authority::create(CLUSTER, LONG).unwrap();
    let good = issued(&authority, LONG);
    for (validity, reason) in [(PAST, "Expired"), (FUTURE, "NotValidYet")] {
        let bad = issued(&authority, validity);
        for (server, client) in [(&good, &bad), (&bad, &good)] {
            let server = server_tls(server, CLUSTER).unwrap();
            let met = meet(server, client_tls(client, CLUSTER).unwrap(), "node.example").await;
            let error = met.unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}

#[test]
fn what_others_would_refuse_is_known_before_they_are_asked() {
    let authority = Authority::create(CLUSTER, LONG).unwrap();
    let other = Authority::create(CLUSTER, LONG).unwrap();
    let pem = |authority: &Authority| authority.certificate_pem().as_bytes().to_vec();
    let (one, two) =
        (authority.issue(&subject("a"), LONG).unwrap(), other.issue(&subject("a"), LONG).unwrap());
    let read = |certificate: &Issued, key: &Issued| {
        let (certificate, key) = (certificate.certificate_pem.as_bytes(), key.key_pem.as_bytes());
        Credentials::from_pem(&pem(&authority), certificate, key)
    };
    assert!(matches!(read(&one, &two), Err(TlsError::KeyMismatch)));
    let now = 1_800_000_000_000;
    read(&one, &one).unwrap().check(now).unwrap();
    let foreign = read(&two, &two).unwrap().check(now);
    assert!(matches!(foreign, Err(TlsError::Refused(_))), "{foreign:?}");
    let over = issued(&authority, PAST).check(now);
    assert!(matches!(over, Err(TlsError::Refused(_))), "{over:?}");
    // Perhaps it is the clock that is wrong.
    issued(&authority, FUTURE).check(now).unwrap();
}

#[test]
fn a_certificate_without_an_end_ends_where_years_have_four_digits() {
    let endless = Validity { not_before_ms: 0, not_after_ms: u64::MAX };
    let authority = Authority::create(CLUSTER, endless).unwrap();
    issued(&authority, endless).check(4_102_444_800_000).unwrap();
}

/// An authority with the same key, but for another cluster, as somebody would
/// have who signs two clusters with one key.
fn two_faced() -> (Authority, Authority) {
    let one = Authority::create(CLUSTER, LONG).unwrap();
    let two = one.for_another_cluster(OTHER);
    (one, two)
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_by_both_sides_even_under_one_authority() {
    let (one, two) = two_faced();
    let ours = issued(&one, LONG);
    let Issued { certificate_pem, key_pem } = two.issue(&subject("a"), LONG).unwrap();
    let chain = certificates("node certificate", certificate_pem.as_bytes()).unwrap();
    let theirs = Credentials {
        identity: Identity { cluster: CLUSTER, node: "a".to_owned() },
        authority: ours.authority.clone(),
        key: PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap(),
        chain,
    };
    for (server, client) in [(&ours, &theirs), (&theirs, &ours)] {
        let server = server_tls(server, CLUSTER).unwrap();
        let met = meet(server, client_tls(client, CLUSTER).unwrap(), "node.example").await;
        let error = met.unwrap_err();
        assert!(error.contains("ApplicationVerificationFailure"), "{error}");
    }
}

#[test]
fn credentials_of_another_cluster_are_not_used() {
    let node = issued(&Authority::create(OTHER, LONG).unwrap(), LONG);
    let expected = |error| matches!(error, TlsError::OtherCluster { found: OTHER, .. });
    assert!(expected(server_tls(&node, CLUSTER).unwrap_err()));
    assert!(expected(client_tls(&node, CLUSTER).unwrap_err()));
}

#[test]
fn an_authority_survives_its_pem() {
    let made = Authority::create(CLUSTER, LONG).unwrap();
    let read = Authority::from_pem(made.certificate_pem(), &made.key_pem()).unwrap();
    assert_eq!(read.cluster(), CLUSTER);
    let other = Authority::create(CLUSTER, LONG).unwrap();
    let mixed = Authority::from_pem(made.certificate_pem(), &other.key_pem());
    assert!(matches!(mixed, Err(TlsError::KeyMismatch)));
}

#[tokio::test]
async fn certificates_issued_after_a_restart_of_the_authority_hold() {
    let made = Authority::create(CLUSTER, LONG).unwrap();
    let read = Authority::from_pem(made.certificate_pem(), &made.key_pem()).unwrap();
    let (before, after) = (issued(&made, LONG), issued(&read, LONG));
    let server = server_tls(&before, CLUSTER).unwrap();
    meet(server, client_tls(&after, CLUSTER).unwrap(), "node.example").await.unwrap();
}

#[test]
fn certificates_name_cluster_and_node() {
    let authority = Authority::create(CLUSTER, LONG).unwrap();
    let node = issued(&authority, LONG);
    assert_eq!(*node.identity(), Identity { cluster: CLUSTER, node: "a".to_owned() });
    let root = certificates("authority", authority.certificate_pem().as_bytes()).unwrap();
    assert_eq!(cluster_of_authority(&root[0]), Some(CLUSTER));
    assert_eq!(identity(&root[0]), None);
}

#[test]
fn names_that_would_not_stand_in_a_certificate_are_refused() {
    let authority = Authority::create(CLUSTER, LONG).unwrap();
    for name in ["", "a/b", "a b", "ä", &"x".repeat(65)] {
        assert!(matches!(authority.issue(&subject(name), LONG), Err(TlsError::Name(_))));
    }
}

#[test]
fn debug_shows_no_key() {
    let authority = Authority::create(CLUSTER, LONG).unwrap();
    let issued = authority.issue(&subject("a"), LONG).unwrap();
    let node = Credentials::from_pem(
        authority.certificate_pem().as_bytes(),
        issued.certificate_pem.as_bytes(),
        issued.key_pem.as_bytes(),
    );
    for shown in [format!("{authority:?}"), format!("{issued:?}"), format!("{node:?}")] {
        assert!(!shown.contains("PRIVATE") && !shown.contains("key"), "{shown}");
    }
}
