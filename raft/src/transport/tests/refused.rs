//! Calls that are not at home.

use cardea_storage::engine::memory::MemoryDisk;
use futures::stream;
use openraft::{
    RaftNetworkFactory,
    errors::RPCError,
    network::{NetStreamAppend, NetVote, RPCOption},
    raft::{AppendEntriesRequest, VoteRequest},
};
use tonic::Status;

use super::*;
use crate::{
    peers::Transport,
    pulse::Assents,
    read::{ReadError, Testimony, Witnesses},
    transport::{
        GrpcTransport, Refusal,
        beats::Beats,
        proto::{self, snapshot_chunk::Chunk},
        wire,
    },
    types::{Member, TypeConfig, Vote},
};

fn ballot() -> Option<proto::Ballot> {
    Some((&Vote::new_committed(3, ReplicaId(11))).into())
}

/// What each kind of call answers to a route.
async fn refusals(route: Option<proto::Route>) -> Vec<(&'static str, Status)> {
    let (address, _serving) = listen(bare_routes(), ServerTls::LoopbackPlain).await;
    let (channels, _) = channels_to(&address, ClientTls::LoopbackPlain);
    let mut client = client_of(&channels);
    let vote = proto::VoteRequest { route: route.clone(), vote: ballot(), ..Default::default() };
    let transfer = proto::TransferLeaderRequest {
        route: route.clone(),
        from_leader: ballot(),
        ..Default::default()
    };
    let append =
        proto::AppendRequest { route: route.clone(), vote: ballot(), ..Default::default() };
    let begin = proto::SnapshotBegin { route, vote: ballot(), ..Default::default() };
    let chunk = proto::SnapshotChunk { chunk: Some(Chunk::Begin(begin)) };
    let mut answers = client.append(stream::iter([append])).await.unwrap().into_inner();
    vec![
        ("vote", client.vote(vote.clone()).await.unwrap_err()),
        ("pre-vote", client.pre_vote(vote).await.unwrap_err()),
        ("transfer", client.transfer_leader(transfer).await.unwrap_err()),
        ("append", answers.message().await.unwrap_err()),
        ("snapshot", client.snapshot(stream::iter([chunk])).await.unwrap_err()),
    ]
}

async fn all_are_refused(route: Option<proto::Route>, refusal: Refusal) {
    for (call, status) in refusals(route).await {
        assert_eq!(Refusal::of(&status), Some(refusal), "{call}: {status}");
    }
}

#[tokio::test]
async fn calls_of_another_cluster_are_refused() {
    let stranger = Route { cluster: ClusterId([8; 16]), ..route() };
    all_are_refused(Some(stranger.into()), Refusal::WrongCluster).await;
}

#[tokio::test]
async fn calls_for_another_node_are_refused() {
    let stray = Route { to: (NodeId(3), ReplicaId(22)), ..route() };
    all_are_refused(Some(stray.into()), Refusal::WrongNode).await;
}

#[tokio::test]
async fn calls_for_a_group_that_is_not_here_are_refused() {
    all_are_refused(Some(route().into()), Refusal::UnknownGroup).await;
}

#[tokio::test]
async fn calls_without_a_route_are_malformed() {
    all_are_refused(None, Refusal::Malformed).await;
}

#[tokio::test]
async fn a_stream_of_heartbeats_from_a_stranger_is_ended() {
    let (address, _serving) = listen(bare_routes(), ServerTls::LoopbackPlain).await;
    let (channels, _) = channels_to(&address, ClientTls::LoopbackPlain);
    for (caller, refusal) in [
        (Some(wire::caller(ClusterId([8; 16]), HERE, THERE)), Refusal::WrongCluster),
        (Some(wire::caller(CLUSTER, HERE, NodeId(3))), Refusal::WrongNode),
        (None, Refusal::Malformed),
    ] {
        let first = proto::BeatRequest { caller, ..Default::default() };
        let mut answers =
            client_of(&channels).beat(stream::iter([first])).await.unwrap().into_inner();
        let status = answers.message().await.unwrap_err();
        assert_eq!(Refusal::of(&status), Some(refusal));
    }
}

