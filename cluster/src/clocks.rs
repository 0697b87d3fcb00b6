//! Which time leaders stamp with.
//!
//! Nodes compare their wall clocks in every heartbeat. One that is off the
//! median by more than half a second neither leads nor stamps; one that has not
//! compared with a majority lately does not begin to stamp, and one that was not
//! told yet who the others are has compared with nobody. A leader's time runs
//! on its monotonic clock from an anchor that it sets once a term, so a wall
//! clock that jumps during a term moves nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cardea_raft::NodeId;
use cardea_storage::{Clock, Timestamp};
use parking_lot::{Mutex, RwLock};

/// How far a clock may be off the median.
pub const OFFSET_MS_MAX: i64 = 500;
/// How long a comparison counts.
const COMPARISON_MAX: Duration = Duration::from_secs(10);
/// How far ahead of the leader's time a transaction's read may have been made.
pub(crate) const AHEAD_MAX: Duration = Duration::from_millis(2 * OFFSET_MS_MAX.unsigned_abs());

/// What the comparison says of this node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockVerdict {
    /// A majority was compared with, and it is near the median: milliseconds
    /// that this clock is ahead of it.
    Confirmed(i64),
    /// A majority was compared with, and it is not.
    Off(i64),
    /// Too few answered lately.
    Unconfirmed,
}

/// Clocks of the other nodes against this one's.
pub struct ClockComparison {
    clock: Arc<dyn Clock>,
    measured: Mutex<Measured>,
    /// Whether a round has ended with a majority's clocks known.
    compared: AtomicBool,
    /// What time it was when a majority agreed last.
    agreed_at: RwLock<Option<Moment>>,
}

/// A time, and the monotonic clock then.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    wall: Timestamp,
    monotonic: Duration,
}

impl Moment {
    /// What a clock shows.
    pub(crate) fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }

    fn since(self, clock: &dyn Clock) -> Timestamp {
        self.wall.after(clock.monotonic().saturating_sub(self.monotonic))
    }
}

#[derive(Default)]
struct Measured {
    /// Nodes of the cluster, this one included; `None` before that is known.
    nodes: Option<usize>,
    /// Milliseconds that each other node's clock is ahead of this one's.
    others: BTreeMap<NodeId, Offset>,
    /// What was said when a majority agreed last.
    agreed: Option<ClockVerdict>,
    /// This clock when the question was sent that was answered last: what it does
    /// later was compared with nobody yet.
    asked_at: Option<Moment>,
}

#[derive(Clone, Copy)]
struct Offset {
    /// The process that answered: another one may have another clock.
    process: u64,
    ahead_ms: i64,
    at: Duration,
}

