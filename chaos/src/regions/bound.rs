//! What distances and the disk ask for at least, with a leader that three nodes follow
//! and without leases: no operation of this design can take less.
//!
//! - A *linearizable read* needs the leader and a quorum: a follower asks the leader and
//!   is itself the other voter, a leader asks its nearest follower.
//! - A *write* goes to the leader, from there to the nearest follower and back, and is on
//!   the disks of both, which write at the same time.
//! - A *read here* needs nobody.
//!
//! What computes (a password's hash, before all) is not in it.

use std::time::Duration;

use super::operation::Operation;

/// Round trips between regions; `None` where nothing arrives.
#[derive(Debug, Clone)]
pub struct Distances(Vec<Vec<Option<Duration>>>);

/// What an operation asks for, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trips {
    /// Linearizable reads.
    pub reads: u32,
    /// Writes.
    pub writes: u32,
}

impl Operation {
    /// What its promise asks for.
    pub fn trips(self) -> Trips {
        let (reads, writes) = match self {
            // A flow; then who is meant, the attempt counted, and the session.
            Operation::Login => (1, 3),
            // A flow; then the address, which nobody else may get, and the identity.
            Operation::Registration => (0, 3),
            Operation::SessionStrong | Operation::CheckLatest => (1, 0),
            Operation::SessionBounded | Operation::SessionSnaptoken | Operation::CheckLocal => {
                (0, 0)
            }
            Operation::Revocation | Operation::TupleWrite => (0, 1),
        };
        Trips { reads, writes }
    }
}

impl Distances {
    /// Of so many regions.
    pub fn new(regions: usize, between: impl Fn(usize, usize) -> Option<Duration>) -> Self {
        let row = |from| (0..regions).map(|to| between(from, to)).collect();
        Self((0..regions).map(row).collect())
    }

    fn between(&self, from: usize, to: usize) -> Option<Duration> {
        self.0.get(from)?.get(to).copied().flatten()
    }

    /// From the leader to its nearest follower and back.
    fn quorum(&self, leader: usize) -> Option<Duration> {
        let others = (0..self.0.len()).filter(|region| *region != leader);
        others.filter_map(|region| self.between(leader, region)).min()
    }

    fn read(&self, from: usize, leader: usize) -> Option<Duration> {
        if from == leader { self.quorum(leader) } else { self.between(from, leader) }
    }

    fn write(&self, from: usize, leader: usize, sync: Duration) -> Option<Duration> {
        let there = if from == leader { Duration::ZERO } else { self.between(from, leader)? };
        Some(there + self.quorum(leader)? + sync)
    }

    /// The least that an operation of a client in a region takes, who asks the node
    /// there; `None`: it cannot be done.
    pub fn bound(
        &self,
        operation: Operation,
        from: usize,
        leader: usize,
        sync: Duration,
    ) -> Option<Duration> {
        let Trips { reads, writes } = operation.trips();
        // From the client to the node of its region and back.
        let mut bound = self.between(from, from)?;
        if reads > 0 {
            bound += self.read(from, leader)? * reads;
        }
        if writes > 0 {
            bound += self.write(from, leader, sync)? * writes;
        }
        Some(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn three(cut: Option<usize>) -> Distances {
        let apart = [[0, 62, 75], [62, 0, 130], [75, 130, 0]];
        Distances::new(3, |from, to| {
            let is_cut = from != to && [Some(from), Some(to)].contains(&cut);
            (!is_cut).then_some(MS * apart[from][to])
        })
    }

    #[test]
    fn a_follower_reads_in_a_trip_to_the_leader_and_a_leader_in_one_to_the_nearest() {
        let bound = |from, leader| three(None).bound(Operation::SessionStrong, from, leader, MS);
        assert_eq!(bound(0, 0), Some(62 * MS));
        assert_eq!(bound(2, 2), Some(75 * MS));
        assert_eq!(bound(2, 1), Some(130 * MS));
        let local = three(None).bound(Operation::SessionBounded, 2, 1, MS);
        assert_eq!(local, Some(Duration::ZERO));
    }

    #[test]
    fn a_write_goes_to_the_leader_and_from_there_to_the_nearest() {
        let bound = |from, leader| three(None).bound(Operation::TupleWrite, from, leader, 3 * MS);
        assert_eq!(bound(0, 0), Some(65 * MS));
        assert_eq!(bound(2, 1), Some((130 + 62 + 3) * MS));
        let login = three(None).bound(Operation::Login, 1, 0, 3 * MS);
        assert_eq!(login, Some((62 + 3 * (62 + 62 + 3)) * MS));
    }

    #[test]
    fn what_is_cut_off_reads_here_alone() {
        let far = three(Some(2));
        assert_eq!(far.bound(Operation::SessionStrong, 2, 0, MS), None);
        assert_eq!(far.bound(Operation::TupleWrite, 2, 0, MS), None);
        assert_eq!(far.bound(Operation::CheckLocal, 2, 0, MS), Some(Duration::ZERO));
        assert_eq!(far.bound(Operation::TupleWrite, 1, 0, MS), Some(125 * MS));
    }
}
