//! Snapshots that arrive where there is little room.

use std::path::Path;

use openraft::vote::RaftLeaderId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::*;
use crate::{
    Host, HostOptions, Settings, encoding,
    encoding::SnapshotMetaRecord,
    testing::Ledger,
    transport::{
        GrpcTransport, Refusal,
        convoy::SMALL_MAX,
        proto::{self, snapshot_chunk::Chunk},
    },
    types::{LeaderId, LogId, SnapshotMeta, StoredMembership, Vote},
};

/// What the disk has above its reserve.
const ROOM: u64 = 4 * SMALL_MAX;

/// A node with a replica whose disk has so many bytes above its reserve.
struct Node {
    files: MemoryDisk,
    ledger: Arc<Ledger>,
    channels: Arc<Channels>,
    _serving: DropGuard,
}

/// The pieces of a snapshot that has begun.
type Pieces = mpsc::Sender<proto::SnapshotChunk>;

impl Node {
    async fn start() -> Self {
        let files = MemoryDisk::new(1);
        let (channels, book) = channels_to("127.0.0.1:1", ClientTls::LoopbackPlain);
        let disk: Arc<dyn Disk> = Arc::new(files.clone());
        let settings = TransportSettings::default();
        let transport =
            GrpcTransport::new(CLUSTER, THERE, channels.clone(), disk.clone(), settings);
        let options = HostOptions {
            cluster: CLUSTER,
            node: THERE,
            disk: disk.clone(),
            log_directory: "/log".into(),
            settings: Settings::default(),
            runtime: tokio::runtime::Handle::current(),
        };
        let host = Host::open(options, Arc::new(transport)).await.unwrap();
        let ledger = Ledger::open(disk.clone(), Path::new("/ledger")).unwrap();
        ledger.leave_room(ROOM);
        host.start_group(GROUP, ReplicaId(22), ledger.clone()).await.unwrap();
        let routes = routes(CLUSTER, host, disk, settings, CancellationToken::new());
        let (address, _serving) = listen(routes, ServerTls::LoopbackPlain).await;
        book.0.lock().insert(THERE, address);
        Self { files, ledger, channels, _serving }
    }

    /// Begins to send a snapshot of so many bytes.
    fn begin(&self, bytes: u64) -> (Pieces, tokio::task::JoinHandle<Status>) {
        let meta = SnapshotMeta {
            last_log_id: Some(LogId::new(LeaderId::new(1, ReplicaId(11)), 9)),
            last_membership: StoredMembership::default(),
        };
        let begin = Chunk::Begin(proto::SnapshotBegin {
            route: Some(route().into()),
            vote: Some((&Vote::new_committed(1, ReplicaId(11))).into()),
            meta: encoding::encode(&SnapshotMetaRecord::from(&meta)),
            bytes,
        });
        let (pieces, outgoing) = mpsc::channel(4);
        pieces.try_send(proto::SnapshotChunk { chunk: Some(begin) }).unwrap();
        let mut client = client_of(&self.channels);
        let call = tokio::spawn(async move {
            client.snapshot(ReceiverStream::new(outgoing)).await.unwrap_err()
        });
        (pieces, call)
    }

    /// What is said to a snapshot of so many bytes that ends at once. Where there is room for
    /// it, that it has no end.
    async fn said_to(&self, bytes: u64) -> Option<Refusal> {
        let (pieces, call) = self.begin(bytes);
        drop(pieces);
        Refusal::of(&call.await.unwrap())
    }

    fn receiving(&self) -> usize {
        let names = self.files.list(Path::new("/ledger")).unwrap();
        names.iter().filter(|name| name.starts_with("received")).count()
    }
}

/// A node refused writes for want of room, but whatever was sent to it filled its disk.
#[tokio::test]
async fn a_snapshot_that_does_not_fit_with_the_reserve_is_refused() {
    let node = Node::start().await;
    assert_eq!(node.said_to(ROOM).await, Some(Refusal::Corrupted));
    let (_pieces, call) = node.begin(ROOM + 1);
    let status = call.await.unwrap();
    assert_eq!(Refusal::of(&status), Some(Refusal::Disk));
    let reason = "a snapshot of 134217729 bytes does not fit: the disk here has 134217728 bytes \
                  above its reserve";
    assert_eq!(status.message(), reason);
    assert_eq!(node.receiving(), 0);
    node.ledger.leave_room(0);
    assert_eq!(node.said_to(SMALL_MAX + 1).await, Some(Refusal::Disk));
    // A small one, and that of one who does not say how many it has.
    assert_eq!(node.said_to(SMALL_MAX).await, Some(Refusal::Corrupted));
    assert_eq!(node.said_to(0).await, Some(Refusal::Corrupted));
}

#[tokio::test]
async fn the_same_room_is_not_promised_twice() {
    let node = Node::start().await;
    let (half, third) = (ROOM / 2, ROOM / 3);
    let (pieces, call) = node.begin(half);
    eventually("the first", || node.receiving() == 1).await;
    assert_eq!(node.said_to(half + 1).await, Some(Refusal::Disk));
    assert_eq!(node.said_to(third).await, Some(Refusal::Corrupted));
    assert_eq!(node.said_to(half).await, Some(Refusal::Corrupted));
    drop(pieces);
    assert_eq!(Refusal::of(&call.await.unwrap()), Some(Refusal::Corrupted));
    assert_eq!(node.said_to(ROOM).await, Some(Refusal::Corrupted));
}
