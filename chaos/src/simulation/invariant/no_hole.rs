//! No hole: a log goes on without a gap from its purge point, and what was
//! purged was applied.

use super::{Invariant, Seen};

/// Nothing to remember.
pub(super) struct NoHole;

impl Invariant for NoHole {
    fn name(&self) -> &'static str {
        "no hole"
    }

    fn look(&mut self, seen: &[Seen]) -> Result<(), String> {
        for seen in seen {
            let purged = seen.log.purged.map(|purged| purged.index);
            let wrong = |what: String| {
                Err(format!("the log of {} on n{}: {what}", seen.group, seen.machine))
            };
            let gap = seen.log.entries.windows(2).find(|pair| pair[1].index != pair[0].index + 1);
            if let Some(gap) = gap {
                return wrong(format!("{:?} follows {:?}", gap[1], gap[0]));
            }
            let starts = purged.map_or(0, |purged| purged + 1).max(seen.log_from);
            if let Some(first) = seen.log.entries.first()
                && first.index != starts
            {
                return wrong(format!("it starts with {first:?} and not with {starts}"));
            }
            if purged > seen.applied.map(|applied| applied.index) {
                return wrong(format!("purged to {purged:?}, applied {:?}", seen.applied));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::samples::{at, follower},
        *,
    };

    #[test]
    fn gaps_and_purged_entries_that_nobody_applied_are_told() {
        let mut purged = follower(1, 6);
        purged.log.purged = Some(at(1, 1, 2));
        purged.log.entries.drain(..3);
        assert!(NoHole.look(&[follower(1, 0), follower(2, 5), purged.clone()]).is_ok());

        let mut gap = follower(1, 6);
        gap.log.entries.remove(3);
        assert!(NoHole.look(&[gap]).is_err());
        let mut late = purged.clone();
        late.log.entries.remove(0);
        assert!(NoHole.look(&[late]).is_err());
        purged.applied = Some(at(1, 1, 1));
        assert!(NoHole.look(&[purged]).is_err());
    }
}
