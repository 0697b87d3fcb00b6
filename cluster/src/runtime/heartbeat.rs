//! How the other nodes are. Every node asks every other one once a second: for
//! the status table, for comparing clocks, for knowing who leads what, for room on
//! the voters' disks, and for comparing digests.
//!
//! Replicas that applied the same entries have the same digest at the same
//! index. One that a majority of the voters outvotes has lost its way: its node
//! stops. Where digests differ and no majority agrees, nobody knows who is
//! right, and the group refuses writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use cardea_raft::{GroupId, NodeId, ReplicaId};
use cardea_storage::Fault;
use futures::future::{join, join_all};

use crate::{
    clocks::ClockVerdict,
    directory::records::NodeState,
    member::{HEARD_MAX, Heard, Member},
    replica::Replica,
    service::{client, proto},
};

const PERIOD: Duration = Duration::from_secs(1);
/// Groups that a line of the log names, at most.
const LISTED_MAX: usize = 16;
/// From when on a write of the log that is not finished says that the disk hangs.
const HANGS_FROM: Duration = Duration::from_secs(1);
/// For how long a node whose disk hung is not trusted with leaderships.
const HUNG_LATELY: Duration = Duration::from_secs(30);
/// Until the clock was compared for the first time: nothing is stamped before.
const FIRST_PERIOD: Duration = Duration::from_millis(100);