#[tokio::test]
async fn openraft_hears_of_a_refusal_as_unreachable() {
    let (address, _serving) = listen(bare_routes(), ServerTls::LoopbackPlain).await;
    let (channels, _) = channels_to(&address, ClientTls::LoopbackPlain);
    let disk = Arc::new(MemoryDisk::new(1));
    let settings = TransportSettings::default();
    let transport = GrpcTransport::new(CLUSTER, HERE, channels, disk, settings);
    let mut network = transport.network(GROUP, ReplicaId(11), Glance::default());
    let member = Member { node: THERE };
    let option = || RPCOption::new(Duration::from_secs(5));
    let vote = Vote::new_committed(3, ReplicaId(11));

    let mut client = network.new_client(ReplicaId(22), &member).await;
    let error = client.vote(VoteRequest::new(vote, None), option()).await.unwrap_err();
    assert!(matches!(error, RPCError::Unreachable(_)), "{error}");
    let error = client.pre_vote(VoteRequest::new(vote, None), option()).await.unwrap_err();
    assert!(matches!(error, RPCError::Unreachable(_)), "{error}");

    let request = || AppendEntriesRequest::<TypeConfig> {
        vote,
        prev_log_id: None,
        entries: vec![],
        leader_commit: None,
    };
    let mut heartbeats = network.new_heartbeat_client(ReplicaId(22), &member).await;
    for client in [&mut client, &mut heartbeats] {
        let input = stream::iter([request()]);
        let mut answers = client.stream_append(input, option()).await.unwrap();
        let error = futures::StreamExt::next(&mut answers).await.unwrap().unwrap_err();
        assert!(matches!(error, RPCError::Unreachable(_)), "{error}");
        assert!(error.to_string().contains("unknown-group"), "{error}");
    }
}

#[tokio::test]
async fn questions_and_their_failures_are_carried() {
    let (address, _serving) = listen(bare_routes(), ServerTls::LoopbackPlain).await;
    let (channels, book) = channels_to(&address, ClientTls::LoopbackPlain);
    book.0.lock().insert(NodeId(3), address.clone());
    let disk = Arc::new(MemoryDisk::new(1));
    let settings = TransportSettings::default();
    let transport = GrpcTransport::new(CLUSTER, HERE, channels, disk, settings);

    let told = [
        (GROUP, Testimony::Leads(LEADS)),
        (GroupId(10), Testimony::Follows),
        (GroupId(11), Testimony::Differs),
    ];
    for (group, testimony) in told {
        assert_eq!(transport.ask(THERE, about(group)).await.unwrap(), testimony);
    }
    // No such group there; the address belongs to another node; nobody knows where.
    for (node, group) in [(THERE, GroupId(99)), (NodeId(3), GROUP), (NodeId(4), GROUP)] {
        let error = transport.ask(node, about(group)).await.unwrap_err();
        assert!(matches!(error, ReadError::Unconfirmed(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_node_that_moved_is_found_at_its_new_address() {
    let (address, serving) = listen(bare_routes(), ServerTls::LoopbackPlain).await;
    let (channels, book) = channels_to(&address, ClientTls::LoopbackPlain);
    let disk = Arc::new(MemoryDisk::new(1));
    let settings = TransportSettings::default();
    let transport = GrpcTransport::new(CLUSTER, HERE, channels, disk, settings);
    transport.ask(THERE, about(GROUP)).await.unwrap();

    drop(serving);
    let (moved, _serving) = listen(bare_routes(), ServerTls::LoopbackPlain).await;
    book.0.lock().insert(THERE, moved);
    for _ in 0..500 {
        if transport.ask(THERE, about(GROUP)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the node was not found");
}

#[tokio::test]
async fn plain_listeners_stay_on_loopback() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let served =
        serve(listener, ServerTls::LoopbackPlain, bare_routes(), CancellationToken::new()).await;
    assert!(matches!(served, Err(crate::transport::ServeError::Exposed(_))));
}

/// Found with two hundred groups that had nothing to do: their heartbeats came faster than
/// the connection took messages, which was taken for its end, and each time the same ones
/// were lost. Their followers stood for election for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn heartbeats_of_many_groups_at_once_are_all_sent() {
    let (address, _serving) = listen(bare_routes(), ServerTls::LoopbackPlain).await;
    let (channels, _) = channels_to(&address, ClientTls::LoopbackPlain);
    // On the worker, which lets whoever was woken last run first.
    let told = tokio::spawn(async move {
        let silence_max = Duration::from_secs(30);
        let beats = Beats::start(channels, CLUSTER, HERE, THERE, silence_max, Assents::default());
        let beat = |group: u64| {
            let beats = beats.clone();
            let route = Route { group: GroupId(100 + group), ..route() };
            let request = AppendEntriesRequest {
                vote: Vote::new_committed(3, ReplicaId(11)),
                prev_log_id: None,
                entries: Vec::new(),
                leader_commit: None,
            };
            tokio::spawn(async move { beats.send(route, request, Duration::from_secs(30)).await })
        };
        // The first connects.
        let mut told = vec![beat(0).await];
        told.extend(futures::future::join_all((1..300).map(beat)).await);
        told
    });
    for answer in told.await.unwrap() {
        // It arrived, where there is no such group.
        let why = answer.unwrap().unwrap_err().to_string();
        assert!(why.contains("refused"), "{why}");
    }
}
