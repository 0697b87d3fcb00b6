//! Files that a node may have open, and who takes them.

use std::net::TcpStream;

use serde_json::json;

use crate::support::Cluster;

/// Whoever opened as many connections as there may be open files stopped the node: its next
/// flush could not make a file.
#[test]
fn callers_do_not_take_the_files_that_the_store_needs() {
    let mut cluster = Cluster::ready();
    assert_eq!(cluster.stop(2), Some(0));
    cluster.start_with_files(2, 160, 600);
    cluster.wait_ready(2);
    let there = ("127.0.0.1", cluster.nodes[2].public);
    let flood: Vec<TcpStream> = (0..700).map_while(|_| TcpStream::connect(there).ok()).collect();
    assert_eq!(flood.len(), 700);
    // The admin listener is there for operators, and the store goes on.
    let late = json!({"schema_id": "default", "traits": {"email": "late@example.org"}});
    let made = cluster.admin(2, "POST", "/admin/identities", Some(late));
    assert_eq!(made.status, 201, "{}", made.text);
    // It flushes its tablets.
    assert_eq!(cluster.stop(2), Some(0));
    let log = std::fs::read_to_string(cluster.nodes[2].log()).unwrap();
    assert!(log.contains("limits.connections is lowered"), "it says so");
    assert!(!log.contains("Too many open files"), "{log}");
}
