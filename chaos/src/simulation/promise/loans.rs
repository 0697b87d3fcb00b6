//! A row lives exactly until its expiry: it is never read past it, never gone
//! before it, and its index row lives as long as it does.

use std::collections::BTreeMap;

use cardea_storage::Timestamp;

use super::{Answered, BackedUp, Promise};
use crate::simulation::{
    cells::{Reply, Request},
    invariant::AHEAD_MS_MAX,
    time::EPOCH_MS,
};

/// Until when each row lives at least: each is lent once, and then only extended.
#[derive(Debug, Default)]
pub(super) struct LoansEnd(BTreeMap<u64, Vec<Granted>>);

#[derive(Debug, Clone, Copy)]
struct Granted {
    until: Timestamp,
    acknowledged: u64,
}

impl LoansEnd {
    fn lives_until(&self, loan: u64, at: u64) -> Option<Timestamp> {
        let granted = self.0.get(&loan)?.iter();
        granted.filter(|granted| granted.acknowledged <= at).map(|granted| granted.until).max()
    }
}

impl Promise for LoansEnd {
    fn name(&self) -> &'static str {
        "a row lives until its expiry"
    }

    fn answered(&mut self, answered: &Answered) -> Result<(), String> {
        match (&answered.request, &answered.reply) {
            (Request::Lend(loan, _) | Request::Renew(loan, _), Reply::Until(until, _)) => {
                let granted = Granted { until: *until, acknowledged: answered.ended };
                self.0.entry(*loan).or_default().push(granted);
                Ok(())
            }
            (Request::Lent(_), Reply::Until(until, judged)) if until <= judged => {
                Err("it is read past its expiry".to_owned())
            }
            (Request::Lent(loan), Reply::Until(until, _)) => {
                match self.lives_until(*loan, answered.began) {
                    Some(granted) if *until < granted => {
                        Err(format!("it was granted until {granted}"))
                    }
                    _ => Ok(()),
                }
            }
            (Request::Lent(loan), Reply::Gone(judged)) => {
                match self.lives_until(*loan, answered.began) {
                    Some(granted) if *judged < granted => {
                        Err(format!("it is gone before its time, {granted}"))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// Index rows live as long as their records.
pub(super) struct IndexedAsLong;

impl Promise for IndexedAsLong {
    fn name(&self) -> &'static str {
        "an index row lives as long as its record"
    }

    fn answered(&mut self, answered: &Answered) -> Result<(), String> {
        match (&answered.request, &answered.reply) {
            (Request::Loan(_), Reply::Both(0, until)) if is_live(*until, answered.ended) => {
                Err(format!("the index row lives until {until}, its record is gone"))
            }
            (Request::Loan(_), Reply::Both(until, 0)) if is_live(*until, answered.ended) => {
                Err(format!("the record lives until {until}, its index row is gone"))
            }
            (Request::Loan(_), Reply::Both(row, index))
                if 0 < *row && 0 < *index && row != index =>
            {
                Err("they live for different times".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn backed_up(&mut self, backup: &BackedUp) -> Result<(), String> {
        let live = |expiry: &Option<Timestamp>| expiry.filter(|at| *at > backup.log_time);
        let torn = backup.loans.iter().find(|(_, (row, index))| live(row) != live(index));
        torn.map_or(Ok(()), |(loan, (row, index))| {
            Err(format!("loan {loan} lives until {row:?} and its index row until {index:?}"))
        })
    }
}

/// Whether a row must be there by the time of any group, at a time of the world. By that
/// of one group it may have expired while it lives by another's.
fn is_live(until: u64, at: u64) -> bool {
    until > EPOCH_MS + at + AHEAD_MS_MAX
}

#[cfg(test)]
mod tests {
    use super::{super::samples::ask, *};

    fn until(until: u64, judged: u64) -> Reply {
        Reply::Until(Timestamp(until), Timestamp(judged))
    }

    #[test]
    fn rows_past_their_expiry_and_rows_gone_before_it_are_told() {
        let mut loans = LoansEnd::default();
        assert!(ask(&mut loans, Request::Lent(1), until(10, 9), 1, 2));
        assert!(!ask(&mut loans, Request::Lent(1), until(10, 10), 1, 2));
        assert!(ask(&mut loans, Request::Lent(1), Reply::Gone(Timestamp(5)), 1, 2));
        assert!(ask(&mut loans, Request::Lend(1, 5), until(10, 5), 3, 6));
        // Asked before it was granted.
        assert!(ask(&mut loans, Request::Lent(1), Reply::Gone(Timestamp(5)), 5, 7));
        assert!(!ask(&mut loans, Request::Lent(1), Reply::Gone(Timestamp(9)), 6, 7));
        assert!(ask(&mut loans, Request::Lent(1), Reply::Gone(Timestamp(10)), 6, 7));
        assert!(ask(&mut loans, Request::Renew(1, 5), until(15, 8), 7, 8));
        assert!(!ask(&mut loans, Request::Lent(1), until(10, 9), 8, 9));
        assert!(ask(&mut loans, Request::Lent(1), until(15, 9), 8, 9));
    }

    #[test]
    fn one_of_both_rows_that_is_gone_before_its_time_is_told() {
        let kept =
            |row, index| ask(&mut IndexedAsLong, Request::Loan(1), Reply::Both(row, index), 1, 9);
        // The time of the other group may be ahead by so much.
        let expired = EPOCH_MS + 9 + AHEAD_MS_MAX;
        assert!(kept(0, 0) && kept(expired, 0) && kept(0, expired));
        assert!(!kept(expired + 1, 0));
        assert!(!kept(0, expired + 1));
        // Without an expiry: it would stay for ever.
        assert!(!kept(0, u64::MAX));
    }

    #[test]
    fn an_index_row_that_lives_for_another_time_is_told() {
        assert!(ask(&mut IndexedAsLong, Request::Loan(1), Reply::Both(7, 7), 1, 2));
        assert!(!ask(&mut IndexedAsLong, Request::Loan(1), Reply::Both(7, 8), 1, 2));
        let mut backup = BackedUp::default();
        backup.loans.insert(1, (Some(Timestamp(7)), Some(Timestamp(7))));
        assert!(IndexedAsLong.backed_up(&backup).is_ok());
        backup.loans.insert(2, (None, Some(Timestamp(7))));
        assert!(IndexedAsLong.backed_up(&backup).is_err());
        // By the time of the other group it had expired.
        backup.log_time = Timestamp(7);
        assert!(IndexedAsLong.backed_up(&backup).is_ok());
        backup.loans.insert(3, (Some(Timestamp(9)), Some(Timestamp(7))));
        assert!(IndexedAsLong.backed_up(&backup).is_err());
    }
}
