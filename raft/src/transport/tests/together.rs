//! Three nodes with real groups over mutual TLS.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bytes::Bytes;
use cardea_storage::engine::memory::MemoryDisk;
use openraft::{
    RaftNetworkFactory,
    network::{NetVote, RPCOption},
    raft::VoteRequest,
};

use super::*;
use crate::{
    Admission, ChangeError, Host, HostOptions, Settings, Timing, Transport,
    testing::Ledger,
    tls::{Authority, Credentials, Subject, Validity, client_tls, server_tls},
    transport::GrpcTransport,
    types::{Member, Vote},
};

const LONG: Validity = Validity { not_before_ms: 0, not_after_ms: 4_102_444_800_000 };

struct Node {
    host: Arc<Host>,
    ledger: Arc<Ledger>,
    transport: Arc<GrpcTransport>,
    disk: MemoryDisk,
    _serving: DropGuard,
}

struct Together {
    nodes: Vec<Node>,
}

fn replica(node: u64) -> ReplicaId {
    ReplicaId(50 + node)
}

impl Together {
    /// Nodes 1 to `count`, each with its replica of the group started.
    async fn of(count: u64) -> Self {
        Self::with(count, Timing::DEFAULT).await
    }

    async fn with(count: u64, timing: Timing) -> Self {
        let authority = Authority::create(CLUSTER, LONG).unwrap();
        let book = Arc::new(AddressBook::default());
        let mut nodes = Vec::new();
        for id in 1..=count {
            let subject =
                Subject { node: format!("node-{id}"), hosts: vec!["127.0.0.1".to_owned()] };
            let issued = authority.issue(&subject, LONG).unwrap();
            let credentials = Credentials::from_pem(
                authority.certificate_pem().as_bytes(),
                issued.certificate_pem.as_bytes(),
                issued.key_pem.as_bytes(),
            )
            .unwrap();
            let node = NodeId(id);
            let memory = MemoryDisk::new(id);
            let disk: Arc<dyn Disk> = Arc::new(memory.clone());
            let settings = TransportSettings::default();
            let tls = client_tls(&credentials, CLUSTER).unwrap();
            let channels = Channels::new(book.clone(), tls, ChannelSettings::default());
            let transport =
                Arc::new(GrpcTransport::new(CLUSTER, node, channels, disk.clone(), settings));
            let options = HostOptions {
                cluster: CLUSTER,
                node,
                disk: disk.clone(),
                log_directory: "/log".into(),
                settings: Settings { timing, ..Settings::default() },
                runtime: tokio::runtime::Handle::current(),
            };
            let host = Host::open(options, transport.clone()).await.unwrap();
            let stopping = CancellationToken::new();
            let routes = routes(CLUSTER, host.clone(), disk.clone(), settings, stopping);
            let tls = server_tls(&credentials, CLUSTER).unwrap();
            let (address, _serving) = listen(routes, tls).await;
            book.0.lock().insert(node, address);
            let ledger = Ledger::open(disk, Path::new("/ledger")).unwrap();
            host.start_group(GROUP, replica(id), ledger.clone()).await.unwrap();
            nodes.push(Node { host, ledger, transport, disk: memory, _serving });
        }
        Self { nodes }
    }

    async fn initialize(&self, voters: u64) {
        let members: BTreeMap<_, _> = (1..=voters).map(|id| (replica(id), NodeId(id))).collect();
        self.nodes[0].host.initialize(GROUP, members).await.unwrap();
    }

    fn leading(&self) -> Option<usize> {
        self.nodes
            .iter()
            .position(|node| node.host.status(GROUP).is_some_and(|status| status.leads()))
    }

    async fn leader(&self) -> usize {
        eventually("an election", || self.leading().is_some()).await;
        self.leading().unwrap()
    }