/// Asks everybody, again and again.
pub(super) async fn run(member: Arc<Member>) {
    let mut views = member.directory.watch();
    let (mut silence, mut offices) = (Silence::default(), BTreeSet::new());
    loop {
        look_at_disk(&member).await;
        // Together: what one takes whom nobody answers, the nodes that do answer would seem
        // to be silent.
        let asked = join(ask_everybody(&member), super::seeds::ask(&member));
        tokio::select! {
            () = member.stopping.cancelled() => return,
            _ = asked => {}
        }
        silence.tell(&member);
        tell_offices(&member, &mut offices);
        look_for_room(&member);
        if let Some(fault) = compare_digests(&member) {
            member.raise(fault);
        }
        member.comparison.end_round();
        if let ClockVerdict::Off(ahead_ms) = member.comparison.verdict() {
            tracing::error!(ahead_ms, "the clock of this node is off: it leads nothing");
        }
        let pause = if member.comparison.has_compared() { PERIOD } else { FIRST_PERIOD };
        tokio::select! {
            () = member.stopping.cancelled() => return,
            // A node that came is asked at once: without its clock a majority may
            // be missing.
            changed = views.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Which nodes do not answer, for the log: told once when it begins, and once when it ends.
#[derive(Debug, Default)]
struct Silence {
    begun: Option<Duration>,
    silent: BTreeSet<NodeId>,
}

impl Silence {
    fn tell(&mut self, member: &Member) {
        let now = member.clock.monotonic();
        let begun = *self.begun.get_or_insert(now);
        let view = member.directory.view();
        // Whoever leaves is answered by nobody in the end, and that is as it should be.
        let own = view.nodes.get(&member.node).map(|row| row.state());
        if matches!(own, Some(NodeState::Decommissioning | NodeState::Decommissioned)) {
            return;
        }
        // A node that was never heard may only just have been asked.
        let asked_for_long = now.saturating_sub(begun) > HEARD_MAX;
        let others = view
            .members()
            .filter(|(node, row)| *node != member.node && row.state() != NodeState::Joining);
        for (node, row) in others {
            let (region, address) = (row.region.as_str(), row.address.as_str());
            if member.is_heard(node) {
                if self.silent.remove(&node) {
                    tracing::info!(%node, region, address, "a node answers again");
                }
            } else if (asked_for_long || member.silent(node).is_some()) && self.silent.insert(node)
            {
                tracing::warn!(%node, region, address, "a node does not answer");
            }
        }
        self.silent.retain(|node| view.members().any(|(member, _)| member == *node));
    }
}

/// Says in the log which groups this node has begun to lead since it was last asked, and which
/// it leads no more.
fn tell_offices(member: &Member, before: &mut BTreeSet<GroupId>) {
    let leads = |group: &GroupId| member.office(*group).is_some_and(|office| office.leads);
    let now: BTreeSet<GroupId> =
        member.replicas().iter().map(|replica| replica.group()).filter(leads).collect();
    if now != *before {
        let gained = listed(now.difference(before));
        let lost = listed(before.difference(&now));
        tracing::info!(leads = now.len(), gained, lost, "this node leads other groups");
        *before = now;
    }
}

/// Some groups by their names, the rest by their number.
fn listed<'a>(groups: impl Iterator<Item = &'a GroupId>) -> String {
    let names: Vec<String> = groups.map(GroupId::to_string).collect();
    match names.len().checked_sub(LISTED_MAX) {
        Some(more @ 1..) => format!("{} and {more} more", names[..LISTED_MAX].join(" ")),
        _ => names.join(" "),
    }
}

/// Says whose clocks count. Before the directory has arrived nobody knows.
pub(super) fn expect_clocks(member: &Member) {
    let view = member.directory.view();
    if view.cluster.is_none() {
        return;
    }
    let counted: Vec<NodeId> = view
        .members()
        .filter(|(node, row)| *node != member.node && row.state() != NodeState::Joining)
        .map(|(node, _)| node)
        .collect();
    member.comparison.expect(&counted);
}

async fn ask_everybody(member: &Arc<Member>) {
    let view = member.directory.view();
    let others: Vec<NodeId> =
        view.members().map(|(node, _)| node).filter(|node| *node != member.node).collect();
    expect_clocks(member);
    let asked = others.iter().map(|node| async move {
        tokio::join!(ask(member, *node), member.channels.warm(*node));
    });
    join_all(asked).await;
    member.heard.lock().retain(|node, _| others.contains(node));
}

/// Asks a node how it is, and notes what it says.
pub(crate) async fn ask(member: &Arc<Member>, node: NodeId) {
    let at = member.clock.monotonic();
    let answer = client::status(member, node).await;
    match answer {
        Ok(mut report) if report.node == node.0 => {
            report.replicas.sort_by_key(|replica| replica.group);
            let theirs = cardea_storage::Timestamp(report.now);
            member.comparison.note((node, report.process), theirs, at);
            member.heard.lock().insert(node, Heard { report, at });
            member.heard_news.notify_waiters();
        }
        Ok(report) => tracing::warn!(%node, answered = report.node, "another node answers"),
        Err(reason) => tracing::debug!(%node, reason, "a node is silent"),
    }
}

async fn look_at_disk(member: &Arc<Member>) {
    let (disk, at) = (member.disk.clone(), member.data_dir.clone());
    let free = cardea_raft::blocking::spawn(move || disk.free_bytes(&at)).await;
    if let Ok(Ok(free)) = free {
        member.disk_free.store(free, Ordering::Release);
        // One that is full has a little more than the reserve before it has room again: it would
        // come and go with every compaction, and leaders with it.
        let margin = if member.is_disk_full() { member.reserve_bytes / 16 } else { 0 };
        let full = free < member.reserve_bytes.saturating_add(margin);
        if full != member.disk_full.swap(full, Ordering::AcqRel) {
            if full {
                tracing::error!(free, "the disk is full: ordinary writes are refused");
            } else {
                tracing::info!(free, "the disk has room again");
            }
        }
    }
}

/// Finds the groups led here whose quorum would need a voter with a full disk.
fn look_for_room(member: &Member) {
    let led = member.replicas().into_iter().filter_map(|replica| {
        member.office(replica.group()).filter(|office| office.leads)?;
        let status = member.host.status(replica.group())?;
        status.leads().then_some((replica.group(), status))
    });
    let roomless: BTreeSet<GroupId> = led
        .filter(|(_, status)| {
            let heard = member.heard.lock();
            let voters = status.voters.values().map(|node| {
                if *node == member.node {
                    return Room::of(member.is_disk_full());
                }
                let report = heard.get(node).filter(|heard| heard.is_fresh(&*member.clock));
                report.map_or(Room::Unknown, |heard| Room::of(heard.report.disk_full))
            });
            needs_a_full_disk(voters)
        })
        .map(|(group, _)| group)
        .collect();
    let mut held = member.roomless.write();
    if *held != roomless {
        let groups: Vec<u64> = roomless.iter().map(|group| group.0).collect();
        tracing::warn!(?groups, "groups led here that refuse writes: full disks of voters");
        *held = roomless;
    }
}

/// What is known of a voter's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Enough,
    Full,
    /// Nothing is heard of its node.
    Unknown,
}

impl Room {
    fn of(full: bool) -> Self {
        if full { Self::Full } else { Self::Enough }
    }
}

/// Whether those who are there are a quorum, and without full disks would not be.
/// Where too few are there, disks are not what is amiss.
fn needs_a_full_disk(voters: impl Iterator<Item = Room>) -> bool {
    let (mut all, mut there, mut roomy) = (0, 0, 0);
    for room in voters {
        all += 1;
        there += usize::from(room != Room::Unknown);
        roomy += usize::from(room == Room::Enough);
    }
    2 * there > all && 2 * roomy <= all
}

/// How this node is.
pub(crate) fn report(member: &Member) -> proto::StatusResponse {
    let replicas: Vec<_> =
        member.replicas().iter().map(|replica| replica_report(member, replica)).collect();
    proto::StatusResponse {
        node: member.node.0,
        now: member.clock.now().0,
        disk_free: member.disk_free.load(Ordering::Acquire),
        disk_used: replicas.iter().map(|replica| replica.disk_bytes).sum(),
        replicas,
        binary_version: member.binary_version.clone(),
        version_max: member.version_max,
        draining: member.is_draining(),
        directory_revision: member.directory.acknowledged().0,
        memory_bytes: (member.memory)().unwrap_or_default(),
        process: member.process,
        disk_full: member.is_disk_full(),
        disk_hangs: has_hung(
            &mut member.hung.lock(),
            member.host.oldest_unfinished_write(),
            member.clock.monotonic(),
        ),
    }
}

/// Whether a disk hangs, or did lately: one that answers now and then would else be
/// handed a leadership in every moment between, which it could not hold.
fn has_hung(last: &mut Option<Duration>, oldest_write: Option<Duration>, now: Duration) -> bool {
    if oldest_write.is_some_and(|age| age >= HANGS_FROM) {
        *last = Some(now);
    }
    last.is_some_and(|last| now.saturating_sub(last) < HUNG_LATELY)
}

fn replica_report(member: &Member, replica: &Replica) -> proto::ReplicaReport {
    let status = member.host.status(replica.group()).unwrap_or_default();
    proto::ReplicaReport {
        group: replica.group().0,
        replica: replica.id().0,
        term: status.term,
        leader_node: status.leader.map(|(_, node)| node.0),
        leads: status.leads(),
        applied: status.applied,
        committed: status.committed,
        marks: replica
            .marks()
            .into_iter()
            .map(|(index, digest)| proto::DigestMark { index, digest })
            .collect(),
        log_time: replica.log_time().0,
        disk_bytes: replica.row_bytes(),
        learner: status.learners.contains_key(&replica.id()),
        voters: if status.joint || !status.membership_committed {
            Vec::new()
        } else {
            status.voters.keys().map(|voter| voter.0).collect()
        },
    }
}

/// What digests say of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ballot {
    /// Nothing speaks against it.
    Sound,
    /// A majority of the voters has another digest.
    Outvoted { index: u64 },
    /// Digests differ, and no majority agrees.
    Divided { index: u64 },
}

