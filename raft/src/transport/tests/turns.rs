//! Snapshots that wait for their turn.

use std::path::Path;

use openraft::{
    RaftNetworkFactory,
    errors::StreamingError,
    network::{NetSnapshot, RPCOption},
    vote::RaftLeaderId,
};

use super::{
    scripted::{RECEIVED, Script, Scripted},
    *,
};
use crate::{
    alarm::Alarm,
    log::{Log, LogSettings},
    transport::GrpcTransport,
    types::{
        LeaderId, LogId, Member, RaftSnapshot, SnapshotData, SnapshotMeta, StoredMembership, Vote,
    },
};

/// Of a size that has to wait.
const LARGE: usize = 33 << 20;

fn copy(disk: &MemoryDisk, at: &str, last: u64, bytes: usize) -> RaftSnapshot {
    disk.create_directory(Path::new(at)).unwrap();
    let mut sink = disk.write_stream(&Path::new(at).join("rows.sst")).unwrap();
    std::io::Write::write_all(&mut sink, &vec![7; bytes]).unwrap();
    sink.finish().unwrap();
    let last_log_id = Some(LogId::new(LeaderId::new(1, ReplicaId(11)), last));
    RaftSnapshot {
        meta: SnapshotMeta { last_log_id, last_membership: StoredMembership::default() },
        snapshot: SnapshotData { directory: at.into(), guard: None },
    }
}

/// A snapshot was read, and then waited for its turn: when that came there was a newer one, and
/// of what was behind the old one the log was rid.
#[tokio::test]
async fn a_snapshot_that_waited_for_its_turn_gives_it_to_the_newest() {
    let script = Arc::new(Script::default());
    let (address, _serving) = listen(Scripted::routes(&script), ServerTls::LoopbackPlain).await;
    let (channels, _) = channels_to(&address, ClientTls::LoopbackPlain);
    let disk = MemoryDisk::new(1);
    let (old, newest) = (copy(&disk, "/here/old", 50, LARGE), copy(&disk, "/here/newest", 60, 11));
    let settings = TransportSettings::default();
    let transport = GrpcTransport::new(CLUSTER, HERE, channels, Arc::new(disk), settings);
    let convoy = transport.convoy().clone();
    let (first, _second) = (convoy.turn(u64::MAX).await, convoy.turn(u64::MAX).await);

    let mut network =
        crate::Transport::network(&transport, GROUP, ReplicaId(11), Glance::default());
    let mut client = network.new_snapshot_client(ReplicaId(22), &Member { node: THERE }).await;
    let vote = Vote::new_committed(3, ReplicaId(11));
    let option = || RPCOption::new(Duration::from_secs(60));
    let never = std::future::pending;
    {
        let mut waits = Box::pin(client.full_snapshot(vote, old, never(), option()));
        // Time goes on once it waits.
        tokio::time::pause();
        let soon = Duration::from_millis(100);
        assert!(tokio::time::timeout(soon, &mut waits).await.is_err(), "it is not its turn");
        tokio::time::resume();
        drop(first);
        let outdated = waits.await;
        assert!(matches!(outdated, Err(StreamingError::Timeout(_))), "{outdated:?}");
    }
    assert!(script.disk.list(Path::new(RECEIVED)).unwrap_or_default().is_empty());
    assert!(convoy.turn_now(u64::MAX).is_none(), "it has its turn");

    let answer = client.full_snapshot(vote, newest, never(), option()).await.unwrap();
    assert_eq!(answer.vote, vote);
    let (_, length) = script.disk.read_stream(&Path::new(RECEIVED).join("rows.sst")).unwrap();
    assert_eq!(length, 11);
    assert!(convoy.turn_now(u64::MAX).is_some(), "it has gone on");
}

/// What follows a snapshot is kept from when it leaves; one that nothing would follow does not.
#[tokio::test]
async fn a_snapshot_leaves_only_with_the_log_behind_it() {
    let script = Arc::new(Script::default());
    let (address, _serving) = listen(Scripted::routes(&script), ServerTls::LoopbackPlain).await;
    let (channels, _) = channels_to(&address, ClientTls::LoopbackPlain);
    let disk = MemoryDisk::new(1);
    let at = Path::new("/node/log");
    disk.create_directory(at).unwrap();
    let log = Log::open(&disk, at, LogSettings::default(), Arc::new(Alarm::new())).unwrap();
    let store = log.group(GROUP, ReplicaId(11)).unwrap();
    let (old, newest) = (copy(&disk, "/here/old", 50, 11), copy(&disk, "/here/newest", 60, 11));
    let settings = TransportSettings::default();
    let transport = GrpcTransport::new(CLUSTER, HERE, channels, Arc::new(disk), settings);
    let mut network = crate::Transport::network(&transport, GROUP, ReplicaId(11), store.glance());
    let mut client = network.new_snapshot_client(ReplicaId(22), &Member { node: THERE }).await;
    let vote = Vote::new_committed(3, ReplicaId(11));
    let option = || RPCOption::new(Duration::from_secs(60));
    let never = std::future::pending;

    let holds = store.glance().holds().unwrap();
    let matched = [(ReplicaId(22), None)].into();
    assert_eq!(holds.give_up(51, None, &matched), 51);
    let outdated = client.full_snapshot(vote, old, never(), option()).await;
    assert!(matches!(outdated, Err(StreamingError::Timeout(_))), "{outdated:?}");
    client.full_snapshot(vote, newest, never(), option()).await.unwrap();
    assert_eq!(holds.give_up(100, None, &matched), 60);
}