    async fn put(&self, command: String) {
        for _ in 0..200 {
            if let Some(leader) = self.leading() {
                let host = &self.nodes[leader].host;
                let command = Bytes::from(command.clone().into_bytes());
                if host.propose(GROUP, command, Admission::Ordinary).await.is_ok() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{command:?} was not accepted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_accepted_every_node_reads() {
    let together = Together::of(3).await;
    together.initialize(3).await;
    let leader = together.leader().await;
    for round in 0..50 {
        together.put(format!("key={round}")).await;
    }
    for node in &together.nodes {
        node.host.read_barrier(GROUP).await.unwrap();
        assert_eq!(node.ledger.get("key").unwrap().as_deref(), Some(b"49".as_slice()));
    }
    let follower = NodeId(u64::try_from((leader + 1) % 3).unwrap() + 1);
    let transport = &together.nodes[leader].transport;
    eventually("a measured round trip", || transport.channels().round_trip(follower).is_some())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_for_another_incarnation_of_a_replica_are_refused() {
    let together = Together::of(2).await;
    let option = || RPCOption::new(Duration::from_secs(5));
    let request = || VoteRequest::new(Vote::new(9, replica(1)), None);
    let mut network = together.nodes[0].transport.network(GROUP, replica(1), Glance::default());
    let member = Member { node: NodeId(2) };
    let mut gone = network.new_client(ReplicaId(77), &member).await;
    let error = gone.vote(request(), option()).await.unwrap_err();
    assert!(error.to_string().contains("wrong-replica"), "{error}");
    let mut here = network.new_client(replica(2), &member).await;
    assert!(here.pre_vote(request(), option()).await.unwrap().vote_granted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_without_waiting_for_leases() {
    let together = Together::of(3).await;
    together.initialize(3).await;
    let leader = together.leader().await;
    together.put("key=before".to_owned()).await;
    let successor = (leader + 1) % 3;
    let to = replica(u64::try_from(successor).unwrap() + 1);
    // On a crowded machine it may not be known in time that it came about.
    let handed = together.nodes[leader].host.transfer_leader(GROUP, to).await;
    assert!(matches!(handed, Ok(()) | Err(ChangeError::Unknown)), "{handed:?}");
    eventually("the hand-over", || together.leading() == Some(successor)).await;
    together.put("key=after".to_owned()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hung_up_and_refuses_calls_is_succeeded_before_its_lease_passes() {
    // Nobody would stand for another minute.
    let timing = Timing { election_ms_min: 60_000, election_ms_max: 90_000, ..Timing::DEFAULT };
    let mut together = Together::with(3, timing).await;
    together.initialize(3).await;
    together.put("key=before".to_owned()).await;
    let leader = together.leader().await;
    let follower = NodeId(u64::try_from((leader + 1) % 3).unwrap() + 1);
    let channels = together.nodes[leader].transport.channels().clone();
    eventually("a heartbeat", || channels.round_trip(follower).is_some()).await;
    drop(channels);
    let dead = together.nodes.remove(leader);
    dead.host.close().await.unwrap();
    drop(dead);
    together.put("key=after".to_owned()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_comes_late_is_sent_a_snapshot() {
    let together = Together::of(4).await;
    together.initialize(3).await;
    for round in 0..100 {
        together.put(format!("key-{round}={}", "x".repeat(20_000))).await;
    }
    let leader = together.leader().await;
    let host = &together.nodes[leader].host;
    host.trigger_snapshot(GROUP).await.unwrap();
    let held = || host.status(GROUP).and_then(|status| status.snapshot);
    eventually("a snapshot", || held().is_some()).await;
    let index = held().unwrap();
    host.purge(GROUP, index).await.unwrap();
    let purged = || host.status(GROUP).and_then(|status| status.purged);
    eventually("the purge", || purged().is_some_and(|purged| purged + 10 >= index)).await;

    let known = || host.status(GROUP).and_then(|status| status.membership_at);
    host.add_learner(GROUP, replica(4), NodeId(4), known()).await.unwrap();
    let voters: BTreeSet<_> = (1..=4).map(replica).collect();
    host.change_voters(GROUP, voters, known()).await.unwrap();
    let late = &together.nodes[3];
    late.host.read_barrier(GROUP).await.unwrap();
    assert_eq!(late.ledger.get("key-99").unwrap().map(|value| value.len()), Some(20_000));
    // It did not come by the log.
    assert!(late.host.status(GROUP).unwrap().snapshot.is_some_and(|at| at >= index));
    assert!(late.ledger.applied_entries() < 100, "{}", late.ledger.applied_entries());
    assert!(!late.disk.files_below(Path::new("/ledger")).unwrap().is_empty());
}
