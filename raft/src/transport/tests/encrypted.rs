//! Calls over mutual TLS.

use cardea_storage::engine::memory::MemoryDisk;

use super::*;
use crate::{
    read::{ReadError, Testimony, Witnesses},
    tls::{Authority, Credentials, Subject, Validity, client_tls, server_tls},
    transport::GrpcTransport,
};

fn credentials(authority: &Authority, host: &str) -> Credentials {
    let subject = Subject { node: "node-1".to_owned(), hosts: vec![host.to_owned()] };
    let issued = authority.issue(&subject, long()).unwrap();
    Credentials::from_pem(
        authority.certificate_pem().as_bytes(),
        issued.certificate_pem.as_bytes(),
        issued.key_pem.as_bytes(),
    )
    .unwrap()
}

fn long() -> Validity {
    Validity { not_before_ms: 0, not_after_ms: 4_102_444_800_000 }
}

async fn asks(address: &str, tls: ClientTls) -> Result<Testimony, ReadError> {
    let (channels, _) = channels_to(address, tls);
    let disk = Arc::new(MemoryDisk::new(1));
    let settings = TransportSettings::default();
    GrpcTransport::new(CLUSTER, HERE, channels, disk, settings).ask(THERE, about(GROUP)).await
}

#[tokio::test]
async fn nodes_of_one_authority_speak_and_nobody_else_does() {
    let authority = Authority::create(CLUSTER, long()).unwrap();
    let node = credentials(&authority, "127.0.0.1");
    let tls = server_tls(&node, CLUSTER).unwrap();
    let (address, _serving) = listen(bare_routes(), tls).await;
    asks(&address, client_tls(&node, CLUSTER).unwrap()).await.unwrap();

    let stranger = Authority::create(CLUSTER, long()).unwrap();
    let stranger = client_tls(&credentials(&stranger, "127.0.0.1"), CLUSTER).unwrap();
    for tls in [stranger, ClientTls::LoopbackPlain] {
        let refused = asks(&address, tls).await;
        assert!(matches!(refused, Err(ReadError::Unconfirmed(_))), "{refused:?}");
    }
    // Refusing strangers has not hurt anybody.
    asks(&address, client_tls(&node, CLUSTER).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_node_whose_certificate_names_another_host_is_not_called() {
    let authority = Authority::create(CLUSTER, long()).unwrap();
    let elsewhere = credentials(&authority, "192.0.2.7");
    let (address, _serving) = listen(bare_routes(), server_tls(&elsewhere, CLUSTER).unwrap()).await;
    let refused = asks(&address, client_tls(&elsewhere, CLUSTER).unwrap()).await;
    assert!(matches!(refused, Err(ReadError::Unconfirmed(_))), "{refused:?}");
}
