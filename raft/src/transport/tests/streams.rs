//! Streams of appends and of heartbeats.

use std::path::Path;

use bytes::Bytes;
use futures::{StreamExt, stream};
use openraft::{
    EntryPayload, RaftNetworkFactory,
    base::BoxStream,
    errors::RPCError,
    network::{NetStreamAppend, NetVote, RPCOption},
    raft::{AppendEntriesRequest, StreamAppendError, VoteRequest},
    storage::RaftLogStorage,
    vote::RaftLeaderId,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    scripted::{Script, Scripted},
    *,
};
use crate::{
    alarm::Alarm,
    log::{Log, LogSettings},
    peers::Transport,
    transport::{GrpcTransport, ReplicaClient},
    types::{Command, LeaderId, LogEntry, LogId, Member, TypeConfig, Vote},
};

fn id(index: u64) -> LogId {
    LogId::new(LeaderId::new(1, ReplicaId(11)), index)
}

fn request(index: u64, bytes: usize) -> AppendEntriesRequest<TypeConfig> {
    let payload = EntryPayload::Normal(Command(Bytes::from(vec![1; bytes])));
    AppendEntriesRequest {
        vote: Vote::new_committed(1, ReplicaId(11)),
        prev_log_id: index.checked_sub(1).map(id),
        entries: vec![LogEntry { log_id: id(index), payload }],
        leader_commit: None,
    }
}

fn heartbeat() -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest { entries: vec![], ..request(8, 0) }
}

/// openraft's bound of a heartbeat interval.
fn option() -> RPCOption {
    RPCOption::new(Duration::from_millis(100))
}

struct Scene {
    transport: GrpcTransport,
    script: Arc<Script>,
    _serving: DropGuard,
}

impl Scene {
    async fn of(script: Script, settings: TransportSettings) -> Self {
        let script = Arc::new(script);
        let (address, _serving) = listen(Scripted::routes(&script), ServerTls::LoopbackPlain).await;
        let (channels, _) = channels_to(&address, ClientTls::LoopbackPlain);
        let disk = Arc::new(MemoryDisk::new(1));
        let transport = GrpcTransport::new(CLUSTER, HERE, channels, disk, settings);
        Self { transport, script, _serving }
    }

    async fn client(&self) -> ReplicaClient {
        let mut network = self.transport.network(GROUP, ReplicaId(11), Glance::default());
        network.new_client(ReplicaId(22), &Member { node: THERE }).await
    }

    async fn heartbeats(&self) -> ReplicaClient {
        let mut network = self.transport.network(GROUP, ReplicaId(11), Glance::default());
        network.new_heartbeat_client(ReplicaId(22), &Member { node: THERE }).await
    }
}

fn settings(append_ms_max: u64) -> TransportSettings {
    TransportSettings { append_ms_max, beat_ms_max: 300, ..TransportSettings::default() }
}

async fn collect(
    mut answers: BoxStream<'_, super::super::append::Answer>,
) -> Vec<super::super::append::Answer> {
    let mut all = Vec::new();
    while let Some(answer) = answers.next().await {
        all.push(answer);
    }
    all
}

