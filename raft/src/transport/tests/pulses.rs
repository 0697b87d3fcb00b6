//! Leaders at rest, whose followers are told by pulses.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cardea_storage::engine::memory::MemoryDisk;
use openraft::{
    RaftNetworkFactory,
    network::{NetAppend, RPCOption},
    raft::AppendEntriesResponse,
    vote::RaftLeaderId,
};

use super::*;
use crate::{
    peers::Transport,
    pulse::Pulse,
    read::Witnesses,
    transport::GrpcTransport,
    types::{LeaderId, LogId, Member, Vote},
};

/// A node whose replicas are at rest, or are not there at all.
#[derive(Default)]
struct AtRest {
    rests: AtomicBool,
    heard: AtomicUsize,
}

impl Groups for AtRest {
    fn node(&self) -> NodeId {
        THERE
    }

    fn replica(&self, _group: GroupId) -> Option<Replica> {
        None
    }

    fn hears(&self, _group: GroupId, replica: ReplicaId, _beat: &Beat) -> bool {
        self.heard.fetch_add(1, Ordering::SeqCst);
        replica == ReplicaId(22) && self.rests.load(Ordering::SeqCst)
    }

    fn testify(&self, _question: &Question) -> Option<Testimony> {
        None
    }

    fn hung_up(&self, _node: NodeId) {}

    fn has_lost(&self, _loss: &Loss) -> bool {
        false
    }
}

fn pulse(group: u64) -> Pulse {
    Pulse {
        group: GroupId(group),
        from: ReplicaId(11),
        to: ReplicaId(22),
        vote: Vote::new_committed(3, ReplicaId(11)),
        end: LogId::new(LeaderId::new(3, ReplicaId(11)), 40),
        counts_for: Duration::from_secs(600),
    }
}

#[tokio::test]
async fn a_yes_to_a_pulse_stands_for_one_to_the_heartbeat_until_there_is_a_no() {
    let there = Arc::new(AtRest::default());
    there.rests.store(true, Ordering::SeqCst);
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1));
    let settings = TransportSettings::default();
    let routes = routes(CLUSTER, there.clone(), disk.clone(), settings, CancellationToken::new());
    let (address, _serving) = listen(routes, ServerTls::LoopbackPlain).await;
    let (channels, _) = channels_to(&address, ClientTls::LoopbackPlain);
    let transport = GrpcTransport::new(CLUSTER, HERE, channels, disk, settings);
    let beat = async |group| {
        let mut network = transport.network(GroupId(group), ReplicaId(11), Glance::default());
        let mut client = network.new_heartbeat_client(ReplicaId(22), &Member { node: THERE }).await;
        let option = RPCOption::new(Duration::from_secs(5));
        client.append_entries(pulse(group).beat(), option).await
    };

    // More than go in one message.
    transport.pulse(THERE, (0..700).map(pulse).collect());
    eventually("all are heard", || there.heard.load(Ordering::SeqCst) == 700).await;
    // Behind the pulses, on the same stream.
    assert!(matches!(beat(1_000).await, Ok(AppendEntriesResponse::Success)));
    let asked = there.heard.load(Ordering::SeqCst);
    for group in [0, 350, 699] {
        assert!(matches!(beat(group).await, Ok(AppendEntriesResponse::Success)));
    }
    assert_eq!(there.heard.load(Ordering::SeqCst), asked, "they were asked again");

    there.rests.store(false, Ordering::SeqCst);
    transport.pulse(THERE, vec![pulse(0)]);
    eventually("it is heard", || there.heard.load(Ordering::SeqCst) == asked + 1).await;
    assert!(beat(1_000).await.is_err());
    // Where there is no such replica.
    let why = beat(0).await.unwrap_err().to_string();
    assert!(why.contains("refused"), "{why}");
    assert!(matches!(beat(350).await, Ok(AppendEntriesResponse::Success)));
}