/// Compares one replica's digests with those of the voters, at each index of its
/// own marks; `voters` counts all of them, heard of or not.
fn judge(
    own: &[(u64, Bytes)],
    own_votes: bool,
    others: &[BTreeMap<u64, Bytes>],
    voters: usize,
) -> Ballot {
    for (index, digest) in own.iter().rev() {
        let said: Vec<&Bytes> = others.iter().filter_map(|marks| marks.get(index)).collect();
        if said.iter().all(|other| *other == digest) {
            continue;
        }
        let count = |digest: &Bytes| {
            said.iter().filter(|other| **other == digest).count()
                + usize::from(own_votes && said.len() < voters && own_has(own, *index, digest))
        };
        if said.iter().any(|other| *other != digest && 2 * count(other) > voters) {
            return Ballot::Outvoted { index: *index };
        }
        if 2 * count(digest) > voters {
            continue;
        }
        return Ballot::Divided { index: *index };
    }
    Ballot::Sound
}

fn own_has(own: &[(u64, Bytes)], index: u64, digest: &Bytes) -> bool {
    own.iter().any(|(at, mine)| *at == index && mine == digest)
}

/// Judges every replica here; a fault if one was outvoted.
fn compare_digests(member: &Member) -> Option<Fault> {
    for replica in member.replicas() {
        let own = replica.marks();
        if own.is_empty() {
            replica.set_divided(false);
            continue;
        }
        let Some(status) = member.host.status(replica.group()) else { continue };
        let marks = marks_of_voters(member, replica.group(), |id| {
            id != replica.id() && status.voters.contains_key(&id)
        });
        let votes = status.voters.contains_key(&replica.id());
        let ballot = judge(&own, votes, &marks, status.voters.len());
        match ballot {
            Ballot::Sound => replica.set_divided(false),
            Ballot::Divided { index } => {
                if !replica.is_divided() {
                    tracing::error!(group = %replica.group(), index, "digests differ and no majority agrees: the group refuses writes");
                }
                replica.set_divided(true);
            }
            Ballot::Outvoted { index } => {
                return Some(Fault::new(format!(
                    "{}: a majority has another digest at index {index} than replica {}",
                    replica.group(),
                    replica.id()
                )));
            }
        }
    }
    None
}

