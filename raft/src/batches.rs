//! Batches: what is proposed while a proposal is under way goes to the log as one.
//!
//! A proposal costs a dozen hand-offs between tasks, on three nodes; a batch of
//! proposals costs as many. So whoever comes while nothing is under way is proposed
//! at once, and whoever comes later joins a batch. It goes when what is under way is
//! done, when it is full, or when its first has waited for a moment: over a slow
//! network several are under way at a time.

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What goes together, each with whom to tell.
pub(crate) type Batch<T, R> = Vec<(T, oneshot::Sender<R>)>;

/// Which batch somebody opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened(u64);

/// How somebody who came goes on.
#[derive(Debug)]
pub(crate) enum Entrance<T, R> {
    /// Alone, at once; and then he says so ([`Batches::done`]).
    Alone(T),
    /// With others: the answer comes by itself.
    Gathered {
        /// The answer.
        answer: oneshot::Receiver<R>,
        /// He is the first: he lets the batch go when it has waited long enough.
        opened: Option<Opened>,
        /// He is the last: this must go now.
        full: Option<Batch<T, R>>,
    },
}

/// The batch of a group that is being gathered, and how many are under way.
#[derive(Debug)]
pub(crate) struct Batches<T, R> {
    state: Mutex<State<T, R>>,
    len_max: usize,
}

#[derive(Debug)]
struct State<T, R> {
    gathered: Batch<T, R>,
    number: u64,
    under_way: usize,
}

impl<T, R> Batches<T, R> {
    /// Nothing under way; batches of at most `len_max`.
    pub(crate) fn new(len_max: usize) -> Self {
        let state = State { gathered: Vec::new(), number: 0, under_way: 0 };
        Self { state: Mutex::new(state), len_max }
    }

    /// Somebody comes.
    pub(crate) fn enter(&self, item: T) -> Entrance<T, R> {
        let mut state = self.state.lock();
        if state.under_way == 0 {
            state.under_way = 1;
            return Entrance::Alone(item);
        }
        let (sender, answer) = oneshot::channel();
        state.gathered.push((item, sender));
        let opened = (state.gathered.len() == 1).then_some(Opened(state.number));
        let full = (state.gathered.len() >= self.len_max).then(|| state.leave());
        Entrance::Gathered { answer, opened, full }
    }

    /// A batch has waited long enough; `None` if it went already.
    pub(crate) fn expire(&self, opened: Opened) -> Option<Batch<T, R>> {
        let mut state = self.state.lock();
        (state.number == opened.0 && !state.gathered.is_empty()).then(|| state.leave())
    }

    /// What was under way is done; gives what goes next.
    pub(crate) fn done(&self) -> Option<Batch<T, R>> {
        let mut state = self.state.lock();
        state.under_way -= 1;
        (state.under_way == 0 && !state.gathered.is_empty()).then(|| state.leave())
    }
}

impl<T, R> State<T, R> {
    fn leave(&mut self) -> Batch<T, R> {
        self.number += 1;
        self.under_way += 1;
        std::mem::take(&mut self.gathered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(batch: Option<Batch<u32, ()>>) -> Vec<u32> {
        batch.into_iter().flatten().map(|(item, _)| item).collect()
    }

    fn opened(entrance: Entrance<u32, ()>) -> Option<Opened> {
        match entrance {
            Entrance::Gathered { opened, full: None, .. } => opened,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_comes_first_goes_alone_and_the_others_go_together() {
        let batches = Batches::new(100);
        assert!(matches!(batches.enter(1), Entrance::Alone(1)));
        assert!(opened(batches.enter(2)).is_some());
        assert!(opened(batches.enter(3)).is_none());
        assert_eq!(items(batches.done()), [2, 3]);
        assert!(opened(batches.enter(4)).is_some());
        assert_eq!(items(batches.done()), [4]);
        assert!(batches.done().is_none());
        assert!(matches!(batches.enter(5), Entrance::Alone(5)));
    }

    #[test]
    fn a_batch_goes_when_it_has_waited_and_only_once() {
        let batches = Batches::new(100);
        batches.enter(1);
        let first = opened(batches.enter(2)).unwrap();
        assert_eq!(items(batches.expire(first)), [2]);
        let second = opened(batches.enter(3)).unwrap();
        assert!(batches.expire(first).is_none());
        // Two are under way: what waits goes with the last of them.
        assert!(batches.done().is_none());
        assert_eq!(items(batches.done()), [3]);
        assert!(batches.expire(second).is_none());
    }

    #[test]
    fn a_full_batch_goes_at_once() {
        let batches = Batches::new(2);
        batches.enter(1);
        batches.enter(2);
        let Entrance::Gathered { full, .. } = batches.enter(3) else { panic!("alone") };
        assert_eq!(items(full), [2, 3]);
        assert!(opened(batches.enter(4)).is_some());
    }
}