#[tokio::test]
async fn appends_are_sent_before_earlier_ones_are_answered() {
    let scene = Scene::of(Script { hoard: 20, ..Script::default() }, settings(5_000)).await;
    let mut client = scene.client().await;
    let input = stream::iter((1..=20).map(|index| request(index, 10)));
    let answers = collect(client.stream_append(input, option()).await.unwrap()).await;
    let matched: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().unwrap()).collect();
    assert_eq!(matched, (1..=20).map(|index| Some(id(index))).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_peer_that_stalls_in_a_stream_meets_the_deadline() {
    let scene = Scene::of(Script { answers: 2, ..Script::default() }, settings(300)).await;
    let mut client = scene.client().await;
    let input = stream::iter((1..=5).map(|index| request(index, 10)));
    let begun = Instant::now();
    let mut answers = collect(client.stream_append(input, option()).await.unwrap()).await;
    assert_eq!(answers.len(), 3);
    let last = answers.pop().unwrap().unwrap_err();
    assert!(matches!(last, RPCError::Unreachable(_)), "{last}");
    let took = begun.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_replica_that_lost_what_it_confirmed_is_told_in_the_next_stream() {
    let scene = Scene::of(Script { holds: 3, ..Script::default() }, settings(5_000)).await;
    let mut client = scene.client().await;
    let input = stream::iter((1..=4).map(|index| request(index, 10)));
    let mut answers = collect(client.stream_append(input, option()).await.unwrap()).await;
    // openraft takes it for impossible, and gets no answer instead.
    let last = answers.pop().unwrap().unwrap_err();
    assert!(matches!(last, RPCError::Unreachable(_)), "{last}");
    for index in 4..=5 {
        let input = stream::iter([request(index, 10)]);
        drop(collect(client.stream_append(input, option()).await.unwrap()).await);
    }
    assert_eq!(*scene.script.told_lost.lock(), [None, Some(3), Some(3)]);
}

#[tokio::test]
async fn a_deposed_leader_is_not_asked_what_comes_next() {
    let scene = Scene::of(Script::default(), settings(5_000)).await;
    let disk = MemoryDisk::new(1);
    let at = Path::new("/node/log");
    disk.create_directory(at).unwrap();
    let log = Log::open(&disk, at, LogSettings::default(), Arc::new(Alarm::new())).unwrap();
    let mut store = log.group(GROUP, ReplicaId(11)).unwrap();
    store.save_vote(&Vote::new(1, ReplicaId(11))).await.unwrap();
    let mut network = scene.transport.network(GROUP, ReplicaId(11), store.glance());
    let mut client = network.new_client(ReplicaId(22), &Member { node: THERE }).await;

    let (next, input) = mpsc::channel(2);
    next.send(request(1, 10)).await.unwrap();
    let mut answers = client.stream_append(ReceiverStream::new(input), option()).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().unwrap(), Some(id(1)));
    store.save_vote(&Vote::new(2, ReplicaId(22))).await.unwrap();
    next.send(request(2, 10)).await.unwrap();
    assert!(answers.next().await.is_none());
    assert_eq!(*scene.script.appended.borrow(), 1);
}

#[tokio::test]
async fn a_replica_that_never_confirmed_what_it_lacks_is_told_nothing() {
    let scene = Scene::of(Script { holds: 0, ..Script::default() }, settings(5_000)).await;
    let mut client = scene.client().await;
    for index in [9, 8] {
        let input = stream::iter([request(index, 10)]);
        let answers = collect(client.stream_append(input, option()).await.unwrap()).await;
        let conflict = Err(StreamAppendError::Conflict(id(index - 1)));
        assert!(matches!(&answers[..], [Ok(answer)] if *answer == conflict), "{answers:?}");
    }
    assert_eq!(*scene.script.told_lost.lock(), [None, None]);
}

#[tokio::test]
async fn an_idle_stream_meets_no_deadline() {
    let scene = Scene::of(Script::default(), settings(100)).await;
    let mut client = scene.client().await;
    let (requests, input) = mpsc::channel(4);
    let mut answers = client.stream_append(ReceiverStream::new(input), option()).await.unwrap();
    for index in 1..=3 {
        let pause = tokio::time::timeout(Duration::from_millis(350), answers.next()).await;
        assert!(pause.is_err(), "an answer to nothing: {pause:?}");
        requests.send(request(index, 10)).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), Ok(Some(id(index))));
    }
    drop(requests);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn an_answer_to_another_request_ends_the_stream() {
    let scene = Scene::of(Script { skew: 1, ..Script::default() }, settings(5_000)).await;
    let mut client = scene.client().await;
    let input = stream::iter((1..=3).map(|index| request(index, 10)));
    let answers = collect(client.stream_append(input, option()).await.unwrap()).await;
    assert_eq!(answers.len(), 1);
    assert!(matches!(answers[0], Err(RPCError::Unreachable(_))));
}

#[tokio::test]
async fn dropping_the_answers_gives_the_input_back_at_once() {
    let scene = Scene::of(Script::default(), settings(5_000)).await;
    let mut client = scene.client().await;
    let (requests, input) = mpsc::channel(4);
    let mut answers = client.stream_append(ReceiverStream::new(input), option()).await.unwrap();
    requests.send(request(1, 10)).await.unwrap();
    answers.next().await.unwrap().unwrap().unwrap();
    assert!(!requests.is_closed());
    drop(answers);
    assert!(requests.is_closed());
}

#[tokio::test]
async fn a_large_append_goes_in_parts_and_is_answered_once() {
    let bounds = TransportSettings { append_bytes_max: 1 << 20, ..settings(5_000) };
    let scene = Scene::of(Script::default(), bounds).await;
    let mut client = scene.client().await;
    let mut large = request(1, 700 << 10);
    for index in 2..=60 {
        large.entries.extend(request(index, 700 << 10).entries);
    }
    let input = stream::iter([large]);
    let answers = collect(client.stream_append(input, option()).await.unwrap()).await;
    assert_eq!(answers.len(), 1);
    answers[0].as_ref().unwrap().as_ref().unwrap();
    assert_eq!(*scene.script.appended.borrow(), 60);
}

#[tokio::test]
async fn heartbeats_of_many_groups_share_a_stream_and_measure_the_round_trip() {
    let scene = Scene::of(Script::default(), settings(5_000)).await;
    assert_eq!(scene.transport.round_trip(THERE), None);
    let mut sending = Vec::new();
    for group in 0..200 {
        let mut network = scene.transport.network(GroupId(group), ReplicaId(11), Glance::default());
        let member = Member { node: THERE };
        let mut client = network.new_heartbeat_client(ReplicaId(22), &member).await;
        sending.push(tokio::spawn(async move {
            let option = RPCOption::new(Duration::from_secs(10));
            let answers = client.stream_append(stream::iter([heartbeat()]), option).await;
            collect(answers.unwrap()).await
        }));
    }
    for sent in sending {
        let answers = sent.await.unwrap();
        assert_eq!(answers.len(), 1);
        assert_eq!(*answers[0].as_ref().unwrap(), Ok(Some(id(7))));
    }
    let (streams, messages) = scene.script.seen_beats.lock().clone();
    assert_eq!(streams, 1);
    assert_eq!(messages.iter().sum::<usize>(), 200);
    assert!(messages.len() < 200, "no heartbeats travelled together: {messages:?}");
    assert!(scene.transport.round_trip(THERE).is_some());
}