fn marks_of_voters(
    member: &Member,
    group: GroupId,
    counts: impl Fn(ReplicaId) -> bool,
) -> Vec<BTreeMap<u64, Bytes>> {
    let heard = member.heard.lock();
    heard
        .values()
        .flat_map(|heard| heard.report.of_group(group))
        .filter(|report| counts(ReplicaId(report.replica)))
        .map(|report| report.marks.iter().map(|mark| (mark.index, mark.digest.clone())).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_hung_takes_no_leaderships_for_a_while() {
        let s = Duration::from_secs;
        let mut last = None;
        let mut at = |now, age| has_hung(&mut last, age, s(now));
        assert!(!at(10, None));
        assert!(!at(11, Some(Duration::from_millis(999))));
        assert!(at(12, Some(s(1))));
        // It answers, and is not trusted yet.
        assert!(at(13, None));
        assert!(at(41, Some(Duration::from_millis(3))));
        assert!(!at(42, None));
        assert!(at(50, Some(s(7))));
        assert!(at(79, None));
        assert!(!at(80, None));
    }

    fn digest(byte: u8) -> Bytes {
        Bytes::copy_from_slice(&[byte])
    }

    fn at(index: u64, byte: u8) -> BTreeMap<u64, Bytes> {
        BTreeMap::from([(index, digest(byte))])
    }

    #[test]
    fn a_group_needs_a_full_disk_where_too_few_with_room_are_there() {
        use Room::{Enough, Full, Unknown};
        let needs = |voters: &[Room]| needs_a_full_disk(voters.iter().copied());
        assert!(!needs(&[Enough, Enough, Enough]));
        assert!(!needs(&[Enough, Enough, Full]));
        assert!(needs(&[Enough, Full, Full]));
        assert!(needs(&[Enough, Full, Unknown]));
        assert!(!needs(&[Enough, Enough, Unknown]));
        assert!(needs(&[Full]));
        assert!(needs(&[Enough, Enough, Full, Full, Full]));
        // That quorum is lost for another reason.
        assert!(!needs(&[Enough, Unknown, Unknown]));
        assert!(!needs(&[Full, Unknown, Unknown]));
    }

    #[test]
    fn equal_digests_and_missing_ones_are_sound() {
        let own = [(1_024, digest(1))];
        assert_eq!(judge(&own, true, &[at(1_024, 1), at(1_024, 1)], 3), Ballot::Sound);
        assert_eq!(judge(&own, true, &[at(2_048, 9)], 3), Ballot::Sound);
        assert_eq!(judge(&own, true, &[], 3), Ballot::Sound);
    }

    #[test]
    fn a_majority_with_another_digest_outvotes() {
        let own = [(1_024, digest(1))];
        let ballot = judge(&own, true, &[at(1_024, 2), at(1_024, 2)], 3);
        assert_eq!(ballot, Ballot::Outvoted { index: 1_024 });
        let learner = judge(&own, false, &[at(1_024, 2), at(1_024, 2)], 3);
        assert_eq!(learner, Ballot::Outvoted { index: 1_024 });
    }

    #[test]
    fn who_is_of_the_majority_goes_on() {
        let own = [(1_024, digest(1))];
        assert_eq!(judge(&own, true, &[at(1_024, 1), at(1_024, 2)], 3), Ballot::Sound);
    }

    #[test]
    fn digests_that_differ_without_a_majority_divide_the_group() {
        let own = [(1_024, digest(1))];
        let divided = Ballot::Divided { index: 1_024 };
        assert_eq!(judge(&own, true, &[at(1_024, 2)], 2), divided);
        assert_eq!(judge(&own, true, &[at(1_024, 2), at(1_024, 3)], 3), divided);
    }
}
