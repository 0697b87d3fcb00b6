//! Snapshots that entries overtook, at a replica whose disk lags.

use std::path::Path;

use bytes::Bytes;
use futures::{StreamExt, stream};
use openraft::{
    EntryPayload, RaftNetworkFactory,
    network::{NetStreamAppend, RPCOption},
    raft::AppendEntriesRequest,
    vote::RaftLeaderId,
};

use super::*;
use crate::{
    Host, HostOptions, Settings,
    testing::{Gate, GatedDisk, Ledger},
    transport::{GrpcTransport, Refusal, convoy::Convoy, shipment},
    types::{
        Command, LeaderId, LogEntry, LogId, Member, RaftSnapshot, SnapshotData, SnapshotMeta,
        StoredMembership, TypeConfig, Vote,
    },
};

const LAST: u64 = 9;

fn id(index: u64) -> LogId {
    LogId::new(LeaderId::new(1, ReplicaId(11)), index)
}

fn vote() -> Vote {
    Vote::new_committed(1, ReplicaId(11))
}

fn append(from: u64, to: u64, committed: Option<u64>) -> AppendEntriesRequest<TypeConfig> {
    let entry = |index| LogEntry {
        log_id: id(index),
        payload: EntryPayload::Normal(Command(Bytes::from(format!("k{index}=v")))),
    };
    AppendEntriesRequest {
        vote: vote(),
        prev_log_id: from.checked_sub(1).map(id),
        entries: (from..=to).map(entry).collect(),
        leader_commit: committed.map(id),
    }
}

/// A follower, and the leader's way to it.
struct Follower {
    host: Arc<Host>,
    gate: Arc<Gate>,
    files: MemoryDisk,
    ledger: Arc<Ledger>,
    leader: GrpcTransport,
    channels: Arc<Channels>,
    _serving: DropGuard,
}

impl Follower {
    async fn start() -> Self {
        let gate = Arc::new(Gate::default());
        gate.permit(None);
        let disk = MemoryDisk::new(1);
        let gated = GatedDisk { inner: MemoryDisk::new(2), gate: gate.clone() };
        let (channels, book) = channels_to("127.0.0.1:1", ClientTls::LoopbackPlain);
        let transport = |node| {
            let (channels, disk) = (channels.clone(), Arc::new(disk.clone()));
            GrpcTransport::new(CLUSTER, node, channels, disk, TransportSettings::default())
        };
        let options = HostOptions {
            cluster: CLUSTER,
            node: THERE,
            disk: Arc::new(gated),
            log_directory: "/log".into(),
            settings: Settings::default(),
            runtime: tokio::runtime::Handle::current(),
        };
        let host = Host::open(options, Arc::new(transport(THERE))).await.unwrap();
        let files: Arc<dyn Disk> = Arc::new(disk.clone());
        let ledger = Ledger::open(files.clone(), Path::new("/ledger")).unwrap();
        host.start_group(GROUP, ReplicaId(22), ledger.clone()).await.unwrap();
        let settings = TransportSettings { chunk_ms_max: 1_000, ..TransportSettings::default() };
        let routes = routes(CLUSTER, host.clone(), files, settings, CancellationToken::new());
        let (address, _serving) = listen(routes, ServerTls::LoopbackPlain).await;
        book.0.lock().insert(THERE, address);
        let (leader, files) = (transport(HERE), disk.clone());
        let follower = Self { leader, host, gate, files, ledger, channels, _serving };
        // Its vote is durable, as it is before anything else is said to be.
        let heartbeat = AppendEntriesRequest { prev_log_id: None, ..append(1, 0, None) };
        follower.host.replica(GROUP).unwrap().raft.append_entries(heartbeat).await.unwrap();
        follower
    }

    /// Has it take entries up to [`LAST`] and hear that so many are committed, while its
    /// disk writes nothing.
    async fn take(&self, committed: u64) {
        self.gate.permit(Some(0));
        let mut network =
            crate::Transport::network(&self.leader, GROUP, ReplicaId(11), Glance::default());
        let mut client = network.new_client(ReplicaId(22), &Member { node: THERE }).await;
        tokio::spawn(async move {
            let requests = [append(0, LAST, None), append(LAST + 1, LAST, Some(committed))];
            let input = stream::iter(requests).chain(stream::pending());
            let option = RPCOption::new(Duration::from_secs(60));
            let mut answers = client.stream_append(input, option).await.unwrap();
            while answers.next().await.is_some() {}
        });
        let heard = || self.host.status(GROUP).is_some_and(|s| s.committed == Some(committed));
        eventually("the news of a commit", heard).await;
    }

    /// Sends a snapshot that ends at `last`.
    async fn send(&self, last: u64) -> Result<Vote, shipment::Failure> {
        let disk = MemoryDisk::new(3);
        disk.create_directory(Path::new("/copy")).unwrap();
        let meta = SnapshotMeta {
            last_log_id: Some(id(last)),
            last_membership: StoredMembership::default(),
        };
        let snapshot = SnapshotData { directory: "/copy".into(), guard: None };
        let bounds = shipment::Bounds {
            chunk_bytes: 1 << 10,
            chunk_max: Duration::from_secs(10),
            install_max: Duration::from_secs(30),
        };
        let (client, disk): (_, Arc<dyn Disk>) = (client_of(&self.channels), Arc::new(disk));
        let snapshot = RaftSnapshot { meta, snapshot };
        let convoy = Convoy::new(u64::MAX);
        shipment::send(client, route(), vote(), snapshot, &disk, &convoy, bounds).await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // The writer of the log would wait for good, and the runtime for it.
        self.gate.permit(None);
    }
}

/// Found by simulation: openraft says yes to a snapshot whose entries it knows to be
/// committed, though none of them is durable here. The leader took that for "durable", and
/// after a loss of power waited for good for what the replica no longer had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_entries_overtook_is_confirmed_when_they_are_durable() {
    let follower = Follower::start().await;
    follower.take(LAST).await;
    match follower.send(LAST).await {
        Err(shipment::Failure::Call(status)) => {
            assert_eq!(Refusal::of(&status), Some(Refusal::Stalled), "{status}");
        }
        other => panic!("{other:?}"),
    }
    follower.gate.permit(None);
    assert_eq!(follower.send(LAST).await.unwrap(), vote());
}

/// Found by simulation: openraft does not expect a snapshot that ends within what the same
/// leader wrote, before the commit of that is heard of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_ends_within_the_log_waits_for_news_of_the_commit() {
    let follower = Follower::start().await;
    follower.take(2).await;
    follower.gate.permit(None);
    match follower.send(LAST - 1).await {
        Err(shipment::Failure::Call(status)) => {
            assert_eq!(Refusal::of(&status), Some(Refusal::Stalled), "{status}");
        }
        other => panic!("{other:?}"),
    }
    assert!(follower.host.fault().is_none());
    follower.take(LAST).await;
    follower.gate.permit(None);
    assert_eq!(follower.send(LAST - 1).await.unwrap(), vote());
}

/// What openraft did not install, because it knew the entries to be committed already, though
/// not yet applied, stayed on the disk until the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_was_overtaken_leaves_nothing() {
    let follower = Follower::start().await;
    let _held = follower.ledger.hold();
    follower.take(LAST).await;
    follower.gate.permit(None);
    assert_eq!(follower.send(LAST).await.unwrap(), vote());
    eventually("removal", || {
        let names = follower.files.list(Path::new("/ledger")).unwrap();
        !names.iter().any(|name| name.starts_with("received"))
    })
    .await;
}
