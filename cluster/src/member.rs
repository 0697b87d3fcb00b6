//! A node that belongs to a cluster: what its parts share.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cardea_raft::{
    ClusterId, GroupId, GroupStatus, Host, NodeId, Peers, ReplicaId, transport::Channels,
};
use cardea_storage::{
    Clock, Entropy, Fault, Keyring, Revision, Store, Timestamp, engine::Disk,
    protocol::shards::Shards,
};
use futures::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    DIRECTORY,
    clocks::ClockComparison,
    directory::{CONFIRMED_MAX, Directory, follow},
    life::Indexing,
    placement::Rules,
    replica::Replica,
    runtime::seeds::Seeds,
    service::{client, forward::Forwarders, proto},
};

/// Added to the bound of confirmation, for clocks that run at different speeds.
const ACKNOWLEDGED_MARGIN: Duration = Duration::from_millis(100);
/// How long ago something must have been heard of a node that counts as there.
pub(crate) const HEARD_MAX: Duration = Duration::from_secs(3);

/// A node that belongs to a cluster.
pub struct Member {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) region: String,
    pub(crate) address: String,
    pub(crate) binary_version: String,
    /// The newest cluster version that the node knows.
    pub(crate) version_max: u32,
    /// Drawn when the process started.
    pub(crate) process: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) data_dir: PathBuf,
    pub(crate) reserve_bytes: u64,
    pub(crate) master: Keyring,
    pub(crate) indexing: Indexing,
    pub(crate) host: Arc<Host>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) forwarders: Forwarders,
    pub(crate) book: Arc<AddressBook>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) comparison: Arc<ClockComparison>,
    pub(crate) shards: Arc<dyn Shards>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) replicas: RwLock<BTreeMap<GroupId, Arc<Replica>>>,
    /// Who leads the groups of this node, followed.
    pub(crate) offices: RwLock<BTreeMap<GroupId, watch::Receiver<GroupStatus>>>,
    /// What was last heard of other nodes.
    pub(crate) heard: Mutex<BTreeMap<NodeId, Heard>>,
    /// Tells whoever waits that something was heard.
    pub(crate) heard_news: Notify,
    /// Leaders that refusals named.
    pub(crate) leaders: Mutex<BTreeMap<GroupId, NodeId>>,
    /// When nodes were last asked out of turn who leads, by the monotonic clock.
    pub(crate) sought: Mutex<BTreeMap<NodeId, Duration>>,
    /// Where to look for nodes that moved.
    pub(crate) seeds: RwLock<Option<Seeds>>,
    pub(crate) draining: AtomicBool,
    /// The numbers by which replicas and leaders are placed.
    pub(crate) rules: RwLock<Rules>,
    /// Whether the directory has this process in the node's row.
    pub(crate) announced: AtomicBool,
    /// How much memory its process takes.
    pub(crate) memory: fn() -> Option<u64>,
    pub(crate) disk_free: AtomicU64,
    pub(crate) disk_full: AtomicBool,
    /// When a write of the log was last seen to hang, by the monotonic clock.
    pub(crate) hung: Mutex<Option<Duration>>,
    /// Groups led here that lack voters with room on their disks.
    pub(crate) roomless: RwLock<BTreeSet<GroupId>>,
    /// Tells the reconciler that something may have to be done.
    pub(crate) wake: Notify,
    pub(crate) faulted: watch::Sender<Option<Fault>>,
    pub(crate) stopping: CancellationToken,
}

/// Who leads a group, as one of its replicas knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Office {
    pub(crate) leads: bool,
    pub(crate) term: u64,
    pub(crate) leader: Option<NodeId>,
}

/// What a node said of itself, and when it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) report: proto::StatusResponse,
    pub(crate) at: Duration,
}

impl Heard {
    /// Whether it was said lately.
    pub(crate) fn is_fresh(&self, clock: &dyn Clock) -> bool {
        clock.monotonic().saturating_sub(self.at) <= HEARD_MAX
    }

    /// Whether the node may be given a leadership. Found by simulation: a node that drained
    /// gave its leaderships to a dead one every second, whose groups found no rest.
    pub(crate) fn may_lead(&self, clock: &dyn Clock) -> bool {
        self.is_fresh(clock) && !self.report.draining && !self.report.disk_hangs
    }
}

impl Member {
    /// This node's id.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The cluster's id.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The region this node stands in.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The directory as this node holds it.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The store over the cluster's shards.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The shards beneath the store.
    pub fn shards(&self) -> &Arc<dyn Shards> {
        &self.shards
    }

    /// The operator's master keys.
    pub fn master(&self) -> &Keyring {
        &self.master
    }

