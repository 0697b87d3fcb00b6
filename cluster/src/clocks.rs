//! Which time leaders stamp with.
//!
//! Nodes compare their wall clocks in every heartbeat. One that is off the
//! median by more than half a second neither leads nor stamps; one that has not
//! compared with a majority lately does not begin to stamp, and one that was not
//! told yet who the others are has compared with nobody.
//!
//! What the others said is kept against this node's monotonic clock, and its wall
//! clock is held against that at the moment of each verdict: a wall clock that
//! jumps between two comparisons, or while an answer is on its way, is off at once.
//! A leader's time runs on its monotonic clock from an anchor that it sets once a
//! term, at the time that a majority agreed on; no wall clock that jumps moves it. Where
//! that leaves it behind what a majority agrees on now, it is anchored there: a monotonic
//! clock may stand while a machine sleeps, and all clocks may have been set.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cardea_raft::NodeId;
use cardea_storage::{
    Clock, Timestamp,
    planted::{self, Bug},
};
use parking_lot::{Mutex, RwLock};

/// How far a clock may be off the median.
pub const OFFSET_MS_MAX: i64 = 500;
/// How long a comparison counts.
const COMPARISON_MAX: Duration = Duration::from_secs(10);
/// How far ahead of the leader's time a transaction's read may have been made.
pub(crate) const AHEAD_MAX: Duration = Duration::from_millis(2 * OFFSET_MS_MAX.unsigned_abs());

/// How far a leader's time may fall behind what a majority agrees on: less than what reads may
/// be ahead of it.
const BEHIND_MAX: Duration = Duration::from_millis(OFFSET_MS_MAX.unsigned_abs());

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
struct Moment {
    wall: Timestamp,
    monotonic: Duration,
}

impl Moment {
    fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }

    fn since(self, clock: &dyn Clock) -> Timestamp {
        self.wall.after(clock.monotonic().saturating_sub(self.monotonic))
    }

    /// Milliseconds that the time is ahead of the monotonic clock.
    fn lead_ms(self) -> i64 {
        let monotonic_ms = i64::try_from(self.monotonic.as_millis()).unwrap_or(i64::MAX);
        self.wall.0.cast_signed().saturating_sub(monotonic_ms)
    }
}

#[derive(Default)]
struct Measured {
    /// Nodes of the cluster, this one included; `None` before that is known.
    nodes: Option<usize>,
    /// What each other node's clock showed.
    others: BTreeMap<NodeId, Offset>,
    /// What was said when a majority agreed last.
    agreed: Option<ClockVerdict>,
}

#[derive(Clone, Copy)]
struct Offset {
    /// The process that answered: another one may have another clock.
    process: u64,
    /// Milliseconds that its wall clock is ahead of this node's monotonic clock.
    lead_ms: i64,
    /// How far that may be wrong: half of the time that the answer took.
    doubt_ms: i64,
    at: Duration,
    /// This node's clocks then.
    then: Moment,
}

impl Offset {
    /// Milliseconds that it is certainly ahead of this node's wall clock, as that
    /// is now.
    fn ahead_ms(&self, own: Moment) -> i64 {
        let own = if planted::is(Bug::JumpUnseen) { self.then } else { own };
        let apparent = self.lead_ms.saturating_sub(own.lead_ms());
        apparent.signum() * apparent.saturating_abs().saturating_sub(self.doubt_ms).max(0)
    }
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
    }

    /// A process speaks for a node: what another one said before it is void.
    pub(crate) fn met(&self, node: NodeId, process: u64) {
        let mut measured = self.measured.lock();
        if measured.others.get(&node).is_some_and(|offset| offset.process != process) {
            measured.others.remove(&node);
        }
    }

    /// Notes what a node's process answered just now that its wall clock was, to a
    /// question `sent` at that time of the monotonic clock. What the answer's way
    /// may account for speaks for no offset.
    pub(crate) fn note(&self, (node, process): (NodeId, u64), theirs: Timestamp, sent: Duration) {
        let then = Moment::now(self.clock.as_ref());
        let at = then.monotonic;
        let doubt = at.saturating_sub(sent) / 2;
        let lead_ms = Moment { wall: theirs, monotonic: sent + doubt }.lead_ms();
        let doubt_ms = i64::try_from(doubt.as_millis()).unwrap_or(i64::MAX);
        self.measured.lock().others.insert(node, Offset { process, lead_ms, doubt_ms, at, then });
    }

    /// Everybody was asked, and has answered or is silent.
    pub(crate) fn end_round(&self) {
        let own = Moment::now(self.clock.as_ref());
        let (verdict, is_news) = self.judge(own);
        let ahead_ms = match verdict {
            ClockVerdict::Confirmed(_) => 0,
            ClockVerdict::Off(ahead_ms) => ahead_ms,
            ClockVerdict::Unconfirmed => return,
        };
        if is_news {
            let wall = Timestamp(own.wall.0.saturating_add_signed(-ahead_ms));
            *self.agreed_at.write() = Some(Moment { wall, ..own });
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
        self.judge(Moment::now(self.clock.as_ref())).0
    }

    /// The verdict, and whether it is this comparison's: not what was agreed on
    /// before.
    fn judge(&self, own: Moment) -> (ClockVerdict, bool) {
        let now = own.monotonic;
        let mut measured = self.measured.lock();
        let Some(nodes) = measured.nodes else { return (ClockVerdict::Unconfirmed, false) };
        let fresh = |offset: &&Offset| now.saturating_sub(offset.at) <= COMPARISON_MAX;
        let mut offsets: Vec<i64> =
            measured.others.values().filter(fresh).map(|offset| offset.ahead_ms(own)).collect();
        offsets.push(0);
        if 2 * offsets.len() <= nodes {
            return (ClockVerdict::Unconfirmed, false);
        }
        // Where no majority of all nodes stands together (of three one is dead, and the
        // other two differ; of five two are dead, and two of the others wrong) nobody can
        // tell who is right: what was last agreed on holds.
        let divided = is_divided(&offsets, nodes);
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
        let here = Moment::now(self.clock.as_ref());
        let measured = self.measured.lock();
        let mut offsets: BTreeMap<(NodeId, u64), i64> = measured
            .others
            .iter()
            .filter(|(_, offset)| here.monotonic.saturating_sub(offset.at) <= COMPARISON_MAX)
            .map(|(node, offset)| ((*node, offset.process), offset.ahead_ms(here)))
            .collect();
        offsets.insert(own, 0);
        let middle = median(offsets.values().copied().collect());
        offsets.values_mut().for_each(|offset| *offset -= middle);
        offsets
    }
}

