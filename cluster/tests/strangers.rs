//! Who is let in, and who is not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod town;

use std::{sync::Arc, time::Duration};

use cardea_cluster::{ClusterId, InitPlan, NodeId, OpenError, Security};
use cardea_raft::tls::{Authority, Credentials, Subject, Validity};
use cardea_storage::{Space, engine::memory::MemoryDisk, store::Consistency};
use town::{Site, address_of, eventually, key, put, read, write};

fn credentials(authority: &Authority, name: &str) -> Security {
    let subject = Subject { node: name.to_owned(), hosts: vec!["127.0.0.1".to_owned()] };
    let issued = authority.issue(&subject, long()).unwrap();
    let credentials = Credentials::from_pem(
        authority.certificate_pem().as_bytes(),
        issued.certificate_pem.as_bytes(),
        issued.key_pem.as_bytes(),
    );
    Security::Mutual(credentials.unwrap())
}

fn long() -> Validity {
    Validity { not_before_ms: 0, not_after_ms: 4_102_444_800_000 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_with_certificates_form_a_cluster_that_is_named_by_them() {
    let cluster = ClusterId([5; 16]);
    let authority = Authority::create(cluster, long()).unwrap();
    let first = Site::in_memory(1).open_with(credentials(&authority, "one")).await.unwrap();
    assert_eq!(first.init(InitPlan::small("tls")).await.unwrap(), cluster);
    let second = Site::in_memory(2).open_with(credentials(&authority, "two")).await.unwrap();
    assert_eq!(second.join(&[address_of(&first)]).await.unwrap(), NodeId(2));
    let row = key(Space::Home, 1, 1);
    eventually("the shards are formed", async || {
        read(&second.store(), &row, Consistency::Strong).await.is_ok()
    })
    .await;
    write(&second.store(), vec![], vec![put(&row, "v")]).await;
    let seen = read(&first.store(), &row, Consistency::Strong).await.unwrap();
    assert_eq!(seen.as_deref(), Some("v"));

    // The same names under another authority do not help.
    let forged = Authority::create(cluster, long()).unwrap();
    let stranger = Site::in_memory(3).open_with(credentials(&forged, "three")).await.unwrap();
    let seeds = [address_of(&first)];
    let joining = tokio::time::timeout(Duration::from_secs(2), stranger.join(&seeds));
    assert!(joining.await.is_err());
    assert_eq!(first.directory().view().nodes.len(), 2);
    // Who has them from the right one gets in by the same way.
    let third = Site::in_memory(4).open_with(credentials(&authority, "three")).await.unwrap();
    assert_eq!(third.join(&seeds).await.unwrap(), NodeId(3));
    for node in [first, second, stranger, third] {
        node.abandon().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_data_directory_of_another_cluster_is_refused() {
    let of = |byte| Authority::create(ClusterId([byte; 16]), long()).unwrap();
    let (ours, theirs) = (of(5), of(6));
    let site = Site::in_memory(1);
    let node = site.open_with(credentials(&ours, "one")).await.unwrap();
    node.init(InitPlan::small("ours")).await.unwrap();
    node.abandon().await;
    drop(node);
    let refused = site.open_with(credentials(&theirs, "one")).await;
    assert!(matches!(refused, Err(OpenError::OtherCluster { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copied_data_directory_does_not_run_beside_its_original() {
    let first = Site::in_memory(1).open().await.unwrap();
    first.init(InitPlan::small("copied")).await.unwrap();
    let site = Site::in_memory(2);
    let second = site.open().await.unwrap();
    second.join(&[address_of(&first)]).await.unwrap();
    let written = first.directory().view().nodes[&NodeId(2)].clone();
    second.shutdown().await.unwrap();
    drop(second);
    let original = site.open().await.unwrap();
    eventually("the original is announced again", async || {
        first.directory().view().nodes[&NodeId(2)].process != written.process
    })
    .await;
    // A copy of identity, log and tablets on another disk, at another address.
    let copy = Site { disk: copied(&site).await, ..site.moved() };
    let refused = copy.open().await;
    assert!(matches!(refused, Err(OpenError::NodeRunsElsewhere(NodeId(2), _))), "{refused:?}");
    for node in [first, original] {
        node.abandon().await;
    }
}

/// What a disk holds, on another one.
async fn copied(site: &Site) -> Arc<dyn cardea_storage::engine::Disk> {
    let disk: Arc<dyn cardea_storage::engine::Disk> = Arc::new(MemoryDisk::new(9));
    for file in site.disk.files_below(&site.data_dir).unwrap() {
        let (mut from, _) = site.disk.read_stream(&site.data_dir.join(&file)).unwrap();
        let mut to = disk.write_stream(&site.data_dir.join(&file)).unwrap();
        std::io::copy(&mut from, &mut to).unwrap();
        to.finish().unwrap();
    }
    disk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_repeated_request_to_join_gets_the_same_node() {
    let first = Site::in_memory(1).open().await.unwrap();
    first.init(InitPlan::small("again")).await.unwrap();
    let site = Site::in_memory(2);
    // The identity is lost behind the answer, the ticket is not.
    let second = site.open().await.unwrap();
    let seeds = [address_of(&first)];
    assert_eq!(second.join(&seeds).await.unwrap(), NodeId(2));
    let ticket = first.directory().view().nodes[&NodeId(2)].ticket.clone();
    let record = cardea_cluster::directory::records::NodeRecord {
        ticket,
        region: "here".to_owned(),
        version_max: cardea_cluster::runtime::VERSION_MAX,
        ..Default::default()
    };
    let store = first.store();
    let again = cardea_cluster::directory::edit::admit_node(&store, record).await.unwrap();
    assert_eq!(again.node, NodeId(2));
    assert_eq!(first.directory().view().nodes.len(), 2);
    for node in [first, second] {
        node.abandon().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_state_is_gone_does_not_vote_again() {
    let site = Site::in_memory(1);
    let node = site.open().await.unwrap();
    node.init(InitPlan::small("lost")).await.unwrap();
    node.abandon().await;
    drop(node);
    site.disk.remove(&site.data_dir.join("log")).unwrap();
    let refused = site.open().await;
    assert!(matches!(refused, Err(OpenError::StateLost)), "{refused:?}");
}