impl ClockComparison {
    /// Nothing compared, and nobody known to compare with.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            measured: Mutex::default(),
            compared: AtomicBool::new(false),
            agreed_at: RwLock::default(),
        })
    }

    /// Says which nodes there are besides this one; if none, it is a majority.
    pub(crate) fn expect(&self, others: &[NodeId]) {
        let mut measured = self.measured.lock();
        measured.nodes = Some(others.len() + 1);
        measured.others.retain(|node, _| others.contains(node));
        if others.is_empty() {
            // Who is alone follows its own clock, and nothing that was asked once.
            measured.asked_at = None;
        }
    }

    /// A process speaks for a node: what another one said before it is void.
    pub(crate) fn met(&self, node: NodeId, process: u64) {
        let mut measured = self.measured.lock();
        if measured.others.get(&node).is_some_and(|offset| offset.process != process) {
            measured.others.remove(&node);
        }
    }

    /// Notes what a node's process said its wall clock was, to a question that was
    /// sent at `sent` by this one's. How long it was on its way is told by the
    /// monotonic clock, for the other one may jump meanwhile. What the answer's way
    /// may account for speaks for no offset.
    pub(crate) fn note(&self, (node, process): (NodeId, u64), theirs: Timestamp, sent: Moment) {
        let at = self.clock.monotonic();
        let way = at.saturating_sub(sent.monotonic).as_millis();
        let half = i64::try_from(way / 2).unwrap_or(i64::MAX);
        let middle = sent.wall.0.cast_signed().saturating_add(half);
        let apparent = theirs.0.cast_signed().saturating_sub(middle);
        let ahead_ms = apparent.signum() * apparent.saturating_abs().saturating_sub(half).max(0);
        let mut measured = self.measured.lock();
        measured.others.insert(node, Offset { process, ahead_ms, at });
        measured.asked_at = Some(sent);
    }

    /// Everybody was asked, and has answered or is silent.
    pub(crate) fn end_round(&self) {
        let (verdict, is_news) = self.judge();
        let ahead_ms = match verdict {
            ClockVerdict::Confirmed(_) => 0,
            ClockVerdict::Off(ahead_ms) => ahead_ms,
            ClockVerdict::Unconfirmed => return,
        };
        if is_news {
            let asked_at = self.measured.lock().asked_at;
            let compared = asked_at.unwrap_or_else(|| Moment::of(self.clock.as_ref()));
            let wall = Timestamp(compared.wall.0.saturating_add_signed(-ahead_ms));
            *self.agreed_at.write() = Some(Moment { wall, monotonic: compared.monotonic });
        }
        self.compared.store(true, Ordering::Release);
    }

    /// The time by the last agreement and the monotonic clock since: what this
    /// node's wall clock does meanwhile moves nothing. `None` before the first.
    pub(crate) fn agreed_now(&self) -> Option<Timestamp> {
        let agreed_at = *self.agreed_at.read();
        agreed_at.map(|moment| moment.since(self.clock.as_ref()))
    }

    /// Whether this clock was compared with a majority's since the start.
    pub fn has_compared(&self) -> bool {
        self.compared.load(Ordering::Acquire)
    }

    /// What the comparison says now.
    pub fn verdict(&self) -> ClockVerdict {
        self.judge().0
    }

    /// The verdict, and whether it is this comparison's: not what was agreed on
    /// before.
    fn judge(&self) -> (ClockVerdict, bool) {
        let now = self.clock.monotonic();
        let mut measured = self.measured.lock();
        let Some(nodes) = measured.nodes else { return (ClockVerdict::Unconfirmed, false) };
        let fresh = |offset: &&Offset| now.saturating_sub(offset.at) <= COMPARISON_MAX;
        let mut offsets: Vec<i64> =
            measured.others.values().filter(fresh).map(|offset| offset.ahead_ms).collect();
        offsets.push(0);
        if 2 * offsets.len() <= nodes {
            return (ClockVerdict::Unconfirmed, false);
        }
        // Where half the clocks stand against the other half (of three nodes one is
        // dead, and the other two differ) nobody can tell who is right: what was
        // last agreed on holds.
        let divided = is_divided(&mut offsets);
        if divided {
            match measured.agreed {
                Some(agreed) => return (agreed, false),
                None if nodes > 2 => return (ClockVerdict::Unconfirmed, false),
                None => {}
            }
        }
        // How far this clock is ahead of the median.
        let ahead = median(offsets).saturating_neg();
        let verdict = if ahead.abs() > OFFSET_MS_MAX {
            ClockVerdict::Off(ahead)
        } else {
            ClockVerdict::Confirmed(ahead)
        };
        if !divided {
            measured.agreed = Some(verdict);
        }
        (verdict, true)
    }

    /// How far each compared clock, this one's with `own`, is ahead of the median,
    /// and the process that said so; nobody's while too few were compared to know
    /// a median.
    pub(crate) fn offsets(&self, own: (NodeId, u64)) -> BTreeMap<(NodeId, u64), i64> {
        if self.verdict() == ClockVerdict::Unconfirmed {
            return BTreeMap::new();
        }
        let now = self.clock.monotonic();
        let measured = self.measured.lock();
        let mut offsets: BTreeMap<(NodeId, u64), i64> = measured
            .others
            .iter()
            .filter(|(_, offset)| now.saturating_sub(offset.at) <= COMPARISON_MAX)
            .map(|(node, offset)| ((*node, offset.process), offset.ahead_ms))
            .collect();
        offsets.insert(own, 0);
        let middle = median(offsets.values().copied().collect());
        offsets.values_mut().for_each(|offset| *offset -= middle);
        offsets
    }
}

/// Whether two halves of the clocks differ by more than is allowed. Sorts.
fn is_divided(offsets: &mut [i64]) -> bool {
    offsets.sort_unstable();
    let middle = offsets.len() / 2;
    match (offsets.get(middle.wrapping_sub(1)), offsets.get(middle)) {
        (Some(low), Some(high)) if offsets.len().is_multiple_of(2) => {
            high.saturating_sub(*low) > OFFSET_MS_MAX
        }
        _ => false,
    }
}