#[tokio::test]
async fn a_silent_node_gets_its_heartbeats_on_a_new_connection() {
    let scene = Scene::of(Script { beats: false, ..Script::default() }, settings(5_000)).await;
    let mut client = scene.heartbeats().await;
    let begun = Instant::now();
    while scene.script.seen_beats.lock().0 < 2 {
        let input = stream::iter([heartbeat()]);
        let answers = collect(client.stream_append(input, option()).await.unwrap()).await;
        assert!(matches!(answers[..], [Err(RPCError::Unreachable(_))]));
        assert!(begun.elapsed() < Duration::from_secs(10), "no second stream");
    }
}

#[tokio::test]
async fn a_vote_that_is_not_answered_meets_its_deadline() {
    let scene = Scene::of(Script::default(), settings(5_000)).await;
    let mut client = scene.client().await;
    let vote = VoteRequest::new(Vote::new(1, ReplicaId(11)), None);
    let error = client.vote(vote, option()).await.unwrap_err();
    assert!(matches!(error, RPCError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn a_node_that_is_not_there_is_unreachable_and_tried_again_later() {
    let (channels, book) = channels_to("127.0.0.1:1", ClientTls::LoopbackPlain);
    let disk = Arc::new(MemoryDisk::new(1));
    let transport = GrpcTransport::new(CLUSTER, HERE, channels, disk, settings(2_000));
    let mut network = transport.network(GROUP, ReplicaId(11), Glance::default());
    let mut client = network.new_client(ReplicaId(22), &Member { node: THERE }).await;
    let input = stream::iter([request(1, 10)]);
    let refused = client.stream_append(input, option()).await;
    assert!(matches!(refused, Err(RPCError::Unreachable(_))));
    drop(refused);

    let script = Arc::new(Script::default());
    let (address, _serving) = listen(Scripted::routes(&script), ServerTls::LoopbackPlain).await;
    book.0.lock().insert(THERE, address);
    for _ in 0..500 {
        let input = stream::iter([request(1, 10)]);
        if let Ok(answers) = client.stream_append(input, option()).await {
            assert_eq!(collect(answers).await.len(), 1);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the node was not reached");
}

#[tokio::test]
async fn a_dead_node_is_not_called_again_before_there_is_something_to_send() {
    // openraft waits out its backoff where the first request is asked for.
    let (channels, _) = channels_to("127.0.0.1:1", ClientTls::LoopbackPlain);
    let disk = Arc::new(MemoryDisk::new(1));
    let transport = GrpcTransport::new(CLUSTER, HERE, channels, disk, TransportSettings::default());
    let mut network = transport.network(GROUP, ReplicaId(11), Glance::default());
    let mut client = network.new_client(ReplicaId(22), &Member { node: THERE }).await;
    let (requests, input) = mpsc::channel(1);
    let mut opening = client.stream_append(ReceiverStream::new(input), option());
    let early = tokio::time::timeout(Duration::from_millis(200), &mut opening).await;
    assert!(early.is_err(), "given up with nothing to send");
    requests.send(request(9, 1)).await.unwrap();
    assert!(opening.await.is_err());
}

#[tokio::test]
async fn a_dead_node_is_not_called_again_at_once_for_want_of_something_to_send() {
    let (channels, _) = channels_to("127.0.0.1:1", ClientTls::LoopbackPlain);
    let disk = Arc::new(MemoryDisk::new(1));
    let transport = GrpcTransport::new(CLUSTER, HERE, channels, disk, TransportSettings::default());
    let mut network = transport.network(GROUP, ReplicaId(11), Glance::default());
    let mut client = network.new_client(ReplicaId(22), &Member { node: THERE }).await;
    let begun = Instant::now();
    for _ in 0..4 {
        // As openraft's own stream ends when there is another position to send from.
        assert!(client.stream_append(stream::empty(), option()).await.is_err());
    }
    assert!(begun.elapsed() >= 4 * crate::transport::append::PAUSE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_was_warmed_is_reached_without_a_new_connection() {
    let (address, _serving) = listen(bare_routes(), ServerTls::LoopbackPlain).await;
    let (channels, book) = channels_to(&address, ClientTls::LoopbackPlain);
    let reached = async |purpose| {
        let line = channels.line(THERE, purpose);
        raft_client(&line).append(stream::empty()).await.is_ok()
    };
    channels.warm(THERE).await;
    // Whoever connects from now on does not know where to.
    book.0.lock().clear();
    assert!(reached(Purpose::Replication).await);
    assert!(reached(Purpose::Liveness).await);
    assert!(!reached(Purpose::Snapshots).await);
}
