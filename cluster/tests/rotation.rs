//! New keys of a cluster: nothing is made with one before every node reads what is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod town;

use std::sync::Arc;

use cardea_cluster::{
    ClusterNode, KeyPurpose,
    directory::{edit, records::ClusterKeyRecord},
    runtime::obstacle::Obstacle,
};
use town::{Town, eventually};

/// The current token key of each node, and how many there are.
fn token_keys(town: &Town) -> Vec<(u32, usize)> {
    let of = |node: &Arc<ClusterNode>| node.keyrings().unwrap().token;
    town.nodes.iter().map(|node| (of(node).current().0, of(node).ids().count())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_made_with_a_new_key_before_every_node_reads_what_is() {
    let town = Town::in_memory().await;
    let slow = town.nodes[2].directory().clone();
    slow.expect_layers();
    slow.took_up(&slow.view().keys);
    let (node, purpose) = (town.nodes[0].clone(), KeyPurpose::Token);
    let rotation = tokio::spawn(async move { node.rotate_key(purpose).await });
    // All have it, but the layers of one are not made of it yet.
    eventually("the new key is everywhere", async || {
        token_keys(&town).iter().all(|(_, keys)| *keys == 2)
    })
    .await;
    assert_eq!(token_keys(&town), [(1, 2); 3], "it is staged");
    slow.took_up(&slow.view().keys);
    eventually("the new key is current", async || {
        slow.took_up(&slow.view().keys);
        token_keys(&town) == [(2, 2); 3]
    })
    .await;
    let rotated = rotation.await.unwrap().unwrap();
    assert_eq!(rotated.0, 2);
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_never_takes_a_new_key_up_has_ceased_to_serve_when_it_is_used() {
    let town = Town::in_memory().await;
    let stuck = &town.nodes[2];
    stuck.directory().expect_layers();
    stuck.directory().took_up(&stuck.directory().view().keys);
    eventually("it serves", async || stuck.obstacle().is_none()).await;
    let node = town.nodes[0].clone();
    let rotation = tokio::spawn(async move { node.rotate_key(KeyPurpose::Token).await });
    eventually("the new key is current", async || {
        let current = token_keys(&town)[0].0 == 2;
        if current {
            assert_eq!(stuck.obstacle(), Some(Obstacle::Unconfirmed));
        }
        current
    })
    .await;
    rotation.await.unwrap().unwrap();
    // It serves again once it knows the key.
    stuck.directory().took_up(&stuck.directory().view().keys);
    eventually("it serves again", async || stuck.obstacle().is_none()).await;
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rotation_that_was_broken_off_is_finished() {
    let town = Town::in_memory().await;
    let store = town.store(0);
    for purpose in [KeyPurpose::Token, KeyPurpose::Index] {
        let (key, record) = cardea_cluster::keys::draw(
            town.nodes[0].member().unwrap().master(),
            store.entropy().as_ref(),
            purpose,
            2,
            store.clock().now(),
        );
        let record = ClusterKeyRecord { staged: true, ..record };
        edit::add_key(&store, key, record).await.unwrap();
    }
    // By the next one, which makes no third key.
    assert_eq!(town.nodes[1].rotate_key(KeyPurpose::Token).await.unwrap().0, 2);
    assert_eq!(token_keys(&town), [(2, 2); 3]);
    assert_eq!(town.nodes[1].keyrings().unwrap().index.current().0, 1);
    // By the directory's leader, if nobody comes.
    eventually("the index key is current", async || {
        let rings = town.nodes.iter().map(|node| node.keyrings().unwrap());
        rings.into_iter().all(|rings| rings.index.current().0 == 2)
    })
    .await;
    town.stop().await;
}