/// The middle; of an even number the one nearer to zero, so that of two nodes
/// neither blames itself before a third has spoken.
fn median(mut offsets: Vec<i64>) -> i64 {
    offsets.sort_unstable();
    let (low, high) = ((offsets.len().saturating_sub(1)) / 2, offsets.len() / 2);
    match (offsets.get(low), offsets.get(high)) {
        (Some(low), Some(high)) => {
            if low.abs() <= high.abs() {
                *low
            } else {
                *high
            }
        }
        _ => 0,
    }
}

/// The clock of those who work above the cluster: the time when a majority agreed
/// last on this node's clock, or on how far it is off, and the monotonic clock
/// since. Otherwise a node whose clock is wrong, or jumps between two comparisons,
/// would call sessions over that are not, and read at times that no leader stamps.
pub(crate) struct CorrectedClock {
    clock: Arc<dyn Clock>,
    comparison: Arc<ClockComparison>,
}

impl CorrectedClock {
    /// The clock, corrected by what the comparison says.
    pub(crate) fn new(clock: Arc<dyn Clock>, comparison: Arc<ClockComparison>) -> Arc<Self> {
        Arc::new(Self { clock, comparison })
    }
}

impl Clock for CorrectedClock {
    fn now(&self) -> Timestamp {
        self.comparison.agreed_now().unwrap_or_else(|| self.clock.now())
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

/// The time of one replica as a leader.
pub(crate) struct LeaderClock {
    clock: Arc<dyn Clock>,
    comparison: Arc<ClockComparison>,
    /// The term, and when this node first stamped in it.
    anchor: Mutex<Option<(u64, Moment)>>,
}

impl LeaderClock {
    pub(crate) fn new(clock: Arc<dyn Clock>, comparison: Arc<ClockComparison>) -> Self {
        Self { clock, comparison, anchor: Mutex::new(None) }
    }

    /// The leader's time in `term`, anchored when it is first asked for; the
    /// reason if this node must not stamp.
    pub(crate) fn stamp(&self, term: u64) -> Result<Timestamp, &'static str> {
        let verdict = self.comparison.verdict();
        if matches!(verdict, ClockVerdict::Off(_)) {
            return Err("the clock of the leader's node is off");
        }
        let mut anchor = self.anchor.lock();
        let held = anchor.filter(|(of, _)| *of == term);
        let (_, moment) = match held {
            Some(held) => held,
            None if verdict == ClockVerdict::Unconfirmed => {
                return Err("the clock of the leader's node is not confirmed yet");
            }
            None => {
                // Not what the wall clock shows: it may have jumped since it was
                // compared, and log time never goes back.
                let monotonic = self.clock.monotonic();
                let agreed = self.comparison.agreed_now();
                let wall = agreed.unwrap_or_else(|| self.clock.now());
                *anchor.insert((term, Moment { wall, monotonic }))
            }
        };
        Ok(moment.since(self.clock.as_ref()))
    }

    /// The time to hand out with a read index; of a node that has not stamped, what
    /// a majority agreed on. 0, so that log time alone counts, before it did.
    pub(crate) fn now(&self) -> Timestamp {
        match *self.anchor.lock() {
            Some((_, moment)) => moment.since(self.clock.as_ref()),
            None => self.comparison.agreed_now().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use cardea_storage::ManualClock;

    use super::*;

    const OWN: (NodeId, u64) = (NodeId(1), 1);

    fn three(ahead: [i64; 2]) -> (Arc<ManualClock>, Arc<ClockComparison>) {
        let clock = Arc::new(ManualClock::new(Timestamp(9_000_000)));
        let comparison = ClockComparison::new(clock.clone());
        comparison.expect(&[NodeId(2), NodeId(3)]);
        for (node, ahead) in (2..).map(NodeId).zip(ahead) {
            let theirs = Timestamp((9_000_000 + ahead).cast_unsigned());
            comparison.note((node, 1), theirs, Moment::of(clock.as_ref()));
        }
        comparison.end_round();
        (clock, comparison)
    }

    #[test]
    fn a_clock_near_the_median_is_confirmed() {
        assert_eq!(three([400, -300]).1.verdict(), ClockVerdict::Confirmed(0));
        assert_eq!(three([400, 300]).1.verdict(), ClockVerdict::Confirmed(-300));
    }

    #[test]
    fn who_is_off_the_median_is_told_so_and_the_others_are_not() {
        assert_eq!(three([-2_000, -2_010]).1.verdict(), ClockVerdict::Off(2_000));
        assert_eq!(three([10, 90_000]).1.verdict(), ClockVerdict::Confirmed(-10));
    }

    #[test]
    fn a_clock_that_is_off_is_set_right_for_those_above() {
        let (clock, comparison) = three([-3_600_000, -3_600_010]);
        let corrected = CorrectedClock::new(clock.clone(), comparison);
        assert_eq!(corrected.now(), Timestamp(9_000_000 - 3_600_000));
        let (clock, comparison) = three([200, -100]);
        assert_eq!(CorrectedClock::new(clock.clone(), comparison).now(), clock.now());
    }

    #[test]
    fn a_clock_that_jumps_between_two_comparisons_moves_nothing_above() {
        let (clock, comparison) = three([0, 0]);
        let corrected = CorrectedClock::new(clock.clone(), comparison.clone());
        let leader = LeaderClock::new(clock.clone(), comparison.clone());
        clock.jump(Timestamp(9_000_000 + 3_600_000));
        clock.advance(Duration::from_secs(1));
        assert_eq!(corrected.now(), Timestamp(9_001_000));
        assert_eq!(leader.now(), Timestamp(9_001_000));
        // The next comparison finds it off, and corrects it.
        for node in [2, 3].map(NodeId) {
            comparison.note((node, 1), Timestamp(9_001_000), Moment::of(clock.as_ref()));
        }
        comparison.end_round();
        assert_eq!(comparison.verdict(), ClockVerdict::Off(3_600_000));
        clock.advance(Duration::from_secs(1));
        assert_eq!(corrected.now(), Timestamp(9_002_000));
        assert!(leader.stamp(1).is_err());
    }

    #[test]
    fn what_was_agreed_on_holds_while_two_clocks_that_differ_are_left() {
        for (ahead, wanted) in [
            ([-3_600_000, -3_600_000], ClockVerdict::Off(3_600_000)),
            ([3_600_000, 0], ClockVerdict::Confirmed(0)),
        ] {
            let (clock, comparison) = three(ahead);
            assert_eq!(comparison.verdict(), wanted);
            // Node 3 dies; node 2 goes on.
            clock.advance(COMPARISON_MAX + Duration::from_millis(1));
            let at = clock.now().0.saturating_add_signed(ahead[0]);
            comparison.note((NodeId(2), 1), Timestamp(at), Moment::of(clock.as_ref()));
            assert_eq!(comparison.verdict(), wanted);
        }
    }

    #[test]
    fn a_slow_answer_speaks_for_no_offset() {
        let (clock, comparison) = three([0, 0]);
        let sent = Moment::of(clock.as_ref());
        clock.advance(Duration::from_secs(2));
        for node in [2, 3].map(NodeId) {
            comparison.note((node, 1), Timestamp(9_000_010), sent);
        }
        assert_eq!(comparison.verdict(), ClockVerdict::Confirmed(0));
        for node in [2, 3].map(NodeId) {
            comparison.note((node, 1), Timestamp(9_010_000), sent);
        }
        assert_eq!(comparison.verdict(), ClockVerdict::Off(-8_000));
    }

    #[test]
    fn a_minority_confirms_nothing_and_old_comparisons_do_not_count() {
        let (clock, comparison) = three([0, 0]);
        clock.advance(COMPARISON_MAX + Duration::from_millis(1));
        assert_eq!(comparison.verdict(), ClockVerdict::Unconfirmed);
        let alone = ClockComparison::new(clock);
        alone.expect(&[]);
        assert_eq!(alone.verdict(), ClockVerdict::Confirmed(0));
    }

    #[test]
    fn a_node_that_was_not_told_who_the_others_are_has_confirmed_nothing() {
        let clock = Arc::new(ManualClock::new(Timestamp(9_000_000)));
        let comparison = ClockComparison::new(clock.clone());
        assert_eq!(comparison.verdict(), ClockVerdict::Unconfirmed);
        assert_eq!(comparison.offsets(OWN), BTreeMap::new());
        comparison.end_round();
        assert!(!comparison.has_compared());
        assert_eq!(comparison.agreed_now(), None);
        assert!(LeaderClock::new(clock.clone(), comparison.clone()).stamp(1).is_err());
        // Told, but nobody has answered yet.
        comparison.expect(&[NodeId(2), NodeId(3)]);
        assert_eq!(comparison.verdict(), ClockVerdict::Unconfirmed);
        assert_eq!(comparison.offsets(OWN), BTreeMap::new());
        comparison.note((NodeId(2), 1), clock.now(), Moment::of(clock.as_ref()));
        assert_eq!(comparison.verdict(), ClockVerdict::Confirmed(0));
        assert_eq!(comparison.offsets(OWN)[&(NodeId(2), 1)], 0);
        comparison.end_round();
        assert!(comparison.has_compared());
    }

    #[test]
    fn what_a_node_said_before_it_restarted_is_void() {
        let (clock, comparison) = three([0, 0]);
        comparison.met(NodeId(3), 1);
        assert_eq!(comparison.offsets(OWN)[&(NodeId(3), 1)], 0);
        comparison.met(NodeId(3), 2);
        assert_eq!(
            comparison.offsets(OWN).keys().filter(|(node, _)| *node == NodeId(3)).count(),
            0
        );
        let theirs = clock.now().after(Duration::from_secs(3_600));
        comparison.note((NodeId(3), 2), theirs, Moment::of(clock.as_ref()));
        assert_eq!(comparison.offsets(OWN)[&(NodeId(3), 2)], 3_600_000);
    }

    #[test]
    fn a_leaders_time_does_not_follow_a_wall_clock_that_jumps() {
        let (clock, comparison) = three([0, 0]);
        let leader = LeaderClock::new(clock.clone(), comparison);
        let first = leader.stamp(1).unwrap();
        clock.jump(Timestamp(5));
        clock.advance(Duration::from_secs(1));
        assert_eq!(leader.stamp(1).unwrap(), first.after(Duration::from_secs(1)));
        assert_eq!(leader.stamp(2).unwrap(), first.after(Duration::from_secs(1)));
    }

    /// It would put the log of a shard an hour ahead for good, and other shards
    /// would refuse for an hour what was read there.
    #[test]
    fn a_leader_whose_clock_jumped_after_it_was_compared_begins_no_term_with_it() {
        for jump in [9_000_000 + 3_600_000, 5] {
            let (clock, comparison) = three([0, 0]);
            let leader = LeaderClock::new(clock.clone(), comparison.clone());
            clock.jump(Timestamp(jump));
            clock.advance(Duration::from_secs(1));
            assert_eq!(leader.stamp(1).unwrap(), Timestamp(9_001_000));
        }
    }

    #[test]
    fn a_clock_that_jumps_while_it_is_compared_was_not_compared() {
        let (clock, comparison) = three([0, 0]);
        let sent = Moment::of(clock.as_ref());
        clock.advance(Duration::from_millis(10));
        comparison.note((NodeId(2), 1), Timestamp(9_000_005), sent);
        clock.jump(Timestamp(9_000_000 + 3_600_000));
        comparison.note((NodeId(3), 1), Timestamp(9_000_005), sent);
        comparison.end_round();
        assert_eq!(comparison.agreed_now(), Some(Timestamp(9_000_010)));
        assert_eq!(LeaderClock::new(clock, comparison).stamp(1).unwrap(), Timestamp(9_000_010));
    }

    #[test]
    fn a_node_that_is_off_does_not_stamp() {
        let (clock, comparison) = three([-2_000, -2_010]);
        assert!(LeaderClock::new(clock, comparison).stamp(1).is_err());
    }

    #[test]
    fn an_unconfirmed_node_does_not_begin_to_stamp_but_goes_on() {
        let (clock, comparison) = three([0, 0]);
        let leader = LeaderClock::new(clock.clone(), comparison);
        leader.stamp(1).unwrap();
        clock.advance(COMPARISON_MAX + Duration::from_millis(1));
        assert!(leader.stamp(1).is_ok());
        assert!(leader.stamp(2).is_err());
    }
}