/// Whether no majority of all nodes, silent ones included, is near the median.
fn is_divided(offsets: &[i64], nodes: usize) -> bool {
    let middle = median(offsets.to_vec());
    let is_near = |offset: &&i64| offset.saturating_sub(middle).saturating_abs() <= OFFSET_MS_MAX;
    2 * offsets.iter().filter(is_near).count() <= nodes
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
    /// The term, and a time in it.
    anchor: Mutex<Option<(u64, Moment)>>,
}

impl LeaderClock {
    pub(crate) fn new(clock: Arc<dyn Clock>, comparison: Arc<ClockComparison>) -> Self {
        Self { clock, comparison, anchor: Mutex::new(None) }
    }

    /// The leader's time in `term`, anchored when it is first asked for, or has fallen
    /// behind; the reason if this node must not stamp.
    pub(crate) fn stamp(&self, term: u64) -> Result<Timestamp, &'static str> {
        let verdict = self.comparison.verdict();
        if matches!(verdict, ClockVerdict::Off(_)) {
            return Err("the clock of the leader's node is off");
        }
        let agreed = self.comparison.agreed_now().filter(|_| verdict != ClockVerdict::Unconfirmed);
        let mut anchor = self.anchor.lock();
        let now = anchor.filter(|(of, _)| *of == term).map(|(_, at)| at.since(self.clock.as_ref()));
        match (now, agreed) {
            (Some(now), None) => Ok(now),
            (Some(now), Some(agreed)) if agreed.since(now) <= BEHIND_MAX => Ok(now),
            (_, Some(wall)) => {
                let wall = if planted::is(Bug::JumpUnseen) { self.clock.now() } else { wall };
                *anchor = Some((term, Moment { wall, monotonic: self.clock.monotonic() }));
                Ok(wall)
            }
            (None, None) => Err("the clock of the leader's node is not confirmed yet"),
        }
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
            comparison.note((node, 1), theirs, clock.monotonic());
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
            comparison.note((node, 1), Timestamp(9_001_000), clock.monotonic());
        }
        comparison.end_round();
        assert_eq!(comparison.verdict(), ClockVerdict::Off(3_600_000));
        clock.advance(Duration::from_secs(1));
        assert_eq!(corrected.now(), Timestamp(9_002_000));
        assert!(leader.stamp(1).is_err());
    }

    /// Found by simulation: two nodes of five were silent, and of the three that were
    /// compared the clocks of two were wrong, so that the middle one was a wrong one.
    #[test]
    fn two_wrong_clocks_of_five_confirm_none_between_them() {
        let clock = Arc::new(ManualClock::new(Timestamp(9_000_000)));
        let comparison = ClockComparison::new(clock.clone());
        comparison.expect(&[2, 3, 4, 5].map(NodeId));
        let leader = LeaderClock::new(clock.clone(), comparison.clone());
        let note = |node: u64, theirs: u64| {
            comparison.note((NodeId(node), 1), Timestamp(theirs), clock.monotonic());
            comparison.end_round();
        };
        note(2, 9_000_000 - 1_200_000);
        note(3, 9_000_000 + 600_000);
        assert_eq!(comparison.verdict(), ClockVerdict::Unconfirmed);
        assert!(!comparison.has_compared());
        assert!(leader.stamp(1).is_err());
        note(4, 9_000_000 - 1_200_000);
        assert_eq!(comparison.verdict(), ClockVerdict::Unconfirmed);
        note(5, 9_000_000 - 1_200_000);
        assert_eq!(comparison.verdict(), ClockVerdict::Off(1_200_000));
        assert!(leader.stamp(1).is_err());
        // Of five again two silent: three that agree are a majority.
        comparison.expect(&[3, 6, 7, 8].map(NodeId));
        note(6, 9_000_000 + 100);
        assert_eq!(comparison.verdict(), ClockVerdict::Off(1_200_000));
        note(7, 9_000_000 - 100);
        assert_eq!(comparison.verdict(), ClockVerdict::Confirmed(0));
        assert!(leader.stamp(1).is_ok());
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
            let theirs = Timestamp(clock.now().0.saturating_add_signed(ahead[0]));
            comparison.note((NodeId(2), 1), theirs, clock.monotonic());
            assert_eq!(comparison.verdict(), wanted);
        }
    }

    #[test]
    fn a_slow_answer_speaks_for_no_offset() {
        for (theirs, verdict) in
            [(9_000_010, ClockVerdict::Confirmed(0)), (9_010_000, ClockVerdict::Off(-8_000))]
        {
            let (clock, comparison) = three([0, 0]);
            let sent = clock.monotonic();
            clock.advance(Duration::from_secs(2));
            for node in [2, 3].map(NodeId) {
                comparison.note((node, 1), Timestamp(theirs), sent);
            }
            assert_eq!(comparison.verdict(), verdict);
        }
    }

    #[test]
    fn a_clock_that_jumps_while_an_answer_is_on_its_way_is_off() {
        let (clock, comparison) = three([0, 0]);
        let (sent, hour) = (clock.monotonic(), Duration::from_secs(3_600));
        clock.advance(Duration::from_millis(2));
        // Node 2 answers before the jump, node 3 after it; then the round ends.
        comparison.note((NodeId(2), 1), Timestamp(9_000_001), sent);
        clock.jump(Timestamp(9_000_002).after(hour));
        clock.advance(Duration::from_millis(2));
        comparison.note((NodeId(3), 1), Timestamp(9_000_002), sent);
        comparison.end_round();
        // To the two milliseconds that the answers' ways leave in doubt.
        assert_eq!(comparison.verdict(), ClockVerdict::Off(3_599_998));
        assert_eq!(comparison.agreed_now(), Some(Timestamp(9_000_006)));
    }

    #[test]
    fn a_new_term_is_anchored_at_what_was_agreed_on_not_at_a_clock_that_jumped() {
        let (clock, comparison) = three([0, 0]);
        let leader = LeaderClock::new(clock.clone(), comparison);
        clock.advance(Duration::from_secs(1));
        clock.jump(clock.now().after(Duration::from_millis(400)));
        assert_eq!(leader.stamp(1).unwrap(), Timestamp(9_001_000));
        clock.jump(clock.now().after(Duration::from_secs(3_600)));
        assert!(leader.stamp(2).is_err());
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
        comparison.note((NodeId(2), 1), clock.now(), clock.monotonic());
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
        comparison.note((NodeId(3), 2), theirs, clock.monotonic());
        assert_eq!(comparison.offsets(OWN)[&(NodeId(3), 2)], 3_600_000);
    }

    #[test]
    fn a_leaders_time_does_not_follow_a_wall_clock_that_jumps() {
        let (clock, comparison) = three([0, 0]);
        let leader = LeaderClock::new(clock.clone(), comparison);
        let first = leader.stamp(1).unwrap();
        clock.jump(first.after(Duration::from_millis(400)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(leader.stamp(1).unwrap(), first.after(Duration::from_secs(1)));
        assert_eq!(leader.stamp(2).unwrap(), first.after(Duration::from_secs(1)));
    }

    /// A machine had slept, or its clock was set soon after it started: the time of its leaders
    /// stayed behind for as long as they led, and whatever was to be written was refused, for
    /// it was read ahead of them.
    #[test]
    fn a_leader_that_falls_behind_what_a_majority_agrees_on_goes_on_from_there() {
        let clock = Arc::new(ManualClock::new(Timestamp(9_000_000)));
        let alone = ClockComparison::new(clock.clone());
        alone.expect(&[]);
        alone.end_round();
        let leader = LeaderClock::new(clock.clone(), alone.clone());
        assert_eq!(leader.stamp(1).unwrap(), Timestamp(9_000_000));
        let later = clock.now().after(Duration::from_secs(8 * 3_600));
        clock.jump(later);
        alone.end_round();
        assert_eq!(leader.stamp(1).unwrap(), later);
        assert_eq!(leader.now(), later);
        // It never goes back.
        clock.jump(Timestamp(9_000_000));
        alone.end_round();
        assert_eq!(leader.stamp(1).unwrap(), later);

        // Of three, one that slept alone is off.
        let (clock, comparison) = three([0, 0]);
        let leader = LeaderClock::new(clock.clone(), comparison.clone());
        leader.stamp(1).unwrap();
        clock.jump(later);
        comparison.end_round();
        assert!(leader.stamp(1).is_err());
        for node in [2, 3].map(NodeId) {
            comparison.note((node, 1), later, clock.monotonic());
        }
        comparison.end_round();
        assert_eq!(leader.stamp(1).unwrap(), later);
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
