//! News of who leads: told when leader, role, term or membership change.
//!
//! openraft tells a change in two parts: first the server's metrics, which change seldom
//! and so wake nobody needlessly, then the whole, in which all the rest is. Who is woken
//! by the first and reads the second at once may read it from before the change, and hears
//! of no other: its node would refuse what it leads, and the group would seem to have
//! nobody.

use openraft::{
    async_runtime::{Watch, WatchReceiver},
    metrics::RaftServerMetrics,
};

use crate::{status::Metrics, types::TypeConfig};

type ServerMetrics = RaftServerMetrics<TypeConfig>;

/// Calls `tell` after each change with metrics that have it, until the replica ends or
/// `tell` answers that nobody listens any more.
pub(crate) async fn follow<W: Watch>(
    mut server: impl WatchReceiver<W, ServerMetrics>,
    mut whole: impl WatchReceiver<W, Metrics>,
    mut tell: impl FnMut(&Metrics) -> bool,
) {
    while server.changed().await.is_ok() {
        while !has(&whole.borrow_watched(), &server.borrow_watched()) {
            if whole.changed().await.is_err() {
                return;
            }
        }
        if !tell(&whole.borrow_watched()) {
            return;
        }
    }
}

/// Whether the whole is as new as the server's part.
fn has(whole: &Metrics, server: &ServerMetrics) -> bool {
    whole.state == server.state
        && whole.vote == server.vote
        && whole.current_leader == server.current_leader
        && whole.membership_config == server.membership_config
        && whole.committed_membership_config == server.committed_membership_config
}

#[cfg(test)]
mod tests {
    use openraft::{ServerState, async_runtime::WatchSender, type_config::TypeConfigExt};
    use tokio::{sync::mpsc, task::yield_now};

    use super::*;
    use crate::ids::ReplicaId;

    const REPLICA: ReplicaId = ReplicaId(1);

    fn server_of(whole: &Metrics) -> ServerMetrics {
        RaftServerMetrics {
            id: whole.id,
            vote: whole.vote,
            state: whole.state,
            current_leader: whole.current_leader,
            membership_config: whole.membership_config.clone(),
            committed_membership_config: whole.committed_membership_config.clone(),
        }
    }

    /// Found on real processes: a leader that was elected while its machine was busy was
    /// never told so, and for a minute, until the run was given up, its group had none.
    #[tokio::test]
    async fn who_looks_between_the_two_parts_of_a_change_still_hears_of_it() {
        let before = Metrics::new_initial(REPLICA);
        let mut after = before.clone();
        after.state = ServerState::Leader;
        after.current_leader = Some(REPLICA);
        let (server_sender, server) = TypeConfig::watch_channel(server_of(&before));
        let (whole_sender, whole) = TypeConfig::watch_channel(before);
        let (told, mut heard) = mpsc::unbounded_channel();
        tokio::spawn(follow(server, whole, move |whole| told.send(whole.state).is_ok()));

        server_sender.send(server_of(&after)).unwrap();
        // The other task runs now, and sees the first part alone.
        yield_now().await;
        whole_sender.send(after).unwrap();
        assert_eq!(heard.recv().await, Some(ServerState::Leader));

        drop((server_sender, whole_sender));
        assert_eq!(heard.recv().await, None, "it ends with the replica");
    }
}