    /// The Raft groups of this node.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// What time it is.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Random bytes.
    pub fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.entropy
    }

    /// The disk with this node's data.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Where this node's data is.
    pub fn data_dir(&self) -> &PathBuf {
        &self.data_dir
    }

    /// Ends when the node stops.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// The replica of a group on this node, if it runs.
    pub fn replica(&self, group: GroupId) -> Option<Arc<Replica>> {
        self.replicas.read().get(&group).cloned()
    }

    /// The replicas that run on this node.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.read().values().cloned().collect()
    }

    /// Whether something was heard of a node lately; of this one, always.
    pub fn is_heard(&self, node: NodeId) -> bool {
        node == self.node || self.silent(node).is_some_and(|silent| silent <= HEARD_MAX)
    }

    /// How long nothing was heard of another node; `None` if never.
    pub fn silent(&self, node: NodeId) -> Option<Duration> {
        let at = self.heard.lock().get(&node).map(|heard| heard.at)?;
        Some(self.clock.monotonic().saturating_sub(at))
    }

    /// Who leads a group, by its replica here; `None` without one.
    pub(crate) fn office(&self, group: GroupId) -> Option<Office> {
        let offices = self.offices.read();
        let status = offices.get(&group)?.borrow();
        let leader = status.leader.map(|(_, node)| node);
        Some(Office { leads: status.leads(), term: status.term, leader })
    }

    /// The node that leads a group, as far as this node knows.
    pub fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        if let Some(node) = self.office(group).and_then(|office| office.leader) {
            return Some(node);
        }
        if let Some(node) = self.leaders.lock().get(&group) {
            return Some(*node);
        }
        self.reported_leader(group, None).map(|(_, node)| node)
    }

    /// The newest term that other nodes reported a leader of, and that leader's node; of
    /// those alone that were asked at a time of the monotonic clock or later.
    pub(crate) fn reported_leader(
        &self,
        group: GroupId,
        since: Option<Duration>,
    ) -> Option<(u64, NodeId)> {
        let heard = self.heard.lock();
        let counted = heard.values().filter(|heard| since.is_none_or(|since| heard.at >= since));
        let reports = counted.flat_map(|heard| heard.report.of_group(group));
        reports
            .filter_map(|report| report.leader_node.map(|node| (report.term, NodeId(node))))
            .max()
    }

    /// Whether a node may be asked how it is out of turn: nobody did for so long.
    pub(crate) fn may_seek(&self, node: NodeId, pause: Duration) -> bool {
        let now = self.clock.monotonic();
        let mut sought = self.sought.lock();
        let is_due = sought.get(&node).is_none_or(|at| now.saturating_sub(*at) >= pause);
        if is_due {
            sought.insert(node, now);
        }
        is_due
    }

    pub(crate) fn note_leader(&self, group: GroupId, node: NodeId) {
        self.leaders.lock().insert(group, node);
    }

    pub(crate) fn forget_leader(&self, group: GroupId, node: NodeId) {
        let mut leaders = self.leaders.lock();
        if leaders.get(&group) == Some(&node) {
            leaders.remove(&group);
        }
    }

    /// The time by which a read here judges expiry, besides log time; 0 before a
    /// majority agreed on any.
    pub(crate) fn reader_now(&self) -> Timestamp {
        self.comparison.agreed_now().unwrap_or_default()
    }

    /// Waits until every node has applied a revision of the directory, or has
    /// ceased to rely on what it held before: a change that revokes something is
    /// acknowledged then. Takes [`CONFIRMED_MAX`] and a little at most.
    pub async fn acknowledged_everywhere(&self, revision: Revision) {
        let deadline = self.clock.monotonic() + CONFIRMED_MAX + ACKNOWLEDGED_MARGIN;
        let members = self.directory.view();
        let mut lagging: Vec<NodeId> = members.members().map(|(node, _)| node).collect();
        while self.clock.monotonic() < deadline {
            let asked = lagging.iter().map(|node| async move {
                let applied = if *node == self.node {
                    self.directory.acknowledged()
                } else {
                    let report = client::status(self, *node).await;
                    Revision(report.map_or(0, |report| report.directory_revision))
                };
                (applied < revision).then_some(*node)
            });
            let pause = Duration::from_millis(25);
            let left = deadline.saturating_sub(self.clock.monotonic());
            let Ok(answers) = tokio::time::timeout(left, join_all(asked)).await else { return };
            lagging = answers.into_iter().flatten().collect();
            if lagging.is_empty() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether this node's disk has less room than its reserve.
    pub fn is_disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Acquire)
    }

    /// Whether ordinary writes of a group led here are refused for want of room,
    /// here or on the disks of voters that it needs.
    pub(crate) fn lacks_room(&self, group: GroupId) -> bool {
        self.is_disk_full() || self.roomless.read().contains(&group)
    }

    /// Sets the numbers by which this node, when it leads the directory, places
    /// replicas and leaders.
    pub fn set_placement_rules(&self, rules: Rules) {
        *self.rules.write() = rules;
    }

    /// Whether this node hands its leaderships over.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Asks the directory's leader where things are now; whether it answered.
    pub async fn refresh_directory(&self) -> bool {
        let Some(replica) = self.replica(DIRECTORY) else { return false };
        follow::confirm_once(self, &replica).await
    }

    /// Has the reconciler look again now.
    pub fn reconcile_now(&self) {
        self.wake.notify_one();
    }

    /// Reports a fault: the process is expected to stop.
    pub fn raise(&self, fault: Fault) {
        tracing::error!(?fault, "fatal fault: this node must stop");
        self.faulted.send_if_modified(|first| {
            let news = first.is_none();
            if news {
                *first = Some(fault);
            }
            news
        });
    }

    /// As [`raise`](Self::raise), for what a replica failed at: one that was removed meanwhile has
    /// lost its files, and no disk has failed.
    pub(crate) fn raise_for(&self, replica: &Arc<Replica>, fault: Fault) {
        let now = self.replica(replica.group());
        if now.is_some_and(|now| Arc::ptr_eq(&now, replica)) {
            self.raise(fault);
        } else {
            tracing::debug!(group = %replica.group(), ?fault, "of a replica that was removed");
        }
    }

    /// The directory of the tablets.
    pub(crate) fn tablets(&self) -> PathBuf {
        self.data_dir.join("tablets")
    }

    /// The directory of a replica's tablet.
    pub fn tablet_at(&self, group: GroupId, replica: ReplicaId) -> PathBuf {
        self.tablets().join(tablet_name(group, replica))
    }
}

