//! Log time is never ahead of the time that it is, as long as the clocks of a
//! majority are right: what expires by log time has lived for as long as it was
//! given.

use super::{Invariant, Seen};

/// How far clocks may be off that are called right, twice: the leader's, and that of
/// who read ahead of it; and a millisecond's turn.
pub const AHEAD_MS_MAX: u64 = 2 * 500 + 500 + 5;

/// Log time against the world's.
pub(super) struct LogTime;

impl Invariant for LogTime {
    fn name(&self) -> &'static str {
        "log time is not ahead"
    }

    fn look(&mut self, seen: &[Seen]) -> Result<(), String> {
        let early = seen.iter().find(|seen| seen.now > seen.true_now + AHEAD_MS_MAX);
        early.map_or(Ok(()), |seen| {
            Err(format!(
                "that of {} at n{} is ahead by {} ms",
                seen.group,
                seen.machine,
                seen.now - seen.true_now
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::follower, *};

    #[test]
    fn log_time_that_is_ahead_is_told() {
        assert!(LogTime.look(&[follower(1, 5)]).is_ok());
        let near = Seen { now: 5 + AHEAD_MS_MAX, ..follower(1, 5) };
        assert!(LogTime.look(std::slice::from_ref(&near)).is_ok());
        assert!(LogTime.look(&[Seen { now: near.now + 1, ..near }]).is_err());
    }
}
