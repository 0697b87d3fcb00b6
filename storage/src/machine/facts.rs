//! What readers may know of a tablet without asking its engine: the state row, and
//! whether there is any lock.
//!
//! Facts belong to one instant, and so do the rows of a view; they must be of the
//! same one. So apply says when it begins to write and when it has, and whoever took
//! the facts and then read, or took a snapshot, asks afterwards whether they still
//! stood all the while. If not, he reads the state row through a snapshot.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::RwLock;

use super::state::State;

/// What is known of a tablet at one instant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Facts {
    /// The state row.
    pub(super) state: State,
    /// Whether there is no lock; `None` if nobody looked.
    pub(super) unlocked: Option<bool>,
    /// The turn in which this was so: even, for odd turns are those of writing.
    turn: u64,
}

impl Facts {
    /// Facts read from a view that nobody else shares.
    pub(super) fn of_view(state: State) -> Arc<Self> {
        Arc::new(Self { state, unlocked: None, turn: 0 })
    }
}

/// The newest facts of a tablet.
pub(super) struct Board {
    turn: AtomicU64,
    facts: RwLock<Arc<Facts>>,
}

impl Board {
    /// A board that shows these facts.
    pub(super) fn new(state: State, unlocked: bool) -> Self {
        let facts = Facts { state, unlocked: Some(unlocked), turn: 0 };
        Self { turn: AtomicU64::new(0), facts: RwLock::new(Arc::new(facts)) }
    }

    /// The facts as of the last batch, which the rows may be ahead of.
    pub(super) fn last(&self) -> Arc<Facts> {
        self.facts.read().clone()
    }

    /// The facts, if nothing is being written.
    pub(super) fn now(&self) -> Option<Arc<Facts>> {
        let facts = self.last();
        self.stand(&facts).then_some(facts)
    }

    /// Whether nothing was written since these were the facts.
    pub(super) fn stand(&self, facts: &Facts) -> bool {
        self.turn.load(Ordering::SeqCst) == facts.turn
    }

    /// Before rows change. If they never come to be written, the facts never stand
    /// again.
    pub(super) fn wipe(&self) {
        self.turn.fetch_or(1, Ordering::SeqCst);
    }

    /// Behind [`wipe`](Self::wipe), once rows have changed.
    pub(super) fn show(&self, state: State, unlocked: bool) {
        let turn = (self.turn.load(Ordering::SeqCst) | 1) + 1;
        *self.facts.write() = Arc::new(Facts { state, unlocked: Some(unlocked), turn });
        self.turn.store(turn, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(now: u64) -> State {
        State { now, ..State::default() }
    }

    #[test]
    fn facts_stand_until_something_is_written() {
        let board = Board::new(state(1), true);
        let facts = board.now().unwrap();
        assert!(board.stand(&facts));
        board.wipe();
        assert!(!board.stand(&facts));
        assert!(board.now().is_none());
        assert_eq!(board.last().state.now, 1);
        board.show(state(2), false);
        assert!(!board.stand(&facts));
        let facts = board.now().unwrap();
        assert_eq!((facts.state.now, facts.unlocked), (2, Some(false)));
    }

    #[test]
    fn a_write_that_fails_leaves_no_facts() {
        let board = Board::new(state(1), true);
        board.wipe();
        board.wipe();
        assert!(board.now().is_none());
        board.show(state(2), true);
        assert_eq!(board.now().unwrap().state.now, 2);
    }
}
