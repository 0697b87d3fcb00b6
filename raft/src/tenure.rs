//! How long a leader leads, for its streams.
//!
//! openraft's replication takes what comes next from where the log ends now, and looks
//! whether another leader has taken over only when it has read it. A log that a successor
//! is rewriting may end, under a higher term, before the position that the stream has
//! come to: a range that is reversed, which openraft drops in a release and asserts to be
//! impossible elsewhere. So a stream here ends as soon as its replica has voted for
//! somebody else; openraft ends that replication where it would open the next one.
//!
//! What a leader tells of its commits is noted, too: others may have applied that before
//! it, whose own disk may be the slower one, and [reads](crate::read) must not go back.

use std::task::Poll;

use cardea_storage::planted::{self, Bug};
use futures::{Stream, StreamExt, stream};
use openraft::raft::AppendEntriesRequest;

use crate::{
    log::Glance,
    types::{LeaderId, TypeConfig},
};

/// The time from a leader's election to the next vote of its replica.
#[derive(Clone)]
pub(crate) struct Tenure {
    log: Glance,
    leader: Option<LeaderId>,
}

impl Tenure {
    /// That of the leader whom the replica voted for last: itself, where openraft makes
    /// clients for replication.
    pub(crate) fn of(log: &Glance) -> Self {
        Self { log: log.clone(), leader: leader(log) }
    }

    /// Who leads.
    pub(crate) fn leader(&self) -> Option<LeaderId> {
        self.leader
    }

    /// What `input` yields, until the tenure is over, each noted as told.
    pub(crate) fn appends<S>(
        &self,
        input: S,
    ) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin + use<S>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
    {
        let log = self.log.clone();
        self.bound(input).inspect(move |request| note_told(&log, request))
    }

    /// Notes what a single append tells.
    pub(crate) fn tells(&self, request: &AppendEntriesRequest<TypeConfig>) {
        note_told(&self.log, request);
    }

    fn lasts(&self) -> bool {
        leader(&self.log) == self.leader || planted::is(Bug::StragglersHeard)
    }

    /// What `input` yields, until the tenure is over.
    fn bound<S: Stream + Unpin>(
        &self,
        mut input: S,
    ) -> impl Stream<Item = S::Item> + Unpin + use<S> {
        let tenure = self.clone();
        stream::poll_fn(move |cx| match tenure.lasts() {
            true => input.poll_next_unpin(cx),
            false => Poll::Ready(None),
        })
    }
}

/// Notes what an append is about to tell another replica.
fn note_told(log: &Glance, request: &AppendEntriesRequest<TypeConfig>) {
    if let Some(committed) = &request.leader_commit {
        log.tell_committed(committed.index);
    }
}

fn leader(log: &Glance) -> Option<LeaderId> {
    log.vote().map(|vote| vote.leader_id)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use cardea_storage::engine::{Disk, memory::MemoryDisk};
    use openraft::storage::RaftLogStorage;

    use super::*;
    use crate::{
        alarm::Alarm,
        ids::{GroupId, ReplicaId},
        log::{Log, LogSettings},
        types::Vote,
    };

    const SELF: ReplicaId = ReplicaId(1);
    const OTHER: ReplicaId = ReplicaId(2);

    #[tokio::test]
    async fn a_stream_ends_with_the_next_vote_and_does_not_go_on_in_a_later_term() {
        let disk = MemoryDisk::new(7);
        let at = Path::new("/node/log");
        disk.create_directory(at).unwrap();
        let log = Log::open(&disk, at, LogSettings::default(), Arc::new(Alarm::new())).unwrap();
        let mut store = log.group(GroupId(3), SELF).unwrap();

        store.save_vote(&Vote::new(1, SELF)).await.unwrap();
        let first = Tenure::of(&store.glance());
        let mut taken = first.bound(stream::repeat(1));
        assert_eq!(taken.next().await, Some(1));
        store.save_vote(&Vote::new_committed(1, SELF)).await.unwrap();
        assert_eq!(taken.next().await, Some(1));

        store.save_vote(&Vote::new(2, OTHER)).await.unwrap();
        assert_eq!(taken.next().await, None);

        store.save_vote(&Vote::new(3, SELF)).await.unwrap();
        assert_eq!(taken.next().await, None);
        let mut again = Tenure::of(&store.glance()).bound(stream::repeat(3));
        assert_eq!(again.next().await, Some(3));
    }
}