/// The name of the directory of a replica's tablet.
pub(crate) fn tablet_name(group: GroupId, replica: ReplicaId) -> String {
    format!("{group}-{replica}")
}

/// Where nodes are: the directory's addresses; before there are any, those that
/// were said when the node joined; and what a process that is newer than its row
/// says of itself. Rewritten for nodes behind translated addresses.
pub(crate) struct AddressBook {
    directory: Arc<Directory>,
    said: RwLock<BTreeMap<NodeId, String>>,
    moved: RwLock<BTreeMap<NodeId, (u64, String)>>,
    dial: BTreeMap<String, String>,
}

impl AddressBook {
    pub(crate) fn new(directory: Arc<Directory>, dial: BTreeMap<String, String>) -> Arc<Self> {
        Arc::new(Self { directory, said: RwLock::default(), moved: RwLock::default(), dial })
    }

    /// A process said where it is; forgotten once its row says so, too.
    pub(crate) fn moved(&self, node: NodeId, process: u64, address: String) {
        let view = self.directory.view();
        let row = view.nodes.get(&node);
        if row.is_some_and(|row| row.process == process || row.address == address) {
            self.moved.write().remove(&node);
        } else {
            self.moved.write().insert(node, (process, address));
        }
    }

    pub(crate) fn say(&self, addresses: impl IntoIterator<Item = (NodeId, String)>) {
        self.said.write().extend(addresses);
    }
}

impl Peers for AddressBook {
    fn address(&self, node: NodeId) -> Option<String> {
        let view = self.directory.view();
        let row = view.nodes.get(&node);
        let moved = self.moved.read().get(&node).cloned();
        let newer = moved.filter(|(process, _)| row.is_none_or(|row| row.process != *process));
        let address = newer
            .map(|(_, address)| address)
            .or_else(|| row.map(|row| row.address.clone()))
            .or_else(|| self.said.read().get(&node).cloned())?;
        Some(self.dial.get(&address).cloned().unwrap_or(address))
    }
}

#[cfg(test)]
mod tests {
    use cardea_storage::{ManualClock, Timestamp};

    use super::*;

    #[test]
    fn who_was_not_heard_of_lately_is_given_no_leadership() {
        let clock = ManualClock::new(Timestamp(1_000_000));
        let heard = |change: fn(&mut proto::StatusResponse)| {
            let mut report = proto::StatusResponse::default();
            change(&mut report);
            Heard { report, at: clock.monotonic() }
        };
        let here = heard(|_| {});
        assert!(here.may_lead(&clock));
        assert!(!heard(|report| report.draining = true).may_lead(&clock));
        assert!(!heard(|report| report.disk_hangs = true).may_lead(&clock));
        clock.advance(HEARD_MAX + Duration::from_millis(1));
        assert!(!here.may_lead(&clock));
    }
}
