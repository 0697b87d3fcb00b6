//! Who leads a group now, for those whom its leader does not answer any more.
//!
//! A node with a replica hears of a new leader from the new leader itself. One without,
//! which of five nodes two are for every shard, would only hear of it when it asks the
//! others how they are, and a region that has just been lost makes that slow. So whoever
//! waits for a leader's answer longer than is usual asks those who hold a replica.

use std::{sync::Arc, time::Duration};

use cardea_raft::{GroupId, GroupStatus, NodeId};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::read::nodes_with;
use crate::{member::Member, runtime::heartbeat};

/// How long news of a leader is awaited by one that was told of none.
const NEWS_MAX: Duration = Duration::from_millis(200);
/// How long an answer may take before others are asked who leads: longer than agreeing
/// takes between the farthest regions.
const SEEK_AFTER: Duration = Duration::from_millis(500);
/// How often they are asked, at most.
const SEEK_EVERY: Duration = Duration::from_millis(250);

/// Waits a moment for a leader that was not asked yet, or leads since a later term than
/// others were asked in. Who finds nobody comes back.
pub(super) async fn successor(
    member: &Member,
    group: GroupId,
    asked_in: u64,
    asked: &[NodeId],
) -> Option<NodeId> {
    let mut news = member.host.watch(group)?;
    let is_new = |status: &GroupStatus| {
        status.leader.is_some_and(|(_, node)| status.term > asked_in || !asked.contains(&node))
    };
    let status = timeout(NEWS_MAX, news.wait_for(is_new)).await.ok()?.ok()?;
    status.leader.map(|(_, node)| node)
}

/// Waits until somebody else leads than this node. What a leader was handed that is paused
/// or cut off may never be answered by it; its successor knows what became of it, and the
/// caller sends it again.
pub(super) async fn superseded(member: &Arc<Member>, group: GroupId, leader: NodeId) {
    match member.host.watch(group) {
        Some(mut news) => {
            let term = news.borrow_and_update().term;
            let is_another = |status: &GroupStatus| {
                status.term > term && status.leader.is_some_and(|(_, node)| node != leader)
            };
            // The replica here may go meanwhile.
            if news.wait_for(is_another).await.is_err() {
                superseded_elsewhere(member, group, leader).await;
            }
        }
        None => superseded_elsewhere(member, group, leader).await,
    }
}

/// The same, by what those say who hold a replica. A wrong word costs a question more.
async fn superseded_elsewhere(member: &Arc<Member>, group: GroupId, leader: NodeId) {
    let began = member.clock.monotonic();
    let is_another = || {
        let named = member.reported_leader(group, Some(began));
        named.is_some_and(|(_, node)| node != leader)
    };
    sleep(SEEK_AFTER).await;
    loop {
        let others = nodes_with(member, group).into_iter().filter(|node| *node != leader);
        for node in others.filter(|node| member.may_seek(*node, SEEK_EVERY)) {
            // On a task of its own: of a region that is lost nobody answers, and the others
            // are not to wait for it.
            let member = member.clone();
            tokio::spawn(async move { heartbeat::ask(&member, node).await });
        }
        let again = Instant::now() + SEEK_EVERY;
        loop {
            let news = member.heard_news.notified();
            if is_another() {
                // It may be known by a refusal alone, which would count for more.
                member.forget_leader(group, leader);
                return;
            }
            if timeout_at(again, news).await.is_err() {
                break;
            }
        }
    }
}
