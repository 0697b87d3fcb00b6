//! Tests over real sockets on loopback. Where openraft's part does not matter,
//! one end is scripted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cardea_storage::engine::{Disk, memory::MemoryDisk};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{service::Routes, transport::Channel};

use super::{
    ChannelSettings, Channels, Purpose, TransportSettings, client::raft_client,
    proto::raft_client::RaftClient, routes, serve, wire::Route,
};
use crate::{
    ids::{ClusterId, GroupId, NodeId, ReplicaId},
    log::Glance,
    machine::Position,
    peers::{Groups, Loss, Peers, Replica},
    read::{Leads, Question, Testimony},
    tls::{ClientTls, ServerTls},
    types::Beat,
};

mod encrypted;
mod frozen;
mod overtaken;
mod pulses;
mod refused;
mod room;
mod scripted;
mod snapshots;
mod streams;
mod together;
mod turns;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const HERE: NodeId = NodeId(1);
const THERE: NodeId = NodeId(2);
const GROUP: GroupId = GroupId(9);

fn route() -> Route {
    Route {
        cluster: CLUSTER,
        group: GROUP,
        from: (HERE, ReplicaId(11)),
        to: (THERE, ReplicaId(22)),
    }
}

/// Addresses that a test hands out and changes.
#[derive(Default)]
struct AddressBook(Mutex<HashMap<NodeId, String>>);

impl Peers for AddressBook {
    fn address(&self, node: NodeId) -> Option<String> {
        self.0.lock().get(&node).cloned()
    }
}

/// A node without replicas, which answers questions about three groups.
struct Bare;

impl Groups for Bare {
    fn node(&self) -> NodeId {
        THERE
    }

    fn replica(&self, _group: GroupId) -> Option<Replica> {
        None
    }

    fn hears(&self, _group: GroupId, _replica: ReplicaId, _beat: &Beat) -> bool {
        false
    }

    fn testify(&self, question: &Question) -> Option<Testimony> {
        match question.group {
            GROUP => Some(Testimony::Leads(LEADS)),
            GroupId(10) => Some(Testimony::Follows),
            GroupId(11) => Some(Testimony::Differs),
            _ => None,
        }
    }

    fn hung_up(&self, _node: NodeId) {}

    fn has_lost(&self, _loss: &Loss) -> bool {
        false
    }
}

const LEADS: Leads = Leads {
    index: 300,
    leaders_now: 5_000,
    membership: Some(Position { term: 4, replica: ReplicaId(22), index: 7 }),
};

fn about(group: GroupId) -> Question {
    Question { group, replica: ReplicaId(22), term: 4, leader: ReplicaId(22) }
}

fn bare_routes() -> Routes {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1));
    routes(CLUSTER, Arc::new(Bare), disk, TransportSettings::default(), CancellationToken::new())
}

/// Serves until the guard is dropped.
async fn listen(routes: Routes, tls: ServerTls) -> (String, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stopping = CancellationToken::new();
    tokio::spawn(serve(listener, tls, routes, stopping.clone()));
    (address, stopping.drop_guard())
}

/// Channels that know where [`THERE`] is.
fn channels_to(address: &str, tls: ClientTls) -> (Arc<Channels>, Arc<AddressBook>) {
    let book = Arc::new(AddressBook::default());
    book.0.lock().insert(THERE, address.to_owned());
    let settings = ChannelSettings { backoff_ms_min: 1, backoff_ms_max: 5, ..Default::default() };
    (Channels::new(book.clone(), tls, settings), book)
}

fn client_of(channels: &Channels) -> RaftClient<Channel> {
    raft_client(&channels.line(THERE, Purpose::Liveness))
}

/// Waits until it holds, for at most ten seconds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}
